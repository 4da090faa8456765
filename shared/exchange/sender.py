"""The sender's node in an exchange, online mode (docs/protocols/online.md S).

Evidence from the TTP wins over everything that SMTP said: a receipt that comes after a refusal or a
lost reply still is the receipt.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from shared.exchange.machine import Rule


class State(StrEnum):
    """QUEUED: committed, not yet stored by the peer. SENT: the peer answered 250. REFUSED: it answered 5yz."""

    QUEUED = "QUEUED"
    SENT = "SENT"
    REFUSED = "REFUSED"
    RECEIPTED = "RECEIPTED"
    EXPIRED = "EXPIRED"
    INVALID = "INVALID"


class Event(StrEnum):
    """What happened; evidence events carry verified evidence."""

    STORED_BY_PEER = "the peer answered 250"
    REFUSED_BY_PEER = "the peer answered 5yz"
    RECEIPT = "NRR and NRD"
    EXPIRED = "EXPIRED token"
    INVALID = "INVALID token"
    OVERDUE = "expires has passed without evidence"


class Action(StrEnum):
    """What the edge does after the commit."""

    REPORT_RECEIPT = "mail the receipt to the sender"
    REPORT_FAILURE = "mail a delivery status notification to the sender"
    ASK_STATUS = "ask the TTP for the status"


_WAITING = (State.QUEUED, State.SENT)
_CLOSED = (State.RECEIPTED, State.EXPIRED, State.INVALID)

TABLE: Mapping[tuple[State, Event], Rule[State, Action]] = {
    (State.QUEUED, Event.STORED_BY_PEER): Rule(State.SENT),
    (State.SENT, Event.STORED_BY_PEER): Rule(State.SENT),
    (State.QUEUED, Event.REFUSED_BY_PEER): Rule(State.REFUSED, (Action.REPORT_FAILURE,)),
    (State.REFUSED, Event.REFUSED_BY_PEER): Rule(State.REFUSED),
    **{(state, Event.OVERDUE): Rule(state, (Action.ASK_STATUS,)) for state in _WAITING},
    **{(state, Event.EXPIRED): Rule(State.EXPIRED, (Action.REPORT_FAILURE,)) for state in _WAITING},
    **{(state, Event.INVALID): Rule(State.INVALID, (Action.REPORT_FAILURE,)) for state in _WAITING},
    # The failure was reported already; the token only says why nothing more will come.
    (State.REFUSED, Event.EXPIRED): Rule(State.EXPIRED),
    (State.REFUSED, Event.INVALID): Rule(State.INVALID),
    **{(state, Event.RECEIPT): Rule(State.RECEIPTED, (Action.REPORT_RECEIPT,)) for state in (*_WAITING, State.REFUSED)},
    # Late SMTP replies and repeated feed items change nothing that is closed.
    **{(state, event): Rule(state) for state in _CLOSED for event in Event},
}
