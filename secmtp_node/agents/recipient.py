"""The recipient's side: everything is checked, then signed, then traded, then opened (online.md R1 to R8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate

from secmtp_node.agents import checks, learning, witnessing
from secmtp_node.agents.desk import Desk
from secmtp_node.agents.notices import notice
from secmtp_node.ports.services import Delivery
from secmtp_node.ports.values import Incoming, Job, KeyUse, SenderFault, StoredFile, Task
from shared.api.messages import CompleteRequest
from shared.crypto import stream
from shared.crypto.shares import Shares
from shared.encoding.labels import BlobDigest
from shared.errors import EvidenceFault, NotFound, OurFault, SecMTPError
from shared.evidence import bundle as bundles
from shared.evidence import composition
from shared.evidence import head as heads
from shared.evidence.bundle import Bundle, Openings
from shared.evidence.head import Head
from shared.evidence.receipt import verify_bundle
from shared.evidence.tokens import NRO, sign_nrr
from shared.exchange.machine import step
from shared.exchange.recipient import TABLES, Event, State

PROOF = "proof of a sender's fault"
SECRET = "s_R of an incoming exchange"
# What can only fail through the sender, given shares that opened their commitments and blobs that are M's.
SENDERS_FAULTS = frozenset({"content.key", "content.header", "content.commitment", "content.chunk", "content.end"})


@dataclass(frozen=True, slots=True)
class Arrived:
    """An envelope as it came: which exchange it says it is of, the sealed head, the ciphertext's file, from whom."""

    exchange: bytes
    head: bytes
    ciphertext: StoredFile
    sender: str
    recipient: str
    peer: str


@dataclass(frozen=True, slots=True)
class _Checked:
    """An envelope of which everything that can be checked before signing was checked."""

    head: Head
    nro: NRO
    share: bytes = field(repr=False)


def accept(desk: Desk, arrived: Arrived) -> str:
    """Check an envelope, sign the NRR, commit both; return the text of the 250.

    Raises SecMTPError; then nothing is stored. An exchange that is known is answered again, and its
    stored NRR stands: there never is a second one. Only to who has its head, though: hM alone stands in
    the public ledger, and must not tell whose exchange it is.
    """
    incoming = None
    try:
        head = heads.open_head(arrived.head, arrived.exchange, desk.node_key)  # R1
        if _find(desk, arrived.exchange) is None:
            witnessing.require_trust(desk, head.manifest.core.ttp.name)
            incoming = _signed(desk, arrived, _check(desk, arrived, head))
    except BaseException:
        desk.files.discard(arrived.ciphertext)
        raise
    stored = incoming is not None and _is_stored(desk, incoming)
    if not stored:
        desk.files.discard(arrived.ciphertext)
    desk.tell("envelope stored", exchange=arrived.exchange.hex(), peer=arrived.peer, again=not stored)
    return f"{arrived.exchange.hex()} stored"


def trade(desk: Desk, job: Job) -> None:
    """Complete at the TTP, for as long as it takes (R7). What comes back is verified before it is believed."""
    incoming = _get(desk, job.exchange)
    if incoming.state is State.SIGNED:
        ttp = desk.ttp(incoming.manifest.core.ttp.name)
        request = CompleteRequest(incoming.manifest, incoming.nro, incoming.nrr, incoming.sealed.escrow)
        evidence = learning.learn(desk, ttp.complete(request), job.exchange)  # commits HAVE and s_T, or the end
        desk.tell("traded", exchange=job.exchange.hex(), outcome=evidence.outcome)
    with desk.store.transaction() as unit:
        unit.jobs.finish(Task.TRADE, job.exchange)


def deliver(desk: Desk, job: Job) -> None:
    """Open the message and deliver it, once (R8). Its file name is the exchange's, so a repetition is seen."""
    incoming = _get(desk, job.exchange)
    event = _open_and_deliver(desk, incoming) if incoming.state is State.HAVE else None
    with desk.store.transaction() as unit:
        if event is not None:
            unit.incoming.move(job.exchange, step(TABLES[incoming.manifest.core.mode], incoming.state, event).next)
        unit.jobs.finish(Task.DELIVER, job.exchange)
    if event is not None:
        desk.tell(event.value, exchange=job.exchange.hex())


def _check(desk: Desk, arrived: Arrived, head: Head) -> _Checked:
    """R2 to R4, in this order: cheap and structural first, and nothing is signed before all of it held."""
    keys = checks.check_names(desk, head.manifest, arrived.sender, arrived.recipient)  # R2
    checks.check_ttp(desk, head.manifest)
    nro = checks.check_origin(desk, head)  # R3
    checks.check_blobs(head, arrived.ciphertext)
    private = desk.vault.hpke(keys[KeyUse.HPKE])
    share = composition.open_recipient_share(head.manifest, head.sealed.recipient_share, private)  # R4
    return _Checked(head, nro, share)


