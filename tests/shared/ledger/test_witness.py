"""The witness's codec and its decision (witness.md W1 to W5), with the example and the table of C2SP tlog-witness."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Malformed, SecMTPError, TooLarge
from shared.ledger import note, witness
from shared.ledger.checkpoint import Checkpoint, sign_checkpoint
from shared.ledger.merkle import EMPTY_ROOT, leaf_hash
from shared.ledger.note import KeyType, Note, verifier_key
from shared.ledger.witness import AddCheckpoint, Cosigned, Decision, Refused, Signer, Stale, Witnessed
from tests.doubles.tree import Tree

ORIGIN = "ttp.example/ledger"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
LOG = verifier_key(ORIGIN, KeyType.LOG, KEY.public_key())
SIGNER = Signer("w.example/witness", Ed25519PrivateKey.from_private_bytes(b"w" * 32))
TREE = Tree(leaf_hash(bytes([number])) for number in range(20))
OTHER = Tree(leaf_hash(bytes([number, 1])) for number in range(20))
NOW = 1_764_000_000

# The request in the text of C2SP tlog-witness.
EXAMPLE = (Path(__file__).parents[2] / "vectors" / "ledger" / "add-checkpoint.txt").read_bytes()


def checkpoint(size: int, tree: Tree = TREE) -> bytes:
    """Return the log's signed checkpoint."""
    return sign_checkpoint(Checkpoint(ORIGIN, size, tree.root_at(size)), KEY)


def extension(old: int, new: int, tree: Tree = TREE) -> AddCheckpoint:
    """Return an honest request."""
    return AddCheckpoint(old, tree.consistency(old, new), checkpoint(new, tree))


def decide(state: Witnessed | None, request: AddCheckpoint) -> Decision:
    """Decide as the witness would."""
    return witness.decide(state, request, [LOG], SIGNER, NOW)


def after(size: int) -> Witnessed | None:
    """Return the state of a witness that cosigned a size."""
    return decide(None, extension(0, size)).state


def refusal(state: Witnessed | None, request: AddCheckpoint) -> int:
    """Return the status of a refusal; nothing may have been cosigned or stored."""
    decision = decide(state, request)
    assert isinstance(decision.answer, Refused), decision.answer
    assert decision.state is state
    return decision.answer.status


class TestDecode:
    """AddCheckpoint.encode and witness.decode."""

    def test_specification_example(self) -> None:
        """The example of the C2SP text is read, and written again octet for octet."""
        request = witness.decode(EXAMPLE)
        assert (request.old, len(request.path)) == (20852014, 4)
        assert witness.origin_of(request) == "example.com/behind-the-sofa"
        assert request.encode() == EXAMPLE

    @given(st.integers(0, 2**63 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=63))
    def test_round_trip(self, old: int, path: list[bytes]) -> None:
        """What is written is read as it was."""
        request = AddCheckpoint(old, tuple(path), checkpoint(5))
        assert witness.decode(request.encode()) == request

    @pytest.mark.parametrize(
        ("found", "other"),
        [
            (b"old 20852014", b"old 020852014"),
            (b"old 20852014", b"old  20852014"),
            (b"old 20852014", b"old -1"),
            (b"old 20852014", b"Old 20852014"),
            (b"old 20852014", "old ２".encode()),
            (b"old 20852014\n", b""),
            (b"old 20852014\n", b"old 20852014\r\n"),
            (b"kaw=\n", b"kaw\n"),
            (b"kaw=\n", b"kaw= \n"),
            (b"PlRN", b""),
            (b"\n\n", b"\n"),
            (b"DDpkaw=", b"DDpkax="),
        ],
    )
    def test_refused(self, found: bytes, other: bytes) -> None:
        """A body in any other form is refused."""
        with pytest.raises(Malformed):
            witness.decode(EXAMPLE.replace(found, other))

    def test_bounds(self) -> None:
        """64 hashes, or more octets than a note and 63 hashes may have, are too many."""
        with pytest.raises(TooLarge):
            AddCheckpoint(1, (bytes(32),) * 64, checkpoint(5)).encode()
        with pytest.raises(TooLarge):
            witness.decode(EXAMPLE + b"x" * witness.MAX_REQUEST)

    @given(st.binary(max_size=300) | st.builds(lambda data: b"old 1\n" + data, st.binary(max_size=200)))
    def test_any_octets(self, data: bytes) -> None:
        """Any octets are read or refused as malformed, never anything else."""
        with suppress(Malformed):
            witness.decode(data)


