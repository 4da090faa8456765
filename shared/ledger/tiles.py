"""Tiles of a Merkle tree (ledger.md L9, c2sp.org/tlog-tiles): growing a log and proving from it without holding it.

A tile is 256 hashes of one level; hash i of level L + 1 is the root of the full tile i of level L. Full
tiles never change, and a partial one is a prefix of the tile that it becomes. So a writer holds the
`Edge` only, and a proof reads O(log n) tiles through a `TileReader`. Refused: a tile or a bundle of
another length than the tree's size demands, and paths in any other form than the one that `path` gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shared.errors import Malformed, NotFound, TooLarge
from shared.ledger.entry import MAX_ENTRY
from shared.ledger.merkle import EMPTY_ROOT, HASH, MAX_SIZE, node_hash

HEIGHT = 8
WIDTH = 1 << HEIGHT
FULL = WIDTH * HASH
MAX_LEVEL = 63
ENTRIES = -1  # as a level in paths: the bundle of the entries below the level 0 tile of this number
MAX_BUNDLE = WIDTH * (MAX_ENTRY + 2)
_LENGTH = 2
_GROUP = 1000
_PATH = re.compile(r"tile/(entries|\d{1,2})/((?:x\d{3}/){0,6}\d{3})(?:\.p/(\d{1,3}))?", re.ASCII)

TileReader = Callable[[int, int, int], bytes]
"""(level, number, width) → the first `width` hashes of that tile. Asked with the width that the tile has at
the size in question; raises NotFound (or whatever its store raises) when there is no such tile."""


class TileName(NamedTuple):
    """Which tile, and how wide: 256, or less for a partial one. Level `ENTRIES` is the bundle of entries."""

    level: int
    number: int
    width: int = WIDTH


@dataclass(frozen=True, slots=True)
class Tile:
    """A full tile: 256 hashes, never to change."""

    level: int
    number: int
    hashes: bytes


@dataclass(frozen=True, slots=True)
class Edge:
    """The right edge of a tree: all that is needed to grow it and to sign its root.

    `rows[L]` holds the hashes of the incomplete tile at level L (0 to 255 of them), for each level that
    has any hash at all. `edge_ranges` says where to load them from. Raises Malformed when they don't fit.
    """

    size: int = 0
    rows: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        expected = [len(needed) * HASH for needed in edge_ranges(self.size)]
        if [len(row) for row in self.rows] != expected:
            raise Malformed(f"the edge of a tree of {self.size} entries must have rows of {expected} octets")

    def extend(self, leaf_hashes: Iterable[bytes]) -> Extended:
        """Return the edge with these leaf hashes behind it, and the tiles that became full. Raises Malformed."""
        leaves = tuple(leaf_hashes)
        if not {HASH}.issuperset(map(len, leaves)):
            raise Malformed(f"a leaf hash hasn't {HASH} octets: append hashes of entries, not entries")
        tiles: list[Tile] = []
        rows: list[bytes] = []
        risen = b"".join(leaves)
        while risen or len(rows) < len(self.rows):
            level = len(rows)
            row = (self.rows[level] if level < len(self.rows) else b"") + risen
            rest = len(row) - len(row) % FULL
            first = self.size >> HEIGHT * (level + 1)
            full = [Tile(level, first + at // FULL, row[at : at + FULL]) for at in range(0, rest, FULL)]
            tiles += full
            rows.append(row[rest:])
            risen = b"".join(tile_root(tile.hashes) for tile in full)
        return Extended(Edge(self.size + len(leaves), tuple(rows)), tuple(tiles))

    def root(self) -> bytes:
        """Return the root over all leaves: 32 octets."""
        return _fold([peak for row in self.rows for peak in _peaks(row)])

    def read(self, level: int, number: int, width: int) -> bytes | None:
        """Return the first `width` hashes of this tile if it is an incomplete one, None if it is a full one.

        Raises NotFound when the tree hasn't so many hashes there.
        """
        if not 0 < width <= width_at(level, number, self.size):
            raise NotFound(f"the tree of {self.size} entries has no tile {level}/{number} of width {width}")
        complete = number < self.size >> HEIGHT * (level + 1)
        return None if complete else self.rows[level][: width * HASH]


@dataclass(frozen=True, slots=True)
class Extended:
    """What a batch makes of an edge: the new edge, and the tiles to store, lower levels first."""

    edge: Edge
    tiles: tuple[Tile, ...]


def edge_ranges(size: int) -> tuple[range, ...]:
    """Say what the edge of a tree of `size` leaves is loaded from: a range for each level.

    The first holds indices of leaves, the one at L > 0 numbers of full tiles of level L − 1, whose roots are
    the row. Each has at most 255 members.
    """
    if not 0 <= size <= MAX_SIZE:
        raise Malformed(f"a tree can't have {size} entries")
    levels = -(-size.bit_length() // HEIGHT)
    counts = [size >> HEIGHT * level for level in range(levels)]
    return tuple(range(count - count % WIDTH, count) for count in counts)


def width_at(level: int, number: int, size: int) -> int:
    """Return how many hashes (or entries) this tile has in a tree of `size` leaves: 0 to 256."""
    return max(0, min(WIDTH, (size >> HEIGHT * max(level, 0)) - number * WIDTH))


def tile_root(hashes: bytes) -> bytes:
    """Return the root of a full tile, which is a hash of the level above. Raises Malformed for a partial one."""
    if len(hashes) != FULL:
        raise Malformed(f"a tile of {len(hashes)} octets isn't full ({FULL}), so it has no hash in the level above")
    return _climb(hashes)


def root_at(size: int, read: TileReader) -> bytes:
    """Return the root that the tree had at `size` leaves."""
    return _Nodes(size, read).range_root(0, size) if size else EMPTY_ROOT


def inclusion(index: int, size: int, read: TileReader) -> tuple[bytes, ...]:
    """Return the audit path of leaf `index` in the tree of `size` leaves, from the leaf upwards.

    PATH(m, D[n]) of RFC 9162 §2.1.3.1. Raises NotFound unless 0 ≤ index < size.
    """
    if not 0 <= index < size:
        raise NotFound(f"entry {index} isn't in the tree of {size} entries")
    nodes = _Nodes(size, read)
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(nodes.range_root(middle, end))
            end = middle
        else:
            path.append(nodes.range_root(start, middle))
            start = middle
    return tuple(reversed(path))


def consistency(old: int, new: int, read: TileReader) -> tuple[bytes, ...]:
    """Return the proof that the tree of `new` leaves begins with the tree of `old` leaves.

    PROOF(m, D[n]) of RFC 9162 §2.1.4.1; empty from size 0 and for equal sizes. Raises NotFound unless
    0 ≤ old ≤ new.
    """
    if not 0 <= old <= new:
        raise NotFound(f"no proof leads from size {old} to size {new}: expected 0 ≤ old ≤ new")
    if old in (0, new):
        return ()
    nodes = _Nodes(new, read)
    path: list[bytes] = []
    start, end = 0, new
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(nodes.range_root(middle, end))
            end = middle
        else:
            path.append(nodes.range_root(start, middle))
            start = middle
    if start:  # else the old tree itself is the last subtree, and the verifier has its root
        path.append(nodes.range_root(start, end))
    return tuple(reversed(path))


def path(level: int, number: int, width: int = WIDTH) -> str:
    """Return where a tile or bundle lies below the log's prefix: `tile/<L>/<N>[.p/<W>]`. Raises Malformed."""
    if not (ENTRIES <= level <= MAX_LEVEL and 0 <= number <= MAX_SIZE and 0 < width <= WIDTH):
        raise Malformed(f"there can be no tile of level {level}, number {number} and width {width}")
    groups = [f"{number % _GROUP:03}"]
    while number := number // _GROUP:
        groups.append(f"x{number % _GROUP:03}")
    suffix = "" if width == WIDTH else f".p/{width}"
    return f"tile/{'entries' if level == ENTRIES else level}/{'/'.join(reversed(groups))}{suffix}"


