"""The state tables in docs/protocols are the ones in the code."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from shared.errors import Conflict
from shared.exchange import recipient, sender, ttp
from shared.exchange.machine import Rule, step

PAGE = Path(__file__).parent.parent / "docs" / "protocols" / "online.md"
TABLES: dict[str, Mapping[tuple[Any, Any], Rule[Any, Any]]] = {
    "sender": sender.TABLE,
    "recipient": recipient.TABLE,
    "ttp": ttp.TABLE,
}


def render(table: Mapping[tuple[Any, Any], Rule[Any, Any]]) -> str:
    """Return a machine's table as Markdown, in the order in which its states and events are declared."""
    rows = ["| state | event | next state | then |", "|---|---|---|---|"]
    states, events = (type(part) for part in next(iter(table)))
    for state in states:
        for event in events:
            if (state, event) in table:
                rule = table[state, event]
                actions = "; ".join(action.value for action in rule.actions)
                rows.append(f"| {state.value} | {event.value} | {rule.next.value} | {actions} |")
    return "\n".join(rows)


@pytest.mark.parametrize("name", TABLES)
def test_documented_table(name: str) -> None:
    """Each machine's table stands in online.md exactly as the code has it."""
    text = PAGE.read_text(encoding="utf-8")
    expected = f"<!-- table: {name} -->\n{render(TABLES[name])}\n<!-- end -->"
    assert expected in text, f"{PAGE.name} must hold:\n{expected}"


TERMINAL: dict[str, set[StrEnum]] = {
    "sender": {sender.State.RECEIPTED, sender.State.EXPIRED, sender.State.INVALID},
    "recipient": {
        recipient.State.DELIVERED,
        recipient.State.FAULTY,
        recipient.State.EXPIRED,
        recipient.State.INVALID,
    },
    "ttp": {ttp.State.COMPLETED, ttp.State.EXPIRED, ttp.State.INVALID, ttp.State.ABORTED},
}
SIGNING = {ttp.Action.SIGN_TOKEN, sender.Action.REPORT_RECEIPT, recipient.Action.TRADE}


@pytest.mark.parametrize("name", TABLES)
def test_terminal_states_absorb(name: str) -> None:
    """What has ended stays ended: every event leads back to the state, and nothing is signed or traded again."""
    table = TABLES[name]
    for state in TERMINAL[name]:
        rules = [rule for (at, _event), rule in table.items() if at is state]
        assert rules
        assert {rule.next for rule in rules} == {state}
        assert not SIGNING & {action for rule in rules for action in rule.actions}


def test_a_pair_that_is_not_in_the_table() -> None:
    """An event that a state doesn't know is refused, naming both."""
    with pytest.raises(Conflict, match=r"HAVE can't take the event 'EXPIRED token'"):
        step(recipient.TABLE, recipient.State.HAVE, recipient.Event.EXPIRED)
