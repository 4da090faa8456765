"""The one place of the TTP that reads the clock and draws randomness."""

from __future__ import annotations

import secrets
import time


class SystemClock:
    """The machine's clock and random source."""

    def now(self) -> int:
        """Return UTC seconds."""
        return int(time.time())

    def random(self, octets: int) -> bytes:
        """Return fresh random octets."""
        return secrets.token_bytes(octets)

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        return time.monotonic()
