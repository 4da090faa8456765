"""A4 with the real node: once an abort may have left, no NRR gets the key, whoever brings it and whatever the state."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from secmtp_node.agents.modes import ModePolicy
from secmtp_node.smtp.ports import CertifiedPeer
from secmtp_node.smtp.services import Peers
from shared.api.verbs import Kind
from shared.exchange.recipient import State as RecipientState
from shared.exchange.sender import State
from tests.doubles.nodes import TwoNodes
from tests.doubles.parties import LETTER

ALICE, BOB = "alice@a.example", "bob@b.example"
DAY = 24 * 3600
B = CertifiedPeer(("b.example",), b"")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TwoNodes]:
    """Two nodes in offline mode, with an exchange whose NRR the recipient's node held back until too late."""
    made = TwoNodes(tmp_path)
    made.a.policy = replace(made.a.policy, modes=ModePolicy("offline"))
    made.a.load()
    made.wire.cuts = ["NRR<"] * 1000
    made.a.submit(ALICE, [BOB], LETTER)
    made.a.work(1)
    yield made
    made.close()


def nrr_of(world: TwoNodes, exchange: bytes) -> str:
    """Return the NRR that the recipient's node signed."""
    incoming = world.b.incoming(exchange)
    assert incoming is not None
    assert incoming.state is RecipientState.SIGNED
    return incoming.nrr


def test_while_the_abort_is_under_way(world: TwoNodes) -> None:
    """ABORTING is durable before the abort leaves: an NRR that comes meanwhile is answered without the key."""
    (exchange,) = world.a.exchanges()
    nrr = nrr_of(world, exchange)
    seen: list[object] = []
    world.clock.time += 2 * DAY
    abort = world.ttp.abort

    def meanwhile(request: object) -> object:
        seen.append(world.a.outgoing(exchange).state)
        seen.append(Peers(world.a.desk, lambda _: B.names).signed(B, exchange, nrr).kind)
        return abort(request)  # type: ignore[arg-type]

    world.ttp.abort = meanwhile  # type: ignore[method-assign, assignment]
    world.a.work()
    assert seen == [State.ABORTING, Kind.ENDED]
    assert world.a.outgoing(exchange).state is State.ABORTED
    assert world.b.mailbox(BOB) == {}


@pytest.mark.parametrize("restored", [False, True], ids=["as it is", "restored"])
def test_after_the_abort(world: TwoNodes, *, restored: bool) -> None:
    """ABORTED gives no key, and neither does a node whose backup is from before the abort."""
    (exchange,) = world.a.exchanges()
    nrr = nrr_of(world, exchange)
    world.a.close()
    shutil.copytree(world.a.place / "data", world.a.place / "backup")
    world.a.load()
    world.clock.time += 2 * DAY
    world.a.work()
    assert world.a.outgoing(exchange).state is State.ABORTED
    if restored:
        world.a.close()
        shutil.rmtree(world.a.place / "data")
        shutil.copytree(world.a.place / "backup", world.a.place / "data")
        world.a.load()
        assert world.a.outgoing(exchange).state is State.RECOVERED
    answer = Peers(world.a.desk, lambda _: B.names).signed(B, exchange, nrr)
    assert answer.kind is Kind.ENDED
    for _ in range(4):
        world.clock.time += 61
        world.a.work()
        world.b.work()
    (bundle,) = world.ttp.outcomes.values()
    assert bundle.nrr is None
    assert world.b.mailbox(BOB) == {}
    assert len(world.a.mailbox(ALICE)) == 1


def test_too_late_to_release(world: TwoNodes) -> None:
    """An NRR that comes after direct_until, before the timer has run, is lodged; the key never goes directly."""
    (exchange,) = world.a.exchanges()
    nrr = nrr_of(world, exchange)
    world.clock.time += 2 * DAY
    assert Peers(world.a.desk, lambda _: B.names).signed(B, exchange, nrr).kind is Kind.ENDED
    assert world.a.outgoing(exchange).state is State.LODGING
    world.a.work()
    assert world.a.outgoing(exchange).state is State.RECEIPTED
