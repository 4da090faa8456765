"""The verbs of the SECMTP extension between nodes: one definition for both ends (docs/protocols/offline.md V1 to V6).

Every answer names the exchange; tokens travel in pieces, so that no line is longer than SMTP allows. Refused:
another exchange's answer, a piece or a token over its bound, a share that isn't 32 octets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from shared.crypto.shares import SHARE
from shared.encoding import base64url
from shared.encoding.labels import DIGEST_OCTETS
from shared.errors import Malformed, TooLarge

KEYWORD = "SECMTP"
OFFLINE = "OFFLINE"
MAX_PIECE = 400
MAX_PIECES = 128
END = "."
GO_ON = 354


class Verb(StrEnum):
    """What a node asks another for. The sender's node says NRR and KEY, the recipient's SIGNED and ACK."""

    NRR = "NRR"
    KEY = "KEY"
    SIGNED = "SIGNED"
    ACK = "ACK"


BRINGING = (Verb.SIGNED, Verb.ACK)  # a token follows after 354


class Kind(Enum):
    """What an answer says, as reply code and enhanced status code."""

    GIVEN = (250, "2.0.0")
    LATER = (450, "4.7.0")
    UNKNOWN = (550, "5.1.1")
    DECLINED = (550, "5.7.0")
    ENDED = (554, "5.5.0")
    WRONG = (554, "5.7.5")


@dataclass(frozen=True, slots=True)
class Command:
    """A verb's arguments; `share` (s_T) with KEY only. It must stand in no log."""

    exchange: bytes
    share: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer about one exchange: a token, s_T, or words. It may hold s_T, and isn't for logs."""

    kind: Kind
    exchange: bytes
    text: str = field(repr=False)


def format_command(verb: Verb, command: Command) -> str:
    """Return the command line without its CRLF."""
    words = [verb.value, command.exchange.hex()]
    if command.share is not None:
        words.append(base64url.encode(command.share))
    return " ".join(words)


def parse_command(verb: Verb, argument: str) -> Command:
    """Parse what stands behind the verb. Raises Malformed; its message repeats nothing of the argument."""
    words = argument.split(" ")
    if len(words) != (2 if verb is Verb.KEY else 1):
        wanted = "an exchange id and a share" if verb is Verb.KEY else "an exchange id"
        raise Malformed(f"{verb} takes {wanted}, one blank between words")
    share = base64url.decode(words[1]) if verb is Verb.KEY else None
    if share is not None and len(share) != SHARE:
        raise Malformed(f"a share has {SHARE} octets")
    return Command(_exchange(words[0]), share)


def answer_lines(answer: Answer) -> list[str]:
    """Return the lines of a reply, without line ends: what is long goes in pieces."""
    code, enhanced = answer.kind.value
    pieces = list(_pieces(_plain(answer.text))) or ["-"]
    last = len(pieces) - 1
    name = answer.exchange.hex()
    return [f"{code}{' ' if at == last else '-'}{enhanced} {name} {piece}" for at, piece in enumerate(pieces)]


def parse_answer(code: int, texts: Sequence[str], exchange: bytes) -> Answer:
    """Parse a reply about an exchange: its code, and each line's text behind the code.

    Raises Malformed for what isn't an answer about this exchange.
    """
    if not 1 <= len(texts) <= MAX_PIECES:
        raise TooLarge(f"an answer has 1 to {MAX_PIECES} lines, this one has {len(texts)}")
    pieces, enhanced = [], ""
    for text in texts:
        enhanced, _, rest = text.partition(" ")
        name, _, piece = rest.partition(" ")
        if name != exchange.hex():
            raise Malformed("the answer doesn't name the exchange that it was asked about")
        if len(piece) > MAX_PIECE:
            raise TooLarge(f"a piece of an answer has more than {MAX_PIECE} characters")
        pieces.append(piece)
    try:
        kind = Kind((code, enhanced))
    except ValueError as error:
        raise Malformed(f"{code} {enhanced[:12]} isn't an answer of this extension") from error
    return Answer(kind, exchange, "".join(pieces))


def token_lines(token: str) -> Iterator[str]:
    """Yield the lines in which a token goes after 354, the end too."""
    yield from _pieces(token)
    yield END


def join_lines(lines: Iterable[str]) -> str:
    """Return the token of the lines before the end. Raises TooLarge."""
    pieces = []
    for line in lines:
        pieces.append(line)
        if len(pieces) > MAX_PIECES or len(line) > MAX_PIECE:
            raise TooLarge(f"a token comes in at most {MAX_PIECES} lines of at most {MAX_PIECE} characters")
    return "".join(pieces)


def _pieces(text: str) -> Iterator[str]:
    if len(text) > MAX_PIECE * MAX_PIECES:
        raise TooLarge(f"{len(text)} characters don't fit into {MAX_PIECES} pieces")
    for start in range(0, len(text), MAX_PIECE):
        yield text[start : start + MAX_PIECE]


def _plain(text: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in text)


def _exchange(text: str) -> bytes:
    try:
        exchange = bytes.fromhex(text)
    except ValueError:
        exchange = b""
    if len(exchange) != DIGEST_OCTETS or exchange.hex() != text:
        raise Malformed("an exchange id is 64 lower-case hexadecimal digits")
    return exchange
