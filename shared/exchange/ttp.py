"""The TTP's side of an exchange: one machine for all modes, one row per hM (online.md T, offline.md T).

The first terminal outcome stands for ever; whoever loses a race is given the winner's token. A refusal
is no outcome: a valid NRR before `expires` still completes, or it would be an abort in the recipient's hands.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from shared.evidence.composition import DoesNotOpen, Opened
from shared.exchange.machine import Rule


class State(StrEnum):
    """OPEN is the absence of a row: the TTP hears of an exchange when somebody asks."""

    OPEN = "OPEN"
    COMPLETED = "COMPLETED"
    EXPIRED = "EXPIRED"
    INVALID = "INVALID"
    ABORTED = "ABORTED"


class Event(StrEnum):
    """What was asked, as it stands at the ledger time of the transaction."""

    COMPLETE = "complete"
    COMPLETE_UNOPENABLE = "complete, escrow doesn't open"
    COMPLETE_LATE = "complete, after expires"
    STATUS = "status"
    STATUS_LATE = "status, after expires"
    ABORT = "abort"
    ABORT_LATE = "abort, after expires"
    REFUSE = "refuse"
    REFUSE_LATE = "refuse, after expires"


class Action(StrEnum):
    """What the writer does inside its transaction."""

    SIGN_TOKEN = "sign token, append leaf, put into both feeds"
    RECORD_REFUSAL = "store and anchor the refusal, unless one is stored; answer the stored one"
    ANSWER_STORED = "answer the stored token"
    ANSWER_UNKNOWN = "answer that nothing is known, which is no evidence"


_TERMINAL = (State.COMPLETED, State.EXPIRED, State.INVALID, State.ABORTED)

TABLE: Mapping[tuple[State, Event], Rule[State, Action]] = {
    (State.OPEN, Event.COMPLETE): Rule(State.COMPLETED, (Action.SIGN_TOKEN,)),
    (State.OPEN, Event.COMPLETE_UNOPENABLE): Rule(State.INVALID, (Action.SIGN_TOKEN,)),
    (State.OPEN, Event.COMPLETE_LATE): Rule(State.EXPIRED, (Action.SIGN_TOKEN,)),
    (State.OPEN, Event.STATUS): Rule(State.OPEN, (Action.ANSWER_UNKNOWN,)),
    (State.OPEN, Event.STATUS_LATE): Rule(State.EXPIRED, (Action.SIGN_TOKEN,)),
    (State.OPEN, Event.ABORT): Rule(State.ABORTED, (Action.SIGN_TOKEN,)),
    (State.OPEN, Event.ABORT_LATE): Rule(State.EXPIRED, (Action.SIGN_TOKEN,)),
    (State.OPEN, Event.REFUSE): Rule(State.OPEN, (Action.RECORD_REFUSAL,)),
    (State.OPEN, Event.REFUSE_LATE): Rule(State.EXPIRED, (Action.SIGN_TOKEN,)),
    **{(state, event): Rule(state, (Action.ANSWER_STORED,)) for state in _TERMINAL for event in Event},
}


def completing(time: int, expires: int, escrow: Opened | DoesNotOpen) -> Event:
    """Return the event that a fully verified `complete` is at this ledger time. Lateness goes first."""
    if time >= expires:
        return Event.COMPLETE_LATE
    return Event.COMPLETE if isinstance(escrow, Opened) else Event.COMPLETE_UNOPENABLE


def asking(time: int, expires: int) -> Event:
    """Return the event that a verified `status` is at this ledger time."""
    return Event.STATUS_LATE if time >= expires else Event.STATUS


def aborting(time: int, expires: int) -> Event:
    """Return the event that a verified `abort` is at this ledger time."""
    return Event.ABORT_LATE if time >= expires else Event.ABORT


def refusing(time: int, expires: int) -> Event:
    """Return the event that a verified `refuse` is at this ledger time."""
    return Event.REFUSE_LATE if time >= expires else Event.REFUSE
