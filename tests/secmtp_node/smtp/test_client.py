from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmtp_node.ports.services import Envelope, Peer, Rejected, Stored
from secmtp_node.smtp.client import SmtpCarrier, _stuffed
from secmtp_node.smtp.data import DataReader
from secmtp_node.smtp.envelope import BLOCK, EnvelopeReader
from secmtp_node.smtp.listener import client_context
from shared.errors import EvidenceFault, NotFound, Unavailable
from tests.doubles.listening import Edge

CIPHERTEXT = bytes(range(256)) * (BLOCK // 100)
ENVELOPE = Envelope(
    exchange=bytes(range(32)),
    sender="alice@a.example",
    recipient="bob@example.net",
    head=b"head",
    ciphertext=lambda: [CIPHERTEXT],
    octets=len(CIPHERTEXT),
    date=1_800_000_000,
)


def anybody(certificate: bytes) -> None:
    """Admit whoever TLS let through."""


def nobody(certificate: bytes) -> None:
    """Admit no purpose at all."""
    assert certificate
    raise EvidenceFault("certificate.purpose", "certified for ttp, expected node")


def carrier(edge: Edge, admit: Callable[[bytes], None] = anybody) -> SmtpCarrier:
    """Return the carrier of the node of a.example."""
    context = client_context(*edge.certified.node("a.example"), edge.certified.root_file)
    return SmtpCarrier(context, "a.example", admit)


def peer(port: int, domain: str = "example.net") -> Peer:
    """Return the node of a domain, as its record would name it."""
    return Peer(domain, "127.0.0.1", port)


class TestCarry:
    def test_stored(self, edge: Edge, tmp_path: Path) -> None:
        """An envelope arrives at a peer as it was, over TLS with certificates on both sides."""
        stored = carrier(edge).carry(peer(edge.peer()), ENVELOPE)
        assert stored == Stored("250 2.0.0 stored")
        (held,) = edge.peers.held
        (tmp_path / "envelope").write_bytes(held.octets)
        reader = EnvelopeReader(tmp_path / "envelope")
        assert (reader.exchange, reader.head) == (ENVELOPE.exchange, b"head")
        assert b"".join(reader.ciphertext()) == CIPHERTEXT
        assert (held.sender, held.recipients) == ("alice@a.example", ("bob@example.net",))

    def test_other_purpose(self, edge: Edge) -> None:
        """Who has the right name but isn't certified as a node gets nothing."""
        with pytest.raises(Unavailable, match="isn't certified as one"):
            carrier(edge, nobody).carry(peer(edge.peer()), ENVELOPE)
        assert edge.peers.held == []

    def test_other_domain(self, edge: Edge) -> None:
        """A node that isn't certified for the recipient's mail domain gets nothing."""
        with pytest.raises(Unavailable, match="certificate verify failed"):
            carrier(edge).carry(peer(edge.peer(), "other.example"), ENVELOPE)
        assert edge.peers.held == []

    def test_no_starttls(self, edge: Edge) -> None:
        """A peer that offers no TLS, or whose offer was removed on the way, gets nothing."""
        with pytest.raises(Unavailable):
            carrier(edge).carry(peer(edge.plain()), ENVELOPE)
        assert edge.mail.senders == []

    def test_nobody_there(self, edge: Edge) -> None:
        """No connection means later."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with pytest.raises(Unavailable):
                carrier(edge).carry(peer(unused.getsockname()[1]), ENVELOPE)

    def test_rejected(self, edge: Edge) -> None:
        """A 5yz is final, and its words are kept."""
        port = edge.peer(octets=len(CIPHERTEXT))
        answer = carrier(edge).carry(peer(port), ENVELOPE)
        assert isinstance(answer, Rejected)
        assert answer.reply.startswith("552 5.3.4 ")

    @pytest.mark.parametrize(
        ("fault", "final"), [(NotFound("no such user"), True), (Unavailable("the database is locked"), False)]
    )
    def test_recipient(
        self, edge: Edge, monkeypatch: pytest.MonkeyPatch, fault: NotFound | Unavailable, final: bool
    ) -> None:
        """What a peer says about the recipient is final if it is 5yz, and tried again if it is 4yz."""

        def check(address: str) -> None:
            raise fault

        monkeypatch.setattr(edge.peers, "check_recipient", check)
        port = edge.peer()
        if final:
            assert carrier(edge).carry(peer(port), ENVELOPE) == Rejected("550 5.1.1 no such user")
        else:
            with pytest.raises(Unavailable, match=r"451 4\.3\.0"):
                carrier(edge).carry(peer(port), ENVELOPE)

    def test_not_admitted(self, edge: Edge) -> None:
        """A node that the peer doesn't admit keeps its envelope."""
        edge.peers.refusal = EvidenceFault("chain", "expected a node's certificate")
        with pytest.raises(Unavailable):
            carrier(edge).carry(peer(edge.peer()), ENVELOPE)
        assert edge.peers.held == []


@contextmanager
def flooding(line: bytes) -> Iterator[int]:
    """Listen, answer one client with a line for ever, until it goes away; gives the port."""

    def flood() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            try:
                while True:
                    connection.sendall(line * 1000)
            except OSError:
                return  # the client has had enough

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=flood)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(20)
        assert not thread.is_alive()


class TestReplies:
    @pytest.mark.parametrize("line", [b"220-more\r\n", b"x" * 5000, b"no reply\r\n"], ids=["lines", "line", "words"])
    def test_bounded(self, edge: Edge, line: bytes) -> None:
        """A reply without an end, or that is none, ends the connection: nobody on the way fills our memory."""
        with flooding(line) as port, pytest.raises(Unavailable, match="repl"):
            carrier(edge).carry(peer(port), ENVELOPE)


class TestStuffed:
    @given(st.lists(st.lists(st.sampled_from([b"\r\n", b".", b"a"])).map(b"".join), max_size=20))
    def test_is_read_back(self, pieces: list[bytes]) -> None:
        """However a message comes in pieces, dots are stuffed so that a reader finds it as it was."""
        pieces = [*pieces, b"\r\n"]
        reader = DataReader()
        assert reader.feed(b"".join(_stuffed(pieces)) + b".\r\n") == b"".join(pieces)
        assert reader.ended
        assert reader.rest == b""
