"""C2SP signed notes: the published vector, strictness, and which lines count."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigurationError, EvidenceFault, Malformed, SecMTPError, TooLarge
from shared.ledger.note import (
    MAX_NOTE,
    MAX_TIME,
    KeyType,
    Note,
    Signature,
    VerifiedSignature,
    VerifierKey,
    cosign,
    decode_vkey,
    encode_base64,
    parse,
    sign,
    verifier_key,
    verify,
)

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "ledger" / "c2sp.json").read_text("utf-8")
)
PUBLISHED = VECTORS["signed_note"]
GOLDEN = VECTORS["checkpoint"]

TEXT = "What the log says.\n\nAlso behind an empty line, and here\u2028and\u0085here.\n"
LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
WITNESS_KEY = Ed25519PrivateKey.from_private_bytes(bytes([2]) * 32)
LOG = verifier_key("log.example", KeyType.LOG, LOG_KEY.public_key())
WITNESS = verifier_key("witness.example/w", KeyType.COSIGNATURE, WITNESS_KEY.public_key())
BY_LOG = sign(TEXT, "log.example", LOG_KEY)
BY_WITNESS = cosign(TEXT, "witness.example/w", WITNESS_KEY, 1_764_000_000)

names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Z", "C"], exclude_characters="+"), min_size=1, max_size=40
)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], include_characters="\n"), max_size=200)
lines = st.builds(Signature, names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=100))
notes = st.builds(Note, texts.map(lambda text: text + "\n"), st.lists(lines, min_size=1, max_size=32).map(tuple))


def fault(note: Note, *known: VerifierKey) -> EvidenceFault:
    """Return the fault with which the note is refused."""
    with pytest.raises(EvidenceFault) as refusal:
        verify(note, known)
    assert refusal.value.step == "note.signature"
    return refusal.value


class TestVectors:
    def test_published_note(self) -> None:
        """The example of the specification verifies under its verifier key."""
        key = decode_vkey(PUBLISHED["vkey"])
        note = parse(PUBLISHED["note"].encode())
        verified = verify(note, [key])
        assert verified.text == "This is an example message.\n"
        assert verified.signatures == (VerifiedSignature(key, None),)
        assert note.encode() == PUBLISHED["note"].encode()

    def test_golden_keys(self) -> None:
        """Keys made from the golden seeds have the golden verifier keys, in both types."""
        for owner, kind in (("log", KeyType.LOG), ("witness", KeyType.COSIGNATURE)):
            key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(GOLDEN[f"{owner}_seed"]))
            vkey = GOLDEN[f"{owner}_vkey"]
            assert verifier_key(vkey.partition("+")[0], kind, key.public_key()).encode() == vkey
            assert decode_vkey(vkey).encode() == vkey

    def test_golden_signatures(self) -> None:
        """Log signature and cosignature made from the golden seeds are the golden lines."""
        note = parse(GOLDEN["note"].encode())
        log_key, witness_key = (
            Ed25519PrivateKey.from_private_bytes(bytes.fromhex(GOLDEN[f"{owner}_seed"])) for owner in ("log", "witness")
        )
        by_log = sign(note.text, "ttp.example/ledger", log_key)
        by_witness = cosign(note.text, "witness.example/w1", witness_key, GOLDEN["witness_time"])
        assert Note(note.text, (by_log, by_witness)).encode() == GOLDEN["note"].encode()


class TestVerifierKeys:
    @given(names, st.sampled_from(KeyType), st.binary(min_size=32, max_size=32))
    def test_round_trip(self, name: str, kind: KeyType, public: bytes) -> None:
        """A verifier key survives its text form."""
        key = VerifierKey(name, kind, public)
        assert decode_vkey(key.encode()) == key

    @pytest.mark.parametrize(
        "wrong",
        [
            "",
            "example.com/foo",
            "example.com/foo+530d903a",
            "example.com/foo+530d903a+",
            "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/bar+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530d903a+BOkyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530d903a+BukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3Q==",
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k\n",
            "example.com/foo+530d903a+" + "A" * 400,
            "example.com/é+530d903a+é",
        ],
    )
    def test_refused(self, wrong: str) -> None:
        """A text that isn't exactly a verifier key, with the id of its own key, is refused."""
        with pytest.raises(Malformed):
            decode_vkey(wrong)

    def test_type_is_in_the_id(self) -> None:
        """One public key has different ids in its two uses, so that a line of one isn't taken for the other."""
        assert LOG.key_id != replace(LOG, type=KeyType.COSIGNATURE).key_id

    @pytest.mark.parametrize("name", ["", "a b", "a\u00a0b", "a\u2003b", "a+b", "a\nb", "a\x00b", "a\ud800", "é" * 128])
    def test_names(self, name: str) -> None:
        """A name that could break a line, or is too long, can't name a key."""
        with pytest.raises(Malformed):
            VerifierKey(name, KeyType.LOG, bytes(32))