class TestDecide:
    """witness.decide."""

    @pytest.mark.parametrize("old", range(9))
    @pytest.mark.parametrize("new", [0, 1, 8, 13, 20])
    def test_honest_log(self, old: int, new: int) -> None:
        """Every extension of every size is cosigned, and the cosignature verifies over the log's own note."""
        if old > new:
            return
        decision = decide(after(old) if old else None, extension(old, new))
        assert isinstance(decision.answer, Cosigned)
        parsed = note.parse(checkpoint(new) + decision.answer.line)
        verified = note.verify(parsed, {LOG, SIGNER.verifier})
        assert {signature.key: signature.time for signature in verified.signatures} == {LOG: None, SIGNER.verifier: NOW}
        assert decision.state is not None
        assert decision.state.note == parsed.encode()
        assert witness.decode_state(decision.state.note) == decision.state

    def test_order_of_checks(self) -> None:
        """Each status is the one that C2SP gives for the first check that fails."""
        state, good = after(8), extension(8, 13)
        stranger = sign_checkpoint(Checkpoint("other.example", 13, TREE.root_at(13)), KEY)
        unsigned = sign_checkpoint(Checkpoint(ORIGIN, 13, TREE.root_at(13)), SIGNER.key)
        assert refusal(state, replace(good, old=99, checkpoint=stranger)) == 404
        assert refusal(state, replace(good, old=99, checkpoint=unsigned)) == 403
        assert refusal(state, replace(good, old=14)) == 400
        assert decide(state, replace(good, old=7, path=())).answer == Stale(8)
        assert decide(None, replace(good, path=())).answer == Stale(0)
        assert refusal(state, replace(good, path=good.path[:-1])) == 422
        assert refusal(None, replace(good, old=0)) == 422  # hashes where none are needed

    def test_a_bad_signature_of_a_trusted_key(self) -> None:
        """A second, false line of the log's key refuses the note, though the first is good."""
        parsed = note.parse(checkpoint(13))
        false = replace(parsed.signatures[0], octets=bytes(64))
        both = Note(parsed.text, (*parsed.signatures, false)).encode()
        assert refusal(after(8), replace(extension(8, 13), checkpoint=both)) == 403

    def test_rollback(self) -> None:
        """A log that names an older size, or shows an older checkpoint, is told the newest that was cosigned."""
        state = after(13)
        assert decide(state, extension(0, 8)).answer == Stale(13)
        assert decide(state, extension(8, 8)).answer == Stale(13)
        assert refusal(state, replace(extension(8, 8), old=13)) == 400

    def test_fork(self) -> None:
        """Two roots for one size are refused and kept as proof, also behind a 409; a longer fork fails its proof."""
        state = after(13)
        assert state is not None
        same = decide(state, AddCheckpoint(13, (), checkpoint(13, OTHER)))
        assert isinstance(same.answer, Refused)
        assert (same.answer.status, same.fork) == (422, (state.note, checkpoint(13, OTHER)))
        assert decide(state, extension(8, 13, OTHER)).fork is not None
        assert refusal(state, extension(13, 20, OTHER)) == 422

    def test_same_checkpoint_again(self) -> None:
        """A log that lost the answer gets it again, and the state stays."""
        state = after(13)
        decision = decide(state, extension(13, 13))
        assert isinstance(decision.answer, Cosigned)
        assert decision.state == state
        assert refusal(state, replace(extension(13, 13), path=(bytes(32),))) == 422

    def test_empty_tree(self) -> None:
        """Size 0 has the root of nothing, and may be cosigned again and extended."""
        text = f"{ORIGIN}\n0\n{note.encode_base64(bytes(32))}\n"
        wrong = Note(text, (note.sign(text, ORIGIN, KEY),)).encode()
        assert refusal(None, AddCheckpoint(0, (), wrong)) == 422
        state = decide(None, AddCheckpoint(0, (), checkpoint(0))).state
        assert state is not None
        assert state.checkpoint.root == EMPTY_ROOT
        assert isinstance(decide(state, extension(0, 5)).answer, Cosigned)

    @pytest.mark.parametrize("lines", ["1\n", "x\nAAAA\n", "5\nAAAA\n"])
    def test_a_signed_text_that_is_no_checkpoint(self, lines: str) -> None:
        """What the log signed that isn't a checkpoint is malformed."""
        text = f"{ORIGIN}\n{lines}"
        signed = Note(text, (note.sign(text, ORIGIN, KEY),)).encode()
        assert refusal(None, AddCheckpoint(0, (), signed)) == 400

    def test_extension_lines_and_strangers(self) -> None:
        """Lines behind the third are cosigned with the rest; signatures of unknown keys are not kept."""
        text = Checkpoint(ORIGIN, 5, TREE.root_at(5)).encode() + "more\n"
        stranger = note.cosign(text, "s.example", Ed25519PrivateKey.from_private_bytes(b"s" * 32), NOW)
        signed = Note(text, (stranger, note.sign(text, ORIGIN, KEY))).encode()
        decision = decide(None, AddCheckpoint(0, (), signed))
        assert decision.state is not None
        kept = note.parse(decision.state.note)
        assert kept.text == text
        assert [line.name for line in kept.signatures] == [ORIGIN, SIGNER.name]

    def test_never_at_time_zero(self) -> None:
        """A cosignature has a time, whatever the clock says."""
        decision = witness.decide(None, extension(0, 5), [LOG], SIGNER, 0)
        assert decision.state is not None
        verified = note.verify(note.parse(decision.state.note), {SIGNER.verifier})
        assert verified.signatures[0].time == 1

    def test_clock_set_back(self) -> None:
        """A witness whose clock is before its last cosignature signs nothing: its statements would contradict."""
        state = after(5)
        early = witness.decide(state, extension(5, 8), [LOG], SIGNER, NOW - 1)
        assert isinstance(early.answer, Refused)
        assert (early.answer.status, early.state) == (503, state)
        other = Signer("w.example/another", SIGNER.key)
        assert isinstance(witness.decide(state, extension(5, 8), [LOG], other, NOW - 1).answer, Cosigned)
        assert refusal(state, replace(extension(5, 8), path=())) == 422

    def test_two_keys_of_one_log(self) -> None:
        """A log may have several keys; any of them is enough."""
        second = Ed25519PrivateKey.from_private_bytes(b"2" * 32)
        keys = [LOG, verifier_key(ORIGIN, KeyType.LOG, second.public_key())]
        signed = sign_checkpoint(Checkpoint(ORIGIN, 5, TREE.root_at(5)), second)
        decision = witness.decide(None, AddCheckpoint(0, (), signed), keys, SIGNER, NOW)
        assert isinstance(decision.answer, Cosigned)

    @given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.booleans()), max_size=12))
    def test_never_two_histories(self, moves: list[tuple[int, int, bool]]) -> None:
        """Whatever a log of two faces asks, all that a witness cosigns lies on one history."""
        state: Witnessed | None = None
        cosigned: list[tuple[int, bytes]] = []
        for old, new, other in moves:
            tree = OTHER if other else TREE
            try:
                request = extension(old, new, tree)
            except SecMTPError:
                continue
            decision = decide(state, request)
            state = decision.state
            if isinstance(decision.answer, Cosigned):
                cosigned.append((new, tree.root_at(new)))
        assert [size for size, _root in cosigned] == sorted(size for size, _root in cosigned)
        assert any(all(root == tree.root_at(size) for size, root in cosigned) for tree in (TREE, OTHER))


