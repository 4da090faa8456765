"""Tiles against the plain tree: every small size, and trees too large for any tree in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import Malformed, NotFound, TooLarge
from shared.ledger import tiles
from shared.ledger.merkle import EMPTY_ROOT, HASH, MAX_SIZE, leaf_hash, node_hash, verify_consistency, verify_inclusion
from shared.ledger.tiles import ENTRIES, FULL, WIDTH, Edge, Tile, TileName, TileReader
from tests.doubles.tree import Tree

COUNT = 70_000  # the example of c2sp.org/tlog-tiles: three levels
LEAVES = [leaf_hash(number.to_bytes(4, "big")) for number in range(COUNT)]
TREE = Tree(LEAVES)
SIZES = sorted({*range(12), *range(250, 270), 511, 512, 513, 65_535, 65_536, 65_537, 65_792, COUNT})


class Store:
    """A log as a TTP keeps it: full tiles as rows, and the edge. Counts what is read."""

    def __init__(self, *batches: list[bytes]) -> None:
        self.edge = Edge()
        self.tiles: dict[tuple[int, int], bytes] = {}
        self.reads = 0
        for batch in batches:
            extended = self.edge.extend(batch)
            self.edge = extended.edge
            for tile in extended.tiles:
                assert (tile.level, tile.number) not in self.tiles
                self.tiles[tile.level, tile.number] = tile.hashes

    def read(self, level: int, number: int, width: int) -> bytes:
        """Read a tile or a prefix of it."""
        self.reads += 1
        hashes = self.edge.read(level, number, width)
        return self.tiles[level, number][: width * HASH] if hashes is None else hashes


STORE = Store(LEAVES)


def heights() -> list[bytes]:
    """Return the roots of complete subtrees of equal leaves, by height: a tree of any size needs no more."""
    found = [LEAVES[0]]
    for _ in range(64):
        found.append(node_hash(found[-1], found[-1]))
    return found


HEIGHTS = heights()


def read_equal(level: int, number: int, width: int) -> bytes:
    """Read from the tree whose leaves are all the first leaf."""
    return HEIGHTS[8 * level] * width


def batches(sizes: list[int]) -> Iterator[list[bytes]]:
    """Cut the leaves into batches of these sizes."""
    start = 0
    for size in sizes:
        yield LEAVES[start : start + size]
        start += size


class TestEdge:
    def test_every_small_size(self) -> None:
        """Grown leaf by leaf, the edge has the plain tree's root at each size, and full tiles at each 256th."""
        edge = Edge()
        for size in range(600):
            assert edge.root() == TREE.root_at(size)
            extended = edge.extend([LEAVES[size]])
            number, rest = divmod(size + 1, WIDTH)
            expected = (Tile(0, number - 1, b"".join(LEAVES[size - 255 : size + 1])),) if rest == 0 else ()
            assert extended.tiles == expected
            edge = extended.edge

    def test_built_at_once(self) -> None:
        """One batch of any size gives the plain tree's root."""
        for size in SIZES:
            extended = Edge().extend(LEAVES[:size])
            assert extended.edge.root() == TREE.root_at(size)
            assert extended.edge.size == size

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.integers(0, 3000), max_size=8))
    def test_any_batches(self, sizes: list[int]) -> None:
        """However the leaves come in batches, the edge and the tiles are those of one batch."""
        cut, whole = Store(*batches(sizes)), Store(LEAVES[: sum(sizes)])
        assert cut.edge == whole.edge
        assert cut.tiles == whole.tiles

    def test_specification(self) -> None:
        """70,000 entries are the tiles that C2SP's example counts."""
        counted = [sum(1 for at, _ in STORE.tiles if at == level) for level in range(3)]
        assert counted == [273, 1, 0]
        assert [len(row) // HASH for row in STORE.edge.rows] == [112, 17, 1]
        assert Edge().extend(LEAVES[:256]).edge.rows == (b"", tiles.tile_root(b"".join(LEAVES[:256])))

    @pytest.mark.parametrize("size", SIZES)
    def test_loaded(self, size: int) -> None:
        """An edge is loaded from at most 255 leaf hashes and 255 tile roots a level, and grows on the same."""
        store = Store(LEAVES[:size])
        rows: list[bytes] = []
        for level, needed in enumerate(tiles.edge_ranges(size)):
            assert len(needed) < WIDTH
            below = LEAVES if level == 0 else {n: tiles.tile_root(store.tiles[level - 1, n]) for n in needed}
            rows.append(b"".join(below[n] for n in needed))
        loaded = Edge(size, tuple(rows))
        assert loaded == store.edge
        assert loaded.extend(LEAVES[size : size + 300]) == store.edge.extend(LEAVES[size : size + 300])

    def test_wrong_rows(self) -> None:
        """An edge with a hash too few, a level too many or an impossible size is refused."""
        edge = STORE.edge
        for rows in ((), edge.rows[:2], (*edge.rows, b""), (edge.rows[0][HASH:], *edge.rows[1:])):
            with pytest.raises(Malformed, match="rows of"):
                Edge(COUNT, rows)
        for size in (-1, MAX_SIZE + 1):
            with pytest.raises(Malformed, match="can't have"):
                Edge(size)

    def test_not_a_hash(self) -> None:
        """Something that isn't 32 octets long is refused as a leaf hash."""
        for wrong in (b"", b"entry", bytes(33), bytes(64)):
            with pytest.raises(Malformed, match="hashes of entries"):
                Edge().extend([LEAVES[0], wrong])

    def test_read(self) -> None:
        """The edge gives its incomplete tiles, refers to the store for full ones, and knows no further tile."""
        edge = STORE.edge
        assert edge.read(0, 273, 112) == edge.rows[0]
        assert edge.read(0, 273, 5) == edge.rows[0][: 5 * HASH]
        assert edge.read(0, 272, WIDTH) is None
        assert edge.read(1, 0, 3) is None
        for level, number, width in ((0, 273, 113), (0, 274, 1), (1, 1, 18), (3, 0, 1), (0, 0, 0), (0, 0, 257)):
            with pytest.raises(NotFound, match="no tile"):
                edge.read(level, number, width)


class TestProofs:
    def test_every_small_size(self) -> None:
        """All proofs in all trees of up to 70 leaves are those of the plain tree."""
        for new in range(71):
            assert tiles.root_at(new, STORE.read) == TREE.root_at(new)
            for old in range(new + 1):
                assert tiles.consistency(old, new, STORE.read) == TREE.consistency(old, new)
            for index in range(new):
                assert tiles.inclusion(index, new, STORE.read) == TREE.inclusion(index, new)

    @settings(max_examples=100, deadline=None)
    @given(st.integers(1, COUNT), st.data())
    def test_any_size(self, size: int, data: st.DataObject) -> None:
        """Proofs for any size of a log of three levels are those of the plain tree."""
        index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
        assert tiles.root_at(size, STORE.read) == TREE.root_at(size)
        assert tiles.inclusion(index, size, STORE.read) == TREE.inclusion(index, size)
        assert tiles.consistency(old, size, STORE.read) == TREE.consistency(old, size)

    @settings(max_examples=100, deadline=None)
    @given(st.integers(1, MAX_SIZE), st.data())
    def test_enormous(self, size: int, data: st.DataObject) -> None:
        """Proofs in trees of up to 2^63 − 1 leaves verify, and read at most two tiles a level."""
        read: list[tuple[int, int]] = []

        def reader(level: int, number: int, width: int) -> bytes:
            assert width == tiles.width_at(level, number, size) > 0
            read.append((level, number))
            return read_equal(level, number, width)

        index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
        root = tiles.root_at(size, reader)
        assert len(read) <= 8
        read.clear()
        path = tiles.inclusion(index, size, reader)
        verify_inclusion(LEAVES[0], index, size, path, root)
        assert len(set(read)) == len(read) <= 16
        read.clear()
        verify_consistency(old, tiles.root_at(old, read_equal), size, root, tiles.consistency(old, size, reader))
        assert len(set(read)) == len(read) <= 16

    def test_no_tile_is_read_in_vain(self) -> None:
        """The empty tree, a proof from size 0 and one between equal sizes read nothing."""

        def unread(level: int, number: int, width: int) -> bytes:
            raise NotFound("nothing should be read")

        assert tiles.root_at(0, unread) == EMPTY_ROOT
        assert tiles.consistency(0, COUNT, unread) == tiles.consistency(COUNT, COUNT, unread) == ()

    def test_beyond(self) -> None:
        """Entries and sizes that a tree can't have are refused before anything is read."""
        for index, size in ((5, 5), (-1, 5), (0, 0)):
            with pytest.raises(NotFound, match="isn't in the tree"):
                tiles.inclusion(index, size, STORE.read)
        for old, new in ((-1, 5), (6, 5)):
            with pytest.raises(NotFound, match="no proof"):
                tiles.consistency(old, new, STORE.read)
        for size in (-1, MAX_SIZE + 1):
            with pytest.raises(Malformed, match="can't have"):
                tiles.root_at(size, STORE.read)

    @pytest.mark.parametrize("other", [b"", bytes(HASH), bytes(FULL)])
    def test_wrong_length(self, other: bytes) -> None:
        """A reader that gives another number of hashes than asked for is refused with the tile's path."""
        reader: TileReader = lambda level, number, width: other  # noqa: E731
        with pytest.raises(Malformed, match=r"tile/0/000\.p/100 has \d+ octets, expected 3200"):
            tiles.root_at(100, reader)

    def test_tile_root(self) -> None:
        """A full tile's root is that of its 256 leaves; a partial tile has none."""
        assert tiles.tile_root(b"".join(LEAVES[:WIDTH])) == TREE.root_at(WIDTH)
        with pytest.raises(Malformed, match="isn't full"):
            tiles.tile_root(b"".join(LEAVES[:128]))


class TestPaths:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            (TileName(0, 0), "tile/0/000"),
            (TileName(0, 1234067), "tile/0/x001/x234/067"),
            (TileName(2, 0, 1), "tile/2/000.p/1"),
            (TileName(63, 999), "tile/63/999"),
            (TileName(0, 1000, 255), "tile/0/x001/000.p/255"),
            (TileName(ENTRIES, 273, 112), "tile/entries/273.p/112"),
            (TileName(ENTRIES, MAX_SIZE), "tile/entries/x009/x223/x372/x036/x854/x775/807"),
        ],
    )
    def test_specification(self, name: TileName, text: str) -> None:
        """Paths are those of c2sp.org/tlog-tiles, and are read back."""
        assert tiles.path(*name) == text
        assert tiles.parse_path(text) == name

    @given(st.integers(ENTRIES, 63), st.integers(0, MAX_SIZE), st.integers(1, WIDTH))
    def test_round_trip(self, level: int, number: int, width: int) -> None:
        """Every path is read back as what it was made from."""
        assert tiles.parse_path(tiles.path(level, number, width)) == (level, number, width)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/0/x000/000",
            "tile/0/001/000",
            "tile/0/x001/x000",
            "tile/00/000",
            "tile/01/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/0/000.p/0",
            "tile/0/000.p/00",
            "tile/0/000.p/01",
            "tile/0/000.p/256",
            "tile/0/000.p/",
            "tile/0/000.p/1/",
            "tile/8/0/000",
            "tile/entry/000",
            "/tile/0/000",
            "tile/0/000\n",
            "tile/0/٠٠٠",
            "tile/0/x009/x223/x372/x036/x854/x775/808",
            "tile/0/x001/x009/x223/x372/x036/x854/x775/807",
            "tile/0/../000",
        ],
    )
    def test_other_forms(self, text: str) -> None:
        """Any other form of a path is refused."""
        with pytest.raises(Malformed, match=r"path of a tile|can be no tile"):
            tiles.parse_path(text)

    @pytest.mark.parametrize("name", [(-2, 0, 1), (64, 0, 1), (0, -1, 1), (0, 2**63, 1), (0, 0, 0), (0, 0, 257)])
    def test_impossible(self, name: tuple[int, int, int]) -> None:
        """A path of a tile that can't be isn't made."""
        with pytest.raises(Malformed, match="there can be no tile"):
            tiles.path(*name)


