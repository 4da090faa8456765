"""The verbs of offline mode on SMTP, for both ends: commands, replies and tokens in pieces (offline.md V1 to V6).

A command has at most 512 octets, a line of a reply or of data at most 500; tokens are longer, so they travel in
pieces. Every reply names hM, so that no reply can be taken for another exchange's. Nothing here reads a socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from shared.crypto.shares import SHARE
from shared.encoding import base64url
from shared.errors import Malformed

EHLO = "SECMTP"
OFFLINE = "OFFLINE"
PIECE = 400
MAX_PIECES = 128
MAX_COMMAND = 512
EXCHANGE = 32
_DIGITS = frozenset("0123456789abcdef")
_TOKEN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


class Verb(StrEnum):
    """NRR and KEY are for the sender's node as client, SIGNED and ACK for the recipient's."""

    NRR = "NRR"
    KEY = "KEY"
    SIGNED = "SIGNED"
    ACK = "ACK"


@dataclass(frozen=True, slots=True)
class Command:
    """A command about an exchange (hM, 32 octets). KEY brings s_T; SIGNED and ACK a token, after 354."""

    verb: Verb
    exchange: bytes
    share: bytes | None = field(default=None, repr=False)

    @property
    def line(self) -> str:
        """The line to send, without its CRLF."""
        words = [self.verb.value, self.exchange.hex()]
        return " ".join(words if self.share is None else [*words, base64url.encode(self.share)])

    @property
    def shown(self) -> str:
        """The line for a log: without s_T."""
        return f"{self.verb} {self.exchange.hex()}" + (" (s_T)" if self.share else "")


def parse_command(line: str) -> Command:
    """Parse a line without its CRLF; the verb in any letter case. Raises Malformed, which never quotes s_T."""
    words = line.split(" ")
    verb = words[0].upper()
    if verb not in Verb.__members__ or len(line) > MAX_COMMAND:
        raise Malformed("expected NRR, KEY, SIGNED or ACK")
    expected = 3 if verb == Verb.KEY else 2
    if len(words) != expected:
        raise Malformed(f"{verb} takes {'hM and s_T' if expected == 3 else 'hM'}, a blank between them")
    share = base64url.decode(words[2], length=SHARE, what="s_T") if expected == 3 else None
    return Command(Verb[verb], _exchange(words[1]), share)


def pieces(token: str) -> Iterator[str]:
    """Cut a token into the pieces in which it travels. Raises Malformed for what isn't one."""
    if not token or not _TOKEN.issuperset(token) or len(token) > PIECE * MAX_PIECES:
        raise Malformed(f"a token has 1 to {PIECE * MAX_PIECES} characters of base64url, with dots")
    for start in range(0, len(token), PIECE):
        yield token[start : start + PIECE]


def data_lines(token: str) -> list[str]:
    """Return the lines that follow a 354, the final dot among them; a piece that begins with a dot has a second one."""
    return [*(f".{piece}" if piece.startswith(".") else piece for piece in pieces(token)), "."]


def join_data(lines: Iterable[str]) -> str:
    """Put together the lines that came after a 354, before the final dot. Raises Malformed."""
    return _join(line.removeprefix(".") for line in lines)


def token_texts(exchange: bytes, token: str) -> list[str]:
    """Return the texts of the reply lines that bring a token, behind code and enhanced code."""
    return [f"{exchange.hex()} {piece}" for piece in pieces(token)]


def text(exchange: bytes, words: str) -> str:
    """Return the text of a reply of one line about an exchange."""
    return f"{exchange.hex()} {words}"


def join_reply(exchange: bytes, texts: Iterable[str]) -> str:
    """Put together the token, or s_T, in the lines of a reply about this exchange (texts without codes).

    Raises Malformed, also when a line is about another exchange.
    """
    name = exchange.hex() + " "
    found = []
    for line in texts:
        if not line.startswith(name):
            raise Malformed("a line of the reply doesn't name the exchange that was asked about")
        found.append(line.removeprefix(name))
    return _join(found)


def decode_share(piece: str) -> bytes:
    """Decode s_T from the reply to SIGNED. Raises Malformed."""
    return base64url.decode(piece, length=SHARE, what="s_T in the reply")


def _join(found: Iterable[str]) -> str:
    joined: list[str] = []
    for piece in found:
        if len(joined) == MAX_PIECES:
            raise Malformed(f"a token comes in at most {MAX_PIECES} pieces")
        if not 0 < len(piece) <= PIECE or not _TOKEN.issuperset(piece):
            raise Malformed(f"a piece of a token has 1 to {PIECE} characters of base64url, with dots")
        joined.append(piece)
    if not joined:
        raise Malformed("there is no token")
    return "".join(joined)


def _exchange(word: str) -> bytes:
    if len(word) != 2 * EXCHANGE or not _DIGITS.issuperset(word):
        raise Malformed("hM is 64 lower-case hexadecimal digits")
    return bytes.fromhex(word)
