"""SMTP listeners on real sockets with an application that holds what it was given, and a plain client."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from secmtp_node.ports.services import Login
from secmtp_node.smtp.guard import Guard, Limits
from secmtp_node.smtp.listener import Address, Listeners, server_context
from secmtp_node.smtp.message import read_message
from secmtp_node.smtp.ports import Accepted, CertifiedPeer
from secmtp_node.smtp.session import Listening
from secmtp_node.smtp.spool import Spool
from shared.api.verbs import Answer, Kind
from shared.crypto import issuance
from shared.crypto.certificates import Purpose
from shared.crypto.issuance import Issuer, Validity, issue_leaf, issue_root
from shared.crypto.keys import encode_signing, generate_p256
from shared.errors import NotFound, SecMTPError, Unauthenticated

SECONDS = 10.0
MEGABYTE = 1024 * 1024
EXCHANGE = bytes(range(32))
PASSWORDS = {"alice": "secret", "alice@example.org": "secret"}


def until(true: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait for something that happens in another thread; fail at the deadline."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it didn't happen in time"
        threading.Event().wait(0.005)


@dataclass(frozen=True)
class Held:
    """A message that was accepted: `octets` as spooled, `content` as it will be hashed."""

    sender: str
    recipients: tuple[str, ...]
    octets: bytes
    content: bytes


@dataclass
class HoldingMail:
    """A submission service in memory. `fault` is raised by the call of that name; `gate` holds `submit` up."""

    held: list[Held] = field(default_factory=list)
    faults: dict[str, Exception] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    senders: list[str] = field(default_factory=list)
    tried: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def log_in(self, address: str, password: str) -> Login:
        """Log in Alice."""
        self.tried.append((address, password))
        if PASSWORDS.get(address) != password:
            raise Unauthenticated("no such login")
        return Login(address, b"k" * 32)

    def check_sender(self, login: Login | None, address: str) -> None:
        """Take every sender."""
        self._fail("check_sender")
        self.senders.append(address)

    def check_recipient(self, login: Login | None, address: str) -> None:
        """Take every recipient but one."""
        self._fail("check_recipient")
        if address == "nobody@example.net":
            raise NotFound("no such recipient")

    def submit(self, login: Login | None, sender: str, recipients: Sequence[str], message: Path) -> str:
        """Hold a message, as the application would: read whole, then commit."""
        self.entered.set()
        assert self.gate.wait(SECONDS)
        self._fail("submit")
        content = b"".join(read_message(message).content())
        self.held.append(Held(sender, tuple(recipients), message.read_bytes(), content))
        return "stored"

    def _fail(self, call: str) -> None:
        if call in self.faults:
            raise self.faults[call]


@dataclass
class HoldingPeers:
    """What takes envelopes from peers, in memory. Verbs are answered with `kind` and `text`, or `fault` is raised."""

    held: list[Held] = field(default_factory=list)
    refusal: SecMTPError | None = None
    said: list[tuple[str, bytes, bytes | str]] = field(default_factory=list)
    gone: list[bytes] = field(default_factory=list)
    fault: Exception | None = None
    kind: Kind = Kind.GIVEN
    text: str = "a-token"

    def admit(self, certificate: bytes) -> CertifiedPeer:
        """Admit every certificate that TLS let through."""
        if self.refusal is not None:
            raise self.refusal
        return CertifiedPeer(("a.example",), certificate)

    def check_recipient(self, address: str) -> None:
        """Take every recipient."""

    def accept(self, peer: CertifiedPeer, sender: str, recipient: str, message: Path) -> Accepted:
        """Hold an envelope."""
        octets = message.read_bytes()
        self.held.append(Held(sender, (recipient,), octets, octets))
        return Accepted(EXCHANGE, "stored")

    def nrr(self, peer: CertifiedPeer, exchange: bytes) -> Answer:
        """Give the token of the exchange."""
        return self._said("NRR", exchange)

    def key(self, peer: CertifiedPeer, exchange: bytes, share: bytes) -> Answer:
        """Take a share."""
        return self._said("KEY", exchange, share)

    def signed(self, peer: CertifiedPeer, exchange: bytes, token: str) -> Answer:
        """Take an NRR."""
        return self._said("SIGNED", exchange, token)

    def ack(self, peer: CertifiedPeer, exchange: bytes, token: str) -> Answer:
        """Take an ACK."""
        return self._said("ACK", exchange, token)

    def left(self, exchanges: Sequence[bytes]) -> None:
        """Note the end of a session."""
        self.gone.extend(exchanges)

    def _said(self, verb: str, exchange: bytes, more: bytes | str = b"") -> Answer:
        self.said.append((verb, exchange, more))
        if self.fault is not None:
            raise self.fault
        return Answer(self.kind, exchange, self.text)


class Certified:
    """A root in a directory, and nodes certified by it for today: TLS reads the clock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._valid = Validity.starting(int(time.time()), issuance.YEAR)
        self._key = generate_p256()
        self.root = Issuer(issue_root("Root", self._key, 1, self._valid), self._key)
        self.root_file = directory / "root.pem"
        self.root_file.write_text(ssl.DER_cert_to_PEM_cert(self.root.certificate))

    def node(self, *names: str, purpose: Purpose = Purpose.NODE) -> tuple[bytes, Path]:
        """Return a certificate (DER) and the file of its key."""
        key = generate_p256()
        path = self.directory / f"{names[0]}.{purpose.value}.key"
        path.write_bytes(encode_signing(key))
        return issue_leaf(purpose, key.public_key(), list(names), self.root, 7, self._valid), path

    def server(self, *names: str, clients: bool = False) -> ssl.SSLContext:
        """Return the context of a node that serves."""
        return server_context(*self.node(*names), self.root_file if clients else None)

    def trusting(self) -> ssl.SSLContext:
        """Return the context of a user's mail program that trusts the root."""
        return ssl.create_default_context(cafile=str(self.root_file))


