"""`secmtp ttp recover`: what a database lacks comes back from the second copy (docs/recovery.md).

All of the copy is checked before anything is written: a copy that contradicts the database or the published
checkpoint, or that is shorter than either, is refused and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from shared.errors import ConfigurationError, SecMTPError
from shared.ledger import note as notes
from shared.ledger.checkpoint import open_checkpoint
from shared.ledger.note import Note, VerifierKey
from shared.ledger.tiles import Edge
from ttp_server.ports.store import Reading, Store, Transaction
from ttp_server.ports.values import StoredEntry
from ttp_server.services.derivation import rows_of
from ttp_server.services.fsck_rows import Trust
from ttp_server.services.ledger import put_tiles

PAGE = 64  # bodies have up to 256 KiB
Copy = Callable[[int], Iterable[StoredEntry]]  # entries in order from an index on


@dataclass(frozen=True)
class Recovery:
    """A second copy, and what it must agree with: the published checkpoint, if that file is still there."""

    store: Store
    copy: Copy
    trust: Trust
    log: VerifierKey
    published: bytes | None
    told: Callable[[str, int], None]

    def run(self) -> int:
        """Append what is missing and return how many entries that were. Raises ConfigurationError.

        Commit point: each page of entries with their rows and tiles. Interrupted, it is run again and goes on.
        """
        with self.store.reading() as stored:
            start = stored.size()
            total = self._check(stored, start)
        for size in range(start, total, PAGE):
            with self.store.writing() as transaction:
                if transaction.size() != size:
                    raise ConfigurationError("somebody else writes to this database: stop every TTP process first")
                if size == start:
                    transaction.skip_places()
                self._append(transaction, size, list(islice(self.copy(size), PAGE)))
            self.told("recovered", min(size + PAGE, total))
        if self.published is not None:
            self._keep(self.published)
        return total - start

    def _check(self, stored: Reading, start: int) -> int:
        """Check the whole copy, without a change, and return its size."""
        newest = stored.newest_checkpoint()
        kept = [note for note in (self.published, newest and newest[1]) if note]
        roots = {one.size: one.root for one in (open_checkpoint(note, self.log) for note in kept)}
        needed = max([start, *roots])
        inside, edge, time = iter(stored.entries()), Edge(), 0
        for page in _pages(self.copy(0)):
            for found in page:
                at = self._check_entry(found, edge.size, time)
                there = next(inside, None)
                if there is not None and there != found:
                    raise ConfigurationError(
                        f"entry {found.index} of the archive isn't the one in the database: run `secmtp ttp fsck` to "
                        "see which is damaged, or name the archive of this ledger; nothing was changed"
                    )
                edge, time = edge.extend([found.leaf_hash]).edge, at
                if edge.size in roots and roots[edge.size] != edge.root():
                    raise ConfigurationError(
                        f"the archive's first {edge.size} entries aren't those under the checkpoint that was kept: "
                        "it is of another ledger, or was changed; nothing was changed"
                    )
            self.told("checked", edge.size)
        if edge.size < needed:
            raise ConfigurationError(
                f"the archive holds {edge.size} entries, the database {start}, and {needed} are known: "
                "name a newer archive; nothing was changed"
            )
        return edge.size

    def _check_entry(self, found: StoredEntry, index: int, time: int) -> int:
        if found.index != index:
            raise ConfigurationError(f"entry {index} of the archive is missing; nothing was changed")
        if found.time < time:
            raise ConfigurationError(f"entry {index} of the archive is of a time before {time}; nothing was changed")
        with_name(found, lambda: rows_of(found, self.trust))
        return found.time

    def _append(self, transaction: Transaction, size: int, page: list[StoredEntry]) -> None:
        for found in page:
            with_name(found, partial(self._write, transaction, found))
        put_tiles(transaction, size, [found.leaf_hash for found in page])

    def _write(self, transaction: Transaction, found: StoredEntry) -> None:
        with transaction.savepoint():  # names what the tables refuse: a second outcome, a key revoked twice
            transaction.put_entry(found)
            rows_of(found, self.trust)(transaction)

    def _keep(self, note: bytes) -> None:
        """Store the published checkpoint again: `fsck` and a start look for it."""
        verified, parsed = open_checkpoint(note, self.log), notes.parse(note)
        # Cosignatures have a table of their own; what the log itself signed is always the same octets.
        own = Note(parsed.text, tuple(line for line in parsed.signatures if line.name == self.log.name)).encode()
        with self.store.writing() as transaction:
            if transaction.checkpoint(verified.size) is None:
                transaction.put_checkpoint(verified.size, own)


def with_name(found: StoredEntry, act: Callable[[], object]) -> None:
    """Act, and name the entry where that fails."""
    try:
        act()
    except SecMTPError as error:
        raise ConfigurationError(f"entry {found.index} of the archive: {error.message}") from error


def _pages(entries: Iterable[StoredEntry]) -> Iterator[list[StoredEntry]]:
    rest = iter(entries)
    while page := list(islice(rest, PAGE)):
        yield page
