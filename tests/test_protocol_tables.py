"""The state tables in docs/protocols are the ones in the code."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from shared.errors import Conflict
from shared.exchange import recipient, sender, ttp
from shared.exchange.machine import Rule, step

PAGES = Path(__file__).parent.parent / "docs" / "protocols"
Table = Mapping[tuple[Any, Any], Rule[Any, Any]]
TABLES: dict[str, Table] = {
    "sender": sender.ONLINE,
    "recipient": recipient.ONLINE,
    "ttp": ttp.TABLE,
    "offline sender": sender.OFFLINE,
    "offline recipient": recipient.OFFLINE,
}
ONLINE = [event for event in ttp.Event if event.value.startswith(("complete", "status"))]
OFFLINE = [event for event in ttp.Event if event not in ONLINE]


def render(table: Table, only: Collection[StrEnum] | None = None, *, terse: bool = False) -> str:
    """Return a machine's table as Markdown, in the order in which its states and events are declared.

    `terse` leaves the pairs out that change nothing, and names them and those that are refused in a second table.
    """
    rows = ["| state | event | next state | then |", "|---|---|---|---|"]
    rest = ["| state | changes nothing | is refused |", "|---|---|---|"]
    states, events = (type(part) for part in next(iter(table)))
    for state in states:
        idle, refused = [], []
        for event in events if only is None else only:
            rule = table.get((state, event))
            if rule is None:
                refused.append(event.value)
            elif terse and rule == Rule(state):
                idle.append(event.value)
            else:
                actions = "; ".join(action.value for action in rule.actions)
                rows.append(f"| {state.value} | {event.value} | {rule.next.value} | {actions} |")
        if any(state is at for at, _event in table):
            rest.append(f"| {state.value} | {'; '.join(idle)} | {'; '.join(refused)} |")
    return "\n".join([*rows, "", *rest] if terse else rows)


DOCUMENTED = {
    "online.md sender": render(sender.ONLINE),
    "online.md recipient": render(recipient.ONLINE),
    "online.md ttp": render(ttp.TABLE, ONLINE),
    "offline.md sender": render(sender.OFFLINE, terse=True),
    "offline.md recipient": render(recipient.OFFLINE, terse=True),
    "offline.md ttp": render(ttp.TABLE, OFFLINE),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_table(name: str) -> None:
    """Each machine's table stands in its page exactly as the code has it."""
    page, machine = name.split()
    expected = f"<!-- table: {machine} -->\n{DOCUMENTED[name]}\n<!-- end -->"
    assert expected in (PAGES / page).read_text(encoding="utf-8"), f"{page} must hold:\n{expected}"


def test_every_event_of_the_ttp_is_documented() -> None:
    """The two pages together hold the TTP's whole table."""
    assert {*ONLINE, *OFFLINE} == {event for _state, event in ttp.TABLE}


TERMINAL: dict[str, set[StrEnum]] = {
    "sender": {sender.State.RECEIPTED, sender.State.ABORTED, sender.State.EXPIRED, sender.State.INVALID},
    "recipient": {
        recipient.State.DELIVERED,
        recipient.State.FAULTY,
        recipient.State.ABORTED,
        recipient.State.EXPIRED,
        recipient.State.INVALID,
    },
    "ttp": {ttp.State.COMPLETED, ttp.State.EXPIRED, ttp.State.INVALID, ttp.State.ABORTED},
    "offline sender": {sender.State.RECEIPTED},
    "offline recipient": {recipient.State.DELIVERED, recipient.State.FAULTY},
}
SIGNING = {
    ttp.Action.SIGN_TOKEN,
    ttp.Action.RECORD_REFUSAL,
    sender.Action.REPORT_RECEIPT,
    sender.Action.REPORT_FAILURE,
    sender.Action.ABORT,
    recipient.Action.TRADE,
}


@pytest.mark.parametrize("name", TABLES)
def test_terminal_states_absorb(name: str) -> None:
    """What has ended stays ended: every event leads back to the state, and nothing is signed or traded again."""
    table = TABLES[name]
    for state in TERMINAL[name]:
        rules = [rule for (at, _event), rule in table.items() if at is state]
        assert rules
        assert {rule.next for rule in rules} == {state}
        assert not SIGNING & {action for rule in rules for action in rule.actions}


def reachable(table: Table, start: StrEnum) -> set[StrEnum]:
    """Return the states that can be reached from a state, itself among them."""
    found, left = {start}, [start]
    while left:
        state = left.pop()
        new = {rule.next for (at, _event), rule in table.items() if at is state} - found
        found |= new
        left += new
    return found


class TestOfflineSender:
    """What no path through the sender's table may do (offline.md S5, S6, S7)."""

    def test_released_never_aborts(self) -> None:
        """From RELEASED on no state that aborts can be reached."""
        for state in (sender.State.RELEASED, sender.State.LODGING, sender.State.ACKED):
            assert sender.State.ABORTING not in reachable(sender.OFFLINE, state)

    @pytest.mark.parametrize("start", [sender.State.ABORTING, sender.State.LODGING, sender.State.RECOVERED])
    def test_release_is_shut_out(self, start: sender.State) -> None:
        """From ABORTING, LODGING and RECOVERED on s_T leaves only from states that hold completion."""
        assert sender.State.RELEASED not in reachable(sender.OFFLINE, start)
        sending = {at for (at, _e), rule in sender.OFFLINE.items() if sender.Action.SEND_SHARE in rule.actions}
        assert sending & reachable(sender.OFFLINE, start) <= {sender.State.ACKED, sender.State.RECEIPTED}

    def test_aborts_only_where_that_is_durable(self) -> None:
        """An abort is asked for only by rules that lead to ABORTING, so it never leaves before ABORTING is stored."""
        aborting = {rule.next for rule in sender.OFFLINE.values() if sender.Action.ABORT in rule.actions}
        assert aborting == {sender.State.ABORTING}

    def test_every_open_state_has_a_way_out_by_time(self) -> None:
        """Each state that isn't an end acts when its timer runs out: nothing waits for ever."""
        for state in {at for at, _event in sender.OFFLINE} - {
            sender.State.RECEIPTED,
            sender.State.ABORTED,
            sender.State.EXPIRED,
            sender.State.INVALID,
        }:
            assert sender.OFFLINE[state, sender.Event.DUE].actions
            assert sender.OFFLINE[state, sender.Event.OVERDUE].actions


def test_the_key_opens_only_what_was_signed_for() -> None:
    """Without a stored NRR a key from the sender is refused, whatever state the exchange is in."""
    for state in (recipient.State.OFFERED, recipient.State.REFUSED):
        with pytest.raises(Conflict):
            step(recipient.OFFLINE, state, recipient.Event.KEY)


def test_a_pair_that_is_not_in_the_table() -> None:
    """An event that a state doesn't know is refused, naming both."""
    with pytest.raises(Conflict, match=r"HAVE can't take the event 'EXPIRED token'"):
        step(recipient.ONLINE, recipient.State.HAVE, recipient.Event.EXPIRED)
