"""Bounds of a listener, and clients that go away at any moment (smtp.md M5, M9)."""

from __future__ import annotations

import base64
import socket
import threading

import pytest

from secmtp_node.smtp import login
from secmtp_node.smtp.listener import Listeners
from shared.errors import Unavailable
from tests.doubles.listening import Dialog, Edge, until

LETTER = b"From: alice@a.example\r\nSubject: x\r\n\r\nhello\r\n"
WRONG = base64.b64encode(b"\0alice\0wrong").decode()
RIGHT = base64.b64encode(b"\0alice\0secret").decode()


def ended(dialog: Dialog) -> str:
    """Return what the server says until it closes."""
    return dialog.remainder().decode()


class TestConnections:
    @pytest.mark.parametrize("limits", [{"connections": 2}, {"connections_each": 2}])
    def test_too_many(self, edge: Edge, limits: dict[str, int]) -> None:
        """One connection too many is told so and closed, and when another ends there is room again."""
        port = edge.plain(**limits)
        with Dialog(port) as first, Dialog(port) as second:
            first.open()
            second.open()
            with Dialog(port) as third:
                assert ended(third).startswith("421 4.7.0 ")
            assert first.ask("NOOP").startswith("250 ")
            assert second.ask("QUIT").startswith("221 ")
            ended(second)
            with Dialog(port) as fourth:
                fourth.open()

    def test_idle(self, edge: Edge) -> None:
        """A client that says nothing for too long is told so and closed."""
        with Dialog(edge.plain(idle=0.2)) as dialog:
            dialog.open()
            assert ended(dialog).startswith("421 4.4.2 ")

    def test_idle_in_data(self, edge: Edge) -> None:
        """A client that stops in the middle of a message is closed too, and nothing of it stays."""
        with Dialog(edge.plain(idle=0.2)) as dialog:
            dialog.open()
            dialog.begin()
            dialog.send(b"Subject: x\r\n")
            assert ended(dialog).startswith("421 4.4.2 ")
        assert edge.mail.held == []

    def test_message_that_takes_too_long(self, edge: Edge) -> None:
        """A message has a time of its own, however often something comes."""
        with Dialog(edge.plain(data=0.2)) as dialog:
            dialog.open()
            dialog.begin()
            assert ended(dialog).startswith("421 4.4.2 ")

    def test_too_many_errors(self, edge: Edge) -> None:
        """A client that makes too many errors is closed with 421."""
        with Dialog(edge.plain(errors=3)) as dialog:
            dialog.open()
            for _ in range(3):
                assert dialog.ask("NONSENSE").startswith("500 5.5.1 ")
            assert dialog.ask("NONSENSE").startswith("421 4.7.0 ")
            assert ended(dialog) == ""


class TestCommands:
    def test_recipients(self, edge: Edge) -> None:
        """A recipient over the bound is refused for now, and those before it stand."""
        with Dialog(edge.plain(recipients=2)) as dialog:
            dialog.open()
            dialog.ask("MAIL FROM:<alice@example.org>")
            for name in ("b", "c"):
                assert dialog.ask(f"RCPT TO:<{name}@example.net>").startswith("250 ")
            assert dialog.ask("RCPT TO:<d@example.net>").startswith("452 4.5.3 ")
            assert dialog.ask("DATA").startswith("354 ")
            dialog.send(LETTER + b".\r\n")
            assert dialog.reply().startswith("250 ")
        assert [held.recipients for held in edge.mail.held] == [("b@example.net", "c@example.net")]

    @pytest.mark.parametrize("length", [600, 3000, 20_000, 100_000])
    def test_long_line(self, edge: Edge, length: int) -> None:
        """A command line over its bound is refused, and the next one is read."""
        with Dialog(edge.plain()) as dialog:
            assert dialog.reply().startswith("220 ")
            assert dialog.ask("NOOP " + "x" * length).startswith("500 5.5.6 ")
            assert dialog.ask("NOOP").startswith("250 ")

    @pytest.mark.parametrize(
        ("command", "reply"),
        [
            ("MAIL FROM:<alice@example.org> SIZE=4194305", "552 5.3.4"),
            ("MAIL FROM:<alice@example.org> SIZE=x", "501 5.5.4"),
            ("MAIL FROM:<alice@example.org> BODY=BINARYMIME", "501 5.5.4"),
            ("MAIL FROM:<alice@example.org> RET=HDRS", "555 5.5.4"),
            ("MAIL FROM:<é@example.org>", "553 5.6.7"),
            ("MAIL FROM:<alice>", "553 5.1.3"),
            ("MAIL TO:<alice@example.org>", "501 5.5.4"),
            ("RCPT TO:<bob@example.net>", "503 5.5.1"),
            ("DATA", "503 5.5.1"),
            ("VRFY bob", "252 2.5.0"),
            ("STARTTLS", "503 5.5.1"),
            ("AUTH CRAM-MD5", "504 5.5.4"),
            ("BDAT 3 LAST", "500 5.5.1"),
        ],
    )
    def test_replies(self, edge: Edge, command: str, reply: str) -> None:
        """Each wrong command has its reply, and the session goes on."""
        with Dialog(edge.plain()) as dialog:
            dialog.open()
            assert dialog.ask(command).startswith(reply + " ")
            assert dialog.ask("MAIL FROM:<alice@example.org> SIZE=4194304 BODY=8BITMIME AUTH=<>").startswith("250 ")

    def test_unknown_recipient(self, edge: Edge) -> None:
        """A transaction whose only recipient is unknown has none."""
        with Dialog(edge.plain()) as dialog:
            dialog.open()
            dialog.ask("MAIL FROM:<alice@example.org>")
            assert dialog.ask("RCPT TO:<nobody@example.net>").startswith("550 5.1.1 ")
            assert dialog.ask("DATA").startswith("554 5.5.1 ")


