"""What the ledger's tools keep: a mirror's directory, and a monitor's memory.

A mirror is a directory that any web server can serve as the log. What it holds was checked before it was
written, and is on disk before the checkpoint that it belongs to is put in its place (ledger.md L17).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shared.encoding.labels import blob_digest
from shared.errors import ConfigurationError
from shared.ledger import tiles
from shared.ledger.audit import Rollback
from shared.ledger.checkpoint import Fork, VerifiedCheckpoint, open_checkpoint
from shared.ledger.note import MAX_NOTE, VerifierKey
from shared.ledger.tiles import ENTRIES, WIDTH, TileName
from shared.programs.files import read_bounded, replace_public, sync_directory

CHECKPOINT = "checkpoint"
CERTIFICATE = "certificate"
HISTORY = "checkpoints"
FORK = "fork"
ROLLBACK = "rollback"
CACHE_KIB = 64 * 1024
TABLES = (
    "exchanges (exchange BLOB PRIMARY KEY, entry INTEGER NOT NULL) WITHOUT ROWID",
    "checked (one INTEGER PRIMARY KEY CHECK (one = 1), note BLOB NOT NULL, time INTEGER NOT NULL)",
)


class Mirror:
    """A mirror's directory; one process writes it at a time."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._unsynced: set[Path] = set()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process. Raises ConfigurationError when another one has it."""
        self.place.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise ConfigurationError(f"another process is writing {self.place}; wait for it to end") from error
        try:
            yield
        finally:
            os.close(descriptor)

    def newest(self, key: VerifierKey) -> VerifiedCheckpoint | None:
        """Return the checkpoint up to which the mirror is complete."""
        path = self.place / CHECKPOINT
        return open_checkpoint(read_bounded(path, MAX_NOTE), key) if path.exists() else None

    def history(self, key: VerifierKey) -> Iterator[VerifiedCheckpoint]:
        """Yield every checkpoint that the mirror holds, by size."""
        folder = self.place / HISTORY
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        for name in sorted(filter(str.isdigit, names), key=int):
            yield open_checkpoint(read_bounded(folder / name, MAX_NOTE), key)

    def put(self, files: Iterable[tuple[TileName, bytes]]) -> None:
        """Write tiles and bundles that were checked."""
        for name, data in files:
            self._write(self.place / tiles.path(*name), data)

    def put_certificate(self, certificate: bytes) -> None:
        """Write the certificate of the log's key."""
        self._write(self.place / CERTIFICATE, certificate)

    def publish(self, checkpoint: VerifiedCheckpoint) -> None:
        """Say that the mirror is complete up to this checkpoint.

        Commit point: the rename to `checkpoint`. Before it the mirror is the one of the checkpoint before,
        with files that nobody asks for yet; after it the new one, whose history the next run makes up for.
        """
        self._sync()
        self._write(self.place / CHECKPOINT, checkpoint.signed)
        self._sync()
        self.remember(checkpoint)

    def remember(self, checkpoint: VerifiedCheckpoint) -> None:
        """Put a checkpoint that was published into the history; again changes nothing."""
        self._write(self.place / HISTORY / str(checkpoint.size), checkpoint.signed)
        self._sync()

    def drop_partials(self, old: int, new: int) -> None:
        """Remove the tiles that were partial at size `old` and are full now: who asks for one gets the full one."""
        counts = [(ENTRIES, old), *((level, row.stop) for level, row in enumerate(tiles.edge_ranges(old)))]
        for level, count in counts:
            name = TileName(level, count // WIDTH)
            folder = self.place / f"{tiles.path(*name)}.p"
            if tiles.width_at(level, name.number, new) == WIDTH and folder.is_dir():
                for path in folder.iterdir():
                    path.unlink()
                folder.rmdir()

    def keep(self, fault: Fork | Rollback) -> None:
        """Keep two signed notes that contradict each other; keeping them again changes nothing."""
        folder = self.place / (FORK if isinstance(fault, Fork) else ROLLBACK)
        for checkpoint in (fault.first, fault.second):
            name = f"{checkpoint.size}-{blob_digest(checkpoint.signed).hex()[:16]}"
            self._write(folder / name, checkpoint.signed)
        self._sync()

    def has_fork(self) -> bool:
        """Whether the log was caught with two trees."""
        folder = self.place / FORK
        return folder.is_dir() and any(folder.iterdir())

    def _write(self, path: Path, data: bytes) -> None:
        for folder in reversed([folder for folder in path.parents if not folder.exists()]):
            folder.mkdir()
            self._unsynced.add(folder.parent)
        replace_public(path, data)
        self._unsynced.add(path.parent)

    def _sync(self) -> None:
        for folder in self._unsynced:
            sync_directory(folder)
        self._unsynced.clear()


class Memory:
    """Which exchange stands in which entry, and what was checked so far. A file, or nothing for one audit only."""

    def __init__(self, path: Path | None) -> None:
        # An empty name makes SQLite use a file of its own, which goes with the connection.
        try:
            self._database = sqlite3.connect(path or "", isolation_level=None)
            self._database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute("BEGIN IMMEDIATE")
            for table in TABLES:
                self._database.execute(f"CREATE TABLE IF NOT EXISTS {table}")
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(f"{path} can't be used as a monitor's memory: {error}") from error

    def checked(self) -> tuple[bytes, int] | None:
        """Return the checkpoint that was checked last, and the time of its last entry."""
        row: tuple[bytes, int] | None = self._database.execute("SELECT note, time FROM checked").fetchone()
        return row

    def repeats(self, exchanges: Sequence[tuple[bytes, int]]) -> list[tuple[int, int]]:
        """Remember exchanges, and return those that were remembered already with their first entry."""
        before = self._database.total_changes
        self._database.executemany("INSERT OR IGNORE INTO exchanges VALUES (?, ?)", exchanges)
        if self._database.total_changes - before == len(exchanges):
            return []
        find = "SELECT entry FROM exchanges WHERE exchange = ?"
        first = [(index, self._database.execute(find, (name,)).fetchone()[0]) for name, index in exchanges]
        return [(index, entry) for index, entry in first if entry != index]

    def move(self, checkpoint: VerifiedCheckpoint, time: int) -> None:
        """Remember that everything up to this checkpoint was checked. Commit point: this COMMIT, and no other."""
        self._database.execute("INSERT OR REPLACE INTO checked VALUES (1, ?, ?)", (checkpoint.signed, time))
        self._database.execute("COMMIT")

    def close(self) -> None:
        """Forget what wasn't moved over."""
        self._database.close()
