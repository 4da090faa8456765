"""A plain RFC 6962 tree in memory: the reference that tiles are held against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.errors import Malformed, NotFound
from shared.ledger.merkle import EMPTY_ROOT, HASH, node_hash


class Tree:
    """A tree in memory that keeps every complete subtree: 64 octets an entry, proofs in O(log n).

    Row `h` holds the hashes of the complete subtrees of 2^h leaves, one behind the other; nodes that
    are complete never change, so a proof for an older size is read from the same rows.

    One writer, any number of reading threads: the size grows only after all rows have grown, and what
    a size reaches is never written again.
    """

    __slots__ = ("_rows", "_size")

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        """Build a tree of these leaf hashes (32 octets each). Raises Malformed for another length."""
        self._rows: list[bytearray] = []
        self._size = 0
        self._put(self._grow(leaf_hashes))

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    def append(self, leaf: bytes) -> int:
        """Add one leaf hash and return its index. Amortised one node hash; raises Malformed."""
        index = self._size
        _require_leaves((leaf,))
        added = [leaf]
        while index >> len(added) - 1 & 1:  # each row with an odd last node gets a parent
            height = len(added) - 1
            added.append(node_hash(self._node(height, (index >> height) - 1), added[height]))
        self._put(added)
        return index

    def root(self) -> bytes:
        """Return the root over all leaves: 32 octets."""
        return self.root_at(self._size)

    def root_at(self, size: int) -> bytes:
        """Return the root that the tree had at `size` leaves. Raises NotFound when it hasn't got there."""
        self._require_size(size)
        return self._range_root(0, size) if size else EMPTY_ROOT

    def leaf(self, index: int) -> bytes:
        """Return the leaf hash at `index`. Raises NotFound."""
        self._require_index(index, self._size)
        return self._node(0, index)

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the audit path of leaf `index` in the tree of `size` leaves, from the leaf upwards.

        PATH(m, D[n]) of RFC 9162 §2.1.3.1. Raises NotFound when index or size isn't reached yet.
        """
        self._require_size(size)
        self._require_index(index, size)
        path: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._range_root(middle, end))
                end = middle
            else:
                path.append(self._range_root(start, middle))
                start = middle
        return tuple(reversed(path))

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `new` leaves begins with the tree of `old` leaves.

        PROOF(m, D[n]) of RFC 9162 §2.1.4.1; empty from size 0 and for equal sizes. Raises NotFound when
        a size isn't reached yet or `old` is over `new`.
        """
        self._require_size(new)
        if not 0 <= old <= new:
            raise NotFound(f"no proof leads from size {old} to size {new}: expected 0 ≤ old ≤ new")
        if old in (0, new):
            return ()
        path: list[bytes] = []
        start, end = 0, new
        while end != old:
            middle = start + _split(end - start)
            if old <= middle:
                path.append(self._range_root(middle, end))
                end = middle
            else:
                path.append(self._range_root(start, middle))
                start = middle
        if start:  # else the old tree itself is the last subtree, and the verifier has its root
            path.append(self._range_root(start, end))
        return tuple(reversed(path))

    def _grow(self, leaf_hashes: Iterable[bytes]) -> tuple[bytes, ...]:
        """Return, row by row, the nodes that become complete with these leaves."""
        leaves = tuple(leaf_hashes)
        _require_leaves(leaves)
        added: list[bytes] = []
        row = b"".join(leaves)
        while row:
            added.append(row)
            row = self._parents(len(added) - 1, row)
        return tuple(added)

    def _parents(self, height: int, row: bytes) -> bytes:
        present = self._size >> height
        if present & 1:  # the last node of this row was waiting for its right sibling
            row = self._node(height, present - 1) + row
        pair = 2 * HASH
        if len(row) < pair:
            return b""
        ends = range(pair, len(row) + 1, pair)
        return b"".join([node_hash(row[end - pair : end - HASH], row[end - HASH : end]) for end in ends])

    def _put(self, added: Sequence[bytes]) -> None:
        if not added:
            return
        for height, row in enumerate(added):
            if height == len(self._rows):
                self._rows.append(bytearray())
            self._rows[height] += row
        self._size += len(added[0]) // HASH  # last, so that a reader never sees a size without its nodes

    def _range_root(self, start: int, end: int) -> bytes:
        """Return MTH(D[start:end]) for a range that begins where a subtree of its length may begin."""
        return _fold([self._node(height, (end >> height) - 1) for height in _heights(end - start)])

    def _node(self, height: int, index: int) -> bytes:
        return bytes(self._rows[height][index * HASH : (index + 1) * HASH])

    def _require_size(self, size: int) -> None:
        if not 0 <= size <= self._size:
            raise NotFound(f"the tree has {self._size} entries, so there is no size {size} yet")

    def _require_index(self, index: int, size: int) -> None:
        if not 0 <= index < size:
            raise NotFound(f"entry {index} isn't in the tree of {size} entries yet")


def _split(count: int) -> int:
    """Return the largest power of two below `count` (> 1): where RFC 6962 splits."""
    return 1 << ((count - 1).bit_length() - 1)


def _heights(count: int) -> list[int]:
    """Return the heights of the complete subtrees that `count` leaves fall into, lowest first."""
    return [height for height in range(count.bit_length()) if count >> height & 1]


def _fold(peaks: Sequence[bytes]) -> bytes:
    """Return the root over complete subtrees, given lowest (that is rightmost) first."""
    root = peaks[0]
    for peak in peaks[1:]:
        root = node_hash(peak, root)
    return root


def _require_leaves(leaves: Sequence[bytes]) -> None:
    if not {HASH}.issuperset(map(len, leaves)):
        raise Malformed(f"a leaf hash hasn't {HASH} octets: append hashes of entries, not entries")
