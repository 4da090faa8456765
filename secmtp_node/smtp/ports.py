"""What the listeners need from the application. Every call runs in a worker thread and may take its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from secmtp_node.ports.services import Login
from shared.api.verbs import Answer


@dataclass(frozen=True, slots=True)
class CertifiedPeer:
    """A node whose TLS certificate was checked: the mail domains and hosts it is certified for."""

    names: tuple[str, ...]
    certificate: bytes = field(repr=False)


class MailService(Protocol):
    """Submission by users. Each method raises SecMTPError; what `submit` returns is committed."""

    def log_in(self, address: str, password: str) -> Login:
        """Check a password. Raises Unauthenticated."""

    def check_sender(self, login: Login | None, address: str) -> None:
        """Check that the login may send as this address. Raises Forbidden."""

    def check_recipient(self, login: Login | None, address: str) -> None:
        """Check that the address can be reached. Raises NotFound, Unavailable."""

    def submit(self, login: Login | None, sender: str, recipients: Sequence[str], message: Path) -> str:
        """Take a durable message; return the text of the 250 when everything is committed."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An envelope that is committed: of which exchange, and the text of the 250."""

    exchange: bytes
    text: str


class PeerService(Protocol):
    """Envelopes from other nodes, and the verbs of the direct exchange (offline.md V1 to V4).

    Each verb raises SecMTPError, and says to who isn't the other party's node what it says of an unknown exchange.
    """

    def admit(self, certificate: bytes) -> CertifiedPeer:
        """Check a client certificate. Raises EvidenceFault."""

    def check_recipient(self, address: str) -> None:
        """Check that the address is a user here. Raises NotFound."""

    def accept(self, peer: CertifiedPeer, sender: str, recipient: str, message: Path) -> Accepted:
        """Take a durable envelope; return when it is committed."""

    def nrr(self, peer: CertifiedPeer, exchange: bytes) -> Answer:
        """Answer with the stored NRR."""

    def key(self, peer: CertifiedPeer, exchange: bytes, share: bytes) -> Answer:
        """Take s_T, open and deliver; answer with the stored ACK."""

    def signed(self, peer: CertifiedPeer, exchange: bytes, token: str) -> Answer:
        """Take an NRR that the recipient's node brings; answer with s_T if it may be released."""

    def ack(self, peer: CertifiedPeer, exchange: bytes, token: str) -> Answer:
        """Take an ACK that the recipient's node brings."""

    def left(self, exchanges: Sequence[bytes]) -> None:
        """Note that the session ended in which these were signed and no key came."""
