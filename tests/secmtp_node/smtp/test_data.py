from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secmtp_node.smtp.data import DataReader

END = b"\r\n.\r\n"
# Pieces that meet at every place where a reader could go wrong.
TOKENS = st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"..", b"\0", b"a", b"\r\n.", b"\r\n..\r\n", b"\n.\n", END])
WIRE = st.lists(st.one_of(TOKENS, st.binary(max_size=5)), max_size=30).map(b"".join)
CUTS = st.lists(st.integers(0, 12), max_size=40)


def whole(wire: bytes) -> tuple[bytes, bytes, bool, bool]:
    """Read a wire at once and line by line: content, rest, whether bare, whether NUL."""
    raw, _, rest = (b"\r\n" + wire).partition(END)
    raw = raw[2:] + b"\r\n" if raw else b""
    content = b"".join(line.removeprefix(b".") for line in raw.replace(b"\r\n", b"\r\n\xff\xff").split(b"\xff\xff"))
    left = raw.replace(b"\r\n", b"")
    return content, rest, b"\r" in left or b"\n" in left, b"\0" in raw


def in_pieces(wire: bytes, cuts: list[int]) -> tuple[DataReader, bytes]:
    """Feed a wire cut by cut; what isn't cut comes last."""
    reader, content, place = DataReader(), b"", 0
    for size in [*cuts, len(wire)]:
        if reader.ended:
            break
        content += reader.feed(wire[place : place + size])
        place += size
    return reader, content + b"|" + (reader.rest + wire[place:] if reader.ended else b"")


class TestDataReader:
    @given(WIRE, CUTS)
    @example(b".\r\n", [])
    @example(b"\r\n.\r\n", [1])
    @example(b"..\r\n.\r\n", [1])
    @example(b"a\r\n..\r\n.\r\nQUIT\r\n", [1, 1, 1, 1, 1, 1, 1])
    def test_any_cut(self, wire: bytes, cuts: list[int]) -> None:
        """However the input is cut, content, rest and flags are those of the whole input."""
        wire = wire.replace(b"\xff", b"f") + END
        content, rest, bare, nul = whole(wire)
        reader, read = in_pieces(wire, cuts)
        assert reader.ended
        assert read == content + b"|" + rest
        assert (reader.bare, reader.nul) == (bare, nul)

    @given(st.lists(st.sampled_from([b"", b".", b"..", b".a", b"a", b"a.", b" ."]), max_size=20), CUTS)
    def test_stuffing(self, lines: list[bytes], cuts: list[int]) -> None:
        """What a client stuffs as RFC 5321 §4.5.2 says comes back as it was."""
        message = b"".join(line + b"\r\n" for line in lines)
        stuffed = b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)
        reader, read = in_pieces(stuffed + b".\r\nNOOP\r\n", cuts)
        assert read == message + b"|NOOP\r\n"
        assert not reader.bare

    @given(WIRE.filter(lambda wire: END not in b"\r\n" + wire), CUTS)
    def test_nothing_ends_but_the_end(self, wire: bytes, cuts: list[int]) -> None:
        """Without CRLF . CRLF the message goes on, whatever comes."""
        reader, _ = in_pieces(wire, cuts)
        assert not reader.ended

    @pytest.mark.parametrize(
        "body",
        [
            b"a\rb",
            b"a\nb",
            b"\n",
            b"\r",
            b"a\r\r\n",
            b"\n\r",
            b"x\n.\n",
            b"x\r\n.\n",
            b"x\r.\r",
        ],
    )
    def test_bare(self, body: bytes) -> None:
        """A CR or LF that isn't part of CRLF is noticed at every cut, also next to a line end."""
        wire = body + END
        for cut in range(len(wire) + 1):
            reader, _ = in_pieces(wire, [cut])
            assert reader.bare, cut
            assert reader.ended

    def test_nul(self) -> None:
        """A NUL is noticed."""
        reader, _ = in_pieces(b"a\0b" + END, [1])
        assert reader.nul

    def test_octets_beyond_ascii(self) -> None:
        """All other octets pass as they are."""
        octets = bytes(octet for octet in range(1, 256) if octet not in b"\r\n")
        reader, read = in_pieces(octets + END, [7])
        assert read == octets + b"\r\n|"
        assert not reader.bare
        assert not reader.nul

    def test_memory_is_flat(self) -> None:
        """No more is held back than could be the beginning of the end."""
        reader = DataReader()
        given_back = sum(len(reader.feed(b"\r\n.a" * 20_000)) for _ in range(10))
        # of each four octets the dot goes; the last ones wait
        assert 600_000 - given_back <= len(END)
