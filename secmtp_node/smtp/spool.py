"""Messages on their way in: one file each, durable before anything is answered, gone when it is over."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from shared.programs.files import private_directory, sync_directory

SUFFIX = ".incoming"


class Spool:
    """A directory (0700) of incoming messages."""

    def __init__(self, directory: Path) -> None:
        private_directory(directory)
        self._directory = directory

    def begin(self) -> SpoolFile:
        """Begin a message."""
        return SpoolFile(self._directory / (secrets.token_hex(16) + SUFFIX))

    def sweep(self) -> int:
        """Remove what a crash left: nobody was told that it was accepted. Only at start."""
        left = list(self._directory.glob("*" + SUFFIX))
        for path in left:
            path.unlink()
        return len(left)


class SpoolFile:
    """One incoming message."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.octets = 0
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def write(self, piece: bytes) -> None:
        """Add octets."""
        self._file.write(piece)
        self.octets += len(piece)

    def finish(self) -> None:
        """Make it durable."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        sync_directory(self.path.parent)

    def remove(self) -> None:
        """Remove it, finished or not. Safe to repeat."""
        self._file.close()
        self.path.unlink(missing_ok=True)
