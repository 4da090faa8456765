from __future__ import annotations

import email
import email.policy
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmtp_node.smtp.envelope import BLOCK, LINE, MAX_HEAD, READ, EnvelopeReader, Outer, write
from shared.errors import Malformed

EXCHANGE = bytes(range(32))
OUTER = Outer(EXCHANGE, "alice@a.example", "bob@b.example", 1_800_000_000)
SIZES = [
    0,
    1,
    *(around + more for around in (LINE, BLOCK, 64 * 1024, 2 * BLOCK) for more in (-1, 0, 1)),
    READ * 57 // 78,
    3 * BLOCK + 17,
]


def octets_of(count: int) -> bytes:
    """Return octets that look random and are the same each time."""
    return hashlib.shake_256(b"ciphertext").digest(count)


def envelope(head: bytes, ciphertext: bytes) -> bytes:
    """Return a whole envelope."""
    return b"".join(write(OUTER, head, [ciphertext]))


def read(place: Path, octets: bytes) -> tuple[bytes, bytes, bytes]:
    """Read an envelope: exchange, head, ciphertext."""
    path = place / "envelope"
    path.write_bytes(octets)
    reader = EnvelopeReader(path)
    return reader.exchange, reader.head, b"".join(reader.ciphertext())


class TestRoundTrip:
    @pytest.mark.parametrize("size", SIZES)
    def test_sizes(self, tmp_path: Path, size: int) -> None:
        """An envelope gives back what was written, at every size near a line, a block or a piece of reading."""
        assert read(tmp_path, envelope(b"head", octets_of(size))) == (EXCHANGE, b"head", octets_of(size))

    @given(st.lists(st.binary(max_size=200), max_size=10), st.binary(max_size=300))
    def test_pieces(self, tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], head: bytes) -> None:
        """However the ciphertext comes in pieces, the envelope is the same."""
        written = b"".join(write(OUTER, head, pieces))
        assert written == envelope(head, b"".join(pieces))
        assert read(tmp_path_factory.mktemp("e"), written) == (EXCHANGE, head, b"".join(pieces))

    def test_ciphertext_again(self, tmp_path: Path) -> None:
        """The ciphertext can be read again from its beginning."""
        (tmp_path / "e").write_bytes(envelope(b"h", octets_of(100)))
        reader = EnvelopeReader(tmp_path / "e")
        assert b"".join(reader.ciphertext()) == b"".join(reader.ciphertext()) == octets_of(100)

    @pytest.mark.parametrize("size", [0, 1, MAX_HEAD])
    def test_head_sizes(self, tmp_path: Path, size: int) -> None:
        """A head of up to 64 KiB comes through."""
        assert read(tmp_path, envelope(octets_of(size), b"c"))[1] == octets_of(size)

    def test_large_head(self, tmp_path: Path) -> None:
        """A larger head is Malformed."""
        with pytest.raises(Malformed):
            read(tmp_path, envelope(octets_of(MAX_HEAD + 1), b"c"))

    def test_fields_of_hops(self, tmp_path: Path) -> None:
        """Fields that hops put on top change nothing."""
        hops = b"Received: from x\r\n\tby y; now\r\nX-Spam: no\r\n"
        assert read(tmp_path, hops + envelope(b"head", b"ciphertext")) == (EXCHANGE, b"head", b"ciphertext")


class TestLayout:
    def test_is_mime(self) -> None:
        """An independent MIME parser finds the three parts and the fields of the outside."""
        message = email.message_from_bytes(envelope(b"head", octets_of(1000)), policy=email.policy.default)
        notice, head, ciphertext = message.iter_parts()
        assert message["from"] == "alice@a.example"
        assert message["to"] == "bob@b.example"
        assert message["message-id"] == f"<{EXCHANGE.hex()}@a.example>"
        assert message["secmtp-envelope"] == f"v=1; exchange={EXCHANGE.hex()}"
        assert EXCHANGE.hex() in notice.get_content()
        assert head.get_content_type() == "application/vnd.secmtp.head"
        assert head.get_payload(decode=True) == b"head"
        assert ciphertext.get_content_type() == "application/vnd.secmtp.ciphertext"
        assert ciphertext.get_payload(decode=True) == octets_of(1000)

    def test_lines(self) -> None:
        """Lines end with CRLF, are short, and none begins with a dot."""
        lines = envelope(octets_of(500), octets_of(BLOCK + 5)).split(b"\r\n")
        assert max(len(line) for line in lines) <= 998
        assert not any(b"\n" in line or b"\r" in line or line.startswith(b".") for line in lines)