class TestBundles:
    @given(st.lists(st.binary(max_size=40), min_size=1, max_size=WIDTH))
    def test_round_trip(self, entries: list[bytes]) -> None:
        """A bundle is read back as its entries."""
        assert tiles.decode_entries(tiles.encode_entries(entries), len(entries)) == tuple(entries)

    def test_octets(self) -> None:
        """Each entry stands behind its length in two octets, the greater first."""
        assert tiles.encode_entries([b"ab", b"", bytes(258)]) == b"\0\2ab\0\0\1\2" + bytes(258)

    def test_longest(self) -> None:
        """65,535 octets are the longest entry."""
        longest = bytes(65_535)
        assert tiles.decode_entries(tiles.encode_entries([longest]), 1) == (longest,)
        with pytest.raises(TooLarge, match="65536 octets"):
            tiles.encode_entries([longest + b"\0"])

    @pytest.mark.parametrize("data", [b"", b"\0", b"\0\2a", b"\0\1a", b"\0\1a\0", b"\0\1a\0\1b\0", b"\0\1a\0\1b\0\0"])
    def test_other_counts(self, data: bytes) -> None:
        """A bundle that ends within an entry, or has more or fewer entries than the tile, is refused."""
        with pytest.raises(Malformed, match="isn't 2 entries"):
            tiles.decode_entries(data, 2)

    def test_bound(self) -> None:
        """A bundle over the length of 256 longest entries is refused unread."""
        with pytest.raises(TooLarge, match="at most"):
            tiles.decode_entries(bytes(tiles.MAX_BUNDLE + 1), WIDTH)

    def test_cut(self) -> None:
        """A partial tile or bundle is cut out of the full one that it became."""
        entries = [bytes(number) for number in range(WIDTH)]
        whole = tiles.encode_entries(entries)
        assert tiles.cut(TileName(ENTRIES, 0, 7), whole) == tiles.encode_entries(entries[:7])
        assert tiles.cut(TileName(0, 0, 7), bytes(FULL)) == bytes(7 * HASH)
        with pytest.raises(Malformed, match="isn't 256 entries"):
            tiles.cut(TileName(ENTRIES, 0, 7), whole[:-1])
