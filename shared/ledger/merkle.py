"""RFC 6962 Merkle trees: growing one, making proofs from it, and verifying proofs without it.

The generator (`Tree`) and the verifiers share nothing but the two hash functions, so that one mistake
can't hide in both (ledger.md L1, L4). Nothing here knows what an entry means or who signed a root.

The hashes are RFC 6962's own, with its 00 and 01 prefixes, so that strangers' tools can check them.
They are the one place besides shared/encoding/labels.py that calls SHA-256: they aren't labelled
protocol values, and their prefixes never begin a labelled frame ("SecMTP v1 …").
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.errors import EvidenceFault, Malformed, NotFound, OurFault

HASH = 32
MAX_SIZE = 2**63 - 1
MAX_PATH = 64
EMPTY_ROOT = hashlib.sha256().digest()
_NODE = b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry as a leaf: SHA-256(00 ‖ entry), 32 octets (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: SHA-256(01 ‖ left ‖ right), 32 octets (RFC 6962 §2.1)."""
    return hashlib.sha256(_NODE + left + right).digest()


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

    def stage(self, leaf_hashes: Iterable[bytes]) -> Staged:
        """Work out the tree with these leaf hashes added, and change nothing until `Staged.adopt`.

        Drop the result to drop the batch. Costs one node hash a leaf plus O(log n). Raises Malformed.
        """
        added = self._grow(leaf_hashes)
        size = self._size + (len(added[0]) // HASH if added else 0)
        return Staged(self, self._size, size, self._staged_root(added, size), added)

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
        return b"".join([hashlib.sha256(_NODE + row[end - pair : end]).digest() for end in ends])

    def _put(self, added: Sequence[bytes]) -> None:
        if not added:
            return
        for height, row in enumerate(added):
            if height == len(self._rows):
                self._rows.append(bytearray())
            self._rows[height] += row
        self._size += len(added[0]) // HASH  # last, so that a reader never sees a size without its nodes

    def _staged_root(self, added: Sequence[bytes], size: int) -> bytes:
        """Return the root at `size`: each peak ends its row, in what was added or else in what we have."""
        peaks = [
            added[height][-HASH:] if height < len(added) else self._node(height, (size >> height) - 1)
            for height in _heights(size)
        ]
        return _fold(peaks) if peaks else EMPTY_ROOT

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


@dataclass(frozen=True, slots=True)
class Staged:
    """A batch worked out on top of a tree that doesn't hold it yet: for the time between signing and COMMIT.

    `base` and `size` are the numbers of leaves without and with the batch, `root` is the root with it.
    """

    tree: Tree
    base: int
    size: int
    root: bytes
    rows: tuple[bytes, ...]

    def adopt(self) -> None:
        """Put the batch into the tree: after COMMIT only (ledger.md L7), and once.

        Raises OurFault when the tree has grown since, because then these nodes belong elsewhere.
        """
        if self.tree.size != self.base:
            raise OurFault(f"the batch was staged on {self.base} entries, the tree now has {self.tree.size}")
        self.tree._put(self.rows)  # noqa: SLF001  (Tree and Staged are one unit)


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Verify that leaf hash `leaf` stands at `index` in the tree of `size` leaves under `root`.

    RFC 9162 §2.1.3.2. Raises EvidenceFault("ledger.inclusion"). It says nothing of who signed the root:
    take it from a `VerifiedCheckpoint` only.
    """
    step = "ledger.inclusion"
    _require(0 <= index < size <= MAX_SIZE, step, f"index {index} isn't inside a tree of {size} entries")
    _require_hashes((leaf, root, *path), step)
    position, last, computed = index, size - 1, leaf
    for sibling in path:  # at most 63 times: `last` halves
        _require(last > 0, step, "the path is longer than the tree is high")
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            position, last = _skip_missing(position, last)
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1
    _require(last == 0, step, "the path is shorter than the tree is high")
    _require(hmac.compare_digest(computed, root), step, f"the path of entry {index} doesn't lead to the root")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Verify that the tree (`new`, `new_root`) begins with all leaves of (`old`, `old_root`).

    RFC 9162 §2.1.4.2; from size 0, which is the first run (pass EMPTY_ROOT), and between equal sizes the
    proof must be empty. Raises EvidenceFault("ledger.consistency").
    """
    step = "ledger.consistency"
    _require(0 <= old <= new <= MAX_SIZE, step, f"a tree of {new} entries can't extend one of {old}")
    _require_hashes((old_root, new_root, *path), step)
    for size, root in ((old, old_root), (new, new_root)):
        _require(size > 0 or hmac.compare_digest(root, EMPTY_ROOT), step, "the root of size 0 isn't SHA-256 of nothing")
    if old in (0, new):
        _require(not path, step, "from size 0 and between equal sizes the proof is empty")
        _require(old == 0 or hmac.compare_digest(old_root, new_root), step, f"two roots for size {old}")
        return
    _require(len(path) > 0, step, f"the proof from size {old} to size {new} is empty")
    _extend(old, old_root, new, new_root, path)


def _extend(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Steps 2–7 of RFC 9162 §2.1.4.2, for 0 < old < new."""
    step = "ledger.consistency"
    whole = old & (old - 1) == 0  # then the old tree is one subtree of the new one, and its root isn't sent
    first, *rest = (old_root, *path) if whole else tuple(path)
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_computed = new_computed = first
    for sibling in rest:
        _require(last > 0, step, "the proof is longer than the tree is high")
        if position & 1 or position == last:
            old_computed, new_computed = node_hash(sibling, old_computed), node_hash(sibling, new_computed)
            position, last = _skip_missing(position, last)
        else:
            new_computed = node_hash(new_computed, sibling)
        position, last = position >> 1, last >> 1
    _require(last == 0, step, "the proof is shorter than the tree is high")
    _require(hmac.compare_digest(old_computed, old_root), step, f"the proof doesn't lead to the root of size {old}")
    _require(hmac.compare_digest(new_computed, new_root), step, f"the proof doesn't lead to the root of size {new}")


def _skip_missing(position: int, last: int) -> tuple[int, int]:
    """Climb to the level where a left sibling was hashed: on the right edge levels without one have no node."""
    while position and not position & 1:
        position, last = position >> 1, last >> 1
    return position, last


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


def _require_hashes(hashes: Sequence[bytes], step: str) -> None:
    _require(all(len(digest) == HASH for digest in hashes), step, f"a hash hasn't {HASH} octets")


def _require(condition: bool, step: str, message: str) -> None:  # noqa: FBT001  (reads as the sentence it is)
    if not condition:
        raise EvidenceFault(step, message)
