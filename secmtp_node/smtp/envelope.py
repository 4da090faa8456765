"""The MIME form of an envelope (docs/protocols/envelope.md section 6), written and read as a stream.

The layout is fixed, so it needs no MIME parser; whatever isn't this layout is Malformed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO

from shared.encoding.address import domain_of
from shared.errors import Malformed

LINE = 57
BLOCK = LINE * 1024
READ = 64 * 1024
MAX_REST = 1024
MAX_HEADER = 256 * 1024
MAX_NOTICE = 4096
MAX_HEAD_TEXT = 96 * 1024
MAX_HEAD = 64 * 1024
_MARK = re.compile(rb"^SecMTP-Envelope: v=1; exchange=([0-9a-f]{64})\r$", re.MULTILINE)
_TEXT = b"Content-Type: text/plain; charset=us-ascii\r\n\r\n"
_HEAD = b"Content-Type: application/vnd.secmtp.head\r\nContent-Transfer-Encoding: base64\r\n\r\n"
_CIPHERTEXT = b"Content-Type: application/vnd.secmtp.ciphertext\r\nContent-Transfer-Encoding: base64\r\n\r\n"
_NOTICE = (
    "This is a certified message between SecMTP nodes. It can be opened by the recipient's node only,\r\n"
    "against a signed receipt. Exchange: {exchange}\r\n"
)


@dataclass(frozen=True, slots=True)
class Outer:
    """What the outside of an envelope says. `date` is UTC seconds."""

    exchange: bytes
    sender: str
    recipient: str
    date: int


def write(outer: Outer, head: bytes, ciphertext: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the octets of an envelope."""
    name = outer.exchange.hex()
    boundary = _boundary(outer.exchange)
    fields = (
        f"From: <{outer.sender}>",
        f"To: <{outer.recipient}>",
        f"Date: {formatdate(outer.date)}",
        f"Message-ID: <{name}@{domain_of(outer.sender)}>",
        "Subject: Certified message (SecMTP)",
        "MIME-Version: 1.0",
        f"SecMTP-Envelope: v=1; exchange={name}",
        f'Content-Type: multipart/mixed; boundary="{boundary.decode()}"',
    )
    yield "\r\n".join((*fields, "", "")).encode("utf-8")
    yield b"--" + boundary + b"\r\n" + _TEXT + _NOTICE.format(exchange=name).encode("ascii")
    yield b"\r\n--" + boundary + b"\r\n" + _HEAD
    yield from _encoded([head])
    yield b"\r\n--" + boundary + b"\r\n" + _CIPHERTEXT
    yield from _encoded(ciphertext)
    yield b"\r\n--" + boundary + b"--\r\n"


class EnvelopeReader:
    """Reads one envelope from a file: the exchange and the head at once, the ciphertext as a stream, once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.exchange = b""
        self.head = b""
        self._place = 0
        with path.open("rb") as file:
            self._read_head(file)

    def ciphertext(self) -> Iterator[bytes]:
        """Yield the ciphertext's octets. Raises Malformed at the first octet that isn't of the layout."""
        end = b"\r\n--" + _boundary(self.exchange) + b"--\r\n"
        with self._path.open("rb") as file:
            file.seek(self._place)
            held = b""
            while piece := file.read(READ):
                held += piece
                # The last octets may be the beginning of the closing boundary: they stay until it's clear.
                usable = held[: -len(end)] if len(held) > len(end) else b""
                text, rest = _whole_groups(usable)
                # Without this, a text without line ends would be held, and looked through again for each piece.
                if len(rest) > MAX_REST:
                    raise Malformed("the envelope's base64 isn't in lines: it was changed on the way")
                held = rest + held[len(usable) :]
                yield _decoded(text)
        if not held.endswith(end):
            raise Malformed("the envelope doesn't end with its closing boundary: it was cut or changed on the way")
        yield _decoded(held[: -len(end)].replace(b"\r\n", b""))

    def _read_head(self, file: BinaryIO) -> None:
        header = _until(file, b"\r\n\r\n", MAX_HEADER, "header")
        marks = _MARK.findall(header + b"\r\n")
        if len(marks) != 1:
            raise Malformed("this isn't an envelope: expected one SecMTP-Envelope field of version 1")
        self.exchange = bytes.fromhex(marks[0].decode("ascii"))
        boundary = b"\r\n--" + _boundary(self.exchange) + b"\r\n"
        if f'boundary="{_boundary(self.exchange).decode()}"'.encode() not in header:
            raise Malformed("the envelope's boundary isn't that of its exchange: it was re-wrapped on the way")
        _expect(file, boundary[2:] + _TEXT, "notice")
        _until(file, boundary, MAX_NOTICE, "notice")
        _expect(file, _HEAD, "head")
        text = _until(file, boundary, MAX_HEAD_TEXT, "head")
        self.head = _decoded(text.replace(b"\r\n", b""))
        if len(self.head) > MAX_HEAD:
            raise Malformed(f"the envelope's head has {len(self.head)} octets, at most {MAX_HEAD} are allowed")
        _expect(file, _CIPHERTEXT, "ciphertext")
        self._place = file.tell()


def _boundary(exchange: bytes) -> bytes:
    return f"=_secmtp_{exchange.hex()[:32]}".encode("ascii")


def _encoded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield base64 in lines of 76 characters; every line but the last is full, however the input is cut."""
    held = b""
    for piece in pieces:
        held += piece
        while len(held) >= BLOCK:
            yield _lines(held[:BLOCK])
            held = held[BLOCK:]
    if held:
        yield _lines(held)


def _lines(data: bytes) -> bytes:
    text = base64.b64encode(data)
    width = LINE // 3 * 4
    return b"".join(text[start : start + width] + b"\r\n" for start in range(0, len(text), width))


def _whole_groups(text: bytes) -> tuple[bytes, bytes]:
    """Split into a multiple of four base64 characters without line ends, and the rest as it came."""
    cut = text.rfind(b"\r\n")
    if cut < 0:
        return b"", text
    joined = text[: cut + 2].replace(b"\r\n", b"")
    whole = len(joined) // 4 * 4
    return joined[:whole], joined[whole:] + text[cut + 2 :]


def _decoded(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise Malformed(f"a part of the envelope isn't base64: {error}") from error


def _until(file: BinaryIO, mark: bytes, limit: int, what: str) -> bytes:
    """Read up to a mark, which is taken away; the file stands behind it."""
    start = file.tell()
    data = file.read(limit + len(mark))
    found = data.find(mark)
    if found < 0:
        raise Malformed(f"the envelope's {what} doesn't end where it must")
    file.seek(start + found + len(mark))
    return data[:found]


def _expect(file: BinaryIO, octets: bytes, what: str) -> None:
    if file.read(len(octets)) != octets:
        raise Malformed(f"the envelope's {what} part doesn't begin as it must: it was changed on the way")
