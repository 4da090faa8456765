"""The newest published checkpoint, in a file outside the database: a database from a backup is found out by it.

The file is locked while the TTP runs. On SQLite one directory has one server; on PostgreSQL several may share it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from shared.errors import ConfigurationError, OurFault

BLOCK = 4096


class HeadFile:
    """One block, overwritten in place. Raises ConfigurationError when another process holds it.

    With `shared` others may hold it that share it too. An older note written over a newer one by a slower
    process makes the check weaker, never wrong.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            raise ConfigurationError(
                f"another process serves {path.parent}; with SQLite a ledger has one server"
            ) from error
        self._file: int | None = file

    def newest(self) -> bytes | None:
        """Return the note that was published last, None before the first."""
        return os.pread(self._open(), BLOCK, 0).rstrip(b"\x00") or None

    def remember(self, note: bytes) -> None:
        """Keep a note that is about to be published.

        Not synced: the database is what must survive a power failure. If this file then is a little older
        than the database, that only makes the check weaker, never wrong.
        """
        if len(note) > BLOCK:
            raise ConfigurationError(f"a checkpoint has {len(note)} octets, expected at most {BLOCK}")
        os.pwrite(self._open(), note.ljust(BLOCK, b"\x00"), 0)

    def _open(self) -> int:
        if self._file is None:
            raise OurFault("the file of the published checkpoint is closed")
        return self._file

    def close(self) -> None:
        """Let another process serve. May be repeated."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
