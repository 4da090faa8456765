"""Large octets beside the database: ciphertexts. A row names a file and its digest; files without a row are swept."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from secmtp_node.ports.values import StoredFile
from shared.encoding.labels import BlobDigest
from shared.errors import Unavailable
from shared.programs.files import private_directory, sync_directory

PIECE = 64 * 1024


class FileBox:
    """Files of one kind in one directory (0700), each 0600, each durable when `write` returns."""

    def __init__(self, directory: Path) -> None:
        private_directory(directory)
        self._directory = directory

    def write(self, pieces: Iterable[bytes]) -> StoredFile:
        """Write a new file and make it durable (file and directory fsynced). Nothing is left when it fails."""
        name = secrets.token_hex(16)
        path = self._directory / name
        digest = BlobDigest()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb", buffering=PIECE) as file:
                for piece in pieces:
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            sync_directory(self._directory)
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise Unavailable(f"a file couldn't be written: {error.strerror}") from error
            raise
        return StoredFile(name, digest.digest(), digest.octets)

    def read(self, file: StoredFile) -> Iterator[bytes]:
        """Yield the octets in pieces. Raises Unavailable when the file isn't there."""
        try:
            with (self._directory / file.name).open("rb") as opened:
                while piece := opened.read(PIECE):
                    yield piece
        except OSError as error:
            raise Unavailable(f"the file {file.name} can't be read: {error.strerror}") from error

    def discard(self, file: StoredFile) -> None:
        """Remove a file that no row names."""
        (self._directory / file.name).unlink(missing_ok=True)

    def sweep(self, named: Collection[str]) -> int:
        """Remove files that no row names, left by a crash before a commit; return how many. Only at start."""
        orphans = [path for path in self._directory.iterdir() if path.name not in named]
        for path in orphans:
            path.unlink()
        return len(orphans)