class Dialog:
    """A client that sends octets as they are and reads replies whole."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self._buffer = b""
        if context is not None:
            self.start_tls(context)

    def send(self, octets: bytes) -> None:
        """Send octets."""
        self.socket.sendall(octets)

    def start_tls(self, context: ssl.SSLContext, name: str = "mx.example.net") -> None:
        """Begin TLS; what came before it is forgotten."""
        self.socket = context.wrap_socket(self.socket, server_hostname=name)
        self._buffer = b""

    def reply(self) -> str:
        """Return one reply, all its lines, without the last CRLF. Raises EOFError."""
        lines = []
        while True:
            lines.append(self._line())
            if not re.match(rb"\d{3}-", lines[-1]):
                return b"".join(lines).decode("utf-8", "backslashreplace").removesuffix("\r\n")

    def ask(self, command: str) -> str:
        """Send a command line and return the reply."""
        self.send(command.encode() + b"\r\n")
        return self.reply()

    def open(self) -> str:
        """Read the greeting and say EHLO; return its reply."""
        assert self.reply().startswith("220 ")
        return self.ask("EHLO client.example.org")

    def begin(self, sender: str = "<alice@example.org>", *recipients: str) -> None:
        """Open a transaction up to the go-ahead of DATA."""
        assert self.ask(f"MAIL FROM:{sender}").startswith("250 ")
        for recipient in recipients or ("<bob@example.net>",):
            assert self.ask(f"RCPT TO:{recipient}").startswith("250 ")
        assert self.ask("DATA").startswith("354 ")

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        self.socket.settimeout(seconds)
        try:
            self._buffer += self.socket.recv(65536)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(SECONDS)
        return False

    def remainder(self) -> bytes:
        """Return all that comes until the server closes."""
        try:
            while piece := self.socket.recv(65536):
                self._buffer += piece
        except ConnectionError:
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    def abort(self) -> None:
        """Drop the connection with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Close the connection. Safe to repeat."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            piece = self.socket.recv(65536)
            if not piece:
                raise EOFError(self._buffer)
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"


class Edge:
    """Listeners on free ports of 127.0.0.1 with their application."""

    def __init__(self, directory: Path) -> None:
        self.spool_directory = directory / "spool"
        self.spool = Spool(self.spool_directory)
        self.mail = HoldingMail()
        self.peers = HoldingPeers()
        self.failures: list[tuple[str, BaseException]] = []
        self.certified = Certified(directory)
        self.listeners = Listeners()

    def listen(self, context: ssl.SSLContext | None = None, *, implicit_tls: bool = False, **changed: Any) -> int:
        """Listen for users. What is changed is a member of Listening or of Limits."""
        limits = {key: changed.pop(key) for key in list(changed) if key in Limits.__dataclass_fields__}
        bounds = Limits(**{"octets": MEGABYTE * 4, **limits})
        values: dict[str, Any] = {
            "hostname": "mx.example.net",
            "home": "example.net",
            "spool": self.spool,
            "limits": bounds,
            "guard": Guard(bounds),
            "failed": lambda where, error: self.failures.append((where, error)),
            "mail": self.mail,
            "require_tls": context is not None,
            "require_login": context is not None,
        }
        listening = Listening(**{**values, **changed})
        return self.listeners.listen(Address("127.0.0.1", 0), listening, context, implicit_tls=implicit_tls)

    def plain(self, **changed: Any) -> int:
        """Listen without TLS and login."""
        return self.listen(**changed)

    def tls(self, *, implicit: bool, **changed: Any) -> int:
        """Listen for users with TLS."""
        return self.listen(self.certified.server("mx.example.net"), implicit_tls=implicit, **changed)

    def peer(self, **changed: Any) -> int:
        """Listen for certified nodes."""
        context = self.certified.server("mx.example.net", "example.net", clients=True)
        return self.listen(context, mail=None, peers=self.peers, **changed)

    def spooled(self) -> list[Path]:
        """What lies in the spool."""
        return list(self.spool_directory.iterdir())


@contextmanager
def edge_in(directory: Path) -> Iterator[Edge]:
    """Run listeners; afterwards nothing may be left in the spool and nothing may have failed unexpectedly."""
    edge = Edge(directory)
    try:
        yield edge
        until(lambda: not edge.spooled())
        assert edge.failures == []
    finally:
        edge.listeners.close()
