"""A certified node that isn't the other party's asks for NRRs and keys: it hears what it hears of unknown exchanges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from secmtp_node.agents.modes import ModePolicy
from secmtp_node.ports.values import UserKey
from secmtp_node.smtp.ports import CertifiedPeer
from secmtp_node.smtp.services import Peers
from shared.api.verbs import Answer, Kind
from shared.errors import EvidenceFault, NotFound
from shared.evidence.tokens import sign_nrr
from shared.exchange.recipient import State as RecipientState
from shared.exchange.sender import State
from tests.doubles.nodes import TwoNodes
from tests.doubles.parties import LETTER

ALICE, BOB = "alice@a.example", "bob@b.example"
STRANGER = CertifiedPeer(("c.example", "evil-a.example", "b.example.c.example"), b"")
A, B = CertifiedPeer(("a.example",), b""), CertifiedPeer(("b.example",), b"")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TwoNodes]:
    """Two nodes in offline mode, cut after the envelope: SENT on one side, SIGNED on the other."""
    made = TwoNodes(tmp_path)
    made.a.policy = replace(made.a.policy, modes=ModePolicy("offline"))
    made.a.load()
    made.wire.cuts = ["NRR<"]
    made.a.submit(ALICE, [BOB], LETTER)
    made.a.work(1)
    yield made
    made.close()


def services(world: TwoNodes, name: str) -> Peers:
    """Return the peer services of a node."""
    node = world.a if name == "a" else world.b
    return Peers(node.desk, lambda _: ())


@pytest.mark.parametrize("peer", [STRANGER, None], ids=["stranger", "wrong side"])
def test_same_answer_as_for_nothing(world: TwoNodes, peer: CertifiedPeer | None) -> None:
    """Every verb of somebody else is answered as if the exchange were unknown, and changes nothing."""
    (exchange,) = world.a.exchanges()
    incoming = world.b.incoming(exchange)
    assert incoming is not None
    b, a = services(world, "b"), services(world, "a")
    calls: list[Callable[[bytes], Answer]] = [
        lambda name: b.nrr(peer or B, name),
        lambda name: b.key(peer or B, name, b"s" * 32),
        lambda name: a.signed(peer or A, name, incoming.nrr),
        lambda name: a.ack(peer or A, name, incoming.nrr),
    ]
    for call in calls:
        said = []
        for name in (exchange, bytes(32)):
            with pytest.raises(NotFound) as fault:
                call(name)
            said.append(str(fault.value))
        assert said[0] == said[1]
    assert world.a.outgoing(exchange).state is State.SENT
    assert world.b.incoming(exchange) == incoming


def test_wrong_key(world: TwoNodes) -> None:
    """A share that M doesn't commit to is refused, nothing is opened, and the recipient trades at once."""
    (exchange,) = world.a.exchanges()
    assert services(world, "b").key(A, exchange, b"s" * 32).kind is Kind.WRONG
    incoming = world.b.incoming(exchange)
    assert incoming is not None
    assert incoming.state is RecipientState.SIGNED
    world.b.work()
    assert len(world.b.mailbox(BOB)) == 1


def test_nrr_of_another_key(world: TwoNodes) -> None:
    """The other party's node with an NRR that another key signed gets no key, and nothing moves."""
    (exchange,) = world.a.exchanges()
    outgoing = world.a.outgoing(exchange)
    dave = world.b.desk.vault.receipt(next(key for key in _keys(world, "dave@b.example") if key.use.value == "receipt"))
    forged = sign_nrr(exchange, b"n" * 32, world.clock(), dave.key, dave.chain)
    with pytest.raises(EvidenceFault):
        services(world, "a").signed(B, exchange, forged)
    assert world.a.outgoing(exchange) == outgoing


def test_two_sessions_at_once(world: TwoNodes) -> None:
    """Eight sessions with one key, and eight that ask for the NRR: one NRR, one ACK, one letter."""
    (exchange,) = world.a.exchanges()
    incoming = world.b.incoming(exchange)
    assert incoming is not None
    from secmtp_node.agents.sender import SHARE

    outgoing = world.a.outgoing(exchange)
    share = world.a.desk.at_rest.open(outgoing.sealed_share, SHARE, exchange)

    def give(number: int) -> Answer:
        b = services(world, "b")
        return b.key(A, exchange, share) if number % 2 else b.nrr(A, exchange)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(give, range(16)))
    assert {answer.kind for answer in answers} == {Kind.GIVEN}
    assert {answer.text for answer in answers[::2]} == {incoming.nrr}
    assert len({answer.text for answer in answers[1::2]}) == 1
    assert len(world.b.mailbox(BOB)) == 1


def _keys(world: TwoNodes, address: str) -> list[UserKey]:
    with world.b.store.transaction() as unit:
        return list(unit.users.keys(address))
