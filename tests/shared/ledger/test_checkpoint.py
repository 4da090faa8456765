"""Checkpoints: the golden vector, strictness, order of steps, witnesses and forks; OpenSSL as a stranger."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigurationError, EvidenceFault, Malformed, SecMTPError
from shared.ledger import checkpoint, note
from shared.ledger.checkpoint import (
    Checkpoint,
    Fork,
    VerifiedCheckpoint,
    check_extension,
    open_checkpoint,
    sign_checkpoint,
)
from shared.ledger.merkle import EMPTY_ROOT, MAX_SIZE, leaf_hash
from shared.ledger.note import KeyType, Note, VerifierKey, decode_vkey, verifier_key
from tests.doubles.tree import Tree

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "ledger" / "c2sp.json").read_text("utf-8")
)["checkpoint"]
KEY = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(GOLDEN["log_seed"]))
WITNESS_KEY = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(GOLDEN["witness_seed"]))
LOG = decode_vkey(GOLDEN["log_vkey"])
WITNESS = decode_vkey(GOLDEN["witness_vkey"])
NOTE = GOLDEN["note"].encode()
TREE = Tree(leaf_hash(entry.encode()) for entry in GOLDEN["entries"])

origins = st.text(
    st.characters(codec="utf-8", exclude_categories=["Z", "C"], exclude_characters="+"), min_size=1, max_size=40
)
checkpoints = st.builds(Checkpoint, origins, st.integers(1, MAX_SIZE), st.binary(min_size=32, max_size=32)) | st.builds(
    Checkpoint, origins, st.just(0), st.just(EMPTY_ROOT)
)


def signed(size: int, tree: Tree = TREE, origin: str = LOG.name) -> bytes:
    """Return the log's checkpoint at a size."""
    return sign_checkpoint(Checkpoint(origin, size, tree.root_at(size)), KEY)


def step_of(data: bytes, log: VerifierKey = LOG, *witnesses: VerifierKey) -> str:
    """Return the name of the step at which the checkpoint is refused."""
    with pytest.raises(EvidenceFault) as refusal:
        open_checkpoint(data, log, witnesses)
    return refusal.value.step


class TestGolden:
    def test_opens(self) -> None:
        """The golden checkpoint opens: size, root and the witness's cosignature with its time."""
        opened = open_checkpoint(NOTE, LOG, [WITNESS])
        assert (opened.origin, opened.size, opened.root) == ("ttp.example/ledger", 5, TREE.root())
        assert opened.signed == NOTE
        assert [(line.key, line.time) for line in opened.cosignatures] == [(WITNESS, GOLDEN["witness_time"])]
        assert leaf_hash(b"evidence 3").hex() == GOLDEN["leaf_hash_3"]

    def test_made_again(self) -> None:
        """Signed and cosigned anew from the seeds, it is the golden note octet for octet."""
        parsed = note.parse(signed(5))
        line = note.cosign(parsed.text, WITNESS.name, WITNESS_KEY, GOLDEN["witness_time"])
        assert replace(parsed, signatures=(*parsed.signatures, line)).encode() == NOTE

    def test_openssl(self, tmp_path: Path) -> None:
        """OpenSSL verifies the signature over the three lines, and refuses another text."""
        parsed = note.parse(signed(5))
        pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / "key.pem").write_bytes(pem)
        (tmp_path / "signature").write_bytes(parsed.signatures[0].octets)
        for text, good in ((parsed.text, True), (parsed.text.replace("\n5\n", "\n6\n"), False)):
            (tmp_path / "text").write_bytes(text.encode())
            command = "openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in text -sigfile signature"
            run = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, timeout=30, check=False)
            assert (run.returncode == 0) is good, run.stdout + run.stderr


