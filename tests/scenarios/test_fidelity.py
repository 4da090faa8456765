"""What was submitted is what is delivered, octet for octet, through two nodes and a TTP."""

from __future__ import annotations

import hashlib
import smtplib
import ssl
from pathlib import Path

import pytest

from shared.commands.demo_mail import Letter, content_digest
from shared.commands.demo_processes import DemoFailed
from shared.commands.demo_world import NODE_HOST, PASSWORD, World

pytestmark = pytest.mark.timeout(240)
CASES = sorted((Path(__file__).parent.parent / "cases").glob("*.eml"))
HEADER = b"From: alice@a.example\r\nTo: bob@b.example\r\nSubject: x\r\n"
LETTERS = {
    "empty body": HEADER + b"\r\n",
    "nothing but a body": b"\r\nbody\r\n",
    "empty message": b"",
    "no line end at the end": HEADER + b"\r\nlast line",
    "dots": HEADER + b"\r\n.\r\n..\r\n.a\r\n...\r\n.\r\n",
    "a dot alone is the last line": HEADER + b"\r\n.\r\n",
    "blank lines at the end": HEADER + b"\r\nx\r\n\r\n\r\n\r\n",
    "eight bit": HEADER + b"\r\n" + bytes(octet for octet in range(128, 256)) + b"\r\n",
    "control octets": HEADER + b"\r\n" + bytes(octet for octet in range(1, 32) if octet not in (10, 13)) + b"\x7f\r\n",
    "UTF-8 header": "Subject: Grüße ✉\r\nFrom: Älice <alice@a.example>\r\n\r\nx\r\n".encode(),
    "duplicate and folded headers": b"Subject: one\r\nSUBJECT: two\r\nX: a\r\n\t b\r\n  c\r\n \r\nX:\r\n\r\nx\r\n",
    "a line of a million octets": HEADER + b"\r\n" + b"x" * 1_000_000 + b"\r\n",
    "lines of 998": HEADER + b"\r\n" + (b"y" * 998 + b"\r\n") * 40,
    "exactly one chunk": HEADER + b"\r\n" + b"z" * (65536 - len(HEADER) - 4) + b"\r\n",
    "From in the body": HEADER + b"\r\nFrom here\r\n>From there\r\n",
    "looks like our own header": HEADER + b"\r\nSecMTP-Exchange: 00\r\n",
    "has our own header": b"SecMTP-Exchange: 00\r\n" + HEADER + b"\r\nx\r\n",
}


def deliver(world: World, path: Path) -> tuple[str, Path]:
    """Submit a file from Alice to Bob and return the digest on the wire and the delivered file."""
    before = set(world.mailbox("bob@b.example"))
    digest = world.submit(Letter(path, unix=False), ["bob@b.example"])
    world.wait_for_mail("bob@b.example", "the letter", len(before) + 1)
    (found,) = set(world.mailbox("bob@b.example")) - before
    return digest, found


@pytest.mark.parametrize("name", LETTERS)
def test_octets(world: World, tmp_path: Path, name: str) -> None:
    """Everything that SMTP can carry is delivered exactly as it was submitted."""
    path = tmp_path / "letter.eml"
    path.write_bytes(LETTERS[name])
    digest, found = deliver(world, path)
    assert content_digest(found) == digest


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_messages_from_the_field(world: World, path: Path) -> None:
    """A message that broke others arrives unchanged (less Bcc), or is refused at once with a permanent reply."""
    try:
        digest, found = deliver(world, path)
    except DemoFailed as refused:
        reply = str(refused)
    else:
        reply = ""
        expected = hashlib.sha256(without_bcc(path.read_bytes())).hexdigest() if path.stem == "case43" else digest
        assert content_digest(found) == expected
    assert reply == "" or reply.startswith("the node answered 5")


def without_bcc(message: bytes) -> bytes:
    """Case 43 without its blind fields, by line number rather than by the product's own way of finding them."""
    lines = message.splitlines(keepends=True)
    return b"".join(lines[:5] + lines[9:])


@pytest.mark.parametrize("text", [b"a\0b", b"a\nb", b"a\rb", b"a\r\r\n", b"\n.\n", b"\r.\r", b"\n.\r\n"])
def test_what_smtp_cannot_carry(world: World, text: bytes) -> None:
    """NUL, bare CR and bare LF are refused with a permanent reply that says why; the session lives on."""
    context = ssl.create_default_context(cafile=str(world.root))
    with smtplib.SMTP(NODE_HOST, world.ports["a.example"]["submission"], timeout=30) as client:
        client.starttls(context=context)
        client.login("alice@a.example", PASSWORD)
        client.mail("alice@a.example")
        client.rcpt("bob@b.example")
        client.docmd("DATA")
        client.send(HEADER + b"\r\n" + text + b"\r\n.\r\n")
        code, reason = client.getreply()
        assert 550 <= code < 560
        assert b"bare" in reason.lower() or b"nul" in reason.lower()
        assert client.noop()[0] == 250


def test_fifty_megabytes(world: World, tmp_path: Path) -> None:
    """An attachment of 50 MB arrives unchanged."""
    path = tmp_path / "large.eml"
    line = bytes(range(33, 110)) + b"\r\n"
    with path.open("wb") as file:
        file.write(HEADER + b"\r\n")
        for _ in range(50_000_000 // len(line)):
            file.write(line)
    digest, found = deliver(world, path)
    assert content_digest(found) == digest
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
