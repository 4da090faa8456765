from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmtp_node.ports.services import Submitted
from secmtp_node.smtp.message import MAX_HEADER, MAX_RECEIVED, MAX_SHOWN, Loop, read_message
from shared.encoding.labels import blob_digest
from shared.errors import Malformed

BODY = b"\r\nHello\r\nBcc: kept@b.example\r\n"


def read(place: Path, octets: bytes) -> Submitted:
    """Read a message of these octets."""
    path = place / "message"
    path.write_bytes(octets)
    return read_message(path)


def content(place: Path, octets: bytes) -> bytes:
    """Return the content of a message of these octets."""
    return b"".join(read(place, octets).content())


class TestBlindCopies:
    @pytest.mark.parametrize(
        "field",
        [
            b"Bcc: carol@b.example\r\n",
            b"BCC:carol@b.example\r\n",
            b"bCc : carol@b.example\r\n",
            b"Bcc \t : carol@b.example\r\n",
            b"Bcc:\r\n",
            b"Bcc: carol@b.example,\r\n dave@b.example,\r\n\tErin <erin@b.example>\r\n",
            b"Bcc:\r\n carol@b.example\r\n",
            b"Bcc: carol@b.example\r\n \t \r\n more@b.example\r\n",
            b"Resent-Bcc: carol@b.example\r\n",
            b"resent-bcc\t: carol@b.example\r\n",
            b"Bcc: a@b.example\r\nBcc: c@b.example\r\n",
            b"Bcc: caf\xc3\xa9 <carol@b.example>\r\n",
        ],
    )
    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_removed(self, tmp_path: Path, field: bytes, place: int) -> None:
        """A Bcc field goes in every form that RFC 5322 has, and nothing else changes."""
        fields = [b"From: alice@a.example\r\n", b"Subject: Bcc: is in here\r\n bcc: folded\r\n"]
        with_it = b"".join([*fields[:place], field, *fields[place:]])
        assert content(tmp_path, with_it + BODY) == b"".join(fields) + BODY

    @pytest.mark.parametrize(
        "field",
        [
            b"X-Bcc: carol@b.example\r\n",
            b"Bccc: carol@b.example\r\n",
            b"Subject: x\r\n Bcc: folded\r\n",
            b"Bc\r\n c: x\r\n",
            b"To: bob@b.example\r\n",
        ],
    )
    def test_kept(self, tmp_path: Path, field: bytes) -> None:
        """What isn't a Bcc field stays, octet for octet."""
        assert content(tmp_path, b"From: a@a.example\r\n" + field + BODY) == b"From: a@a.example\r\n" + field + BODY

    def test_nested_message(self, tmp_path: Path) -> None:
        """The Bcc field of a message inside the message belongs to the content."""
        nested = b"Content-Type: message/rfc822\r\n\r\nFrom: x@a.example\r\nBcc: inner@b.example\r\n\r\ninner\r\n"
        assert content(tmp_path, b"Bcc: outer@b.example\r\n" + nested) == nested

    def test_header_only(self, tmp_path: Path) -> None:
        """A message without a blank line loses its Bcc field too, and keeps the last field."""
        assert content(tmp_path, b"From: a@a.example\r\nBcc: x@b.example\r\nSubject: s\r\n") == (
            b"From: a@a.example\r\nSubject: s\r\n"
        )

    def test_only_blind(self, tmp_path: Path) -> None:
        """A header of a Bcc field alone becomes an empty header."""
        assert content(tmp_path, b"Bcc: x@b.example\r\n\r\nbody\r\n") == b"\r\nbody\r\n"


