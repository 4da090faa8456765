"""The state tables in docs/protocols are the ones in the code."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from shared.exchange import recipient, sender, ttp
from shared.exchange.machine import Rule

PAGE = Path(__file__).parent.parent / "docs" / "protocols" / "online.md"
TABLES: dict[str, Mapping[tuple[Any, Any], Rule[Any, Any]]] = {
    "sender": sender.TABLE,
    "recipient": recipient.TABLE,
    "ttp": ttp.TABLE,
}


def render(table: Mapping[tuple[StrEnum, StrEnum], Rule[StrEnum, StrEnum]]) -> str:
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


@pytest.mark.parametrize("name", TABLES)
def test_terminal_states_absorb(name: str) -> None:
    """A state that takes every event leads only to itself: what is terminal stays so."""
    table = TABLES[name]
    states, events = (type(part) for part in next(iter(table)))
    for state in states:
        rules = [table[state, event] for event in events if (state, event) in table]
        if len(rules) == len(events) and all(not rule.actions or rule.next is state for rule in rules):
            assert {rule.next for rule in rules} == {state}
