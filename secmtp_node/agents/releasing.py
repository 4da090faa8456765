"""What a sender's node commits in a direct exchange (docs/protocols/offline.md S4 to S8): one transaction a step.

Nothing leaves before the step that lets it leave is durable: s_T after RELEASED, the ABORT after ABORTING. A step
that the state doesn't know changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from secmtp_node.agents.desk import Desk
from secmtp_node.agents.sender import SHARE
from secmtp_node.ports.store import Unit
from secmtp_node.ports.values import Outgoing, Task
from shared.errors import EvidenceFault, NotFound, Unavailable
from shared.evidence.manifest import Core
from shared.evidence.statements import verify_ack, verify_refuse
from shared.evidence.tokens import NRR
from shared.evidence.verification import verify_nro, verify_nrr
from shared.exchange import timers
from shared.exchange.machine import Rule, step
from shared.exchange.sender import TABLES, Action, Event, State

SenderRule = Rule[State, Action]
# After these the exchange has left in a way that a database from before them must not take back.
_MARKED = (State.RELEASED, State.LODGING, State.ABORTING, State.ACKED)
_TASKS: Mapping[Action, Task] = {
    Action.COMPLETE: Task.SETTLE,
    Action.ABORT: Task.SETTLE,
    Action.SETTLE: Task.SETTLE,
    Action.ASK_STATUS: Task.SETTLE,
    Action.REPORT_RECEIPT: Task.REPORT_RECEIPT,
    Action.REPORT_FAILURE: Task.REPORT_FAILURE,
}
_BY_TIMER = (Event.DUE, Event.OVERDUE, Event.NO_NRR)
CARRIED = (State.QUEUED, State.SENT, State.RELEASED)
OVER = (State.RECEIPTED, State.ABORTED, State.EXPIRED, State.INVALID)


def take_nrr(desk: Desk, exchange: Outgoing, token: str) -> SenderRule:
    """Verify an NRR and commit it with RELEASED, or with LODGING when it is too late: the commit point of S5.

    A crash before it: the recipient's node has the NRR still. A crash after RELEASED: s_T may have left, so the NRR
    is lodged unless an ACK comes. Raises EvidenceFault.
    """
    nrr = _verified_nrr(desk, exchange, exchange.nrr or token)
    view, noticed = _view(desk, exchange.manifest.core)
    ends = nrr.certificate.not_after
    with desk.store.transaction() as unit:
        current = get(unit, exchange.exchange)
        event = timers.receiving(current.manifest.core, desk.now(), view, noticed=noticed, not_after=ends)
        # The first one stands, whichever session brought it (S4).
        return advance(desk, unit, current, event, nrr=current.nrr or nrr.compact)


def take_ack(desk: Desk, exchange: Outgoing, token: str) -> SenderRule:
    """Verify an ACK and commit it: ACKED, to be anchored (S8). Raises EvidenceFault."""
    if not exchange.nrr:
        raise EvidenceFault("ack.nrr", "this node has no NRR of the exchange that an ACK could answer")
    nrr = _verified_nrr(desk, exchange, exchange.nrr)
    ack = verify_ack(token, exchange.manifest, nrr, desk.root, desk.now())
    with desk.store.transaction() as unit:
        current = get(unit, exchange.exchange)
        return advance(desk, unit, current, Event.ACK, ack=current.ack or ack.compact)


def take_refusal(desk: Desk, exchange: Outgoing, token: str) -> SenderRule:
    """Verify a REFUSE statement and commit what follows from it. It binds nobody. Raises EvidenceFault."""
    nro = verify_nro(exchange.nro, exchange.manifest, desk.root, desk.now())
    verify_refuse(token, exchange.manifest, nro, desk.root, desk.now())
    return happened(desk, exchange.exchange, Event.REFUSAL, reply="the recipient refused")


def happened(desk: Desk, exchange: bytes, event: Event, **more: str) -> SenderRule:
    """Commit an event that needs no check of its own."""
    with desk.store.transaction() as unit:
        return advance(desk, unit, get(unit, exchange), event, **more)


def advance(desk: Desk, unit: Unit, current: Outgoing, event: Event, **more: str) -> SenderRule:
    """Step, and write the next state with the jobs that it asks for. Raises Conflict."""
    core = current.manifest.core
    rule = step(TABLES[core.mode], current.state, event)
    moved = rule.next is not current.state
    unit.outgoing.move(current.exchange, rule.next, **more)
    if moved and rule.next in _MARKED:
        unit.mark()
    for action in rule.actions:
        if action in _TASKS and event not in _BY_TIMER:  # a timer does itself what is due
            unit.jobs.add(_TASKS[action], current.exchange, desk.now())
    if moved and core.mode == "offline":
        _timers(desk, unit, current, rule.next, by_timer=event in _BY_TIMER)
    return rule


def share(desk: Desk, exchange: bytes) -> bytes | None:
    """Return s_T, asked right before it leaves; None when the state or the time has moved on meanwhile (S5)."""
    current = load(desk, exchange)
    core = current.manifest.core
    noticed = _view(desk, core)[1]
    if not timers.may_send(current.state, core, desk.now(), noticed=noticed):
        return None
    return desk.at_rest.open(current.sealed_share, SHARE, exchange)


def get(unit: Unit, exchange: bytes) -> Outgoing:
    """Return an outgoing exchange. Raises NotFound."""
    found = unit.outgoing.find(exchange)
    if found is None:
        raise NotFound("no such outgoing exchange")
    return found


def load(desk: Desk, exchange: bytes) -> Outgoing:
    """Return an outgoing exchange in a transaction of its own. Raises NotFound."""
    with desk.store.transaction() as unit:
        return get(unit, exchange)


def _timers(desk: Desk, unit: Unit, current: Outgoing, state: State, *, by_timer: bool) -> None:
    """Have the new state's timers run, and end those of the old one. A timer that is running goes on by itself."""
    if state not in CARRIED:
        unit.jobs.finish(Task.CARRY, current.exchange)
    if state in (State.ACKED, *OVER):
        unit.jobs.finish(Task.SETTLE, current.exchange)
    if state is State.ACKED:
        unit.jobs.add(Task.ANCHOR, current.exchange, desk.now() + desk.policy.anchor_pause)
        return
    due = timers.sender_due(state, current.manifest.core, desk.now())
    if due is not None and not by_timer:
        unit.jobs.add(Task.SETTLE, current.exchange, due)


def _verified_nrr(desk: Desk, exchange: Outgoing, token: str) -> NRR:
    now = desk.now()
    nro = verify_nro(exchange.nro, exchange.manifest, desk.root, now)
    return verify_nrr(token, exchange.manifest, nro, desk.root, now)


def _view(desk: Desk, core: Core) -> tuple[int, bool]:
    """Return when the recipient's keys were last seen unrevoked, and whether they aren't M's any more (S5, S10).

    A look-up stops at once when a key is revoked (directory.md D9, D13), so each one that succeeds is a view of the
    ledger. Who can't be asked leaves the view as old as it is.
    """
    address = core.recipient.address
    seen = desk.book.seen(address)
    if seen is None or desk.now() - seen.fetched >= timers.VIEW:
        try:
            desk.book.find(address, fresh=True)
        except NotFound:
            return desk.now(), True
        except (Unavailable, EvidenceFault):
            return 0 if seen is None else seen.fetched, False
        seen = desk.book.seen(address)
    if seen is None:
        return 0, False
    same = seen.keys == (core.recipient.receipt_key, core.recipient.hpke_key)
    return seen.fetched, not same
