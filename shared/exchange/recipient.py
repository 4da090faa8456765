"""The recipient's node in an exchange, online mode (docs/protocols/online.md R).

SIGNED is committed before the NRR can leave, HAVE before the message is opened: whatever dies in
between, the node knows what it signed and asks again until a terminal token comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from shared.exchange.machine import Rule


class State(StrEnum):
    """SIGNED: envelope and NRR stored. HAVE: NRD with s_T stored. FAULTY: good shares, message doesn't open."""

    SIGNED = "SIGNED"
    HAVE = "HAVE"
    DELIVERED = "DELIVERED"
    FAULTY = "FAULTY"
    EXPIRED = "EXPIRED"
    INVALID = "INVALID"


class Event(StrEnum):
    """What happened; evidence events carry verified evidence."""

    DUE = "time to trade"
    NRD = "NRD with s_T"
    EXPIRED = "EXPIRED token"
    INVALID = "INVALID token"
    OPENED = "message opened and delivered"
    UNOPENABLE = "message doesn't open under good shares"


class Action(StrEnum):
    """What the edge does after the commit."""

    TRADE = "complete at the TTP"
    DELIVER = "open the message and deliver it"
    KEEP_PROOF = "keep the proof of the sender's fault and tell the operator"


_CLOSED = (State.DELIVERED, State.FAULTY, State.EXPIRED, State.INVALID)

TABLE: Mapping[tuple[State, Event], Rule[State, Action]] = {
    (State.SIGNED, Event.DUE): Rule(State.SIGNED, (Action.TRADE,)),
    (State.SIGNED, Event.NRD): Rule(State.HAVE, (Action.DELIVER,)),
    (State.SIGNED, Event.EXPIRED): Rule(State.EXPIRED),
    (State.SIGNED, Event.INVALID): Rule(State.INVALID, (Action.KEEP_PROOF,)),
    (State.HAVE, Event.DUE): Rule(State.HAVE, (Action.DELIVER,)),
    (State.HAVE, Event.NRD): Rule(State.HAVE, (Action.DELIVER,)),
    (State.HAVE, Event.OPENED): Rule(State.DELIVERED),
    (State.HAVE, Event.UNOPENABLE): Rule(State.FAULTY, (Action.KEEP_PROOF,)),
    **{(state, event): Rule(state) for state in _CLOSED for event in Event},
}