class TestSizes:
    def test_over_the_bound(self, edge: Edge) -> None:
        """A message over the bound is answered after its end, nothing of it stays, and the session goes on."""
        with Dialog(edge.plain(octets=10_000)) as dialog:
            dialog.open()
            dialog.begin()
            dialog.send(b"x" * 15_000 + b"\r\n.\r\n")
            assert dialog.reply().startswith("552 5.3.4 ")
            dialog.begin()
            dialog.send(LETTER + b".\r\n")
            assert dialog.reply().startswith("250 ")
        assert [held.octets for held in edge.mail.held] == [LETTER]

    def test_at_the_bound(self, edge: Edge) -> None:
        """A message of exactly the bound is taken, one of an octet more isn't."""
        with Dialog(edge.plain(octets=10_000)) as dialog:
            dialog.open()
            for more, code in ((0, "250 "), (1, "552 ")):
                dialog.begin()
                dialog.send(b"\r\n" + b"x" * (9_996 + more) + b"\r\n.\r\n")
                assert dialog.reply().startswith(code)

    def test_endless(self, edge: Edge) -> None:
        """A message without end isn't read for ever."""
        with Dialog(edge.plain(octets=10_000)) as dialog:
            dialog.open()
            dialog.begin()
            dialog.send(b"x" * 30_000)
            assert ended(dialog).startswith("552 5.3.4 ")


