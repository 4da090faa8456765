"""RFC 6962 trees: exhaustive for small sizes, properties for larger ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import EvidenceFault, Malformed, NotFound
from shared.ledger.merkle import EMPTY_ROOT, HASH, MAX_SIZE, leaf_hash, node_hash, verify_consistency, verify_inclusion
from tests.doubles.tree import Tree

SMALL = 32
LEAVES = [leaf_hash(f"entry {number}".encode()) for number in range(600)]
TREE = Tree(LEAVES)
ROOTS = [TREE.root_at(size) for size in range(SMALL + 1)]

Path = tuple[bytes, ...]


def plain_root(leaves: Sequence[bytes]) -> bytes:
    """MTH as RFC 6962 §2.1 writes it, by recursion: the oracle for everything below."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(plain_root(leaves[:split]), plain_root(leaves[split:]))


def flipped(octets: bytes) -> Iterator[bytes]:
    """Yield the octets with each single bit turned over."""
    number = int.from_bytes(octets, "big")
    for bit in range(8 * len(octets)):
        yield (number ^ (1 << bit)).to_bytes(len(octets), "big")


def mutated(path: Path) -> Iterator[Path]:
    """Yield the path with every bit flipped, every hash missing, and a hash too many at every place."""
    for at, digest in enumerate(path):
        for other in flipped(digest):
            yield (*path[:at], other, *path[at + 1 :])
        yield path[:at] + path[at + 1 :]
    for at in range(len(path) + 1):
        for extra in (bytes(HASH), LEAVES[0], *path[:1]):
            yield (*path[:at], extra, *path[at:])


def refused(verify: Callable[..., None], *arguments: object) -> None:
    """Assert that verification fails at its own step (without the cost of pytest.raises a million times)."""
    try:
        verify(*arguments)
    except EvidenceFault as fault:
        assert fault.step == verify.__name__.replace("verify_", "ledger.")  # noqa: PT017
    else:
        pytest.fail(f"a wrong proof was accepted: {arguments}")


class TestHashes:
    def test_prefixes(self) -> None:
        """Leaves and nodes are hashed with different prefixes, so a node can't be passed off as an entry."""
        left, right = LEAVES[:2]
        assert node_hash(left, right) == hashlib.sha256(b"\x01" + left + right).digest()
        assert leaf_hash(left + right) != node_hash(left, right)

    def test_empty(self) -> None:
        """A tree without leaves has SHA-256 of nothing as its root."""
        assert Tree().root() == EMPTY_ROOT == hashlib.sha256(b"").digest()


class TestRoots:
    @pytest.mark.parametrize("size", [*range(SMALL + 1), 63, 64, 65, 255, 256, 257, 599, 600])
    def test_oracle(self, size: int) -> None:
        """The root at every size is the one that the RFC's recursive definition gives."""
        assert TREE.root_at(size) == Tree(LEAVES[:size]).root() == plain_root(LEAVES[:size])

    def test_append(self) -> None:
        """Appending one by one gives each leaf its index and the same roots as building at once."""
        tree = Tree()
        for index, leaf in enumerate(LEAVES[:100]):
            assert tree.append(leaf) == index
            assert tree.leaf(index) == leaf
            assert tree.root() == TREE.root_at(index + 1)

    def test_not_a_hash(self) -> None:
        """Something that isn't 32 octets long is refused as a leaf hash, and changes nothing."""
        tree = Tree(LEAVES[:3])
        for wrong in (b"", b"entry", bytes(33)):
            with pytest.raises(Malformed):
                tree.append(wrong)
        assert tree.size == 3
        assert tree.root() == ROOTS[3]


class TestInclusion:
    @pytest.mark.parametrize("size", range(1, SMALL + 1))
    def test_every_proof(self, size: int) -> None:
        """Every proof verifies; for another leaf, index or root, or with any mutation, none does."""
        root = ROOTS[size]
        for index in range(size):
            path, leaf = TREE.inclusion(index, size), LEAVES[index]
            verify_inclusion(leaf, index, size, path, root)
            for wrong in mutated(path):
                refused(verify_inclusion, leaf, index, size, wrong, root)
            for other in set(range(-1, size + 2)) - {index}:
                refused(verify_inclusion, leaf, other, size, path, root)

    def test_every_bit_of_leaf_and_root(self) -> None:
        """A proof holds for exactly its leaf and exactly its root."""
        path = TREE.inclusion(6, 11)
        for leaf, root in zip(flipped(LEAVES[6]), flipped(ROOTS[11]), strict=True):
            refused(verify_inclusion, leaf, 6, 11, path, ROOTS[11])
            refused(verify_inclusion, LEAVES[6], 6, 11, path, root)

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_large(self, data: st.DataObject) -> None:
        """In larger trees proofs verify too, and are no longer than the tree is high."""
        size = data.draw(st.integers(1, len(LEAVES)))
        index = data.draw(st.integers(0, size - 1))
        path = TREE.inclusion(index, size)
        assert len(path) <= (size - 1).bit_length()
        verify_inclusion(LEAVES[index], index, size, path, TREE.root_at(size))

    @pytest.mark.parametrize(("index", "size"), [(5, 5), (-1, 5), (0, 0), (0, 601), (0, -1)])
    def test_not_there(self, index: int, size: int) -> None:
        """No proof is made for an entry or size that the tree hasn't reached."""
        with pytest.raises(NotFound):
            TREE.inclusion(index, size)

    @pytest.mark.parametrize("size", [0, -1, MAX_SIZE + 1])
    def test_impossible_size(self, size: int) -> None:
        """A size that no tree has is refused before anything is hashed."""
        refused(verify_inclusion, LEAVES[0], 0, size, (), LEAVES[0])

    def test_endless_path(self) -> None:
        """A path longer than any tree is high is refused."""
        refused(verify_inclusion, LEAVES[0], 0, 2, [bytes(32)] * 10_000, ROOTS[2])

    def test_shifted_split(self) -> None:
        """Hashes cut at another octet than the 32nd give the same node, and are refused for their lengths."""
        both = LEAVES[0] + LEAVES[1]
        for cut in (0, 1, 31, 33, 64):
            refused(verify_inclusion, both[:cut], 0, 2, [both[cut:]], ROOTS[2])
            refused(verify_consistency, 1, both[:cut], 2, ROOTS[2], [both[cut:]])

    def test_understated_size(self) -> None:
        """A good path under the root of a larger tree doesn't prove inclusion in a smaller one."""
        refused(verify_inclusion, LEAVES[1], 0, 1, TREE.inclusion(1, 2), ROOTS[2])
        refused(verify_inclusion, LEAVES[7], 3, 4, TREE.inclusion(7, 8), ROOTS[8])

    def test_overstated_size(self) -> None:
        """A good path under the root of a smaller tree doesn't prove inclusion in a larger one."""
        refused(verify_inclusion, LEAVES[1], 3, 4, TREE.inclusion(1, 2), ROOTS[2])
        refused(verify_inclusion, LEAVES[3], 7, 8, TREE.inclusion(3, 4), ROOTS[4])


