"""What the listeners need from the application. Every call runs in a worker thread and may take its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from secmtp_node.ports.services import Login


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


class PeerService(Protocol):
    """Envelopes from other nodes."""

    def admit(self, certificate: bytes) -> CertifiedPeer:
        """Check a client certificate. Raises EvidenceFault."""

    def check_recipient(self, address: str) -> None:
        """Check that the address is a user here. Raises NotFound."""

    def accept(self, peer: CertifiedPeer, sender: str, recipient: str, message: Path) -> str:
        """Take a durable envelope; return the text of the 250 when it is committed."""