class TestOctets:
    @pytest.mark.parametrize(
        "octets",
        [
            b"",
            b"\r\n",
            b"\r\n\r\nbody with an empty header\r\n",
            b"no header at all\r\nsecond line\r\n",
            b"From: a@a.example\r\n",
            b"From: a@a.example\r\n\r\n",
            b"Subject: \xff\xfe raw octets\r\n\r\n\x80\r\n",
            b"Subject:  two blanks  \r\nX:\r\n\t\r\n folded\r\n\r\n\r\n\r\n",
            b"Subject: no line end",
        ],
    )
    def test_unchanged(self, tmp_path: Path, octets: bytes) -> None:
        """A message without Bcc is its own content."""
        submitted = read(tmp_path, octets)
        assert b"".join(submitted.content()) == octets
        assert submitted.octets == len(octets)
        assert submitted.digest == hashlib.sha256(octets).digest() == blob_digest(octets)

    def test_again(self, tmp_path: Path) -> None:
        """The content can be read as often as it is needed."""
        submitted = read(tmp_path, b"From: a@a.example\r\n" + BODY)
        assert b"".join(submitted.content()) == b"".join(submitted.content())

    @given(
        st.lists(st.sampled_from([b"A: b", b"Bcc: x", b"bcc :", b" folded", b"\t", b"", b"no field", b"Received: r"]))
    )
    def test_any_lines(self, tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
        """Of any lines only Bcc fields in front of the first blank line go, and order stays."""
        octets = b"".join(line + b"\r\n" for line in lines)
        place = tmp_path_factory.mktemp("message")
        if lines and lines[0][:1] in {b" ", b"\t"}:
            with pytest.raises(Malformed):
                read(place, octets)
            return
        assert content(place, octets) == b"".join(line + b"\r\n" for line in _without_blind(lines))

    def test_shown_headers(self, tmp_path: Path) -> None:
        """The headers that a report may quote are bounded and have no Bcc."""
        long = b"".join(b"X-%05d: %s\r\n" % (number, b"y" * 60) for number in range(1000))
        submitted = read(tmp_path, b"Bcc: x@b.example\r\n" + long + BODY)
        assert len(submitted.headers) == MAX_SHOWN
        assert long.startswith(submitted.headers)


def _without_blind(lines: list[bytes]) -> list[bytes]:
    kept, dropping, header = [], False, True
    for line in lines:
        header = header and line != b""
        if header and line[:1] not in {b" ", b"\t"}:
            dropping = line.lower().startswith(b"bcc")
        if not (header and dropping):
            kept.append(line)
    return kept


class TestRefusals:
    @pytest.mark.parametrize("first", [b" ", b"\t"])
    def test_begins_with_blank(self, tmp_path: Path, first: bytes) -> None:
        """A message that would continue a header put in front of it is refused (M3)."""
        with pytest.raises(Malformed, match="begins with a blank"):
            read(tmp_path, first + b"x\r\n" + BODY)

    def test_long_header(self, tmp_path: Path) -> None:
        """A header over 1 MiB is refused: a Bcc field could stand behind it."""
        line = b"X: " + b"y" * 1019 + b"\r\n"
        with pytest.raises(Malformed, match="header has more than"):
            read(tmp_path, line * (MAX_HEADER // len(line) + 1) + b"Bcc: x@b.example\r\n\r\nbody\r\n")

    def test_header_at_the_bound(self, tmp_path: Path) -> None:
        """A header of exactly 1 MiB is read whole."""
        line = b"X: " + b"y" * 1019 + b"\r\n"
        octets = line * (MAX_HEADER // len(line) - 1) + b"Bcc: " + b"z" * 1015 + b"\r\n\r\n"
        assert len(octets) == MAX_HEADER
        assert b"Bcc" not in content(tmp_path, octets + b"body\r\n")

    def test_long_body_without_header(self, tmp_path: Path) -> None:
        """A long body behind a short header isn't counted as header."""
        octets = b"A: b\r\n\r\n" + b"x" * (2 * MAX_HEADER) + b"\r\n"
        assert content(tmp_path, octets) == octets

    def test_loop(self, tmp_path: Path) -> None:
        """A message that has been through more than 100 servers is a loop."""
        hop = b"Received : from x by y;\r\n now\r\n"
        assert read(tmp_path, hop * MAX_RECEIVED + BODY).octets
        with pytest.raises(Loop):
            read(tmp_path, hop * (MAX_RECEIVED + 1) + BODY)


class TestVisible:
    def test_to_and_cc(self, tmp_path: Path) -> None:
        """Visible recipients are those of To and Cc in normal form, also folded; not those of Bcc."""
        octets = (
            b"TO: Bob <bob@B.Example>,\r\n =?utf-8?q?Carol?= <carol@b.example>\r\n"
            b"Cc : team: dave@b.example, erin@b.example;\r\nBcc: frank@b.example\r\nReply-To: x@b.example\r\n"
        )
        assert read(tmp_path, octets + BODY).visible == {
            "bob@b.example",
            "carol@b.example",
            "dave@b.example",
            "erin@b.example",
        }

    @pytest.mark.parametrize(
        "field", [b"To: undisclosed-recipients:;\r\n", b"To: \xff\xfe@b\r\n", b"To: <<<>>,,,@@\r\n", b"To:\r\n"]
    )
    def test_unreadable(self, tmp_path: Path, field: bytes) -> None:
        """An address that can't be read is nobody's, and no reason to refuse the message."""
        assert not any("b.example" in address for address in read(tmp_path, field + BODY).visible)


class TestHostileLists:
    @pytest.mark.parametrize("value", [b"(" * 20_000, b"a:" * 20_000], ids=["comments", "groups"])
    def test_nesting(self, tmp_path: Path, value: bytes) -> None:
        """A list nested beyond reason is content like any other, and names nobody; other fields still do."""
        octets = b"To: " + value + b"\r\nCc: bob@b.example\r\n" + BODY
        message = read(tmp_path, octets)
        assert message.visible == frozenset({"bob@b.example"})
        assert b"".join(message.content()) == octets
