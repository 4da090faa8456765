"""The letter of the demo: submitted by an ordinary SMTP client, found again in Maildirs.

The client is Python's smtplib for the dialogue; the message is streamed, so that a large one stays on
disk. A file whose lines all end in LF is sent with CRLF, as every mail program does; anything else is
sent as it is, and what can't pass SMTP is the node's to refuse.
"""

from __future__ import annotations

import email
import hashlib
import smtplib
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from shared.commands.demo_processes import DemoFailed

PIECE = 64 * 1024
TIMEOUT = 300
MARK = b"\r\nSecMTP-Exchange: "
BUNDLE_TYPE = "application/vnd.secmtp.bundle+json"
READY_FOR_DATA, ACCEPTED = 354, 250


@dataclass(frozen=True, slots=True)
class Letter:
    """A message file and whether its LF must become CRLF on the wire."""

    path: Path
    unix: bool

    @property
    def octets(self) -> int:
        """The size of the file."""
        return self.path.stat().st_size

    def wire(self) -> Iterator[bytes]:
        """Yield the octets as they go over the wire, before dot-stuffing: always ended by CRLF."""
        last = b""
        with self.path.open("rb") as file:
            while piece := file.read(PIECE):
                piece = piece.replace(b"\n", b"\r\n") if self.unix else piece
                yield piece
                last = (last + piece)[-2:]
        if last != b"\r\n":
            yield b"\r\n"


def default_letter(place: Path, sender: str, recipient: str, now: int) -> Letter:
    """Write a letter with what breaks lesser gateways: UTF-8, a leading dot, a blank at a line's end."""
    lines = (
        f"From: Alice <{sender}>",
        f"To: Bob <{recipient}>",
        "Subject: The contract we spoke of",
        f"Date: {formatdate(now)}",
        f"Message-ID: <{now}.demo@a.example>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        "Dear Bob,",
        "",
        "das ist ein eingeschriebener Brief: Grüße aus Köln. ✉ ",
        ".a line that begins with a dot stays one",
        "",
        "Alice",
        "",
    )
    path = place / "letter.eml"
    path.write_bytes("\r\n".join(lines).encode())
    return Letter(path, unix=False)


def read_letter(path: Path) -> Letter:
    """Take a message file. Raises DemoFailed if there is none."""
    if not path.is_file():
        raise DemoFailed(f"{path} isn't a file")
    return Letter(path, unix=_is_unix(path))


def submit(
    letter: Letter, server: tuple[str, int], root: Path, login: tuple[str, str], recipients: Sequence[str]
) -> str:
    """Submit over STARTTLS with a password and return SHA-256 of the octets that went over the wire."""
    context = ssl.create_default_context(cafile=str(root))
    with smtplib.SMTP(*server, timeout=TIMEOUT) as client:
        client.starttls(context=context)
        client.login(*login)
        _expect(client.mail(login[0], ["BODY=8BITMIME"]), ACCEPTED)
        for recipient in recipients:
            _expect(client.rcpt(recipient), ACCEPTED)
        _expect(client.docmd("DATA"), READY_FOR_DATA)
        digest = _stream(client, letter)
        _expect(client.getreply(), ACCEPTED)
    return digest


def take_bundle(receipt: Path) -> bytes:
    """Return the bundle attached to a receipt report."""
    message = email.message_from_bytes(receipt.read_bytes())
    for part in message.walk():
        if part.get_content_type() == BUNDLE_TYPE:
            payload = part.get_payload(decode=True)
            if isinstance(payload, bytes):
                return payload
    raise DemoFailed(f"the sender got {receipt}, which holds no bundle: it isn't a receipt")


def content_digest(delivered: Path) -> str:
    """Return SHA-256 of a delivered message less the headers that the node put on top."""
    digest = hashlib.sha256()
    with delivered.open("rb") as file:
        head = b"\r\n" + file.read(PIECE)
        mark = head.find(MARK)
        end = head.find(b"\r\n", mark + len(MARK))
        if mark < 0 or end < 0:
            raise DemoFailed(f"{delivered} doesn't have the node's headers on top")
        digest.update(head[end + 2 :])
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _is_unix(path: Path) -> bool:
    carriage_returns = line_feeds = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            carriage_returns += piece.count(b"\r")
            line_feeds += piece.count(b"\n")
    return line_feeds > 0 and carriage_returns == 0


def _stream(client: smtplib.SMTP, letter: Letter) -> str:
    """Send the message dot-stuffed and ended; `sock` is smtplib's own, under TLS by now."""
    digest = hashlib.sha256()
    held = b"\r\n"  # as if a line had just ended: the first line is stuffed too
    if client.sock is None:
        raise DemoFailed("the node closed the connection before the message was sent")
    for piece in letter.wire():
        digest.update(piece)
        stuffed = (held + piece).replace(b"\r\n.", b"\r\n..")[len(held) :]
        client.sock.sendall(stuffed)
        held = (held + piece)[-2:]
    client.sock.sendall(b".\r\n")
    return digest.hexdigest()


def _expect(reply: tuple[int, bytes], code: int) -> None:
    if reply[0] != code:
        raise DemoFailed(f"the node answered {reply[0]} {reply[1].decode(errors='replace')}")
