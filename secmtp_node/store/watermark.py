"""How a node finds out that its database came from a backup (docs/protocols/services.md section 10).

Each step that something leaves after (an NRR, a key, an abort, an ACK) counts a number up in the database, in the
step's own transaction, and then in this file, which isn't part of the database or its backups. A database whose
number is below the file's was restored.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from shared.programs.files import OWNER_ONLY, sync_directory

DIGITS = 20
NOTHING = -1


class Watermark:
    """The file's number. `value` is None where there is no file, or no number in it: then nobody knows."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY)
        sync_directory(path.parent)
        text = os.pread(self._descriptor, DIGITS + 1, 0)
        self.value = int(text) if len(text) == DIGITS + 1 and text[:-1].isdigit() else None

    def raise_to(self, number: int) -> None:
        """Make the number durable, unless a higher one is: commits may come here in another order."""
        with self._lock:
            if self.value is None or number > self.value:
                os.pwrite(self._descriptor, b"%0*d\n" % (DIGITS, number), 0)
                os.fdatasync(self._descriptor)
                self.value = number

    def close(self) -> None:
        """Let go of the file. Safe to repeat."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = NOTHING