def parse_path(text: str) -> TileName:
    """Parse a path, only in the form that `path` gives. Raises Malformed."""
    match = _PATH.fullmatch(text)
    if match is not None:
        level, groups, width = match.groups()
        number = int(groups.replace("x", "").replace("/", ""))
        name = TileName(ENTRIES if level == "entries" else int(level), number, int(width or WIDTH))
        if path(*name) == text:
            return name
    raise Malformed(f"{text[:100]!r} isn't the path of a tile: expected tile/<L>/<N>[.p/<W>]")


def encode_entries(entries: Iterable[bytes]) -> bytes:
    """Return an entry bundle: each entry behind its length in 2 octets. Raises TooLarge for an entry over 65,535."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise TooLarge(f"an entry has {len(entry)} octets, at most {MAX_ENTRY} are allowed")
        parts += [len(entry).to_bytes(_LENGTH, "big"), entry]
    return b"".join(parts)


def decode_entries(data: bytes, width: int) -> tuple[bytes, ...]:
    """Parse an entry bundle that must hold exactly `width` entries. Raises Malformed or TooLarge."""
    if len(data) > MAX_BUNDLE:
        raise TooLarge(f"the entry bundle has {len(data)} octets, at most {MAX_BUNDLE} are possible")
    entries: list[bytes] = []
    at = 0
    while at < len(data) and len(entries) < width:
        start = at + _LENGTH
        at = start + int.from_bytes(data[at:start], "big")
        entries.append(data[start:at])
    if at != len(data) or len(entries) != width:
        raise Malformed(f"the entry bundle of {len(data)} octets isn't {width} entries with their lengths")
    return tuple(entries)


def cut(name: TileName, whole: bytes) -> bytes:
    """Return a partial tile or bundle out of the full one that it became. Raises Malformed."""
    if name.level != ENTRIES:
        return whole[: name.width * HASH]
    return encode_entries(decode_entries(whole, WIDTH)[: name.width])


class _Nodes:
    """The nodes of one tree size, computed from tiles; each tile is read once."""

    def __init__(self, size: int, read: TileReader) -> None:
        edge_ranges(size)  # refuses an impossible size
        self._size = size
        self._read = read
        self._tiles: dict[tuple[int, int], bytes] = {}

    def range_root(self, start: int, end: int) -> bytes:
        """Return MTH(D[start:end]) for a range that begins where a subtree of its length may begin."""
        count = end - start
        heights = [height for height in range(count.bit_length()) if count >> height & 1]
        return _fold([self._node(height, (end >> height) - 1) for height in heights])

    def _node(self, height: int, index: int) -> bytes:
        """Return the root of the complete subtree number `index` of 2^height leaves."""
        level, below = divmod(height, HEIGHT)
        first = index << below
        tile = self._tile(level, first >> HEIGHT)
        at = first % WIDTH * HASH
        return _climb(tile[at : at + (HASH << below)])

    def _tile(self, level: int, number: int) -> bytes:
        if (level, number) not in self._tiles:
            width = width_at(level, number, self._size)
            hashes = self._read(level, number, width)
            if len(hashes) != width * HASH:
                name = path(level, number, width)
                raise Malformed(f"{name} has {len(hashes)} octets, expected {width * HASH}")
            self._tiles[level, number] = hashes
        return self._tiles[level, number]


def _climb(hashes: bytes) -> bytes:
    """Return the root over a power of two of concatenated hashes."""
    while len(hashes) > HASH:
        starts = range(0, len(hashes), 2 * HASH)
        hashes = b"".join([node_hash(hashes[at : at + HASH], hashes[at + HASH : at + 2 * HASH]) for at in starts])
    return hashes


def _peaks(row: bytes) -> list[bytes]:
    """Return the roots of the complete subtrees that an incomplete tile falls into, rightmost first."""
    peaks: list[bytes] = []
    end = count = len(row) // HASH
    for height in range(HEIGHT):
        if count >> height & 1:
            peaks.append(_climb(row[(end - (1 << height)) * HASH : end * HASH]))
            end -= 1 << height
    return peaks


def _fold(peaks: Sequence[bytes]) -> bytes:
    """Return the root over complete subtrees, given rightmost (that is lowest) first."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[0]
    for peak in peaks[1:]:
        root = node_hash(peak, root)
    return root


def _split(count: int) -> int:
    """Return the largest power of two below `count` (> 1): where RFC 6962 splits."""
    return 1 << ((count - 1).bit_length() - 1)
