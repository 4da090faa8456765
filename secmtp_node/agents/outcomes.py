"""Evidence that came, by whichever way: verified as any stranger would, then applied to what we know.

The TTP's answer to `complete` or `status` and the feed bring the same bundles; both end here, so that
the order in which they arrive doesn't matter (online.md S5, R7).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from secmtp_node.ports.store import Unit
from secmtp_node.ports.values import Alarm, Evidence, Task
from shared.crypto import signing
from shared.crypto.certificates import TrustRoot
from shared.encoding.address import domain_of
from shared.errors import EvidenceFault
from shared.evidence import bundle as bundles
from shared.evidence.bundle import Bundle
from shared.evidence.receipt import verify_bundle, verify_no_trade
from shared.exchange import recipient, sender
from shared.exchange.machine import step

COMPLETED = "COMPLETED"
_SENDER_EVENTS = {
    COMPLETED: sender.Event.RECEIPT,
    "EXPIRED": sender.Event.EXPIRED,
    "INVALID": sender.Event.INVALID,
}
_RECIPIENT_EVENTS = {
    COMPLETED: recipient.Event.NRD,
    "EXPIRED": recipient.Event.EXPIRED,
    "INVALID": recipient.Event.INVALID,
}
_REPORTS = {
    sender.Action.REPORT_RECEIPT: Task.REPORT_RECEIPT,
    sender.Action.REPORT_FAILURE: Task.REPORT_FAILURE,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verified bundle: what became of an exchange at the TTP. `share` is s_T where it was traded."""

    bundle: Bundle
    word: str
    time: int
    share: bytes | None = field(default=None, repr=False)

    @property
    def exchange(self) -> bytes:
        """The exchange that the bundle is about."""
        return self.bundle.manifest.exchange


def verify_outcome(bundle: Bundle, root: TrustRoot) -> Outcome:
    """Verify a bundle from the TTP. Raises EvidenceFault. Openings never come from a TTP and are dropped."""
    bare = Bundle(
        bundle.manifest, bundle.nro, bundle.nrr, bundle.token, bundle.salt, bundle.proof, bundle.ledger, openings=None
    )
    if bare.nrr is not None and signing.stated_type(bare.token) == signing.NRD.typ:
        receipt = verify_bundle(bare, root)
        return Outcome(bare, COMPLETED, receipt.nrd.time, receipt.nrd.share)
    no_trade = verify_no_trade(bare, root)
    return Outcome(bare, no_trade.refusal.outcome, no_trade.refusal.time)


def require_exchange(outcome: Outcome, exchange: bytes) -> None:
    """Raise EvidenceFault `answer.exchange` when the TTP answered about another exchange."""
    if outcome.exchange != exchange:
        raise EvidenceFault("answer.exchange", f"asked about {exchange.hex()}, answered about {outcome.exchange.hex()}")


def learn(unit: Unit, outcome: Outcome, domains: Collection[str], now: int) -> list[str]:
    """Apply an outcome in this transaction; return what an operator should hear about, in words."""
    unit.evidence.add(Evidence(outcome.bundle, outcome.word, outcome.time))
    heard = [*_learn_as_sender(unit, outcome, domains, now), *_learn_as_recipient(unit, outcome, domains, now)]
    for reason in heard:
        unit.evidence.alarm(Alarm("evidence", outcome.exchange, reason, bundles.encode(outcome.bundle), now))
    return heard


def _learn_as_sender(unit: Unit, outcome: Outcome, domains: Collection[str], now: int) -> list[str]:
    core = outcome.bundle.manifest.core
    if domain_of(core.sender.address) not in domains:
        return []
    exchange = unit.outgoing.find(outcome.exchange)
    if exchange is None:
        return [f"an exchange of {core.sender.address} that this node doesn't know has the outcome {outcome.word}"]
    rule = step(sender.TABLE, exchange.state, _SENDER_EVENTS[outcome.word])
    unit.outgoing.move(outcome.exchange, rule.next)
    unit.jobs.finish(Task.CARRY, outcome.exchange)
    unit.jobs.finish(Task.STATUS, outcome.exchange)
    for action in rule.actions:
        unit.jobs.add(_REPORTS[action], outcome.exchange, now)
    if outcome.bundle.nro != exchange.nro:
        return [f"the origin key of {core.sender.address} signed another NRO than this node's"]
    return []


def _learn_as_recipient(unit: Unit, outcome: Outcome, domains: Collection[str], now: int) -> list[str]:
    address = outcome.bundle.manifest.core.recipient.address
    if domain_of(address) not in domains:
        return []
    exchange = unit.incoming.find(outcome.exchange)
    if exchange is None:
        # EXPIRED and INVALID need no signature of ours; COMPLETED does, so a backup or a key is amiss.
        signed = outcome.word == COMPLETED
        return [f"a receipt of {address} is in the ledger that this node doesn't know of"] if signed else []
    rule = step(recipient.TABLE, exchange.state, _RECIPIENT_EVENTS[outcome.word])
    unit.incoming.move(outcome.exchange, rule.next)
    unit.jobs.finish(Task.TRADE, outcome.exchange)
    if recipient.Action.DELIVER in rule.actions:
        unit.jobs.add(Task.DELIVER, outcome.exchange, now)
    if recipient.Action.KEEP_PROOF in rule.actions:
        return [f"the sender's escrow for {address} didn't open at the TTP: {outcome.word}"]
    if outcome.bundle.nrr not in {None, exchange.nrr}:
        return [f"the receipt key of {address} signed another NRR than this node's"]
    return []
