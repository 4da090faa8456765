"""How every machine steps: look the pair up in a table; what isn't in the table can't happen.

Theory of operation. A state is a word that is stored durably. An event is something that was
verified before it got here. A rule names the next state and the actions that the edge carries out
*after* the next state is committed. Terminal states absorb: repeating an event gives the same
actions again, so lost answers and crashes need no special code. No pair, no change: an event that a
state doesn't know raises and leaves the state as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from shared.errors import Conflict

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)
Action = TypeVar("Action", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Rule(Generic[State, Action]):
    """What a state and an event lead to."""

    next: State
    actions: tuple[Action, ...] = ()


def step(table: Mapping[tuple[State, Event], Rule[State, Action]], state: State, event: Event) -> Rule[State, Action]:
    """Return the rule for the pair. Raises Conflict when the table has none; nothing changes then."""
    try:
        return table[state, event]
    except KeyError:
        raise Conflict(f"an exchange that is {state.value} can't take the event {event.value!r}") from None
