"""Auditing a log (ledger.md L14 to L16): all of it recomputed from entries, in memory for one tile a level.

`SignedTree` gives nothing that isn't under the root of a checkpoint whose signature was checked: a wrong
octet is found where it is served, and can't be taken for a fork. `walk` reads all entries and holds the
tree against every other checkpoint of the log; `Replay` reads what the entries say.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from shared.errors import EvidenceFault, Malformed, NotFound
from shared.ledger import entry as entries
from shared.ledger import tiles
from shared.ledger.checkpoint import Fork, VerifiedCheckpoint
from shared.ledger.entry import ExchangeEntry
from shared.ledger.merkle import HASH, leaf_hash
from shared.ledger.tiles import ENTRIES, HEIGHT, WIDTH, Edge, TileName

Fetch = Callable[[TileName], bytes]
"""Gets a tile or entry bundle from wherever the log is served; its octets are nobody's word yet."""

Repeats = Callable[[Sequence[tuple[bytes, int]]], Iterable[tuple[int, int]]]
"""Remembers (hM, index) pairs and returns (index, first index) for those whose hM it has seen before."""


class Rollback(EvidenceFault):
    """The log offers a smaller tree than it has signed. Both notes are kept: one of two servers is behind, or lies."""

    def __init__(self, known: VerifiedCheckpoint, offered: VerifiedCheckpoint) -> None:
        message = f"{known.origin} offers size {offered.size}, and has signed size {known.size} before"
        super().__init__("ledger.rollback", message)
        self.first = known
        self.second = offered


def compare(known: VerifiedCheckpoint, offered: VerifiedCheckpoint) -> None:
    """Refuse, without any tile, what two signed notes show by themselves. Raises Rollback or Fork (ledger.md L15)."""
    if known.origin != offered.origin:
        raise EvidenceFault("checkpoint.origin", f"{known.origin} is another log than {offered.origin}")
    if known.size > offered.size:
        raise Rollback(known, offered)
    if known.size == offered.size and not hmac.compare_digest(known.root, offered.root):
        raise Fork(known, offered)


