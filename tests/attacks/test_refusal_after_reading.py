"""A1: the recipient signs, takes s_T, reads, and then refuses.

If a refusal were an outcome, it would be an abort in the recipient's hands: the sender's own `complete` would be
answered with it, and there would be no receipt for a letter that was read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.evidence.receipt import verify_bundle
from shared.evidence.refusal import RefusalFile
from shared.exchange import sender, ttp
from shared.exchange.ttp import Event, State
from tests.doubles.offline import Message, RecipientNode, SenderNode, World, make_world, until_released
from tests.doubles.served import served


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An exchange between two nodes and a real TTP."""
    with served(tmp_path) as made:
        yield make_world(made)


def read_by_the_recipient(world: World) -> SenderNode:
    """Run the exchange until the recipient has s_T; its ACK never leaves."""
    alice, _ = until_released(world)
    return alice


def test_the_sender_still_gets_its_receipt(world: World) -> None:
    """After reading, the recipient lodges a refusal; the sender's timer completes all the same."""
    alice = read_by_the_recipient(world)
    assert isinstance(world.refuse(), RefusalFile)
    alice.fire()
    assert alice.row.state is sender.State.RECEIPTED
    assert alice.row.receipt is not None
    verify_bundle(alice.row.receipt, world.served.trust)
    assert alice.reports == ["REPORT_RECEIPT"]


def test_the_sender_is_told_and_completes_at_once(world: World) -> None:
    """A sender that released, and hears of the refusal, completes; it neither aborts nor waits."""
    alice = read_by_the_recipient(world)
    world.refuse()
    alice.receive(Message("S", "refusal"))
    alice.settle()
    assert alice.row.state is sender.State.RECEIPTED


def test_a_refusal_and_an_abort_do_not_meet(world: World) -> None:
    """A sender that hasn't released aborts on a refusal; the recipient that signs after it all gets ABORTED, no key."""
    alice, bob = SenderNode(world), RecipientNode(world, delegated=False)
    bob.receive(Message("R", "envelope"))
    bob.user(accepts=False)
    bob.settle()
    alice.receive(Message("S", "refusal"))
    alice.settle()
    assert alice.row.state is sender.State.ABORTED
    bob.user(accepts=True)
    bob.fire()
    assert bob.row is not None
    assert (bob.row.state.value, bob.mailbox, world.sent) == ("ABORTED", [], [])


def test_no_row_of_the_table_ends_an_exchange_by_a_refusal() -> None:
    """In the TTP's table a refusal before expires leaves an open exchange open, and no state is named after it."""
    assert ttp.TABLE[State.OPEN, Event.REFUSE].next is State.OPEN
    assert "REFUSED" not in State.__members__
