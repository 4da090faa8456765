"""Sessions with peers: smtplib for the dialogue, our own streaming DATA, certificates on both sides."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from secmtp_node.ports.services import Envelope, Peer, Rejected, Stored
from secmtp_node.smtp import envelope as envelopes
from secmtp_node.smtp.address import format_path
from secmtp_node.smtp.envelope import Outer
from shared.api import verbs
from shared.api.verbs import Answer, Command, Verb
from shared.errors import EvidenceFault, Malformed, Unavailable

SECONDS = 300
CONNECT_SECONDS = 30
OK, GO_ON = 250, 354
MAX_REPLY_LINES = 140  # more than a token's pieces
MAX_REPLY_LINE = 4096


class _Client(smtplib.SMTP):
    """smtplib holds replies of any number of lines; whoever is on the way before TLS could fill the memory."""

    def getreply(self) -> tuple[int, bytes]:
        """Read one reply. Raises SMTPServerDisconnected when it is cut, no reply at all, or too long."""
        try:
            return self._bounded()
        except OSError as error:
            self.close()
            raise smtplib.SMTPServerDisconnected(str(error)) from error

    def _bounded(self) -> tuple[int, bytes]:
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("the connection was closed")
        if self.file is None:
            self.file = self.sock.makefile("rb")
        texts = []
        for _ in range(MAX_REPLY_LINES):
            line: bytes = self.file.readline(MAX_REPLY_LINE)
            if not line.endswith(b"\n") or not line[:3].isdigit():
                raise smtplib.SMTPServerDisconnected(f"expected a line of a reply, got {line[:40]!r}")
            texts.append(line[4:].strip(b" \t\r\n"))
            if line[3:4] != b"-":
                return int(line[:3]), b"\n".join(texts)
        raise smtplib.SMTPServerDisconnected(f"a reply has more than {MAX_REPLY_LINES} lines")


class SmtpCarrier:
    """Opens sessions with peers: STARTTLS, certificates on both sides, the peer's one for the mail domain asked."""

    def __init__(self, context: ssl.SSLContext, hostname: str, admit: Callable[[bytes], object]) -> None:
        """`admit` checks the purpose of the peer's certificate (DER), which TLS doesn't: raises EvidenceFault."""
        self._context = context
        self._hostname = hostname
        self._admit = admit

    def carry(self, peer: Peer, envelope: Envelope) -> Stored | Rejected:
        """Bring one envelope, and nothing else. Raises Unavailable for 4yz, no connection, certificate or reply."""
        with self.open(peer) as session:
            return session.carry(envelope)

    @contextmanager
    def open(self, peer: Peer) -> Iterator[SmtpSession]:
        """Open a session; it ends with the block. Raises Unavailable, also for what breaks inside the block."""
        try:
            with _Client(timeout=CONNECT_SECONDS, local_hostname=self._hostname) as client:
                client.connect(peer.host, peer.port)
                yield self._greeted(client, peer)
        except (OSError, smtplib.SMTPException) as error:
            raise Unavailable(f"the node of {peer.domain} can't be reached: {_words(error)}") from error

    def _greeted(self, client: smtplib.SMTP, peer: Peer) -> SmtpSession:
        client.ehlo()
        # smtplib takes the name for TLS from here: the mail domain that the peer must be certified for.
        client._host = peer.domain  # type: ignore[attr-defined]  # noqa: SLF001
        client.starttls(context=self._context)
        self._check_peer(client, peer)
        client.ehlo()
        return SmtpSession(client, peer)

    def _check_peer(self, client: smtplib.SMTP, peer: Peer) -> None:
        """Nothing is said to who isn't certified as a node, whatever else the root certified it as (smtp.md M8)."""
        if not isinstance(client.sock, ssl.SSLSocket):
            raise smtplib.SMTPServerDisconnected("the connection was closed")
        client.sock.settimeout(SECONDS)
        try:
            self._admit(client.sock.getpeercert(binary_form=True) or b"")
        except EvidenceFault as error:
            raise Unavailable(f"the node of {peer.domain} isn't certified as one: {error.message}") from error


