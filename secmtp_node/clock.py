"""The one place of the node that reads the clock and draws randomness."""

from __future__ import annotations

import secrets
import time


def now() -> int:
    """Return UTC seconds."""
    return int(time.time())


def draw(octets: int) -> bytes:
    """Return fresh random octets."""
    return secrets.token_bytes(octets)