class TestOriginHash:
    """witness.origin_hash."""

    def test_known_value(self) -> None:
        """It is what `printf %s origin | sha256sum` prints."""
        assert witness.origin_hash(ORIGIN) == "3cd4ce43e4424f275bf73b1a9e84f7915efd8de9fed960f37f52a9eb72649375"
        assert witness.origin_hash("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class TestAnswers:
    """What a log makes of a witness's answer: witness.find_cosignature and witness.decode_size."""

    def test_find_cosignature(self) -> None:
        """The line of the witness's key is found among others and verified over the checkpoint that was sent."""
        answer = decide(None, extension(0, 5)).answer
        assert isinstance(answer, Cosigned)
        other = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
        text = note.parse(checkpoint(5)).text
        stranger = note.cosign(text, "o.example", other, NOW).encode().encode()
        line, verified = witness.find_cosignature(checkpoint(5), stranger + answer.line, SIGNER.verifier)
        assert (line.encode().encode(), verified.time) == (answer.line, NOW)
        for octets, body in (
            (checkpoint(6), answer.line),
            (checkpoint(5), stranger),
            (checkpoint(5), b""),
            (checkpoint(5), answer.line[:-1]),
            (checkpoint(5), b"\xff\n"),
        ):
            with pytest.raises(SecMTPError):
                witness.find_cosignature(octets, body, SIGNER.verifier)

    def test_decode_size(self) -> None:
        """A size is a decimal and a line end, and nothing else."""
        assert witness.decode_size(b"5\n") == 5
        for body in (b"", b"5", b"05\n", b"-5\n", b"5\n\n", b"\xff\n", b"9" * 40 + b"\n"):
            with pytest.raises(Malformed):
                witness.decode_size(body)