class TestText:
    @given(checkpoints)
    def test_round_trip(self, value: Checkpoint) -> None:
        """A checkpoint survives its text, and the text survives parsing."""
        text = value.encode()
        assert checkpoint.decode(text) == value
        assert checkpoint.decode(text).encode() == text

    @given(st.text(max_size=120))
    def test_never_another_exception(self, text: str) -> None:
        """Whatever the text is, it is a checkpoint with this text or refused with a SecMTPError."""
        try:
            value = checkpoint.decode(text)
        except SecMTPError:
            return
        assert value.encode() == text

    @pytest.mark.parametrize(
        "wrong",
        [
            "",
            "log.example\n5\n{root}",
            "log.example\n5\n{root}\n\n",
            "log.example\n5\n{root}\nextension\n",
            "log.example\n5\n{root}\nextension",
            "log.example\n5\n",
            "\n5\n{root}\n",
            "log example\n5\n{root}\n",
            "log+example\n5\n{root}\n",
            "log.example\n\n{root}\n",
            "log.example\n05\n{root}\n",
            "log.example\n+5\n{root}\n",
            "log.example\n-5\n{root}\n",
            "log.example\n 5\n{root}\n",
            "log.example\n5_0\n{root}\n",
            "log.example\n5.0\n{root}\n",
            "log.example\n0x5\n{root}\n",
            "log.example\n５\n{root}\n",
            "log.example\n²\n{root}\n",
            "log.example\n9223372036854775808\n{root}\n",
            "log.example\n" + "9" * 10_000 + "\n{root}\n",
            "log.example\n0\n{root}\n",
            "log.example\n00\n{empty}\n",
            "log.example\n5\n\n",
            "log.example\n5\n{root}=\n",
            "log.example\n5\n{short}\n",
            "log.example\r\n5\r\n{root}\r\n",
        ],
    )
    def test_refused(self, wrong: str) -> None:
        """Anything but the one form of the three lines is refused."""
        roots = {"root": bytes(32), "short": bytes(31), "empty": EMPTY_ROOT}
        for name, octets in roots.items():
            wrong = wrong.replace(f"{{{name}}}", base64.b64encode(octets).decode())
        with pytest.raises(Malformed):
            checkpoint.decode(wrong)

    def test_largest(self) -> None:
        """The largest size is 2^63 − 1; one over it, or below 0, is no checkpoint."""
        assert checkpoint.decode(Checkpoint("log", MAX_SIZE, bytes(32)).encode()).size == MAX_SIZE
        for size in (MAX_SIZE + 1, -1):
            with pytest.raises(Malformed):
                Checkpoint("log", size, bytes(32))

    @pytest.mark.parametrize("origin", ["", "two words", "plus+sign", "line\nend", "lone\ud800"])
    def test_origin(self, origin: str) -> None:
        """An origin that couldn't name the log's key is refused before it is signed."""
        with pytest.raises(Malformed):
            Checkpoint(origin, 5, bytes(32))


