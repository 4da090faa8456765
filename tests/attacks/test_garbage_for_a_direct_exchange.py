"""A8: the recipient has s_T directly, and lodges garbage as E_T, so that the TTP calls the sender's exchange INVALID.

`complete` is open to anybody. If whatever doesn't open ended the exchange, the sender's own `complete` would be
answered INVALID, "the sender's fault", with the letter read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import EvidenceFault
from shared.evidence.receipt import Receipt, verify_bundle
from shared.exchange import sender
from tests.doubles.offline import Message, RecipientNode, SenderNode, World, make_world, until_released
from tests.doubles.served import served


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An exchange between two nodes and a real TTP."""
    with served(tmp_path) as made:
        yield make_world(made)


@pytest.mark.parametrize("garbage", [b"garbage", bytes(80), b"x" * 1168])
def test_garbage_makes_no_state(world: World, garbage: bytes) -> None:
    """Garbage that M doesn't commit to is an error without state, and the sender completes with the real E_T."""
    alice, _ = until_released(world)
    with pytest.raises(EvidenceFault, match=r"escrow\.digest"):
        world.complete(alice.row.nrrs[0], garbage)
    assert world.outcome() is None
    alice.fire()
    assert alice.row.state is sender.State.RECEIPTED


def test_a_tampered_blob_of_the_right_exchange(world: World) -> None:
    """One octet of E_T altered is garbage too."""
    escrow = bytearray(world.exchange.sealed.escrow)
    escrow[-1] ^= 1
    with pytest.raises(EvidenceFault, match=r"escrow\.digest"):
        world.complete(world.exchange.nrr, bytes(escrow))
    assert isinstance(world.verified(world.complete(world.exchange.nrr)), Receipt)


def test_garbage_that_m_commits_to(tmp_path: Path) -> None:
    """What M itself commits to ends as INVALID; a good s_T from the sender still makes an honest receipt by ACK."""
    with served(tmp_path) as made:
        world = make_world(made, lambda _: bytes(80))
        alice, bob = SenderNode(world), RecipientNode(world)
        bob.receive(Message("R", "envelope"))
        alice.receive(world.wire.pop())
        bob.fire()  # trades: INVALID
        assert bob.row is not None
        assert bob.row.state.value == "INVALID"
        bob.receive(Message("R", "key", world.exchange.secrets.shares.ttp))
        bob.settle()
        assert len(bob.mailbox) == 1
        ack = next(message for message in world.wire if message.kind == "ack")
        alice.receive(Message("S", "nrr", bob.row.nrr))
        alice.receive(ack)
        alice.settle()
        assert alice.row.receipt is not None
        verify_bundle(alice.row.receipt, made.trust)
