"""What a node does with evidence, wherever it comes from: an answer of the TTP or its feed.

Verified as any stranger would verify it, then committed with the state it leads to; a node that answers
for both parties learns for both. Evidence about an exchange that isn't known is kept and told.
"""

from __future__ import annotations

from collections.abc import Iterator

from secmtp_node.agents import releasing, witnessing
from secmtp_node.agents.desk import Desk
from secmtp_node.ports.store import Unit
from secmtp_node.ports.values import Alarm, Evidence, Incoming, Outgoing, Task
from shared.crypto import signing
from shared.encoding.address import domain_of
from shared.errors import Conflict, SecMTPError
from shared.evidence import bundle as bundles
from shared.evidence.bundle import Bundle
from shared.evidence.receipt import verify_bundle, verify_no_trade
from shared.evidence.verification import require
from shared.exchange import recipient, sender
from shared.exchange.machine import step

CURSOR = "feed cursor "
_SENDER_EVENTS = {
    "COMPLETED": sender.Event.RECEIPT,
    "ABORTED": sender.Event.ABORTED,
    "EXPIRED": sender.Event.EXPIRED,
    "INVALID": sender.Event.INVALID,
}
_RECIPIENT_EVENTS = {
    "COMPLETED": recipient.Event.NRD,
    "ABORTED": recipient.Event.ABORTED,
    "EXPIRED": recipient.Event.EXPIRED,
    "INVALID": recipient.Event.INVALID,
}


def verified(desk: Desk, bundle: Bundle) -> Evidence:
    """Verify a bundle (evidence.md V0 to V5). Raises EvidenceFault."""
    if bundle.nrr is not None and signing.stated_type(bundle.token) == signing.NRD.typ:
        return Evidence(bundle, "COMPLETED", verify_bundle(bundle, desk.root).time)
    refusal = verify_no_trade(bundle, desk.root).refusal
    return Evidence(bundle, refusal.outcome, refusal.time)


def learn(desk: Desk, bundle: Bundle, exchange: bytes) -> Evidence:
    """Verify the bundle that was asked for and commit what follows. Raises EvidenceFault; then nothing changed."""
    require(bundle.manifest.exchange == exchange, "answer.exchange", "the TTP answered about another exchange")
    evidence = verified(desk, bundle)
    short = witnessing.below_quorum(desk, bundle)
    with desk.store.transaction() as unit:
        _apply(desk, unit, evidence)
        if short is not None:
            unit.evidence.alarm(short)
    return evidence


def learn_page(desk: Desk, ttp: str, items: tuple[Bundle, ...], cursor: int) -> None:
    """Commit what a page of the feed says, with the cursor: nothing is skipped, nothing is learnt twice (S5).

    A bundle that doesn't verify is kept as an alarm and doesn't stop the feed.
    """
    checked: list[Evidence] = []
    faults: list[Alarm] = []
    for bundle in items:
        try:
            checked.append(verified(desk, bundle))
            faults += filter(None, [witnessing.below_quorum(desk, bundle)])
        except SecMTPError as error:
            data = bundles.encode(bundle)
            faults.append(Alarm("bad bundle in the feed", bundle.manifest.exchange, error.message, data, desk.now()))
    with desk.store.transaction() as unit:
        for evidence in checked:
            _apply(desk, unit, evidence)
        for alarm in faults:
            unit.evidence.alarm(alarm)
        unit.directory.set_value(CURSOR + ttp, str(cursor))
    for alarm in faults:
        desk.tell(alarm.kind, exchange=alarm.exchange.hex() if alarm.exchange else "", reason=alarm.reason)


def cursor_of(desk: Desk, ttp: str) -> int:
    """Return where the feed of a TTP stands."""
    with desk.store.transaction() as unit:
        return int(unit.directory.value(CURSOR + ttp) or "0")


def _apply(desk: Desk, unit: Unit, evidence: Evidence) -> None:
    """Commit what a verified outcome means for each side that this node is. The first outcome stands."""
    exchange, mode = evidence.bundle.manifest.exchange, evidence.bundle.manifest.core.mode
    outgoing, incoming = unit.outgoing.find(exchange), unit.incoming.find(exchange)
    try:
        # Both steps before any change: a second, different outcome must change nothing on either side.
        if outgoing:
            step(sender.TABLES[mode], outgoing.state, _SENDER_EVENTS[evidence.outcome])
        received = incoming and step(recipient.TABLES[mode], incoming.state, _RECIPIENT_EVENTS[evidence.outcome])
    except Conflict as conflict:
        _alarm(desk, unit, "two outcomes of one exchange: the TTP's fault", evidence, conflict.message)
        return
    unit.evidence.add(evidence)
    witnessing.show(unit, evidence.bundle, desk.now())
    if outgoing:
        releasing.advance(desk, unit, outgoing, _SENDER_EVENTS[evidence.outcome])
    if received:
        unit.incoming.move(exchange, received.next)
        _follow_up(desk, unit, exchange, received.actions)
    for kind in _unexpected(desk, evidence, outgoing, incoming):
        _alarm(desk, unit, kind, evidence, evidence.outcome)


def _unexpected(desk: Desk, evidence: Evidence, outgoing: Outgoing | None, incoming: Incoming | None) -> Iterator[str]:
    """Say what this node should have known: it was restored from a backup, or somebody else has a user's key."""
    bundle, core = evidence.bundle, evidence.bundle.manifest.core
    own = desk.policy.domains
    if domain_of(core.sender.address) in own and (outgoing is None or outgoing.nro != bundle.nro):
        yield "an NRO of ours that this node didn't make"
    # Without a trade there is no signature of the recipient's: its node may never have seen the envelope.
    signed = bundle.nrr is not None and domain_of(core.recipient.address) in own
    if signed and (incoming is None or incoming.nrr != bundle.nrr):
        yield "an NRR of ours that this node didn't make"


def _follow_up(desk: Desk, unit: Unit, exchange: bytes, actions: tuple[recipient.Action, ...]) -> None:
    unit.jobs.finish(Task.TRADE, exchange)
    if recipient.Action.DELIVER in actions:
        unit.jobs.add(Task.DELIVER, exchange, desk.now())
    if recipient.Action.KEEP_PROOF in actions:
        desk.tell("exchange ended without a trade", exchange=exchange.hex())


def _alarm(desk: Desk, unit: Unit, kind: str, evidence: Evidence, reason: str) -> None:
    exchange = evidence.bundle.manifest.exchange
    unit.evidence.alarm(Alarm(kind, exchange, reason, bundles.encode(evidence.bundle), desk.now()))
    desk.tell(kind, exchange=exchange.hex(), outcome=evidence.outcome)
