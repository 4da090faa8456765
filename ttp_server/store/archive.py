"""The second copy of entries and bodies: files outside the database, from which it can be rebuilt.

A file holds 256 entries, a line of canonical JSON each, and is named like the entry bundle of that number
(archive/x001/234). Nothing is ever changed; a line without its end was cut off by a crash and is written again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import groupby, takewhile
from pathlib import Path

from shared.encoding import base64url, canonical
from shared.encoding.fields import Fields
from shared.errors import ConfigurationError, Malformed
from shared.ledger import entry as codec
from shared.ledger.merkle import leaf_hash
from shared.ledger.tiles import ENTRIES, WIDTH, path
from shared.programs.files import OWNER_ONLY, private_directory, sync_directory
from ttp_server.ports.store import Reading
from ttp_server.ports.values import StoredEntry

MAX_LINE = 1024 * 1024
_PREFIX = "tile/entries/"


class FileArchive:
    """Files below one directory. Several processes may share it: they copy only under the store's lock."""

    def __init__(self, directory: Path) -> None:
        private_directory(directory)
        self._directory = directory
        self._number = self._first_unfinished()
        self._octets = -1  # of the newest file, as this process left it
        self._count = 0
        self._named = -1  # the file whose name this process has made durable

    def copy(self, stored: Reading, size: int) -> None:
        """Copy the entries below a tree size that aren't here yet. Durable when it returns."""
        start = self.size()
        missing = takewhile(lambda entry: entry.index < size, stored.entries(start) if start < size else ())
        for number, entries in groupby(missing, lambda entry: entry.index // WIDTH):
            self._append(number, [_encode(entry) for entry in entries])

    def size(self) -> int:
        """Return how many entries are here; another process may have copied some meanwhile."""
        while True:
            file = self._file(self._number)
            octets = file.stat().st_size if file.exists() else 0
            if octets != self._octets:
                whole = _lines(file)
                self._count, self._octets = len(whole), sum(map(len, whole))
            if self._count < WIDTH:
                return self._number * WIDTH + self._count
            self._number, self._octets, self._count = self._number + 1, -1, 0

    def entries(self, start: int = 0) -> Iterator[StoredEntry]:
        """Yield entries in order from an index on, each checked against its own hashes.

        Raises ConfigurationError for one that was changed.
        """
        for number in range(start // WIDTH, self.size() // WIDTH + 1):
            for expected, line in enumerate(_lines(self._file(number)), number * WIDTH):
                if expected >= start:
                    yield _decode(line, expected)

    def _append(self, number: int, lines: list[bytes]) -> None:
        """Write lines behind the whole ones of a file: what a crash cut off goes."""
        file, added = self._file(number), b"".join(lines)
        count, kept = (self._count, self._octets) if number == self._number else (0, 0)
        self._number, self._count, self._octets = number, 0, -1  # until it is durable: then nothing is known
        private_directory(file.parent)
        with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, OWNER_ONLY), "r+b") as stream:
            stream.truncate(kept)
            stream.seek(0, os.SEEK_END)
            stream.write(added)
            stream.flush()
            os.fsync(stream.fileno())
        if number != self._named:  # whoever made the file may have died before its name was durable
            for place in (file.parent, *file.parent.parents):
                sync_directory(place)
                if place == self._directory:
                    break
            self._named = number
        self._count, self._octets = count + len(lines), kept + len(added)

    def _first_unfinished(self) -> int:
        """Return the number of the newest file, found by halving: full files have a successor."""
        low, step = 0, 1
        while self._file(low + step).exists():
            low, step = low + step, step * 2
        while step > 1:
            step //= 2
            if self._file(low + step).exists():
                low += step
        return low

    def _file(self, number: int) -> Path:
        return self._directory / path(ENTRIES, number).removeprefix(_PREFIX)


def _lines(file: Path) -> list[bytes]:
    """Return the whole lines of a file; one that isn't there has none."""
    if not file.exists():
        return []
    with file.open("rb") as stream:
        lines = [stream.readline(MAX_LINE) for _ in range(WIDTH + 1)]
    return [line for line in lines if line.endswith(b"\n")]


def _encode(stored: StoredEntry) -> bytes:
    members: canonical.JSON = {
        "index": stored.index,
        "time": stored.time,
        "kind": stored.kind,
        "entry": base64url.encode(stored.entry),
        "salt": base64url.encode(stored.salt),
        "body": base64url.encode(stored.body),
    }
    return canonical.encode(members) + b"\n"


def _decode(line: bytes, index: int) -> StoredEntry:
    try:
        fields = Fields(canonical.decode(line[:-1], what="archived entry", limit=MAX_LINE), "archived entry")
        entry = fields.octets("entry", limit=codec.MAX_ENTRY)
        stored = StoredEntry(
            index=fields.integer("index"),
            time=fields.integer("time"),
            kind=fields.text("kind", limit=16),
            entry=entry,
            leaf_hash=leaf_hash(entry),
            salt=fields.octets("salt", 32),
            body=fields.octets("body", limit=MAX_LINE),
        )
        fields.end()
        whole = codec.body_digest(stored.salt, stored.body) == codec.decode(entry).body
    except Malformed as error:
        raise ConfigurationError(f"entry {index} of the archive can't be read: {error.message}") from error
    if stored.index != index or not whole:
        raise ConfigurationError(f"entry {index} of the archive was changed: take another copy")
    return stored
