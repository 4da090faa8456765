"""Carrying envelopes, asking for outcomes, reporting to senders (docs/protocols/online.md S4 to S6)."""

from __future__ import annotations

from secmtp_node.agents import direct, learning, witnessing
from secmtp_node.agents.desk import Desk
from secmtp_node.agents.sender import HEADERS, SECRET
from secmtp_node.ports.services import Delivery, Rejected, Report
from secmtp_node.ports.values import Evidence, Job, Letter, Outgoing, Task
from shared.api.messages import StatusRequest
from shared.errors import NotFound
from shared.evidence.bundle import AnyBundle, Openings
from shared.evidence.refusal import RefusalFile
from shared.exchange.machine import step
from shared.exchange.sender import TABLES, Action, Event, State

AFTER_EXPIRY = 60
ABORTED = "the recipient's node didn't sign for it in time, so it was aborted"
REASONS = {
    "COMPLETED": "the recipient signed for it and could read it from then on",
    "ACKNOWLEDGED": "the recipient signed for it and acknowledged that it could read it",
    "EXPIRED": "the recipient's node didn't trade for it before it expired",
    "INVALID": "the TTP says that the escrow doesn't open to what the manifest commits to",
}


def carry(desk: Desk, job: Job) -> None:
    """Bring an envelope to the peer; the same one however often it takes (S4)."""
    exchange = _outgoing(desk, job.exchange)
    core = exchange.manifest.core
    if core.mode == "offline":
        direct.go_on(desk, job)
        return
    if exchange.state is not State.QUEUED or desk.now() >= core.expires:
        with desk.store.transaction() as unit:
            unit.jobs.finish(Task.CARRY, job.exchange)
            unit.jobs.add(Task.STATUS, job.exchange, core.expires + AFTER_EXPIRY)
        return
    witnessing.require_trust(desk, core.ttp.name)
    peer = direct.peer_of(desk, core.recipient.address, fresh=job.attempts > 0)
    answer = desk.carrier.carry(peer, direct.envelope_of(desk, exchange))
    event = Event.REFUSED_BY_PEER if isinstance(answer, Rejected) else Event.STORED_BY_PEER
    _note_reply(desk, exchange, event, answer.reply)


def ask_status(desk: Desk, job: Job) -> None:
    """Ask what became of an overdue exchange (S6). Raises NotFound while nothing is known."""
    exchange = _outgoing(desk, job.exchange)
    if exchange.state in {State.QUEUED, State.SENT}:
        ttp = desk.ttp(exchange.manifest.core.ttp.name)
        answer = ttp.status(StatusRequest(exchange.manifest, exchange.nro))
        if isinstance(answer, RefusalFile):
            raise NotFound("the recipient refused, which is no outcome: it is asked for again")
        learning.learn(desk, answer, job.exchange)
    with desk.store.transaction() as unit:
        unit.jobs.finish(Task.STATUS, job.exchange)


def report_receipt(desk: Desk, job: Job) -> None:
    """Mail the receipt to the sender, with the bundle and its openings attached."""
    exchange, letter, evidence = _reportable(desk, job.exchange)
    if evidence is None:
        raise NotFound("a receipt is to be reported, and there is no evidence of it")
    share = desk.at_rest.open(exchange.sealed_secret, SECRET, exchange.exchange)
    bundle = evidence.bundle.opened(Openings(share, exchange.sealed.wrapped_key))
    _report(desk, job, letter, _facts(desk, exchange, letter, evidence, bundle))


def report_failure(desk: Desk, job: Job) -> None:
    """Mail a delivery status notification to the sender; with the TTP's token where there is one."""
    exchange, letter, evidence = _reportable(desk, job.exchange)
    bundle = None if evidence is None else evidence.bundle
    _report(desk, job, letter, _facts(desk, exchange, letter, evidence, bundle))


def _note_reply(desk: Desk, exchange: Outgoing, event: Event, reply: str) -> None:
    """Commit what the peer said. The state may have moved on meanwhile: evidence wins (S5)."""
    with desk.store.transaction() as unit:
        current = unit.outgoing.find(exchange.exchange)
        if current is None:
            return
        rule = step(TABLES[current.manifest.core.mode], current.state, event)
        unit.outgoing.move(exchange.exchange, rule.next, reply=reply)
        unit.jobs.finish(Task.CARRY, exchange.exchange)
        if Action.REPORT_FAILURE in rule.actions:
            unit.jobs.add(Task.REPORT_FAILURE, exchange.exchange, desk.now())
        else:
            unit.jobs.add(Task.STATUS, exchange.exchange, exchange.manifest.core.expires + AFTER_EXPIRY)
    desk.tell("envelope carried", exchange=exchange.exchange.hex(), state=rule.next.value)


def _facts(
    desk: Desk, exchange: Outgoing, letter: Letter, evidence: Evidence | None, bundle: AnyBundle | None
) -> Report:
    outcome = "REFUSED" if evidence is None else evidence.outcome
    return Report(
        exchange=exchange.exchange,
        sender=letter.login,
        recipient=exchange.recipient,
        outcome=outcome,
        reason=REASONS.get(outcome) or exchange.reply or ABORTED,
        accepted=letter.accepted,
        time=desk.now() if evidence is None else evidence.time,
        bundle=bundle,
        headers=desk.at_rest.open(letter.headers, HEADERS, letter.id) if letter.headers else b"",
    )


def _report(desk: Desk, job: Job, letter: Letter, facts: Report) -> None:
    """Deliver a report, then forget the job: a crash between the two delivers it again under the same name."""
    if letter.reports is not None:
        receipt = job.task is Task.REPORT_RECEIPT
        pieces = desk.reports.receipt(facts) if receipt else desk.reports.failure(facts)
        kind = "receipt" if receipt else "failure"
        desk.mailboxes.deliver(Delivery(letter.reports, f"{facts.exchange.hex()}.{kind}", pieces))
    with desk.store.transaction() as unit:
        unit.jobs.finish(job.task, job.exchange)
    desk.tell("reported", exchange=facts.exchange.hex(), outcome=facts.outcome)


def _reportable(desk: Desk, exchange: bytes) -> tuple[Outgoing, Letter, Evidence | None]:
    with desk.store.transaction() as unit:
        found = unit.outgoing.find(exchange)
        if found is None:
            raise NotFound("no such outgoing exchange")
        return found, unit.letters.get(found.letter), unit.evidence.find(exchange)


def _outgoing(desk: Desk, exchange: bytes) -> Outgoing:
    with desk.store.transaction() as unit:
        found = unit.outgoing.find(exchange)
    if found is None:
        raise NotFound("no such outgoing exchange")
    return found
