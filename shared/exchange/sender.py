"""The sender's node in an exchange (docs/protocols/online.md S, offline.md S): a table for each mode.

Positive evidence wins over everything else: a receipt that comes after a refusal, a lost reply or a
token of no trade still is the receipt. RELEASED never aborts, ABORTING never releases.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from shared.exchange.machine import Rule


class State(StrEnum):
    """QUEUED: committed. SENT: the peer answered 250. REFUSED: it answered 5yz.

    RELEASED: NRR stored, s_T may leave. LODGING: NRR stored, s_T never leaves from here. ABORTING: the abort
    may leave, s_T never does. ACKED: ACK stored, not yet anchored. RECOVERED: restored from a backup.
    """

    QUEUED = "QUEUED"
    SENT = "SENT"
    RELEASED = "RELEASED"
    LODGING = "LODGING"
    ABORTING = "ABORTING"
    ACKED = "ACKED"
    RECOVERED = "RECOVERED"
    REFUSED = "REFUSED"
    RECEIPTED = "RECEIPTED"
    ABORTED = "ABORTED"
    EXPIRED = "EXPIRED"
    INVALID = "INVALID"


class Event(StrEnum):
    """What happened; evidence events carry verified evidence, timers have run out."""

    STORED_BY_PEER = "the peer answered 250"
    REFUSED_BY_PEER = "the peer answered 5yz"
    NRR = "NRR, in time"
    NRR_LATE = "NRR, too late to release"
    NO_NRR = "no NRR, direct_until has passed"
    ACK = "NRR and ACK"
    REFUSAL = "the recipient's refusal"
    NOTICE = "a key of the exchange is under notice"
    ANCHORED = "NRO, NRR and ACK are anchored"
    RECEIPT = "NRR and NRD"
    ABORTED = "ABORTED token"
    EXPIRED = "EXPIRED token"
    INVALID = "INVALID token"
    DUE = "time to settle"
    OVERDUE = "expires has passed without evidence"
    RESTORED = "the node was restored from a backup"


class Action(StrEnum):
    """What the edge does after the commit."""

    SEND_SHARE = "send s_T to the recipient"
    ASK_NRR = "ask the peer for its NRR"
    COMPLETE = "complete at the TTP"
    ABORT = "abort at the TTP"
    SETTLE = "complete at the TTP, without an NRR ask it for the status"
    ANCHOR = "anchor NRO, NRR and ACK"
    REPORT_RECEIPT = "mail the receipt to the sender"
    REPORT_FAILURE = "mail a delivery status notification to the sender"
    ASK_STATUS = "ask the TTP for the status"


Table = Mapping[tuple[State, Event], Rule[State, Action]]
_WAITING = (State.QUEUED, State.SENT)
_NO_TRADE = {Event.ABORTED: State.ABORTED, Event.EXPIRED: State.EXPIRED, Event.INVALID: State.INVALID}


def _each(states: tuple[State, ...], event: Event, *actions: Action, to: State | None = None) -> Table:
    return {(state, event): Rule(to or state, actions) for state in states}


def _tokens(states: tuple[State, ...], *actions: Action) -> Table:
    return {(state, event): Rule(end, actions) for state in states for event, end in _NO_TRADE.items()}


_ONLINE_EVENTS = (
    Event.STORED_BY_PEER,
    Event.REFUSED_BY_PEER,
    Event.RECEIPT,
    *_NO_TRADE,
    Event.OVERDUE,
)
_ONLINE_CLOSED = (State.RECEIPTED, *_NO_TRADE.values())

ONLINE: Table = {
    (State.QUEUED, Event.STORED_BY_PEER): Rule(State.SENT),
    (State.SENT, Event.STORED_BY_PEER): Rule(State.SENT),
    (State.QUEUED, Event.REFUSED_BY_PEER): Rule(State.REFUSED, (Action.REPORT_FAILURE,)),
    (State.REFUSED, Event.REFUSED_BY_PEER): Rule(State.REFUSED),
    **_each(_WAITING, Event.OVERDUE, Action.ASK_STATUS),
    **_tokens(_WAITING, Action.REPORT_FAILURE),
    # The failure was reported already; the token only says why nothing more will come.
    **_tokens((State.REFUSED,)),
    **_each((*_WAITING, State.REFUSED), Event.RECEIPT, Action.REPORT_RECEIPT, to=State.RECEIPTED),
    # Late SMTP replies and repeated feed items change nothing that is closed.
    **{(state, event): Rule(state) for state in _ONLINE_CLOSED for event in _ONLINE_EVENTS},
}

_OPEN = (*_WAITING, State.RELEASED, State.LODGING, State.ABORTING, State.RECOVERED)
_ENDED = tuple(_NO_TRADE.values())

OFFLINE: Table = {
    # Defaults: an event that finds nothing to do leaves the exchange as it is. Later rows replace them.
    **{(state, event): Rule(state) for state in (*_OPEN, State.ACKED, State.RECEIPTED, *_ENDED) for event in Event},
    # Waiting for the NRR. The first of NRR, abort and refusal is committed, and shuts out the others.
    **_each(_WAITING, Event.STORED_BY_PEER, to=State.SENT),
    **_each(_WAITING, Event.NRR, Action.SEND_SHARE, to=State.RELEASED),
    **_each(_WAITING, Event.NRR_LATE, Action.COMPLETE, to=State.LODGING),
    **_each(_WAITING, Event.REFUSED_BY_PEER, Action.ABORT, to=State.ABORTING),
    **_each(_WAITING, Event.NO_NRR, Action.ABORT, to=State.ABORTING),
    **_each(_WAITING, Event.REFUSAL, Action.ABORT, to=State.ABORTING),
    **_each(_WAITING, Event.NOTICE, Action.ABORT, to=State.ABORTING),
    **_each(_WAITING, Event.DUE, Action.ASK_NRR),
    **_each((*_WAITING, State.ABORTING), Event.OVERDUE, Action.ASK_STATUS),
    # s_T has left, or may have: whatever happens, the NRR is lodged unless the ACK comes.
    (State.RELEASED, Event.NRR): Rule(State.RELEASED, (Action.SEND_SHARE,)),
    **{
        (state, event): Rule(state, (Action.COMPLETE,))
        for state in (State.RELEASED, State.LODGING)
        for event in (Event.NRR_LATE, Event.REFUSAL, Event.NOTICE, Event.DUE, Event.OVERDUE)
    },
    (State.LODGING, Event.NRR): Rule(State.LODGING, (Action.COMPLETE,)),
    (State.ABORTING, Event.DUE): Rule(State.ABORTING, (Action.ABORT,)),
    # Restored: nobody knows what was released or aborted after the backup, so neither is done any more.
    **_each((*_WAITING, State.ABORTING), Event.RESTORED, Action.ASK_STATUS, to=State.RECOVERED),
    **_each((State.RELEASED, State.LODGING), Event.RESTORED, Action.COMPLETE, to=State.RECOVERED),
    **{
        (State.RECOVERED, event): Rule(State.RECOVERED, (Action.SETTLE, Action.ASK_NRR))
        for event in (Event.RESTORED, Event.NOTICE, Event.DUE, Event.OVERDUE)
    },
    **{(State.RECOVERED, event): Rule(State.RECOVERED, (Action.COMPLETE,)) for event in (Event.NRR, Event.NRR_LATE)},
    # How it ends. ACK and NRD each carry the receipt, whatever the TTP said before.
    **_tokens(_OPEN, Action.REPORT_FAILURE),
    **_each((*_OPEN, State.ACKED), Event.RECEIPT, Action.REPORT_RECEIPT, to=State.RECEIPTED),
    **_each((*_OPEN, *_ENDED), Event.ACK, Action.ANCHOR, to=State.ACKED),
    (State.ACKED, Event.ANCHORED): Rule(State.RECEIPTED, (Action.REPORT_RECEIPT,)),
    **{
        (State.ACKED, event): Rule(State.ACKED, (Action.ANCHOR,))
        for event in (Event.ACK, Event.NOTICE, Event.DUE, Event.OVERDUE, Event.RESTORED)
    },
    # Whoever holds completion loses nothing by sending s_T again.
    **{
        (state, event): Rule(state, (Action.SEND_SHARE,))
        for state in (State.ACKED, State.RECEIPTED)
        for event in (Event.NRR, Event.NRR_LATE)
    },
}

TABLES: Mapping[str, Table] = {"online": ONLINE, "offline": OFFLINE}
