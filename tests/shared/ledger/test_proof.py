"""tlog-proof files: round trips, strictness, and that only a signed root proves inclusion (case 109)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import EvidenceFault, Malformed, SecMTPError, TooLarge
from shared.ledger import entry as entries
from shared.ledger import note, proof
from shared.ledger.checkpoint import Checkpoint, sign_checkpoint
from shared.ledger.merkle import MAX_SIZE, leaf_hash, node_hash
from shared.ledger.note import KeyType, VerifierKey, decode_vkey, verifier_key
from shared.ledger.proof import HEADER, MAX_EXTRA, MAX_PROOF, Proof
from tests.doubles.tree import Tree

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "ledger" / "c2sp.json").read_text("utf-8")
)["checkpoint"]
KEY = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(GOLDEN["log_seed"]))
LOG = decode_vkey(GOLDEN["log_vkey"])
WITNESS = decode_vkey(GOLDEN["witness_vkey"])
ENTRIES = [text.encode() for text in GOLDEN["entries"]]
TREE = Tree(map(leaf_hash, ENTRIES))
SIGNED = sign_checkpoint(Checkpoint(LOG.name, 5, TREE.root()), KEY)
PROOF = Proof(3, TREE.inclusion(3, 5), SIGNED)

hashes = st.binary(min_size=32, max_size=32)
proofs = st.builds(
    Proof,
    st.integers(0, MAX_SIZE),
    st.lists(hashes, max_size=64).map(tuple),
    st.sampled_from([SIGNED, GOLDEN["note"].encode()]),
    st.none() | st.binary(min_size=1, max_size=200),
)


def step_of(value: Proof, entry: bytes = ENTRIES[3], log: VerifierKey = LOG) -> str:
    """Return the name of the step at which the proof is refused."""
    with pytest.raises(EvidenceFault) as refusal:
        proof.verify(value, entry, log)
    return refusal.value.step


class TestFormat:
    def test_text(self) -> None:
        """A proof is written as the specification prints it, the checkpoint verbatim at the end."""
        path = "".join(note.encode_base64(digest) + "\n" for digest in PROOF.path)
        assert PROOF.encode() == f"{HEADER}\nindex 3\n{path}\n".encode() + SIGNED
        assert replace(PROOF, extra=b"e").encode() == f"{HEADER}\nextra ZQ==\nindex 3\n{path}\n".encode() + SIGNED

    @given(proofs)
    def test_round_trip(self, value: Proof) -> None:
        """A proof survives its octets, and the octets survive parsing."""
        data = value.encode()
        assert proof.decode(data) == value
        assert proof.decode(data).encode() == data

    @given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: f"{HEADER}\nindex 3\n".encode() + tail))
    def test_never_another_exception(self, data: bytes) -> None:
        """Whatever the octets are, they are a proof with these octets or refused with a SecMTPError."""
        try:
            value = proof.decode(data)
        except SecMTPError:
            return
        assert value.encode() == data

    @pytest.mark.parametrize(
        "head",
        [
            "",
            "c2sp.org/tlog-proof@v2\nindex 3\n",
            " c2sp.org/tlog-proof@v1\nindex 3\n",
            "c2sp.org/tlog-proof@v1\n",
            "c2sp.org/tlog-proof@v1\nindex\n",
            "c2sp.org/tlog-proof@v1\nindex \n",
            "c2sp.org/tlog-proof@v1\nindex 03\n",
            "c2sp.org/tlog-proof@v1\nindex -1\n",
            "c2sp.org/tlog-proof@v1\nindex  3\n",
            "c2sp.org/tlog-proof@v1\nindex 9223372036854775808\n",
            "c2sp.org/tlog-proof@v1\nindex 3\nindex 3\n",
            "c2sp.org/tlog-proof@v1\nindex 3\nextra ZQ==\n",
            "c2sp.org/tlog-proof@v1\nextra ZQ==\nextra ZQ==\nindex 3\n",
            "c2sp.org/tlog-proof@v1\nextra \nindex 3\n",
            "c2sp.org/tlog-proof@v1\nextra ZQ=\nindex 3\n",
            "c2sp.org/tlog-proof@v1\nextra ZR==\nindex 3\n",
            "c2sp.org/tlog-proof@v1\nindex 3\nAAAA\n",
            "c2sp.org/tlog-proof@v1\nindex 3\n" + "A" * 44 + "\n",
            "c2sp.org/tlog-proof@v1\nindex 3\n" + "A" * 42 + "B=\n",
            "c2sp.org/tlog-proof@v1\r\nindex 3\r\n",
            "c2sp.org/tlog-proof@v1\nindex 3\né\n",
        ],
    )
    def test_refused(self, head: str) -> None:
        """Another version, order, number or base64 than the one canonical form is refused."""
        with pytest.raises(Malformed):
            proof.decode(head.encode() + b"\n" + SIGNED)

    def test_bounds(self) -> None:
        """64 hashes and 32 KiB of extra data are taken; more, or more than 128 KiB in all, is refused."""
        largest = Proof(0, (bytes(32),) * 64, SIGNED, bytes(MAX_EXTRA))
        assert proof.decode(largest.encode()) == largest
        for over in (
            replace(largest, path=(bytes(32),) * 65),
            replace(largest, extra=bytes(MAX_EXTRA + 1)),
            replace(largest, extra=b""),
            replace(largest, index=-1),
            replace(largest, path=(bytes(31),)),
            replace(largest, checkpoint=b"not a note"),
        ):
            with pytest.raises(Malformed):
                over.encode()
        with pytest.raises(TooLarge):
            proof.decode(bytes(MAX_PROOF + 1))


class TestVerify:
    def test_every_entry(self) -> None:
        """Each entry of the log is proven at its index, under the checkpoint that the log signed."""
        for index, entry in enumerate(ENTRIES):
            verified = proof.verify(Proof(index, TREE.inclusion(index, 5), SIGNED), entry, LOG)
            assert (verified.index, verified.checkpoint.size, verified.witnessed) == (index, 5, 0)

    def test_witnessed(self) -> None:
        """Cosignatures are counted for known witnesses only."""
        cosigned = replace(PROOF, checkpoint=GOLDEN["note"].encode())
        assert proof.verify(cosigned, ENTRIES[3], LOG, [WITNESS]).witnessed == 1
        assert proof.verify(cosigned, ENTRIES[3], LOG).witnessed == 0

    def test_forged_root(self) -> None:
        """A path that leads to a root nobody signed proves nothing, however well it computes (case 109)."""
        forged = Tree([leaf_hash(b"forged")] * 5)
        stranger = Ed25519PrivateKey.from_private_bytes(bytes(32))
        unsigned = SIGNED.replace(note.encode_base64(TREE.root()).encode(), note.encode_base64(forged.root()).encode())
        by_stranger = sign_checkpoint(Checkpoint(LOG.name, 5, forged.root()), stranger)
        for data in (unsigned, by_stranger):
            value = Proof(2, forged.inclusion(2, 5), data)
            assert step_of(value, b"forged") == "checkpoint.signature"

    def test_signed_root_of_another_tree(self) -> None:
        """A path of a younger tree beside an older checkpoint is refused (cases 97, 98)."""
        grown = Tree([*(TREE.leaf(index) for index in range(5)), leaf_hash(b"evidence 5")])
        assert step_of(Proof(3, grown.inclusion(3, 6), SIGNED)) == "ledger.inclusion"
        assert step_of(Proof(5, grown.inclusion(5, 6), SIGNED), b"evidence 5") == "ledger.inclusion"

    def test_other_log(self) -> None:
        """A proof from another log is refused, though its key is the same."""
        other = verifier_key("other.example", KeyType.LOG, KEY.public_key())
        assert step_of(PROOF, log=other) == "checkpoint.origin"

    def test_other_entry(self) -> None:
        """The proof of one entry proves no other, and no inner node passes for an entry."""
        assert step_of(PROOF, ENTRIES[2]) == "ledger.inclusion"
        left, right = TREE.leaf(0), TREE.leaf(1)
        tree_of_nodes = Tree([node_hash(left, right), node_hash(TREE.leaf(2), TREE.leaf(3))])
        assert step_of(Proof(0, tree_of_nodes.inclusion(0, 2), SIGNED), left + right) == "ledger.inclusion"

    def test_oversized_entry(self) -> None:
        """Octets that no entry bundle could hold are in no log, whatever the path says."""
        data = bytes(entries.MAX_ENTRY + 1)
        signed = sign_checkpoint(Checkpoint(LOG.name, 1, leaf_hash(data)), KEY)
        assert step_of(Proof(0, (), signed), data) == "ledger.inclusion"

    def test_every_bit(self) -> None:
        """With any bit of a proof flipped it isn't decoded or doesn't verify."""
        data = PROOF.encode()
        for at in range(len(data)):
            for bit in range(8):
                with pytest.raises(SecMTPError):
                    proof.verify(
                        proof.decode(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]), ENTRIES[3], LOG
                    )

    def test_every_truncation(self) -> None:
        """No beginning of a proof verifies, nor one with octets behind it."""
        data = PROOF.encode()
        for wrong in (*(data[:end] for end in range(len(data))), data + b"\n", data + b"x"):
            with pytest.raises(SecMTPError):
                proof.verify(proof.decode(wrong), ENTRIES[3], LOG)

    def test_every_bit_of_the_entry(self) -> None:
        """With any bit of the entry flipped, or its end cut off, the proof doesn't hold for it."""
        data = ENTRIES[3]
        wrong = [data[:end] for end in range(len(data))]
        wrong += [
            data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] for at in range(len(data)) for bit in range(8)
        ]
        assert {step_of(PROOF, entry) for entry in wrong} == {"ledger.inclusion"}

    def test_extra_is_unauthenticated(self) -> None:
        """Extra data may be anything, and the verified value doesn't carry it."""
        verified = proof.verify(replace(PROOF, extra=b"anything"), ENTRIES[3], LOG)
        assert verified == proof.verify(PROOF, ENTRIES[3], LOG)