class TestOpen:
    def test_steps(self) -> None:
        """Each fault is refused at its own step: syntax, then origin, then signature."""
        other_key = verifier_key(LOG.name, KeyType.LOG, WITNESS_KEY.public_key())
        assert step_of(b"") == "checkpoint.syntax"
        assert step_of(bytes(100_000)) == "checkpoint.syntax"
        text = "ttp.example/ledger\nfive\n" + "A" * 43 + "=\n"
        assert step_of(Note(text, (note.sign(text, LOG.name, KEY),)).encode()) == "checkpoint.syntax"
        assert step_of(signed(5, origin="other.example/ledger")) == "checkpoint.origin"
        assert step_of(signed(5), other_key) == "checkpoint.signature"

    def test_extension_line(self) -> None:
        """A fourth line is refused, though the log signed it."""
        text = Checkpoint(LOG.name, 5, TREE.root()).encode() + "extension\n"
        assert step_of(Note(text, (note.sign(text, LOG.name, KEY),)).encode()) == "checkpoint.syntax"

    def test_witness_alone(self) -> None:
        """Cosignatures without the log's own signature open nothing."""
        parsed = note.parse(NOTE)
        assert (
            step_of(replace(parsed, signatures=parsed.signatures[1:]).encode(), LOG, WITNESS) == "checkpoint.signature"
        )

    def test_bad_witness(self) -> None:
        """A known witness's bad line refuses the checkpoint; to who doesn't know the witness it is nothing."""
        parsed = note.parse(NOTE)
        late = replace(parsed.signatures[1], octets=bytes(72))
        data = replace(parsed, signatures=(parsed.signatures[0], late)).encode()
        assert step_of(data, LOG, WITNESS) == "checkpoint.signature"
        assert open_checkpoint(data, LOG).cosignatures == ()

    def test_one_witness_one_count(self) -> None:
        """A witness known under two names counts once, and the log's own key under a witness's name not at all."""
        parsed = note.parse(NOTE)
        alias = replace(WITNESS, name="alias.example/w2")
        itself = replace(LOG, name="itself.example", type=KeyType.COSIGNATURE)
        extra = (
            note.cosign(parsed.text, alias.name, WITNESS_KEY, 1_764_000_001),
            note.cosign(parsed.text, itself.name, KEY, 1_764_000_001),
        )
        data = replace(parsed, signatures=(*parsed.signatures, *extra)).encode()
        opened = open_checkpoint(data, LOG, [WITNESS, alias, itself])
        assert [line.key for line in opened.cosignatures] == [WITNESS]

    def test_wrong_use(self) -> None:
        """A witness's key isn't taken as a log's, nor a log's as a witness's."""
        with pytest.raises(ConfigurationError):
            open_checkpoint(NOTE, WITNESS)
        with pytest.raises(ConfigurationError):
            open_checkpoint(NOTE, LOG, [replace(WITNESS, type=KeyType.LOG)])

    def test_every_bit(self) -> None:
        """With any bit of a signed checkpoint flipped it doesn't open any more."""
        data = signed(5)
        for at in range(len(data)):
            for bit in range(8):
                assert step_of(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]).startswith("checkpoint.")

    def test_every_bit_of_a_cosigned_one(self) -> None:
        """A flipped bit in a cosigned checkpoint loses the cosignature or the whole, and changes nothing else."""
        for at in range(len(NOTE)):
            try:
                opened = open_checkpoint(NOTE[:at] + bytes([NOTE[at] ^ 1]) + NOTE[at + 1 :], LOG, [WITNESS])
            except EvidenceFault:
                continue
            assert opened.checkpoint == Checkpoint(LOG.name, 5, TREE.root())
            assert opened.cosignatures == ()

    def test_every_truncation(self) -> None:
        """No beginning of a signed checkpoint opens."""
        data = signed(5)
        for end in range(len(data)):
            assert step_of(data[:end]).startswith("checkpoint.")


class TestExtension:
    def opened(self, size: int, tree: Tree = TREE) -> VerifiedCheckpoint:
        """Return the verified checkpoint of a tree at a size."""
        return open_checkpoint(signed(size, tree), LOG)

    def test_grows(self) -> None:
        """From each size to each later one the log's proof shows that it only grew."""
        for new in range(6):
            for old in range(new + 1):
                check_extension(self.opened(old), self.opened(new), TREE.consistency(old, new))

    def test_fork(self) -> None:
        """Two roots of one size are a fork, which keeps both signed notes; a bad proof is only a bad proof."""
        other = Tree([*(TREE.leaf(index) for index in range(4)), leaf_hash(b"other")])
        with pytest.raises(Fork) as fork:
            check_extension(self.opened(5), self.opened(5, other), ())
        assert (fork.value.first.signed, fork.value.second.signed) == (signed(5), signed(5, other))
        with pytest.raises(EvidenceFault) as refusal:
            check_extension(self.opened(3), self.opened(5), ())
        assert refusal.value.step == "ledger.consistency"

    def test_other_log(self) -> None:
        """Checkpoints of two logs have nothing to do with each other."""
        name = "other.example/ledger"
        other = open_checkpoint(signed(5, origin=name), verifier_key(name, KeyType.LOG, KEY.public_key()))
        with pytest.raises(EvidenceFault) as refusal:
            check_extension(self.opened(5), other, ())
        assert refusal.value.step == "checkpoint.origin"

    def test_shrinks(self) -> None:
        """A smaller checkpoint is no successor."""
        with pytest.raises(EvidenceFault) as refusal:
            check_extension(self.opened(5), self.opened(4), ())
        assert refusal.value.step == "ledger.consistency"
