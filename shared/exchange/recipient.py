"""The recipient's node in an exchange (docs/protocols/online.md R, offline.md R): a table for each mode.

SIGNED is committed before the NRR can leave, HAVE before the message is opened, the ACK before it
leaves: whatever dies in between, the node knows what it signed and asks until a terminal token comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from shared.exchange.machine import Rule


class State(StrEnum):
    """SIGNED: envelope and NRR stored. HAVE: s_T stored. FAULTY: good shares, message doesn't open.

    OFFERED: envelope stored, nothing signed. REFUSED: the refusal stored, which a later NRR overrides.
    RECOVERED: restored from a backup.
    """

    OFFERED = "OFFERED"
    REFUSED = "REFUSED"
    SIGNED = "SIGNED"
    RECOVERED = "RECOVERED"
    HAVE = "HAVE"
    DELIVERED = "DELIVERED"
    FAULTY = "FAULTY"
    ABORTED = "ABORTED"
    EXPIRED = "EXPIRED"
    INVALID = "INVALID"


class Event(StrEnum):
    """What happened; evidence events carry verified evidence, timers have run out."""

    ASKED = "the sender asks for the NRR"
    ACCEPTED = "the recipient signs the NRR"
    REFUSED = "the recipient refuses"
    KEY = "s_T from the sender, for the stored NRR"
    DUE = "time to trade"
    NOTICE = "a key of the exchange is under notice"
    NRD = "NRD with s_T"
    ABORTED = "ABORTED token"
    EXPIRED = "EXPIRED token"
    INVALID = "INVALID token"
    OPENED = "message opened and delivered"
    UNOPENABLE = "message doesn't open under good shares"
    RESTORED = "the node was restored from a backup"


class Action(StrEnum):
    """What the edge does after the commit."""

    ANSWER_PENDING = "answer that nothing is signed yet"
    ANSWER_NRR = "answer with the stored NRR"
    ANSWER_REFUSAL = "answer with the stored refusal"
    REFUSE = "lodge the refusal at the TTP"
    TRADE = "complete at the TTP"
    SETTLE = "complete at the TTP, without an NRR ask it for the status"
    ASK_STATUS = "ask the TTP for the status"
    DELIVER = "open the message and deliver it"
    ACKNOWLEDGE = "answer with the stored ACK"
    ANCHOR = "anchor NRO, NRR and ACK, unless an NRD is held"
    KEEP_PROOF = "keep the proof of the sender's fault and tell the operator"


Table = Mapping[tuple[State, Event], Rule[State, Action]]


def _each(states: tuple[State, ...], event: Event, *actions: Action, to: State | None = None) -> Table:
    return {(state, event): Rule(to or state, actions) for state in states}


_TOKENS = (Event.NRD, Event.ABORTED, Event.EXPIRED, Event.INVALID)
_ENDED = (State.ABORTED, State.EXPIRED, State.INVALID)
_ONLINE_EVENTS = (Event.DUE, *_TOKENS, Event.OPENED, Event.UNOPENABLE)
_ONLINE_CLOSED = (State.DELIVERED, State.FAULTY, *_ENDED)

ONLINE: Table = {
    (State.SIGNED, Event.DUE): Rule(State.SIGNED, (Action.TRADE,)),
    (State.SIGNED, Event.NRD): Rule(State.HAVE, (Action.DELIVER,)),
    (State.SIGNED, Event.ABORTED): Rule(State.ABORTED),
    (State.SIGNED, Event.EXPIRED): Rule(State.EXPIRED),
    (State.SIGNED, Event.INVALID): Rule(State.INVALID, (Action.KEEP_PROOF,)),
    (State.HAVE, Event.DUE): Rule(State.HAVE, (Action.DELIVER,)),
    (State.HAVE, Event.NRD): Rule(State.HAVE, (Action.DELIVER,)),
    (State.HAVE, Event.OPENED): Rule(State.DELIVERED),
    (State.HAVE, Event.UNOPENABLE): Rule(State.FAULTY, (Action.KEEP_PROOF,)),
    **{(state, event): Rule(state) for state in _ONLINE_CLOSED for event in _ONLINE_EVENTS},
}

_UNSIGNED = (State.OFFERED, State.REFUSED)
_WITHOUT_KEY = (*_UNSIGNED, State.SIGNED, State.RECOVERED)
# Only these know the event; elsewhere it is the edge's fault, or a peer that skips a step.
_LOCAL = (Event.ACCEPTED, Event.REFUSED, Event.OPENED, Event.UNOPENABLE, Event.KEY)
_SEEN = tuple(event for event in Event if event not in _LOCAL)

OFFLINE: Table = {
    # Defaults: an event that finds nothing to do leaves the exchange as it is. Later rows replace them.
    **{(state, event): Rule(state) for state in State for event in _SEEN},
    # Nothing signed yet, because the recipient didn't delegate. A refusal binds nobody (A1).
    (State.OFFERED, Event.ASKED): Rule(State.OFFERED, (Action.ANSWER_PENDING,)),
    **_each(_UNSIGNED, Event.ACCEPTED, Action.ANSWER_NRR, to=State.SIGNED),
    **_each(_UNSIGNED, Event.REFUSED, Action.REFUSE, to=State.REFUSED),
    (State.REFUSED, Event.ASKED): Rule(State.REFUSED, (Action.ANSWER_REFUSAL,)),
    **_each(_UNSIGNED, Event.DUE, Action.ASK_STATUS),
    **_each(_UNSIGNED, Event.RESTORED, Action.ASK_STATUS, to=State.RECOVERED),
    # Signed: the key comes from the sender or from the TTP, and nothing else ends it.
    (State.SIGNED, Event.ASKED): Rule(State.SIGNED, (Action.ANSWER_NRR,)),
    (State.SIGNED, Event.ACCEPTED): Rule(State.SIGNED, (Action.ANSWER_NRR,)),
    (State.SIGNED, Event.REFUSED): Rule(State.SIGNED),
    (State.SIGNED, Event.KEY): Rule(State.HAVE, (Action.DELIVER,)),
    (State.SIGNED, Event.DUE): Rule(State.SIGNED, (Action.TRADE,)),
    (State.SIGNED, Event.NOTICE): Rule(State.SIGNED, (Action.TRADE,)),
    (State.SIGNED, Event.RESTORED): Rule(State.RECOVERED, (Action.TRADE,)),
    # Restored: what was signed, refused or acknowledged after the backup is unknown; the TTP's feed tells.
    **{
        (State.RECOVERED, event): Rule(State.RECOVERED, (Action.SETTLE,))
        for event in (Event.ASKED, Event.KEY, Event.DUE, Event.NOTICE, Event.RESTORED)
    },
    # How it ends.
    **_each(_WITHOUT_KEY, Event.NRD, Action.DELIVER, to=State.HAVE),
    **_each(_WITHOUT_KEY, Event.ABORTED, to=State.ABORTED),
    **_each(_WITHOUT_KEY, Event.EXPIRED, to=State.EXPIRED),
    **_each(_WITHOUT_KEY, Event.INVALID, Action.KEEP_PROOF, to=State.INVALID),
    # s_T that comes after a token of no trade still opens the message, and the ACK still is a receipt.
    **_each(_ENDED, Event.KEY, Action.DELIVER, to=State.HAVE),
    (State.HAVE, Event.ASKED): Rule(State.HAVE, (Action.ANSWER_NRR,)),
    (State.HAVE, Event.NOTICE): Rule(State.HAVE, (Action.ANCHOR, Action.DELIVER)),
    **{
        (State.HAVE, event): Rule(State.HAVE, (Action.DELIVER,))
        for event in (Event.KEY, Event.NRD, Event.DUE, Event.RESTORED)
    },
    (State.HAVE, Event.OPENED): Rule(State.DELIVERED, (Action.ACKNOWLEDGE, Action.ANCHOR)),
    (State.HAVE, Event.UNOPENABLE): Rule(State.FAULTY, (Action.KEEP_PROOF,)),
    (State.DELIVERED, Event.ASKED): Rule(State.DELIVERED, (Action.ANSWER_NRR,)),
    (State.DELIVERED, Event.KEY): Rule(State.DELIVERED, (Action.ACKNOWLEDGE,)),
    (State.DELIVERED, Event.NOTICE): Rule(State.DELIVERED, (Action.ANCHOR,)),
    **{(State.DELIVERED, event): Rule(State.DELIVERED) for event in (Event.OPENED, Event.UNOPENABLE)},
    (State.FAULTY, Event.ASKED): Rule(State.FAULTY, (Action.ANSWER_NRR,)),
    **{(State.FAULTY, event): Rule(State.FAULTY) for event in (Event.KEY, Event.OPENED, Event.UNOPENABLE)},
}

TABLES: Mapping[str, Table] = {"online": ONLINE, "offline": OFFLINE}
