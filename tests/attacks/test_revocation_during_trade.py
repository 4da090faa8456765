"""A3: the recipient's domain revokes the receipt key while its own trade is under way.

If the TTP looked at the revocation before its transaction, the NRD would come out with a key that the
ledger calls revoked at a smaller index, and the receipt would be void with the message read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.crypto.keys import key_id
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle
from tests.doubles.parties import EXPIRES, NOW, Exchange
from tests.doubles.served import NodeClient, Served, served

NOTICE = 72 * 3600


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Served]:
    """A TTP over real HTTPS."""
    with served(tmp_path) as made:
        yield made


@pytest.fixture
def b(world: Served) -> NodeClient:
    """The recipient's node, enrolled, with Bob's binding published."""
    node = NodeClient(world, "b.example")
    assert node.enrol(world.parties.b).status_code == 201
    assert node.publish(world.parties.bob, world.parties.b).status_code == 201
    return node


def revoke_bob(world: Served, b: NodeClient) -> None:
    """Bob's domain revokes his receipt key."""
    bob = world.parties.bob
    assert b.revoke(bob.address, key_id(bob.receipt.public_key()), world.parties.b).status_code == 201


def caught_after_the_checks(world: Served, b: NodeClient, exchange: Exchange) -> bytes:
    """Let a trade pass all checks outside the transaction, revoke then, and return the trade's answer."""
    checked, go = threading.Event(), threading.Event()
    custody = world.ttp.desk.custody
    opening = custody.open

    def open_and_wait(*arguments: object) -> object:
        opened = opening(*arguments)  # type: ignore[arg-type]
        checked.set()
        assert go.wait(10)
        return opened

    custody.open = open_and_wait  # type: ignore[method-assign,assignment]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(b.complete, exchange)
        assert checked.wait(10)
        revoke_bob(world, b)
        go.set()
        answer = asked.result(10)
    custody.open = opening  # type: ignore[method-assign]
    assert answer.status_code == 200, answer.text
    return answer.content


def test_within_the_notice_the_receipt_stands(world: Served, b: NodeClient) -> None:
    """A revocation that slips in after the checks is read inside the transaction; the receipt says so, and holds."""
    exchange = world.exchange(b"letter", created=NOW - 60)
    receipt = verify_bundle(bundles.decode(caught_after_the_checks(world, b, exchange)), world.trust)
    assert receipt.nrd.receipt_key.effective == NOW + NOTICE
    assert receipt.nrd.origin_key.effective is None


def test_when_the_notice_has_passed_there_is_no_trade(world: Served, b: NodeClient) -> None:
    """From `effective` on the key makes no receipt: an error without state, and s_T stays where it is."""
    exchange = world.exchange(b"letter", created=NOW - 60)
    revoke_bob(world, b)
    world.clock.time = NOW + NOTICE
    answer = b.complete(exchange)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:secmtp:problem:key-revoked")
    assert world.ttp.desk.stored(exchange.manifest.exchange) is None


def test_one_second_before_it_still_trades(world: Served, b: NodeClient) -> None:
    """Until the last second of the notice an exchange that was made before it is traded, and its receipt verifies."""
    exchange = world.exchange(b"letter", created=NOW - 60)
    revoke_bob(world, b)
    world.clock.time = NOW + NOTICE - 1
    verify_bundle(bundles.decode(b.complete(exchange).content), world.trust)


@pytest.mark.parametrize("created", [NOW, NOW + 60])
def test_new_exchanges_stop_at_once(world: Served, b: NodeClient, created: int) -> None:
    """An exchange that was made at or after the revocation's ledger time isn't traded, notice or not."""
    revoke_bob(world, b)
    exchange = world.exchange(b"letter", created=created)
    answer = b.complete(exchange)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:secmtp:problem:key-revoked")
    assert world.ttp.desk.stored(exchange.manifest.exchange) is None


def test_the_senders_key_counts_too(world: Served, b: NodeClient) -> None:
    """A revoked origin key stops a trade in the same way as a revoked receipt key."""
    a = NodeClient(world, "a.example")
    assert a.enrol(world.parties.a).status_code == 201
    assert a.publish(world.parties.alice, world.parties.a).status_code == 201
    alice = world.parties.alice
    exchange, later = world.exchange(b"letter", created=NOW - 60), world.exchange(b"later", created=NOW)
    assert a.revoke(alice.address, key_id(alice.origin.public_key()), world.parties.a).status_code == 201
    receipt = verify_bundle(bundles.decode(b.complete(exchange).content), world.trust)
    assert receipt.nrd.origin_key.effective == NOW + NOTICE
    assert b.complete(later).status_code == 403


def test_a_stolen_hpke_key(world: Served, b: NodeClient) -> None:
    """A revoked HPKE key stops look-ups and what was made after it; what was made before is traded for ever."""
    bob = world.parties.bob
    before, after = world.exchange(b"letter", created=NOW - 60), world.exchange(b"later", created=NOW)
    assert b.look_up(bob.address).status_code == 200
    assert b.revoke(bob.address, bob.hpke.key_id, world.parties.b).status_code == 201
    assert b.look_up(bob.address).status_code == 404
    assert b.complete(after).status_code == 403
    world.clock.time = NOW + NOTICE
    verify_bundle(bundles.decode(b.complete(before).content), world.trust)


def test_what_was_traded_stays_traded(world: Served, b: NodeClient) -> None:
    """A revocation after the trade changes nothing: the same NRD is handed out for ever."""
    exchange = world.exchange(b"letter", created=NOW - 60)
    token = bundles.decode(b.complete(exchange).content).token
    revoke_bob(world, b)
    for time in (NOW + NOTICE, EXPIRES + 1):
        world.clock.time = time
        assert bundles.decode(b.complete(exchange).content).token == token
