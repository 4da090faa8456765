"""SMTP smuggling: nothing that one hop takes for content may become a command or a message at another."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.crypto.certificates import Purpose
from tests.doubles.listening import Dialog, Edge, edge_in

HEADER = b"From: alice@example.org\r\nSubject: outer\r\n\r\nbody"
SMUGGLED = b"MAIL FROM:<ceo@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
FALSE_ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\n.\r\r\n",
    b"\n.\r",
    b"\r\r\n.\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\n\n.\n\n",
]
PLAIN = base64.b64encode(b"\0alice\0secret").decode()


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    """Real listeners with an application that holds what it was given."""
    with edge_in(tmp_path) as running:
        yield running


class TestEndOfData:
    @pytest.mark.parametrize("end", FALSE_ENDS, ids=repr)
    def test_false_end(self, edge: Edge, end: bytes) -> None:
        """What only looks like the end is content, which is refused whole; nothing behind it runs as a command."""
        with Dialog(edge.plain()) as dialog:
            dialog.open()
            dialog.begin()
            dialog.send(HEADER + end + SMUGGLED)
            assert dialog.reply().startswith("550 5.6.0 ")
            assert dialog.ask("NOOP").startswith("250 ")
        assert edge.mail.held == []
        assert edge.mail.senders == ["alice@example.org"]

    @pytest.mark.parametrize("end", FALSE_ENDS, ids=repr)
    def test_octet_by_octet(self, edge: Edge, end: bytes) -> None:
        """It makes no difference how a network cuts the same octets."""
        with Dialog(edge.plain()) as dialog:
            dialog.open()
            dialog.begin()
            dialog.socket.setsockopt(6, 1, 1)  # TCP_NODELAY: each octet in a segment of its own
            for octet in HEADER + end + SMUGGLED:
                dialog.send(bytes([octet]))
            assert dialog.reply().startswith("550 5.6.0 ")
        assert edge.mail.held == []

    def test_stuffed_end(self, edge: Edge) -> None:
        """A dot that was stuffed is content, and so are the commands behind it."""
        with Dialog(edge.plain()) as dialog:
            dialog.open()
            dialog.begin()
            dialog.send(HEADER + b"\r\n..\r\n" + SMUGGLED)
            assert dialog.reply().startswith("250 ")
            assert dialog.ask("NOOP").startswith("250 ")
        (held,) = edge.mail.held
        assert held.content == HEADER + b"\r\n.\r\n" + SMUGGLED.removesuffix(b".\r\n")


class TestInStep:
    @pytest.mark.parametrize(
        ("message", "code"),
        [
            (HEADER + b"\nbare\r\n.\r\n", "550 5.6.0"),
            (b" begins with a blank\r\n.\r\n", "554 5.6.0"),
            (b"x" * 15_000 + b"\r\n.\r\n", "552 5.3.4"),
        ],
    )
    def test_behind_a_refused_message(self, edge: Edge, message: bytes, code: str) -> None:
        """Commands pipelined behind a refused message are answered in their order, and the next message is taken."""
        with Dialog(edge.plain(octets=10_000 if len(message) > 10_000 else 100_000)) as dialog:
            dialog.open()
            dialog.begin()
            dialog.send(message + b"NOOP\r\nRCPT TO:<x@example.net>\r\n" + SMUGGLED + b"QUIT\r\n")
            codes = [dialog.reply()[:9] for _ in range(8)]
            assert codes == [
                code,
                "250 2.0.0",
                "503 5.5.1",
                "250 2.1.0",
                "250 2.1.5",
                "354 send ",
                "250 2.0.0",
                "221 2.0.0",
            ]
        assert [held.sender for held in edge.mail.held] == ["ceo@example.org"]

    def test_refused_data(self, edge: Edge) -> None:
        """When DATA is refused, what a client sends anyway is refused line by line, and isn't a message."""
        with Dialog(edge.plain()) as dialog:
            dialog.open()
            dialog.send(b"DATA\r\nSubject: x\r\n\r\n.\r\nNOOP\r\n")
            assert [dialog.reply()[:3] for _ in range(5)] == ["503", "500", "500", "500", "250"]


class TestCommandLines:
    @pytest.mark.parametrize(
        "line",
        [
            b"MAIL FROM:<alice@example.org>\n",
            b"MAIL FROM:<alice@example.org>\r\r\n",
            b"MAIL FROM:<alice\r@example.org>\r\n",
            b"MAIL FROM:<alice@example.org>\0\r\n",
            b"MAIL FROM:<alice@example.org>\r RCPT TO:<x@y.example>\r\n",
        ],
    )
    def test_bare_octets(self, edge: Edge, line: bytes) -> None:
        """A command with a bare CR, a bare LF or a NUL isn't run."""
        with Dialog(edge.plain()) as dialog:
            dialog.open()
            dialog.send(line)
            assert dialog.reply().startswith("500 5.5.2 ")
            assert dialog.ask("RCPT TO:<bob@example.net>").startswith("503 ")
        assert edge.mail.senders == []

    def test_parameter_in_an_address(self, edge: Edge) -> None:
        """A quoted local part can't end the path and add parameters or another recipient."""
        with Dialog(edge.plain()) as dialog:
            dialog.open()
            dialog.begin("<alice@example.org>", '<"x> NOTIFY=NEVER <y"@example.net>')
            dialog.send(HEADER + b"\r\n.\r\n")
            dialog.reply()
        assert [held.recipients for held in edge.mail.held] == [('"x> NOTIFY=NEVER <y"@example.net',)]