class TestDamage:
    """What arrives changed is Malformed, or gives other octets, which the manifest's digests don't fit."""

    def test_every_cut(self, tmp_path: Path) -> None:
        """An envelope that was cut anywhere is Malformed."""
        whole = envelope(octets_of(90), octets_of(200))
        for cut in range(len(whole)):
            with pytest.raises(Malformed):
                read(tmp_path, whole[:cut])

    def test_bit_flips(self, tmp_path: Path) -> None:
        """One flipped bit anywhere raises Malformed or nothing, and what is read is either the same or other octets."""
        whole = envelope(octets_of(90), octets_of(200))
        start = whole.index(b"--=_secmtp_")
        for place in range(len(whole)):
            changed = bytearray(whole)
            changed[place] ^= 1 << (place % 8)
            try:
                found = read(tmp_path, bytes(changed))
            except Malformed:
                continue
            if place >= start:
                inside_notice = whole[start:].split(b"\r\n--")[0]
                assert found != (EXCHANGE, octets_of(90), octets_of(200)) or place < start + len(inside_notice)

    @given(st.binary(max_size=300), st.integers(0, 2000), st.integers(0, 300))
    def test_spliced(self, tmp_path_factory: pytest.TempPathFactory, inserted: bytes, place: int, dropped: int) -> None:
        """Octets put in or taken out raise nothing but Malformed."""
        whole = envelope(octets_of(90), octets_of(200))
        try:
            read(tmp_path_factory.mktemp("e"), whole[:place] + inserted + whole[place + dropped :])
        except Malformed:
            return

    @given(st.binary(max_size=500))
    def test_anything(self, tmp_path_factory: pytest.TempPathFactory, octets: bytes) -> None:
        """Any octets are Malformed."""
        with pytest.raises(Malformed):
            read(tmp_path_factory.mktemp("e"), octets)

    @pytest.mark.parametrize("behind", [b"x", b"\r\n", b"--", b"\r\n\r\n-- \r\nsent by a list\r\n"])
    def test_octets_behind_the_end(self, tmp_path: Path, behind: bytes) -> None:
        """What a hop puts behind the closing boundary is Malformed: nothing is ignored."""
        with pytest.raises(Malformed):
            read(tmp_path, envelope(b"head", b"ciphertext") + behind)

    def test_two_marks(self, tmp_path: Path) -> None:
        """An envelope that names two exchanges is Malformed."""
        other = b"SecMTP-Envelope: v=1; exchange=" + b"ab" * 32 + b"\r\n"
        with pytest.raises(Malformed, match="one SecMTP-Envelope"):
            read(tmp_path, other + envelope(b"head", b"ciphertext"))

    @pytest.mark.parametrize("old", [b"v=1;", b"=0001", b"=_secmtp_", b"us-ascii", b"base64", b"vnd.secmtp.head"])
    def test_other_words(self, tmp_path: Path, old: bytes) -> None:
        """Another version, exchange, boundary, character set, encoding or type is Malformed."""
        with pytest.raises(Malformed):
            read(tmp_path, envelope(b"head", b"ciphertext").replace(old, b"x" + old, 1))

    def test_endless_line(self, tmp_path: Path) -> None:
        """Base64 without line ends is Malformed at once: it would be held in memory and searched again and again."""
        whole = envelope(b"head", octets_of(3))
        start = whole.rindex(b"\r\n\r\n") + 4
        path = tmp_path / "envelope"
        path.write_bytes(whole[:start] + b"A" * 4 * READ + whole[start:])
        pieces: Iterator[bytes] = EnvelopeReader(path).ciphertext()
        with pytest.raises(Malformed, match="isn't in lines"):
            next(pieces)