class TestLogins:
    @pytest.fixture(autouse=True)
    def _without_pause(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(login, "FAILED_PAUSE", 0.0)

    def test_session(self, edge: Edge) -> None:
        """After three wrong passwords the session is closed."""
        with Dialog(edge.tls(implicit=True), edge.certified.trusting()) as dialog:
            dialog.open()
            for _ in range(2):
                assert dialog.ask("AUTH PLAIN " + WRONG).startswith("535 5.7.8 ")
            assert dialog.ask("AUTH PLAIN " + WRONG).startswith("421 4.7.0 ")
            assert ended(dialog) == ""

    def test_address(self, edge: Edge) -> None:
        """After too many wrong passwords from an address even the right one isn't looked at."""
        port = edge.tls(implicit=True, failed_logins_each=2)
        with Dialog(port, edge.certified.trusting()) as dialog:
            dialog.open()
            for _ in range(2):
                dialog.ask("AUTH PLAIN " + WRONG)
        with Dialog(port, edge.certified.trusting()) as dialog:
            dialog.open()
            assert dialog.ask("AUTH PLAIN " + RIGHT).startswith("454 4.7.0 ")
        assert len(edge.mail.tried) == 2

    @pytest.mark.parametrize("argument", ["!", "YQ==", "AGE=", "/w==", "A" * 13_000])
    def test_not_credentials(self, edge: Edge, argument: str) -> None:
        """What isn't base64 of three UTF-8 parts is refused without a look at any password."""
        with Dialog(edge.tls(implicit=True), edge.certified.trusting()) as dialog:
            dialog.open()
            assert dialog.ask("AUTH PLAIN " + argument).startswith(("501 5.5.2 ", "500 5.5.6 "))
            assert dialog.ask("MAIL FROM:<alice@example.org>").startswith("530 5.7.0 ")
        assert edge.mail.tried == []

    def test_once(self, edge: Edge) -> None:
        """A session logs in once."""
        with Dialog(edge.tls(implicit=True), edge.certified.trusting()) as dialog:
            dialog.open()
            assert dialog.ask("AUTH PLAIN " + RIGHT).startswith("235 2.7.0 ")
            assert dialog.ask("AUTH PLAIN " + RIGHT).startswith("503 5.5.1 ")


class TestCommit:
    def test_goes_away_after_the_dot(self, edge: Edge) -> None:
        """A client that goes away while the message is being committed doesn't stop it: it is held, whole and once."""
        edge.mail.gate.clear()
        with Dialog(edge.plain()) as dialog:
            dialog.open()
            dialog.begin()
            dialog.send(LETTER + b".\r\n")
            assert edge.mail.entered.wait(10)
            dialog.abort()
        edge.mail.gate.set()
        until(lambda: bool(edge.mail.held))
        assert [held.octets for held in edge.mail.held] == [LETTER]

    def test_no_answer_before_the_commit(self, edge: Edge) -> None:
        """250 isn't sent before the application has committed."""
        edge.mail.gate.clear()
        with Dialog(edge.plain()) as dialog:
            dialog.open()
            dialog.begin()
            dialog.send(LETTER + b".\r\n")
            assert edge.mail.entered.wait(10)
            assert dialog.silent(0.1)
            edge.mail.gate.set()
            assert dialog.reply().startswith("250 ")
            assert len(edge.mail.held) == 1

    @pytest.mark.parametrize("cut", range(0, len(LETTER) + 3, 7))
    def test_goes_away_before(self, edge: Edge, cut: int) -> None:
        """A client that ends before the final dot has sent nothing."""
        with Dialog(edge.plain()) as dialog:
            dialog.open()
            dialog.begin()
            dialog.send((LETTER + b".\r\n")[:cut])
            dialog.socket.shutdown(socket.SHUT_WR)
            assert ended(dialog) == ""
        assert edge.mail.held == []

    def test_application_is_down(self, edge: Edge) -> None:
        """What the application can't do now may be tried again, also in the same session."""
        edge.mail.faults["submit"] = Unavailable("the database is locked")
        with Dialog(edge.plain()) as dialog:
            dialog.open()
            dialog.begin()
            dialog.send(LETTER + b".\r\n")
            assert dialog.reply() == "451 4.3.0 the database is locked"
            edge.mail.faults.clear()
            dialog.begin()
            dialog.send(LETTER + b".\r\n")
            assert dialog.reply().startswith("250 ")

    def test_application_breaks(self, edge: Edge) -> None:
        """An error that nobody foresaw is told to operators, not to the client, and may be tried again."""
        edge.mail.faults["submit"] = RuntimeError("secret detail")
        with Dialog(edge.plain()) as dialog:
            dialog.open()
            dialog.begin()
            dialog.send(LETTER + b".\r\n")
            assert dialog.reply() == "451 4.3.0 try again later"
        assert [str(error) for _, error in edge.failures] == ["secret detail"]
        edge.failures.clear()

    def test_application_is_slow(self, edge: Edge) -> None:
        """A client isn't kept waiting for ever; what is under way ends by itself."""
        edge.mail.gate.clear()
        with Dialog(edge.plain(service=0.1)) as dialog:
            dialog.open()
            dialog.begin()
            dialog.send(LETTER + b".\r\n")
            assert dialog.reply().startswith("451 4.3.0 ")
        edge.mail.gate.set()
        until(lambda: len(edge.mail.held) == 1)

    def test_stop(self, edge: Edge) -> None:
        """A stop during a commit waits for it, and the client gets its 250: it has no reason to send again."""
        edge.mail.gate.clear()
        stopping = threading.Thread(target=edge.listeners.close)
        with Dialog(edge.plain()) as dialog:
            dialog.open()
            dialog.begin()
            dialog.send(LETTER + b".\r\n")
            assert edge.mail.entered.wait(10)
            stopping.start()
            assert dialog.silent(0.2)
            edge.mail.gate.set()
            assert dialog.reply().startswith("250 ")
            assert ended(dialog) == ""
        stopping.join(10)
        assert not stopping.is_alive()
        assert [held.octets for held in edge.mail.held] == [LETTER]
        edge.listeners = Listeners()
