"""Opening a message and delivering it (docs/protocols/online.md R8, offline.md R5, R6), and the proof when it can't be.

Nothing of the message is visible before its last chunk is authentic, and its file name is the exchange's, so that
a repetition is seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import formatdate

from secmtp_node.agents import learning
from secmtp_node.agents.desk import Desk
from secmtp_node.agents.notices import notice
from secmtp_node.ports.services import Delivery
from secmtp_node.ports.values import Incoming, SenderFault
from shared.api.messages import CompleteRequest
from shared.crypto import stream
from shared.crypto.shares import Shares
from shared.encoding.labels import BlobDigest
from shared.errors import EvidenceFault, OurFault
from shared.evidence import bundle as bundles
from shared.evidence import composition
from shared.evidence.bundle import Bundle, Openings
from shared.evidence.receipt import verify_bundle
from shared.exchange.recipient import Event

PROOF = "proof of a sender's fault"
SECRET = "s_R of an incoming exchange"
SHARE = "s_T of an incoming exchange"
# What can only fail through the sender, given shares that opened their commitments and blobs that are M's.
SENDERS_FAULTS = frozenset({"content.key", "content.header", "content.commitment", "content.chunk", "content.end"})


def open_and_deliver(desk: Desk, incoming: Incoming) -> Event:
    """Open the message and put it into the mailbox; return OPENED, or UNOPENABLE when the sender made it so.

    Raises OurFault for what this node stored badly. Safe to repeat.
    """
    both = _shares(desk, incoming)
    try:
        pieces = _on_top(desk, incoming, _opened(desk, incoming, both))
        desk.mailboxes.deliver(Delivery(incoming.recipient, incoming.exchange.hex(), pieces))
    except EvidenceFault as fault:
        if fault.step not in SENDERS_FAULTS:
            raise OurFault(f"what this node stored of an exchange isn't what it accepted: {fault}") from fault
        _keep_proof(desk, incoming, both, fault)
        desk.mailboxes.deliver(notice(desk, incoming, fault))
        return Event.UNOPENABLE
    return Event.OPENED


def share(desk: Desk, incoming: Incoming) -> bytes:
    """Return s_T: the one that came directly, or the one in the evidence of the trade."""
    if incoming.sealed_share:
        return desk.at_rest.open(incoming.sealed_share, SHARE, incoming.exchange)
    bundle = traded(desk, incoming)
    if bundle is None:
        raise OurFault("an exchange that HAS its key has no evidence of the trade")
    try:
        return verify_bundle(bundle, desk.root).share
    except EvidenceFault as fault:
        raise OurFault(f"the stored evidence of a trade doesn't verify any more: {fault}") from fault


def traded(desk: Desk, incoming: Incoming) -> Bundle | None:
    """Return the TTP's evidence of a trade, if this node has it."""
    with desk.store.transaction() as unit:
        evidence = unit.evidence.find(incoming.exchange)
    if evidence is None or evidence.outcome != "COMPLETED" or not isinstance(evidence.bundle, Bundle):
        return None
    return evidence.bundle


def complete(desk: Desk, incoming: Incoming) -> None:
    """Complete at the TTP and commit what it answers, verified (R7). The NRR is stored: nothing is lost by asking."""
    ttp = desk.ttp(incoming.manifest.core.ttp.name)
    request = CompleteRequest(incoming.manifest, incoming.nro, incoming.nrr, incoming.sealed.escrow)
    evidence = learning.learn(desk, ttp.complete(request), incoming.exchange)  # commits HAVE and s_T, or the end
    desk.tell("traded", exchange=incoming.exchange.hex(), outcome=evidence.outcome)


def _shares(desk: Desk, incoming: Incoming) -> Shares:
    """Load both shares. If they can't be had now, store or trust root changed: never the sender's fault."""
    return Shares(share(desk, incoming), desk.at_rest.open(incoming.sealed_secret, SECRET, incoming.exchange))


def _opened(desk: Desk, incoming: Incoming, both: Shares) -> Iterator[bytes]:
    """Return the message's octets, to be believed when the iterator has ended."""
    key = composition.content_key(incoming.manifest, both, incoming.sealed.wrapped_key)
    return stream.decrypt(key, desk.files.read(incoming.ciphertext))


def _keep_proof(desk: Desk, incoming: Incoming, both: Shares, fault: EvidenceFault) -> None:
    """Keep what proves that the sender made a letter that nobody can read (evidence.md section 6).

    That is the bundle *with* openings: without s_R nobody could check that decryption fails. Only if our
    own copy of the ciphertext is still the one that was signed for: a damaged disk is no fault of the
    sender's. After a direct exchange the trade is made up for first: its evidence holds s_T and a time.
    """
    digest = BlobDigest()
    for piece in desk.files.read(incoming.ciphertext):
        digest.update(piece)
    if digest.digest() != incoming.manifest.h_ct:
        raise OurFault("the stored ciphertext was damaged after it was signed for: restore it") from fault
    if traded(desk, incoming) is None:
        complete(desk, incoming)
    bundle = traded(desk, incoming)
    if bundle is None:  # the key came after a token of no trade
        desk.tell("a letter doesn't open, and no trade proves it", exchange=incoming.exchange.hex(), step=fault.step)
        return
    proof = bundles.encode(bundle.opened(Openings(both.recipient, incoming.sealed.wrapped_key)))
    sealed = desk.at_rest.seal(proof, PROOF, incoming.exchange)
    with desk.store.transaction() as unit:
        unit.evidence.add_fault(SenderFault(incoming.exchange, fault.step, sealed, desk.now()))
    desk.tell("the sender made a letter that doesn't open", exchange=incoming.exchange.hex(), step=fault.step)


def _on_top(desk: Desk, incoming: Incoming, content: Iterator[bytes]) -> Iterator[bytes]:
    """Put the node's headers in front of the content; the last one marks where the content begins (smtp.md M6)."""
    core = incoming.manifest.core
    host, peer = desk.policy.domains[0], incoming.peer.partition(",")[0]
    yield f"Return-Path: <{core.sender.address}>\r\n".encode()
    trace = f"from {peer} by {host} with ESMTPS id {incoming.exchange.hex()[:16]}"
    yield f"Received: {trace}; {formatdate(incoming.accepted)}\r\n".encode()
    passed = f"x-secmtp=pass header.from={core.sender.address} (mode {core.mode}, receipt level {core.recipient.level})"
    yield f"Authentication-Results: {host}; {passed}\r\n".encode()
    yield f"SecMTP-Exchange: {incoming.exchange.hex()}\r\n".encode()
    yield from content
