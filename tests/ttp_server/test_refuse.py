"""Refusals over real HTTPS: recorded, anchored, never an outcome."""

from __future__ import annotations

import pytest

from shared.api import messages
from shared.crypto.signing import token_digest
from shared.evidence import bundle as bundles
from shared.evidence import refusal as refusals
from shared.evidence.receipt import verify_bundle, verify_no_trade
from shared.evidence.statements import sign_refuse
from tests.doubles.ledger import stored_entries
from tests.doubles.parties import DIRECT, EXPIRES, NOW, Exchange
from tests.doubles.served import NodeClient, Served


@pytest.fixture
def exchange(world: Served) -> Exchange:
    """An offline exchange that names this TTP."""
    return world.exchange(b"letter", mode="offline", direct_until=DIRECT)


@pytest.mark.both_databases
def test_is_recorded_and_anchored(world: Served, a: NodeClient, b: NodeClient, exchange: Exchange) -> None:
    """A refusal is answered with a file that proves it offline; both parties get it by `status`; nothing has ended."""
    answer = b.refuse(exchange)
    assert answer.status_code == 200, answer.text
    file = refusals.decode(answer.content)
    assert refusals.verify(file, world.trust).inclusion.time == NOW
    assert [one.kind for one in stored_entries(world)[-1:]] == ["anchor"]
    for node in (a, b):
        assert refusals.decode(node.status(exchange).content).refuse == file.refuse
    assert world.ttp.desk.stored(exchange.manifest.exchange) is None


def test_a_later_receipt_still_completes(world: Served, a: NodeClient, b: NodeClient, exchange: Exchange) -> None:
    """After a refusal a valid NRR completes all the same, and from then on the receipt is the answer to everything."""
    assert b.refuse(exchange).status_code == 200
    verify_bundle(bundles.decode(a.complete(exchange).content), world.trust)
    for answer in (b.refuse(exchange), b.status(exchange), a.abort(exchange)):
        verify_bundle(bundles.decode(answer.content), world.trust)


@pytest.mark.both_databases
@pytest.mark.both_databases
def test_the_first_one_stands(world: Served, b: NodeClient, exchange: Exchange) -> None:
    """A second refusal, even another one, is answered with the first, also after a restart."""
    first = refusals.decode(b.refuse(exchange).content)
    before = len(stored_entries(world))
    bob = world.parties.bob
    named = (exchange.manifest.exchange, token_digest(exchange.nro))
    other = sign_refuse(*named, NOW + 9, bob.receipt, bob.receipt_chain)
    world.restart()
    world.clock.time += 1
    assert refusals.decode(b.refuse(exchange, other).content).refuse == first.refuse
    assert len(stored_entries(world)) == before


def test_an_abort_after_it(world: Served, a: NodeClient, b: NodeClient, exchange: Exchange) -> None:
    """The sender may abort what was refused; then ABORTED is the outcome."""
    assert b.refuse(exchange).status_code == 200
    ended = verify_no_trade(bundles.decode(a.abort(exchange).content), world.trust)
    assert ended.refusal.outcome == "ABORTED"
    assert messages.decode_answer(b.refuse(exchange).content) == messages.decode_answer(b.status(exchange).content)


def test_after_expires(world: Served, b: NodeClient, exchange: Exchange) -> None:
    """After expires the outcome is EXPIRED, refused or not."""
    assert b.refuse(exchange).status_code == 200
    world.clock.time = EXPIRES
    bundle = bundles.decode(b.refuse(exchange).content)
    assert verify_no_trade(bundle, world.trust).refusal.outcome == "EXPIRED"
    assert bundles.decode(b.status(exchange).content).token == bundle.token


def test_only_the_recipient(world: Served, a: NodeClient, b: NodeClient, exchange: Exchange) -> None:
    """Neither the sender's node nor another key can refuse: errors without state."""
    assert a.refuse(exchange).status_code == 403
    alice, bob = world.parties.alice, world.parties.bob
    named = (exchange.manifest.exchange, token_digest(exchange.nro))
    for statement, step in (
        (sign_refuse(*named, NOW, alice.origin, alice.origin_chain), "certificate.purpose"),
        (sign_refuse(bytes(32), named[1], NOW, bob.receipt, bob.receipt_chain), "refuse.exchange"),
        (exchange.nrr, "refuse.syntax"),
    ):
        answer = b.refuse(exchange, statement)
        assert (answer.status_code, answer.json()["step"]) == (422, step)
    assert b.status(exchange).status_code == 404
