"""Case 70: proofs from outside, good and bad, played on generator and verifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import EvidenceFault
from shared.ledger.checkpoint import Checkpoint, Fork, check_extension, open_checkpoint, sign_checkpoint
from shared.ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from shared.ledger.note import KeyType, verifier_key
from tests.doubles.tree import Tree

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "ledger" / "rfc6962.json").read_text("utf-8")
)
LEAVES = [leaf_hash(bytes.fromhex(text)) for text in VECTORS["leaves"]]
ROOTS = {int(size): bytes.fromhex(root) for size, root in VECTORS["roots"].items()}
TREE = Tree(LEAVES)


def octets(texts: list[str]) -> tuple[bytes, ...]:
    """Return the octets of hexadecimal texts."""
    return tuple(bytes.fromhex(text) for text in texts)


def tree_of(texts: list[str]) -> Tree:
    """Return the tree over entries in hexadecimal."""
    return Tree(leaf_hash(entry) for entry in octets(texts))


class TestGood:
    def test_roots(self) -> None:
        """The roots of all sizes are the published ones."""
        assert {size: TREE.root_at(size) for size in range(9)} == ROOTS

    @pytest.mark.parametrize("case", VECTORS["inclusion"], ids=lambda case: f"{case['index']}-of-{case['size']}")
    def test_inclusion(self, case: dict[str, Any]) -> None:
        """A published inclusion proof verifies, and is the one that we make."""
        path = octets(case["path"])
        assert TREE.inclusion(case["index"], case["size"]) == path
        verify_inclusion(LEAVES[case["index"]], case["index"], case["size"], path, ROOTS[case["size"]])

    @pytest.mark.parametrize("case", VECTORS["consistency"], ids=lambda case: f"{case['old']}-to-{case['new']}")
    def test_consistency(self, case: dict[str, Any]) -> None:
        """A published consistency proof verifies, and is the one that we make."""
        path = octets(case["path"])
        assert TREE.consistency(case["old"], case["new"]) == path
        verify_consistency(case["old"], ROOTS[case["old"]], case["new"], ROOTS[case["new"]], path)

    def test_must_differ(self) -> None:
        """Repeating the last leaf gives another root: an odd leaf is never doubled (CVE-2012-2459)."""
        roots = {name: bytes.fromhex(root) for name, root in VECTORS["must_differ"].items()}
        three = Tree(leaf_hash(entry) for entry in (b"A", b"B", b"C"))
        four = Tree(leaf_hash(entry) for entry in (b"A", b"B", b"C", b"C"))
        assert three.root() == roots["[A,B,C]"]
        assert four.root() == roots["[A,B,C,C]"]
        assert three.root() != four.root()


class TestBad:
    @pytest.mark.parametrize("case", VECTORS["must_not_verify"], ids=lambda case: case["why"])
    def test_must_not_verify(self, case: dict[str, Any]) -> None:
        """A proof with a known fault is refused at its step."""
        leaf, root = leaf_hash(bytes.fromhex(case["leaf"])), bytes.fromhex(case["root"])
        with pytest.raises(EvidenceFault) as refusal:
            verify_inclusion(leaf, case["index"], case["size"], octets(case["path"]), root)
        assert refusal.value.step == "ledger.inclusion"

    def test_split_view(self) -> None:
        """Two signed roots of one size are reported as a fork that keeps both signed notes."""
        view = VECTORS["split_view"]
        key = Ed25519PrivateKey.from_private_bytes(bytes(32))
        log = verifier_key("log.example", KeyType.LOG, key.public_key())
        signed = []
        for name in ("a", "b"):
            tree = tree_of(view[name])
            assert tree.root() == bytes.fromhex(view[f"root_{name}"])
            signed.append(sign_checkpoint(Checkpoint("log.example", tree.size, tree.root()), key))
        first, second = (open_checkpoint(note, log) for note in signed)
        with pytest.raises(Fork) as fork:
            check_extension(first, second, ())
        assert fork.value.step == "ledger.fork"
        assert [fork.value.first.signed, fork.value.second.signed] == signed

    def test_split_view_grows(self) -> None:
        """One side of a split view can't be extended into the other by any proof that the log could make."""
        view = VECTORS["split_view"]
        ours, theirs = tree_of(view["a"]), tree_of([*view["b"], "46"])
        with pytest.raises(EvidenceFault) as refusal:
            verify_consistency(4, ours.root(), 5, theirs.root(), theirs.consistency(4, 5))
        assert refusal.value.step == "ledger.consistency"