class TestConsistency:
    @pytest.mark.parametrize("new", range(SMALL + 1))
    def test_every_proof(self, new: int) -> None:
        """Every proof verifies, and with any mutation none does."""
        for old in range(new + 1):
            path = TREE.consistency(old, new)
            verify_consistency(old, ROOTS[old], new, ROOTS[new], path)
            for wrong in mutated(path):
                refused(verify_consistency, old, ROOTS[old], new, ROOTS[new], wrong)

    @pytest.mark.parametrize("new", range(1, 13))
    def test_every_bit_of_the_roots(self, new: int) -> None:
        """A proof holds for exactly its two roots; of size 0 there is only one root."""
        for old in range(new + 1):
            path = TREE.consistency(old, new)
            for root in flipped(ROOTS[old]):
                refused(verify_consistency, old, root, new, ROOTS[new], path)
            for root in flipped(ROOTS[new]) if old else ():
                refused(verify_consistency, old, ROOTS[old], new, root, path)

    def test_first_run(self) -> None:
        """From size 0 the proof is empty, to any tree and to the empty one (case 103)."""
        assert TREE.consistency(0, 9) == TREE.consistency(0, 0) == ()
        verify_consistency(0, EMPTY_ROOT, 9, ROOTS[9], ())
        verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, ())
        refused(verify_consistency, 0, EMPTY_ROOT, 0, ROOTS[1], ())
        refused(verify_consistency, 0, ROOTS[1], 9, ROOTS[9], ())

    def test_equal_sizes(self) -> None:
        """Between equal sizes the proof is empty and the roots are the same."""
        assert TREE.consistency(9, 9) == ()
        verify_consistency(9, ROOTS[9], 9, ROOTS[9], ())
        refused(verify_consistency, 9, ROOTS[9], 9, ROOTS[8], ())
        refused(verify_consistency, 9, ROOTS[9], 9, ROOTS[9], (ROOTS[9],))

    def test_shrinking(self) -> None:
        """No proof leads to a smaller tree."""
        with pytest.raises(NotFound):
            TREE.consistency(5, 4)
        refused(verify_consistency, 5, ROOTS[5], 4, ROOTS[4], TREE.consistency(4, 5))
        refused(verify_consistency, 3, ROOTS[3], 2, node_hash(ROOTS[3], LEAVES[3]), (ROOTS[3], LEAVES[3]))

    def test_misstated_sizes(self) -> None:
        """A good proof between two trees proves nothing about trees of other heights."""
        refused(verify_consistency, 3, ROOTS[7], 4, ROOTS[8], TREE.consistency(7, 8))
        refused(verify_consistency, 7, ROOTS[3], 8, ROOTS[4], TREE.consistency(3, 4))

    def test_rewritten_history(self) -> None:
        """A tree in which one old leaf was changed has no proof from the old root."""
        for changed in range(7):
            other = Tree([*LEAVES[:changed], leaf_hash(b"forged"), *LEAVES[changed + 1 : 20]])
            path = other.consistency(7, 20)
            refused(verify_consistency, 7, ROOTS[7], 20, other.root(), path)

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_large(self, data: st.DataObject) -> None:
        """Between sizes of larger trees proofs verify too."""
        new = data.draw(st.integers(0, len(LEAVES)))
        old = data.draw(st.integers(0, new))
        path = TREE.consistency(old, new)
        verify_consistency(old, TREE.root_at(old), new, TREE.root_at(new), path)

    @pytest.mark.parametrize(("old", "new"), [(0, 601), (601, 602), (-1, 5)])
    def test_not_there(self, old: int, new: int) -> None:
        """No proof is made for sizes that the tree hasn't reached."""
        with pytest.raises(NotFound):
            TREE.consistency(old, new)
