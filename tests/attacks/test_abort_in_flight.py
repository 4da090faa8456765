"""A4: the recipient holds its NRR back until the sender's abort is under way, and sends it then.

If the sender's node still called the exchange SENT while its abort was in flight, it would release s_T, and its own
`complete` would be answered ABORTED: the letter read, no receipt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.exchange import recipient, sender
from shared.exchange.machine import Rule
from shared.exchange.sender import Action, Event, State
from tests.doubles.offline import DIRECT, Message, RecipientNode, SenderNode, World, make_world, until_signed
from tests.doubles.served import served


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An exchange between two nodes and a real TTP."""
    with served(tmp_path) as made:
        yield make_world(made)


def attack(world: World, table: Mapping[Any, Any] = sender.OFFLINE) -> tuple[SenderNode, RecipientNode]:
    """Let the abort commit and leave; its answer is under way when the NRR comes."""
    alice, bob, nrr = until_signed(world, SenderNode(world, table=table, guarded=False))
    world.served.clock.time += DIRECT
    alice.no_nrr()
    world.lose = True  # the TTP has aborted, the answer is lost
    alice.act()
    world.served.clock.time -= 1  # even an NRR that is in time by the sender's clock
    alice.receive(nrr)
    alice.settle()
    return alice, bob


def test_aborting_never_releases(world: World) -> None:
    """Once ABORTING is durable, an NRR releases nothing; the exchange ends as ABORTED for both."""
    alice, bob = attack(world)
    assert (alice.row.state, world.sent) == (State.ABORTING, [])
    alice.fire()
    bob.fire()
    assert alice.row.state is State.ABORTED
    assert bob.row is not None
    assert bob.row.state is recipient.State.ABORTED
    assert bob.mailbox == []


def test_without_the_write_ahead_the_attack_works(world: World) -> None:
    """With a table that stays SENT while it aborts, the same run lets s_T out and ends without a receipt."""
    careless = {**sender.OFFLINE, (State.SENT, Event.NO_NRR): Rule(State.SENT, (Action.ABORT,))}
    alice, _ = attack(world, careless)
    assert world.sent
    alice.fire()
    assert alice.row.state is State.ABORTED


def test_if_the_recipient_completes_first_the_abort_is_answered_with_the_receipt(world: World) -> None:
    """A recipient that signed and completes before the abort reads; the abort's answer is the receipt."""
    alice, bob = SenderNode(world), RecipientNode(world)
    bob.receive(Message("R", "envelope"))
    alice.receive(world.wire.pop())
    bob.fire()
    world.served.clock.time += DIRECT
    alice.no_nrr()
    alice.settle()
    assert alice.row.state is State.RECEIPTED
    assert len(bob.mailbox) == 1
