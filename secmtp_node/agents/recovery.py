"""At start: whether the database came from a backup, and what the last process left half-way (offline.md S9, R10).

A database whose mark is below the one outside it is from before a step that something left after: nobody knows
any more what was released, aborted or signed, so everything open is settled at the TTP and nothing else is done.
"""

from __future__ import annotations

from secmtp_node.agents import releasing
from secmtp_node.agents.acknowledging import get as get_incoming
from secmtp_node.agents.desk import Desk
from secmtp_node.ports.values import Alarm, Task
from shared.exchange import recipient, sender
from shared.exchange.machine import step

OFFLINE = "offline"


def at_start(desk: Desk, mark: int | None) -> bool:
    """Do what a start has to do before anything else runs; return whether the database was restored.

    `mark` is the number outside the database, None where there is none. A crash in here: done again at the next
    start, for the new mark is the last thing that is committed.
    """
    with desk.store.transaction() as unit:
        unit.jobs.recover(desk.now())  # the lock says that no other process works on them
        known = unit.mark_of_database()
    restored = mark is None or known < mark
    if restored:
        exchanges = _recover(desk)
        desk.tell("the database may be from a backup", known=known, mark=mark, recovered=exchanges)
        with desk.store.transaction() as unit:
            unit.mark(mark or 0)
            if exchanges:
                reason = f"{exchanges} open exchange(s) are settled at the TTP: nothing more is released or aborted"
                unit.evidence.alarm(Alarm("database from a backup", None, reason, b"", desk.now()))
    _sessions_are_over(desk)
    return restored


def _recover(desk: Desk) -> int:
    """Step every open direct exchange to RECOVERED, on both sides; return how many there were."""
    with desk.store.transaction() as unit:
        sent = unit.outgoing.in_states([state for state in sender.State if state not in releasing.OVER])
        received = unit.incoming.in_states(list(recipient.State))
    return sum(_recover_outgoing(desk, one) for one in sent) + sum(_recover_incoming(desk, one) for one in received)


def _recover_outgoing(desk: Desk, exchange: bytes) -> bool:
    with desk.store.transaction() as unit:
        current = releasing.get(unit, exchange)
        if current.manifest.core.mode != OFFLINE:
            return False
        rule = releasing.advance(desk, unit, current, sender.Event.RESTORED)
        if rule.next is sender.State.ACKED:
            unit.jobs.add(Task.ANCHOR, exchange, desk.now())
    return rule.next is sender.State.RECOVERED


def _recover_incoming(desk: Desk, exchange: bytes) -> bool:
    with desk.store.transaction() as unit:
        current = get_incoming(unit, exchange)
        if current.manifest.core.mode != OFFLINE:
            return False
        rule = step(recipient.TABLES[OFFLINE], current.state, recipient.Event.RESTORED)
        unit.incoming.move(exchange, rule.next)
        if rule.next is recipient.State.RECOVERED:
            unit.jobs.add(Task.TRADE, exchange, desk.now())
        if recipient.Action.DELIVER in rule.actions:
            unit.jobs.add(Task.DELIVER, exchange, desk.now())
    return rule.next is recipient.State.RECOVERED


def _sessions_are_over(desk: Desk) -> None:
    """Have what was signed traded at once: the session that it was signed in ended with the last process (R4)."""
    with desk.store.transaction() as unit:
        for exchange in unit.incoming.in_states([recipient.State.SIGNED]):
            unit.jobs.add(Task.TRADE, exchange, desk.now())
        for exchange in unit.incoming.in_states([recipient.State.HAVE]):
            unit.jobs.add(Task.DELIVER, exchange, desk.now())
