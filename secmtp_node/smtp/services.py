"""The listeners' ways to the use cases: submissions by users, envelopes and verbs by other nodes.

Who isn't the node of the other party of an exchange hears that it isn't known, whatever there is (offline.md V5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from secmtp_node.agents import acknowledging, direct, recipient, sender
from secmtp_node.agents.desk import Desk
from secmtp_node.agents.recipient import Arrived
from secmtp_node.ports.services import Login
from secmtp_node.ports.values import Incoming, Outgoing
from secmtp_node.smtp.envelope import EnvelopeReader
from secmtp_node.smtp.message import read_message
from secmtp_node.smtp.ports import Accepted, CertifiedPeer
from shared.api.verbs import Answer
from shared.encoding.address import domain_of
from shared.errors import NotFound, Unauthenticated
from shared.evidence.manifest import Core

UNKNOWN = "no such exchange"


@dataclass(frozen=True)
class Submission:
    """The submission listeners' way to the use cases."""

    desk: Desk

    def log_in(self, address: str, password: str) -> Login:
        """Check a password."""
        return sender.log_in(self.desk, address, password)

    def check_sender(self, login: Login | None, address: str) -> None:
        """Only the own address can be proven."""
        sender.check_sender(_proven(login), address)

    def check_recipient(self, login: Login | None, address: str) -> None:
        """Look the recipient up."""
        sender.check_recipient(self.desk, address)

    def submit(self, login: Login | None, sender_address: str, recipients: Sequence[str], message: Path) -> str:
        """Take a message."""
        return sender.submit(self.desk, _proven(login), sender_address, recipients, read_message(message))


@dataclass(frozen=True)
class Peers:
    """The peer listener's way to the use cases."""

    desk: Desk
    names: Callable[[bytes], tuple[str, ...]]

    def admit(self, certificate: bytes) -> CertifiedPeer:
        """Check that a client certificate is a node's. `names` raises EvidenceFault for any other."""
        return CertifiedPeer(self.names(certificate), certificate)

    def check_recipient(self, address: str) -> None:
        """Only users of this node."""
        with self.desk.store.transaction() as unit:
            if unit.users.find(address) is None:
                raise NotFound("no such user here")

    def accept(self, peer: CertifiedPeer, sender_address: str, recipient_address: str, message: Path) -> Accepted:
        """Take an envelope: its ciphertext into a file of its own, hashed on the way, then all the checks."""
        reader = EnvelopeReader(message)
        ciphertext = self.desk.files.write(reader.ciphertext())
        arrived = Arrived(
            reader.exchange, reader.head, ciphertext, sender_address, recipient_address, ", ".join(peer.names)
        )
        return Accepted(arrived.exchange, recipient.accept(self.desk, arrived))

    def nrr(self, peer: CertifiedPeer, exchange: bytes) -> Answer:
        """Answer with the stored NRR."""
        return acknowledging.nrr(self.desk, self._incoming(peer, exchange))

    def key(self, peer: CertifiedPeer, exchange: bytes, share: bytes) -> Answer:
        """Take s_T, open and deliver; answer with the stored ACK."""
        return acknowledging.key(self.desk, self._incoming(peer, exchange), share)

    def signed(self, peer: CertifiedPeer, exchange: bytes, token: str) -> Answer:
        """Take an NRR that the recipient's node brings."""
        return direct.signed(self.desk, self._outgoing(peer, exchange), token)

    def ack(self, peer: CertifiedPeer, exchange: bytes, token: str) -> Answer:
        """Take an ACK that the recipient's node brings."""
        return direct.acknowledged(self.desk, self._outgoing(peer, exchange), token)

    def left(self, exchanges: Sequence[bytes]) -> None:
        """The session ended in which these were signed and no key came."""
        acknowledging.left(self.desk, exchanges)

    def _incoming(self, peer: CertifiedPeer, exchange: bytes) -> Incoming:
        with self.desk.store.transaction() as unit:
            found = unit.incoming.find(exchange)
        if found is None or not _is_direct(found.manifest.core, peer, found.manifest.core.sender.address):
            raise NotFound(UNKNOWN)
        return found

    def _outgoing(self, peer: CertifiedPeer, exchange: bytes) -> Outgoing:
        with self.desk.store.transaction() as unit:
            found = unit.outgoing.find(exchange)
        if found is None or not _is_direct(found.manifest.core, peer, found.manifest.core.recipient.address):
            raise NotFound(UNKNOWN)
        return found


def _is_direct(core: Core, peer: CertifiedPeer, other: str) -> bool:
    return core.mode == "offline" and domain_of(other) in peer.names


def _proven(login: Login | None) -> Login:
    if login is None:
        raise Unauthenticated("authenticate first")
    return login