def _signed(desk: Desk, arrived: Arrived, checked: _Checked) -> Incoming:
    """Sign the NRR with the delegated receipt key (R5, R6). Raises Forbidden where the user didn't delegate."""
    manifest = checked.head.manifest
    pair = desk.vault.receipt(desk.user_key(manifest.core.recipient.address, KeyUse.RECEIPT))
    nrr = sign_nrr(manifest.exchange, checked.nro.digest, desk.now(), pair.key, pair.chain)
    return Incoming(
        exchange=manifest.exchange,
        state=State.SIGNED,
        manifest=manifest,
        nro=checked.head.nro,
        nrr=nrr,
        sealed=checked.head.sealed,
        sealed_secret=desk.at_rest.seal(checked.share, SECRET, manifest.exchange),
        ciphertext=arrived.ciphertext,
        accepted=desk.now(),
        peer=arrived.peer,
    )


def _is_stored(desk: Desk, incoming: Incoming) -> bool:
    """Store; when that fails, look before the ciphertext goes.

    A commit may be durable although the database's answer was lost: then a row names the file.
    """
    try:
        return _store(desk, incoming)
    except SecMTPError:
        found = _find(desk, incoming.exchange)
        if found is not None and found.ciphertext == incoming.ciphertext:
            return True
        desk.files.discard(incoming.ciphertext)
        raise


def _store(desk: Desk, incoming: Incoming) -> bool:
    """Commit envelope and NRR together, before the NRR can leave: the commit point of R6.

    A crash before it: the sender's node heard no 250 and brings the same envelope again. A crash after
    it: the job trades; the envelope, if brought again, is answered 250. False: another session was first.
    """
    with desk.store.transaction() as unit:
        if unit.incoming.find(incoming.exchange) is not None:
            return False
        unit.incoming.add(incoming)
        unit.jobs.add(Task.TRADE, incoming.exchange, desk.now())
    return True


def _open_and_deliver(desk: Desk, incoming: Incoming) -> Event:
    held = _held(desk, incoming)
    try:
        pieces = _on_top(desk, incoming, _opened(desk, incoming, held))
        desk.mailboxes.deliver(Delivery(incoming.recipient, incoming.exchange.hex(), pieces))
    except EvidenceFault as fault:
        if fault.step not in SENDERS_FAULTS:
            raise OurFault(f"what this node stored of an exchange isn't what it accepted: {fault}") from fault
        _keep_proof(desk, incoming, held, fault)
        desk.mailboxes.deliver(notice(desk, incoming, fault))
        return Event.UNOPENABLE
    return Event.OPENED


@dataclass(frozen=True, slots=True)
class _Held:
    """The evidence of the trade, and both shares."""

    bundle: Bundle
    shares: Shares = field(repr=False)


def _held(desk: Desk, incoming: Incoming) -> _Held:
    """Load and verify what was stored. If it doesn't verify now, store or trust root changed: never the sender."""
    with desk.store.transaction() as unit:
        evidence = unit.evidence.find(incoming.exchange)
    if evidence is None:
        raise OurFault("an exchange that HAS its key has no evidence of the trade")
    try:
        receipt = verify_bundle(evidence.bundle, desk.root)
    except EvidenceFault as fault:
        raise OurFault(f"the stored evidence of a trade doesn't verify any more: {fault}") from fault
    own = desk.at_rest.open(incoming.sealed_secret, SECRET, incoming.exchange)
    return _Held(evidence.bundle, Shares(receipt.share, own))


def _opened(desk: Desk, incoming: Incoming, held: _Held) -> Iterator[bytes]:
    """Return the message's octets, to be believed when the iterator has ended."""
    key = composition.content_key(incoming.manifest, held.shares, incoming.sealed.wrapped_key)
    return stream.decrypt(key, desk.files.read(incoming.ciphertext))


def _keep_proof(desk: Desk, incoming: Incoming, held: _Held, fault: EvidenceFault) -> None:
    """Keep what proves that the sender made a letter that nobody can read (evidence.md section 6).

    That is the bundle *with* openings: without s_R nobody could check that decryption fails. Only if our
    own copy of the ciphertext is still the one that was signed for: a damaged disk is no fault of the
    sender's.
    """
    digest = BlobDigest()
    for piece in desk.files.read(incoming.ciphertext):
        digest.update(piece)
    if digest.digest() != incoming.manifest.h_ct:
        raise OurFault("the stored ciphertext was damaged after it was signed for: restore it") from fault
    proof = bundles.encode(held.bundle.opened(Openings(held.shares.recipient, incoming.sealed.wrapped_key)))
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


def _find(desk: Desk, exchange: bytes) -> Incoming | None:
    with desk.store.transaction() as unit:
        return unit.incoming.find(exchange)


def _get(desk: Desk, exchange: bytes) -> Incoming:
    incoming = _find(desk, exchange)
    if incoming is None:
        raise NotFound("no such incoming exchange")
    return incoming