class TestTLS:
    @pytest.mark.parametrize("together", [True, False])
    def test_injected_before_starttls(self, edge: Edge, together: bool) -> None:
        """Commands that a man in the middle puts behind STARTTLS in the clear are dropped (RFC 3207 §6)."""
        injected = b"EHLO evil\r\nMAIL FROM:<evil@example.org>\r\n"
        with Dialog(edge.tls(implicit=False)) as dialog:
            dialog.open()
            dialog.send(b"STARTTLS\r\n" + (injected if together else b""))
            assert dialog.reply().startswith("220 ")
            dialog.start_tls(edge.certified.trusting())
            assert dialog.ask("NOOP") == "250 2.0.0 OK"
            assert dialog.ask("AUTH PLAIN " + PLAIN).startswith("503 ")
        assert edge.mail.senders == []

    def test_nothing_before_tls(self, edge: Edge) -> None:
        """Neither a password nor a message is taken in the clear, and AUTH isn't offered."""
        with Dialog(edge.tls(implicit=False)) as dialog:
            greeting = dialog.open()
            assert "STARTTLS" in greeting
            assert "AUTH" not in greeting
            assert dialog.ask("AUTH PLAIN " + PLAIN).startswith("538 5.7.11 ")
            assert dialog.ask("AUTH LOGIN").startswith("538 5.7.11 ")
            assert dialog.ask("MAIL FROM:<alice@example.org>").startswith("530 5.7.0 ")
        assert edge.mail.tried == []

    def test_new_session_in_tls(self, edge: Edge) -> None:
        """What was said before TLS doesn't count inside it, and a login is needed for mail."""
        with Dialog(edge.tls(implicit=False)) as dialog:
            dialog.open()
            dialog.ask("STARTTLS")
            dialog.start_tls(edge.certified.trusting())
            greeting = dialog.ask("EHLO client.example.org")
            assert "AUTH PLAIN LOGIN" in greeting
            assert "STARTTLS" not in greeting
            assert dialog.ask("STARTTLS").startswith("503 ")
            assert dialog.ask("MAIL FROM:<alice@example.org>").startswith("530 5.7.0 ")
            assert dialog.ask("AUTH PLAIN " + PLAIN).startswith("235 ")
            dialog.begin()
            dialog.send(HEADER + b"\r\n.\r\n")
            assert dialog.reply().startswith("250 ")
        assert [held.content for held in edge.mail.held] == [HEADER + b"\r\n"]


def _talk(dialog: Dialog, context: ssl.SSLContext) -> None:
    """Begin TLS and say something: in TLS 1.3 a client learns only then that it was refused."""
    dialog.start_tls(context)
    dialog.ask("EHLO a.example")


class TestPeers:
    def _context(self, edge: Edge, purpose: Purpose | None) -> ssl.SSLContext:
        context = edge.certified.trusting()
        if purpose is not None:
            certificate, key = edge.certified.node("a.example", purpose=purpose)
            path = edge.certified.directory / "client.pem"
            path.write_text(ssl.DER_cert_to_PEM_cert(certificate))
            context.load_cert_chain(path, key)
        return context

    def test_only_in_tls_and_certified(self, edge: Edge) -> None:
        """A peer listener takes nothing in the clear."""
        with Dialog(edge.peer()) as dialog:
            assert "AUTH" not in dialog.open()
            assert dialog.ask("AUTH PLAIN " + PLAIN).startswith("538 ")
            assert dialog.ask("MAIL FROM:<a@a.example>").startswith("530 ")

    @pytest.mark.parametrize("purpose", [None, Purpose.TTP])
    def test_no_node(self, edge: Edge, purpose: Purpose | None) -> None:
        """A client without a node's certificate gets no further than the handshake."""
        with Dialog(edge.peer()) as dialog:
            dialog.open()
            dialog.ask("STARTTLS")
            context = self._context(edge, purpose)
            with pytest.raises((ssl.SSLError, EOFError, ConnectionError)):
                _talk(dialog, context)
        assert edge.peers.held == []

    def test_one_recipient(self, edge: Edge) -> None:
        """A certified node brings one envelope to one recipient in a transaction."""
        with Dialog(edge.peer()) as dialog:
            dialog.open()
            dialog.ask("STARTTLS")
            dialog.start_tls(self._context(edge, Purpose.NODE))
            dialog.ask("EHLO a.example")
            dialog.ask("MAIL FROM:<a@a.example>")
            assert dialog.ask("RCPT TO:<b@example.net>").startswith("250 ")
            assert dialog.ask("RCPT TO:<c@example.net>").startswith("452 4.5.3 ")
            assert dialog.ask("DATA").startswith("354 ")
            dialog.send(HEADER + b"\r\n.\r\n")
            assert dialog.reply().startswith("250 ")
        assert [held.recipients for held in edge.peers.held] == [("b@example.net",)]