class TestParse:
    @given(notes)
    def test_round_trip(self, note: Note) -> None:
        """A note survives its octets, and the octets survive parsing."""
        data = note.encode()
        assert parse(data) == note
        assert parse(data).encode() == data

    @given(st.binary(max_size=300) | notes.map(lambda note: note.encode()[:-3]))
    def test_never_another_exception(self, data: bytes) -> None:
        """Whatever the octets are, parsing gives a note with the same octets or a SecMTPError."""
        try:
            note = parse(data)
        except SecMTPError:
            return
        assert note.encode() == data

    @pytest.mark.parametrize(
        "wrong",
        [
            b"",
            b"\n",
            b"text\n",
            b"text\n\n",
            b"text\n\n\n",
            b"text\n\xe2\x80\x94 a AAAAAAA=\n",
            b"text\n\n\xe2\x80\x94 a AAAAAAA=",
            b"text\n\n\xe2\x80\x94 a AAAAAAA=\n\n",
            b"text\n\n\xe2\x80\x94 a AAAAAAA=\nmore\n",
            b"text\r\n\r\n\xe2\x80\x94 a AAAAAAA=\r\n",
            b"te\x00xt\n\n\xe2\x80\x94 a AAAAAAA=\n",
            b"te\txt\n\n\xe2\x80\x94 a AAAAAAA=\n",
            b"te\xffxt\n\n\xe2\x80\x94 a AAAAAAA=\n",
            b"te\xed\xa0\x80xt\n\n\xe2\x80\x94 a AAAAAAA=\n",
            b"text\n\n- a AAAAAAA=\n",
            b"text\n\n\xe2\x80\x94a AAAAAAA=\n",
            b"text\n\n\xe2\x80\x94  AAAAAAA=\n",
            b"text\n\n\xe2\x80\x94 AAAAAAA=\n",
            b"text\n\n\xe2\x80\x94 a  AAAAAAA=\n",
            b"text\n\n\xe2\x80\x94 a AAAAAAA= \n",
            b"text\n\n\xe2\x80\x94 a+b AAAAAAA=\n",
            b"text\n\n\xe2\x80\x94 a\xc2\xa0b AAAAAAA=\n",
            b"text\n\n\xe2\x80\x94 a AAAAAAA\n",
            b"text\n\n\xe2\x80\x94 a AAAAAAB=\n",
            b"text\n\n\xe2\x80\x94 a AAAA-AA=\n",
            b"text\n\n\xe2\x80\x94 a AAAAAA==\n",
            b"text\n\n\xe2\x80\x94 a \n",
            b"text\n\n\xe2\x80\x94 a \xc3\xa9\n",
            "text\n\n— a AAAAAAA=\u2028— b AAAAAAA=\n".encode(),
            "text\n\n— a AAAAAAA=\u0085— b AAAAAAA=\n".encode(),
        ],
    )
    def test_refused(self, wrong: bytes) -> None:
        """Anything but text, empty line and well-formed signature lines is refused."""
        with pytest.raises(Malformed):
            parse(wrong)

    def test_bounds(self) -> None:
        """64 KiB and 32 lines are taken, more is refused; 16 lines are what every verifier must take."""
        line = Signature("a", bytes(4), b"x")
        assert len(parse(Note("t\n", (line,) * 32).encode()).signatures) == 32
        with pytest.raises(TooLarge):
            Note("t\n", (line,) * 33).encode()
        frame = len(Note("\n", (line,)).encode())
        assert len(Note("t" * (MAX_NOTE - frame) + "\n", (line,)).encode()) == MAX_NOTE
        with pytest.raises(TooLarge):
            Note("t" * (MAX_NOTE - frame + 1) + "\n", (line,)).encode()

    @pytest.mark.parametrize(
        "note",
        [
            Note("no line end", (BY_LOG,)),
            Note("", (BY_LOG,)),
            Note("control\r\n", (BY_LOG,)),
            Note("surrogate\ud800\n", (BY_LOG,)),
            Note("nobody signed\n", ()),
            Note("short id\n", (Signature("a", b"123", b"4567"),)),
            Note("empty\n", (Signature("a", b"1234", b""),)),
            Note("name\n", (Signature("a b", b"1234", b"5"),)),
        ],
    )
    def test_unwritable(self, note: Note) -> None:
        """What couldn't be parsed again isn't written either."""
        with pytest.raises(Malformed):
            note.encode()


