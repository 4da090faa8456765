"""A5: the sender's node aborts, is restored from a backup that doesn't know, and is asked for s_T.

If a restored exchange counted as SENT or RELEASED, s_T would leave although the TTP has ABORTED, or EXPIRED.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.exchange import sender
from shared.exchange.machine import Rule
from shared.exchange.sender import Action, Event, State
from tests.doubles.offline import DIRECT, EXPIRES, Message, SenderNode, World, make_world, until_released, until_signed
from tests.doubles.served import served


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An exchange between two nodes and a real TTP."""
    with served(tmp_path) as made:
        yield make_world(made)


def restored_after_abort(world: World, table: Any = sender.OFFLINE) -> tuple[SenderNode, Message]:
    """Back up at SENT, abort, restore; return the node and the recipient's NRR."""
    alice, _, nrr = until_signed(world, SenderNode(world, table=table))
    backup = alice.row
    assert backup.state is State.SENT
    alice.take(Event.REFUSAL)
    alice.settle()
    assert alice.row.state is State.ABORTED
    alice.restore(backup)
    return alice, nrr


def test_a_restored_sender_never_releases(world: World) -> None:
    """RECOVERED completes with the NRR that it is shown, learns ABORTED, and keeps s_T."""
    alice, nrr = restored_after_abort(world)
    assert alice.row.state is State.RECOVERED
    alice.receive(nrr)
    alice.settle()
    assert (alice.row.state, world.sent) == (State.ABORTED, [])


def test_counting_as_sent_would_release(world: World) -> None:
    """With a table that goes on where the backup was, the same run lets s_T out, and there is no receipt."""
    careless = {**sender.OFFLINE, (State.SENT, Event.RESTORED): Rule(State.SENT)}
    alice, nrr = restored_after_abort(world, careless)
    alice.receive(nrr)
    alice.settle()
    assert world.sent
    alice.fire()
    assert alice.row.state is State.ABORTED


def test_a_restored_sender_never_aborts(world: World) -> None:
    """Restored to before a release, it doesn't abort what may have been read: it asks, and gets the receipt."""
    backup = SenderNode(world).row
    alice, bob = until_released(world)
    bob.receive(world.wire.pop())
    bob.settle()
    assert len(bob.mailbox) == 1
    world.wire.clear()
    alice.restore(backup)
    world.served.clock.time += DIRECT
    alice.fire()
    assert alice.row == replace(backup, state=State.RECOVERED)
    ask = world.wire.pop()
    bob.receive(ask)
    bob.settle()
    alice.receive(next(message for message in world.wire if message.kind == "nrr"))
    alice.settle()
    assert alice.row.state is State.RECEIPTED


@pytest.mark.parametrize("waited", [DIRECT, EXPIRES])
def test_what_waited_is_not_sent(world: World, waited: int) -> None:
    """RELEASED was committed, s_T never left, the process was away: after direct_until it isn't sent any more."""
    alice, _, nrr = until_signed(world)
    alice.receive(nrr)
    assert alice.row.state is State.RELEASED
    world.served.clock.time += waited
    alice.act()  # what was queued before
    alice.receive(nrr)  # the recipient asks again
    alice.settle()
    assert world.sent == []
    assert alice.row.state is (State.RECEIPTED if waited < EXPIRES else State.EXPIRED)


def test_a_resend_is_harmless_with_the_ack(world: World) -> None:
    """Who holds the ACK sends s_T again whenever it is asked: the recipient may have lost it."""
    alice = SenderNode(world, row=sender_row_with_ack(world))
    nrr = Message("S", "nrr", alice.row.nrrs[0])
    world.served.clock.time += EXPIRES
    alice.actions.clear()
    alice.receive(nrr)
    assert alice.actions == [Action.SEND_SHARE]
    alice.act()
    assert len(world.sent) == 1


def sender_row_with_ack(world: World) -> Any:
    """The row of a sender that was acknowledged."""
    node = SenderNode(world)
    ack = world.served.parties.ack(world.exchange)
    return replace(node.row, state=State.ACKED, nrrs=(world.exchange.nrr,), ack=ack)
