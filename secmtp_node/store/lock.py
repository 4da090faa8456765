"""One node a directory: a second program on the same files would sweep away what the first is receiving."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from shared.errors import ConfigurationError

FILE = "lock"


class DirectoryLock:
    """Held from construction to `release`, or to the end of the process, however it ends.

    Raises ConfigurationError while another process holds it.
    """

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory / FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise ConfigurationError(f"another node runs on {directory}: end it first") from error

    def release(self) -> None:
        """Let others have the directory. Safe to repeat."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
