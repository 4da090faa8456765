"""The SECMTP extension on real sockets with TLS on both sides: order, bounds, secrecy, cuts."""

from __future__ import annotations

import logging

import pytest

from secmtp_node.ports.services import Stored
from secmtp_node.smtp.client import SmtpCarrier
from secmtp_node.smtp.listener import client_context
from shared.api.verbs import Answer, Kind, Verb
from shared.encoding import base64url
from shared.errors import Conflict, EvidenceFault, NotFound, Unavailable
from tests.doubles.listening import EXCHANGE, Dialog, Edge, until
from tests.secmtp_node.smtp.test_client import ENVELOPE, carrier, peer

SHARE = bytes(range(64, 96))
NAME = EXCHANGE.hex()
KEY = f"KEY {NAME} {base64url.encode(SHARE)}"


def dialog(edge: Edge, port: int) -> Dialog:
    """Return a dialogue with the peer listener, in which EHLO was said under TLS."""
    made = Dialog(port)
    made.open()
    assert made.ask("STARTTLS").startswith("220 ")
    made.start_tls(client_context(*edge.certified.node("a.example"), edge.certified.root_file), "example.net")
    assert "250 SECMTP OFFLINE" in made.ask("EHLO a.example")
    return made


class TestSession:
    def test_whole_exchange_on_one_connection(self, edge: Edge) -> None:
        """Envelope, NRR and key go over one connection, and nothing is left open when the key was answered."""
        edge.peers.text = "t" * 5000
        with carrier(edge).open(peer(edge.peer())) as session:
            assert session.direct
            assert isinstance(session.carry(ENVELOPE), Stored)
            assert session.ask(Verb.NRR, EXCHANGE) == Answer(Kind.GIVEN, EXCHANGE, "t" * 5000)
            assert session.ask(Verb.KEY, EXCHANGE, SHARE).kind is Kind.GIVEN
        assert edge.peers.said == [("NRR", EXCHANGE, b""), ("KEY", EXCHANGE, SHARE)]
        with carrier(edge).open(peer(edge.peer())) as session:
            assert session.bring(Verb.SIGNED, EXCHANGE, "n" * 3000).kind is Kind.GIVEN
            assert session.bring(Verb.ACK, EXCHANGE, "k" * 400).kind is Kind.GIVEN
        assert edge.peers.said[2:] == [("SIGNED", EXCHANGE, "n" * 3000), ("ACK", EXCHANGE, "k" * 400)]
        assert edge.peers.gone == []

    @pytest.mark.parametrize("end", ["close", "QUIT", "RSET", "MAIL FROM:<a@a.example>", "EHLO again"])
    def test_cut(self, edge: Edge, end: str) -> None:
        """Whatever comes instead of the key after an NRR is a cut, and the application hears of it at once."""
        with dialog(edge, edge.peer()) as made:
            assert made.ask(f"NRR {NAME}").startswith("250 2.0.0 ")
            if end == "close":
                made.abort()
            else:
                made.ask(end)
            until(lambda: edge.peers.gone == [EXCHANGE])

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (NotFound("no"), Kind.UNKNOWN),
            (Unavailable("later"), Kind.LATER),
            (EvidenceFault("ack.share", "no"), Kind.WRONG),
            (Conflict("no"), Kind.ENDED),
        ],
    )
    def test_errors(self, edge: Edge, error: Exception, kind: Kind) -> None:
        """What the application refuses is an answer that names the exchange."""
        edge.peers.fault = error
        with carrier(edge).open(peer(edge.peer())) as session:
            for verb in (Verb.NRR, Verb.KEY):
                assert session.ask(verb, EXCHANGE, SHARE if verb is Verb.KEY else None).kind is kind
            assert session.bring(Verb.ACK, EXCHANGE, "t").kind is kind

    def test_no_log_holds_the_key(self, edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
        """s_T stands in no log of either end, at any level, when it is taken, refused or breaks the application."""
        caplog.set_level(logging.DEBUG)
        for fault in (None, EvidenceFault("share", "no"), RuntimeError("broken")):
            edge.peers.fault = fault
            with dialog(edge, edge.peer()) as made:
                made.ask(KEY)
        edge.failures.clear()
        assert base64url.encode(SHARE) not in caplog.text


class TestOrder:
    @pytest.mark.parametrize("first", [f"NRR {NAME}", KEY, f"ACK {NAME}"])
    def test_pipelined(self, edge: Edge, first: str) -> None:
        """A verb with anything behind it in the same flight ends the connection; nothing of it is done."""
        with dialog(edge, edge.peer()) as made:
            made.send(f"{first}\r\n{KEY}\r\n".encode())
            assert made.reply().startswith("503 5.5.1 ")
            assert made.remainder() == b""
        assert edge.peers.said == []

    def test_in_a_transaction(self, edge: Edge) -> None:
        """Verbs aren't taken inside a mail transaction, nor before EHLO, nor before TLS."""
        with dialog(edge, edge.peer()) as made:
            assert made.ask("MAIL FROM:<a@a.example>").startswith("250 ")
            assert made.ask(f"NRR {NAME}").startswith("503 5.5.1 ")
        with Dialog(edge.peer()) as made:
            made.open()
            assert made.ask(f"NRR {NAME}").startswith("550 5.7.1 ")
        assert edge.peers.said == []

    def test_not_for_users(self, edge: Edge) -> None:
        """A submission listener knows no verbs and doesn't offer them."""
        with Dialog(edge.tls(implicit=True), edge.certified.trusting()) as made:
            assert "OFFLINE" not in made.open()
            assert made.ask(f"NRR {NAME}").startswith("500 5.5.1 ")

    @pytest.mark.parametrize("argument", ["", "x", NAME.upper(), NAME + " extra"])
    def test_arguments(self, edge: Edge, argument: str) -> None:
        """A verb with other arguments than its own is 501, and the session goes on."""
        with dialog(edge, edge.peer()) as made:
            assert made.ask(f"NRR {argument}").startswith("501 5.5.4 ")
            assert made.ask("NOOP").startswith("250 ")
        assert edge.peers.said == []


class TestBounds:
    @pytest.mark.parametrize("lines", [["x" * 401], ["x" * 400] * 129])
    def test_token_too_large(self, edge: Edge, lines: list[str]) -> None:
        """A token over its bounds is read to its end and refused; the session goes on."""
        with dialog(edge, edge.peer()) as made:
            assert made.ask(f"ACK {NAME}").startswith("354 ")
            made.send("".join(line + "\r\n" for line in (*lines, ".")).encode())
            assert made.reply().startswith("501 5.5.4 ")
            assert made.ask("NOOP").startswith("250 ")
        assert edge.peers.said == []

    def test_endless_token(self, edge: Edge) -> None:
        """A token without end ends the connection."""
        with dialog(edge, edge.peer()) as made:
            assert made.ask(f"ACK {NAME}").startswith("354 ")
            made.send(b"x\r\n" * 400)
            assert made.reply().startswith("552 ")
        assert edge.peers.said == []

    def test_reply_lines(self, edge: Edge) -> None:
        """No line of a reply has more than 500 octets, whatever the token."""
        edge.peers.text = "t" * 30_000
        with dialog(edge, edge.peer()) as made:
            reply = made.ask(f"NRR {NAME}")
            assert max(map(len, reply.split("\r\n"))) <= 500
            made.ask("QUIT")


class TestPeers:
    def test_without_the_keyword(self, edge: Edge) -> None:
        """A peer that doesn't offer the verbs is recognised before anything is said to it."""
        context = edge.certified.server("mx.example.net", "example.net", clients=True)
        port = edge.listen(context, require_login=False)  # a listener for users: no verbs
        own = client_context(*edge.certified.node("a.example"), edge.certified.root_file)
        with SmtpCarrier(own, "a.example", lambda certificate: None).open(peer(port)) as session:
            assert not session.direct
            with pytest.raises(Unavailable, match="didn't answer"):
                session.ask(Verb.NRR, EXCHANGE)