class SignedTree:
    """A log's tiles and entries, each checked against the root that the log signed before it is given.

    Raises EvidenceFault `ledger.root`, `ledger.tile` or `ledger.entries` for what isn't under that root,
    and what `fetch` raises.
    """

    def __init__(self, checkpoint: VerifiedCheckpoint, fetch: Fetch) -> None:
        self.checkpoint = checkpoint
        self._fetch = fetch
        self._newest: dict[int, tuple[int, bytes]] = {}
        self._files: list[tuple[TileName, bytes]] = []
        self._edge = self._open(checkpoint.size)

    def take(self) -> list[tuple[TileName, bytes]]:
        """Return what was fetched and checked since this was last called: what a mirror may store."""
        files, self._files = self._files, []
        return files

    def tile(self, level: int, number: int) -> bytes:
        """Return the hashes of a tile. Its parents are fetched first; each level keeps the newest one."""
        if not tiles.width_at(level, number, self.checkpoint.size):
            raise NotFound(f"the tree of {self.checkpoint.size} entries has no {tiles.path(level, number)}")
        if number == self.checkpoint.size >> HEIGHT * (level + 1):
            return self._edge.rows[level]
        kept, hashes = self._newest.get(level, (-1, b""))
        if kept != number:
            at = number % WIDTH * HASH
            expected = self.tile(level + 1, number >> HEIGHT)[at : at + HASH]
            hashes = self._full(TileName(level, number), expected)
            self._newest[level] = (number, hashes)
        return hashes

    def entries(self, number: int) -> tuple[bytes, ...]:
        """Return the entries below tile `number` of level 0."""
        name = TileName(ENTRIES, number, tiles.width_at(ENTRIES, number, self.checkpoint.size))
        expected = self.tile(0, number)
        data = self._fetch(name)
        try:
            found = tiles.decode_entries(data, name.width)
        except Malformed as error:
            raise EvidenceFault("ledger.entries", f"{tiles.path(*name)}: {error.message}") from error
        for offset, entry in enumerate(found):
            if leaf_hash(entry) != expected[offset * HASH : (offset + 1) * HASH]:
                index = number * WIDTH + offset
                raise EvidenceFault("ledger.entries", f"{tiles.path(*name)}: entry {index} isn't the one in the tree")
        self._files.append((name, data))
        return found

    def edge_at(self, size: int) -> Edge:
        """Return the edge that the tree had at an earlier size: its tiles are prefixes of today's."""
        needed = tiles.edge_ranges(size)
        rows = [
            self.tile(level, row.start // WIDTH)[: len(row) * HASH] if row else b"" for level, row in enumerate(needed)
        ]
        return Edge(size, tuple(rows))

    def check(self, other: VerifiedCheckpoint) -> None:
        """Verify that another checkpoint of the log is of the same tree. Raises Fork or Rollback (ledger.md L15)."""
        compare(other, self.checkpoint)
        if not hmac.compare_digest(self.edge_at(other.size).root(), other.root):
            raise Fork(other, self.checkpoint)

    def _open(self, size: int) -> Edge:
        names = [
            TileName(level, row.start // WIDTH, len(row)) for level, row in enumerate(tiles.edge_ranges(size)) if row
        ]
        fetched = {name.level: self._fetch(name) for name in names}
        for name in names:
            if len(fetched[name.level]) != name.width * HASH:
                raise EvidenceFault("ledger.tile", f"{tiles.path(*name)} has {len(fetched[name.level])} octets")
        edge = Edge(size, tuple(fetched.get(level, b"") for level in range(len(tiles.edge_ranges(size)))))
        if not hmac.compare_digest(edge.root(), self.checkpoint.root):
            raise EvidenceFault("ledger.root", f"the tiles at the edge don't lead to the signed root of size {size}")
        self._files += [(name, fetched[name.level]) for name in names]
        return edge

    def _full(self, name: TileName, expected: bytes) -> bytes:
        hashes = self._fetch(name)
        if len(hashes) != tiles.FULL or not hmac.compare_digest(tiles.tile_root(hashes), expected):
            raise EvidenceFault("ledger.tile", f"{tiles.path(*name)} isn't the one under the signed root")
        self._files.append((name, hashes))
        return hashes


@dataclass(frozen=True, slots=True)
class Checked:
    """Entries that are under the signed root. `first` is the index of the first of them."""

    first: int
    entries: tuple[bytes, ...]


def walk(tree: SignedTree, start: int = 0, known: Iterable[VerifiedCheckpoint] = ()) -> Iterator[Checked]:
    """Read all entries from index `start` on, and check the log's `known` checkpoints, which come by size.

    Those of a size up to `start` are checked before anything else, the others as soon as their entries are.
    """
    waiting = iter(known)
    following = _check(tree, waiting, next(waiting, None), start)
    for number in range(start // WIDTH, -(-tree.checkpoint.size // WIDTH)):
        found = tree.entries(number)
        skipped = max(0, start - number * WIDTH)
        yield Checked(number * WIDTH + skipped, found[skipped:])
        following = _check(tree, waiting, following, (number + 1) * WIDTH)
    _check(tree, waiting, following, None)


def _check(
    tree: SignedTree, waiting: Iterator[VerifiedCheckpoint], following: VerifiedCheckpoint | None, size: int | None
) -> VerifiedCheckpoint | None:
    while following is not None and (size is None or following.size <= size):
        tree.check(following)
        following = next(waiting, None)
    return following


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with an entry that is under the log's signature: the log's fault, and so the proof of it."""

    step: str
    index: int
    reason: str


class Replay:
    """Reads entries in their order (ledger.md L16). `time` is that of the entry before the first one.

    `counts` says how many entries of each kind, and exchanges of each outcome, were read.
    """

    def __init__(self, repeats: Repeats, time: int = 0) -> None:
        self.time = time
        self.counts: Counter[str] = Counter()
        self._repeats = repeats

    def read(self, checked: Checked) -> list[Finding]:
        """Return what is wrong with these entries."""
        findings: list[Finding] = []
        exchanges: list[tuple[bytes, int]] = []
        for index, data in enumerate(checked.entries, checked.first):
            try:
                entry = entries.decode(data)
            except Malformed as error:
                self.counts["unreadable"] += 1
                findings.append(Finding("entry.syntax", index, error.message))
                continue
            self.counts[type(entry).__name__.removesuffix("Entry").lower()] += 1
            if entry.time < self.time:
                findings.append(Finding("entry.time", index, f"its time {entry.time} is before {self.time}"))
            self.time = max(self.time, entry.time)
            if isinstance(entry, ExchangeEntry):
                self.counts[entry.outcome] += 1
                exchanges.append((entry.exchange, index))
        return findings + [
            Finding("exchange.outcomes", index, f"its exchange has an outcome already, in entry {first}")
            for index, first in self._repeats(exchanges)
        ]
