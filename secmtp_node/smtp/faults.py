"""Nodes that break one rule of the offline mode on purpose, to rehearse what the other side does about it.

Nothing here is reached unless the operator asks for it by name (`secmtp node serve --fault`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from secmtp_node.ports.services import Carrier, Envelope, Peer, PeerSession, Rejected, Stored
from secmtp_node.smtp.ports import CertifiedPeer
from secmtp_node.smtp.services import Peers
from shared.api.verbs import Answer, Kind, Verb
from shared.errors import ConfigurationError, Unavailable

SENDER_KEEPS_KEY = "sender-keeps-key"
RECIPIENT_WITHHOLDS_ACK = "recipient-withholds-ack"
FAULTS = (SENDER_KEEPS_KEY, RECIPIENT_WITHHOLDS_ACK)


def check(fault: str) -> None:
    """Raise ConfigurationError for a fault that there isn't."""
    if fault and fault not in FAULTS:
        raise ConfigurationError(f"there is no fault {fault!r}; there are: {', '.join(FAULTS)}")


class KeepsKey:
    """A carrier that takes NRRs and never gives a key."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier

    def carry(self, peer: Peer, envelope: Envelope) -> Stored | Rejected:
        """Bring one envelope, as it should be."""
        return self._carrier.carry(peer, envelope)

    @contextmanager
    def open(self, peer: Peer) -> Iterator[PeerSession]:
        """Open a session in which no key goes."""
        with self._carrier.open(peer) as session:
            yield _Keyless(session)


class _Keyless:
    def __init__(self, session: PeerSession) -> None:
        self._session = session

    @property
    def direct(self) -> bool:
        return self._session.direct

    def carry(self, envelope: Envelope) -> Stored | Rejected:
        return self._session.carry(envelope)

    def ask(self, verb: Verb, exchange: bytes, share: bytes | None = None) -> Answer:
        if verb is Verb.KEY:
            raise Unavailable("this node keeps keys, as it was told to")
        return self._session.ask(verb, exchange)

    def bring(self, verb: Verb, exchange: bytes, token: str) -> Answer:
        return self._session.bring(verb, exchange, token)


class WithholdsAck(Peers):
    """Peer services that take a key, deliver, and never answer with the ACK."""

    def key(self, peer: CertifiedPeer, exchange: bytes, share: bytes) -> Answer:
        """Take s_T and keep the ACK."""
        super().key(peer, exchange, share)
        return Answer(Kind.LATER, exchange, "the ACK isn't ready")