class TestVerify:
    def test_both_types(self) -> None:
        """A log's and a witness's line verify together; only the witness's has a time."""
        verified = verify(Note(TEXT, (BY_LOG, BY_WITNESS)), [LOG, WITNESS])
        assert verified.signatures == (VerifiedSignature(LOG, None), VerifiedSignature(WITNESS, 1_764_000_000))

    def test_unknown_ignored(self) -> None:
        """Lines of unknown keys are ignored, also those that share name or id, but not both, with a known key."""
        strangers = (
            Signature("stranger.example", b"\x00" * 4, b"anything"),
            Signature(LOG.name, b"\x00" * 4, bytes(64)),
            Signature("stranger.example", LOG.key_id, bytes(64)),
        )
        assert len(verify(Note(TEXT, (*strangers, BY_LOG)), [LOG, WITNESS]).signatures) == 1
        fault(Note(TEXT, strangers), LOG, WITNESS)

    def test_known_and_bad(self) -> None:
        """One bad line of a known key refuses the whole note, however good the others are."""
        for good, bad in ((BY_LOG, BY_WITNESS), (BY_WITNESS, BY_LOG)):
            octets = bad.octets[:-1] + bytes([bad.octets[-1] ^ 1])
            fault(Note(TEXT, (good, replace(bad, octets=octets))), LOG, WITNESS)
            fault(Note(TEXT, (good, replace(bad, octets=bad.octets[:-1]))), LOG, WITNESS)
            fault(Note(TEXT, (good, bad, replace(bad, octets=bad.octets + b"\x00"))), LOG, WITNESS)
            longer = bad.octets[:-64] + b"\x00" + bad.octets[-64:]
            fault(Note(TEXT, (good, bad, replace(bad, octets=longer))), LOG, WITNESS)

    def test_nobody_known(self) -> None:
        """A note without a line of a known key is refused, also when no key is known at all."""
        fault(Note(TEXT, (BY_LOG,)), WITNESS)
        fault(Note(TEXT, (BY_LOG,)))

    def test_twice(self) -> None:
        """A key that signed twice is counted once."""
        later = cosign(TEXT, WITNESS.name, WITNESS_KEY, 1_764_000_060)
        verified = verify(Note(TEXT, (BY_WITNESS, later)), [WITNESS])
        assert verified.signatures == (VerifiedSignature(WITNESS, 1_764_000_000),)

    def test_other_text(self) -> None:
        """A line doesn't carry over to another text."""
        for line in (BY_LOG, BY_WITNESS):
            fault(Note(TEXT + "\n", (line,)), LOG, WITNESS)

    def test_other_time(self) -> None:
        """The time of a cosignature is signed with it, and lies below 2^63."""
        moved = (1_764_000_001).to_bytes(8, "big") + BY_WITNESS.octets[8:]
        fault(Note(TEXT, (replace(BY_WITNESS, octets=moved),)), WITNESS)
        late = MAX_TIME + 1
        beyond = late.to_bytes(8, "big") + WITNESS_KEY.sign(f"cosignature/v1\ntime {late}\n{TEXT}".encode())
        fault(Note(TEXT, (replace(BY_WITNESS, octets=beyond),)), WITNESS)
        with pytest.raises(Malformed):
            cosign(TEXT, WITNESS.name, WITNESS_KEY, MAX_TIME + 1)

    def test_uses_stay_apart(self) -> None:
        """A log's signature of a text isn't the same key's cosignature of it, nor the reverse."""
        as_witness = replace(LOG, type=KeyType.COSIGNATURE)
        relabelled = Signature(LOG.name, as_witness.key_id, bytes(8) + BY_LOG.octets)
        fault(Note(TEXT, (relabelled,)), as_witness)
        as_log = replace(WITNESS, type=KeyType.LOG)
        relabelled = Signature(WITNESS.name, as_log.key_id, BY_WITNESS.octets[8:])
        fault(Note(TEXT, (relabelled,)), as_log)

    def test_malleable(self) -> None:
        """A signature with S + L for S (RFC 8032 §5.1.7) is refused: one signature has one form."""
        order = 2**252 + 27742317777372353535851937790883648493
        scalar = int.from_bytes(BY_LOG.octets[32:], "little") + order
        other = BY_LOG.octets[:32] + scalar.to_bytes(32, "little")
        fault(Note(TEXT, (replace(BY_LOG, octets=other),)), LOG)

    def test_colliding_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two known keys with one name and one id are a mistake of configuration, never a guess."""
        monkeypatch.setattr(VerifierKey, "key_id", b"same")
        other = VerifierKey(LOG.name, KeyType.LOG, WITNESS.public)
        with pytest.raises(ConfigurationError):
            verify(Note(TEXT, (BY_LOG,)), [LOG, other])

    def test_line_form(self) -> None:
        """A line is em dash, name and base64 of key id and signature."""
        assert BY_LOG.encode() == f"— log.example {encode_base64(LOG.key_id + BY_LOG.octets)}\n"
