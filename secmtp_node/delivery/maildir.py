"""Maildirs: a message is visible in whole or not at all, and once for each name, whatever crashes in between.

tmp → write and fsync → rename into new → fsync the directory. The file's name comes from what is
delivered, so a repetition after a crash finds it, in new or in cur under any flags.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from secmtp_node.ports.services import Delivery
from shared.encoding.labels import H
from shared.errors import Unavailable
from shared.programs.files import private_directory, sync_directory

_SAFE = re.compile(r"[A-Za-z0-9@._+=\-]{1,200}")
_NAME = re.compile(r"[0-9a-f]{64}(?:\.[a-z]+)?")


class Maildirs:
    """Maildirs of all users below one directory, each named by the address."""

    def __init__(self, directory: Path) -> None:
        private_directory(directory)
        self._directory = directory

    def deliver(self, delivery: Delivery) -> None:
        """Put a message into a mailbox, once for each name. What `pieces` raises leaves nothing visible.

        When it returns, message and name are durable. Raises Unavailable for a full or failing disk.
        """
        if not _NAME.fullmatch(delivery.name):
            raise ValueError(f"{delivery.name!r} can't name a message")
        box = self._box(delivery.address)
        temporary = box / "tmp" / delivery.name
        try:
            if self._is_there(box, delivery.name):
                # What makes this a repetition may have come before the directory was synced.
                sync_directory(box / "new")
                sync_directory(box / "cur")
                return
            self._write(temporary, delivery)
            # Commit point of the delivery. A crash before it leaves a file in tmp that is written over;
            # a crash after it leaves the message, which the repetition finds by its name.
            temporary.rename(box / "new" / delivery.name)
            sync_directory(box / "new")
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise Unavailable(f"the mailbox can't be written: {error.strerror}") from error
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def path(self, address: str) -> Path:
        """Where the Maildir of an address lies."""
        normal = address if _SAFE.fullmatch(address) and not address.startswith(".") else ""
        return self._directory / (normal or H("mailbox", address.encode()).hex())

    def _box(self, address: str) -> Path:
        box = self.path(address)
        try:
            for place in (box, box / "tmp", box / "new", box / "cur"):
                private_directory(place)
            # A mailbox that was just made, here or before a crash, must outlast what is put into it.
            if not any((box / "new").iterdir()) and not any((box / "cur").iterdir()):
                sync_directory(box)
                sync_directory(self._directory)
        except OSError as error:
            raise Unavailable(f"the mailbox can't be made: {error.strerror}") from error
        return box

    @staticmethod
    def _is_there(box: Path, name: str) -> bool:
        if (box / "new" / name).exists() or (box / "cur" / name).exists():
            return True
        return any(path.name.startswith(name + ":") for path in (box / "cur").iterdir())

    @staticmethod
    def _write(path: Path, delivery: Delivery) -> None:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for piece in delivery.pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
