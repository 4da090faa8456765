"""Witnesses of the ledger: who must have seen a checkpoint before anybody is answered under it (DESIGN §7)."""

from __future__ import annotations

from collections.abc import Callable


class NoWitnesses:
    """The embedded default: nobody is waited for, and evidence says "not witnessed" from the start."""

    def check_start(self, size: int) -> None:
        """Nobody can be asked."""

    def check_clock(self) -> None:
        """Nobody can be asked."""

    def cosign(self, size: int, note: bytes, prove: Callable[[int], tuple[bytes, ...]]) -> bytes:
        """Return the note as the log signed it."""
        return note

    def cosigned(self, size: int, note: bytes) -> bytes | None:
        """Return the note as the log signed it."""
        return note