class SmtpSession:
    """One connection with a peer that was admitted. Each call waits for its reply: nothing is pipelined."""

    def __init__(self, client: smtplib.SMTP, peer: Peer) -> None:
        self._client = client
        self._peer = peer

    @property
    def direct(self) -> bool:
        """Whether the peer offers the verbs of the direct exchange."""
        offered = self._client.esmtp_features.get(verbs.KEYWORD.lower(), "")
        return verbs.OFFLINE in offered.upper().split()

    def carry(self, envelope: Envelope) -> Stored | Rejected:
        """Bring one envelope in a mail transaction of its own. Raises Unavailable for 4yz."""
        client = self._client
        sender, recipient = format_path(envelope.sender), format_path(envelope.recipient)
        utf8 = "" if (sender + recipient).isascii() else " SMTPUTF8"
        client.command_encoding = "utf-8" if utf8 else "ascii"
        for command, expected in (
            (f"MAIL FROM:{sender} BODY=8BITMIME{utf8}", OK),
            (f"RCPT TO:{recipient}", OK),
            ("DATA", GO_ON),
        ):
            code, text = client.docmd(command)
            if code != expected:
                return _refused(code, text)
        _send(client, envelope)
        code, text = client.getreply()
        if code != OK:
            return _refused(code, text)
        return Stored(_line(code, text))

    def ask(self, verb: Verb, exchange: bytes, share: bytes | None = None) -> Answer:
        """Ask for an NRR, or give s_T for an ACK (offline.md V1, V2). Raises Unavailable for what is no answer."""
        return self._answer(exchange, *self._client.docmd(verbs.format_command(verb, Command(exchange, share))))

    def bring(self, verb: Verb, exchange: bytes, token: str) -> Answer:
        """Bring an NRR or an ACK (offline.md V3, V4). Raises Unavailable for what is no answer."""
        code, text = self._client.docmd(verbs.format_command(verb, Command(exchange)))
        if code == GO_ON:
            lines = "".join(line + "\r\n" for line in verbs.token_lines(token))
            self._client.send(lines)
            code, text = self._client.getreply()
        return self._answer(exchange, code, text)

    def _answer(self, exchange: bytes, code: int, text: bytes) -> Answer:
        """Parse an answer. What else a peer says may work later: it may know no such verb, or be going down."""
        try:
            return verbs.parse_answer(code, text.decode("ascii", "replace").split("\n"), exchange)
        except Malformed as error:
            raise Unavailable(f"the node of {self._peer.domain} didn't answer ({code}): {error.message}") from error


def _send(client: smtplib.SMTP, envelope: Envelope) -> None:
    """Send the envelope dot-stuffed. Our own octets begin no line with a dot, but the rule is the rule."""
    if client.sock is None:
        raise smtplib.SMTPServerDisconnected("the connection was closed")
    outer = Outer(envelope.exchange, envelope.sender, envelope.recipient, envelope.date)
    for piece in _stuffed(envelopes.write(outer, envelope.head, envelope.ciphertext())):
        client.sock.sendall(piece)
    client.sock.sendall(b".\r\n")


def _stuffed(pieces: Iterable[bytes]) -> Iterable[bytes]:
    before = b"\r\n"
    for piece in pieces:
        joined = before + piece
        yield joined.replace(b"\r\n.", b"\r\n..")[len(before) :]
        before = joined[-2:]


def _refused(code: int, text: bytes) -> Rejected:
    if code >= 500:
        return Rejected(_line(code, text))
    raise Unavailable(f"the peer answered {_line(code, text)}")


def _line(code: int, text: bytes) -> str:
    return f"{code} {text.decode('utf-8', 'replace')}"[:500]


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
