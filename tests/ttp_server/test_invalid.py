"""INVALID over real HTTPS: only what M itself commits to ends an exchange so, whatever is wrong inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from shared.crypto import sealing, suites
from shared.encoding.labels import blob_digest
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_no_trade
from tests.doubles.parties import Exchange
from tests.doubles.served import NodeClient, Served

Made = tuple[Exchange, bytes]


def committed(world: Served, exchange: Exchange, escrow: bytes) -> Made:
    """M names this E_T, and both parties signed it."""
    return world.parties.resigned(exchange, h_ET=blob_digest(escrow)), escrow


def another_share(world: Served) -> Made:
    """A good seal for this M over another share than com_T commits to."""
    exchange = world.exchange(b"letter")
    core = exchange.manifest.core
    return committed(world, exchange, sealing.seal(core.suite, core.digest, "T", world.escrow(), b"x" * 32))


def a_short_share(world: Served) -> Made:
    """A good seal over a share of 31 octets."""
    exchange = world.exchange(b"letter")
    core = exchange.manifest.core
    return committed(world, exchange, sealing.seal(core.suite, core.digest, "T", world.escrow(), b"x" * 31))


def another_slot(world: Served) -> Made:
    """The recipient's share's slot: s_T sealed under the label for s_R."""
    exchange = world.exchange(b"letter")
    core, share = exchange.manifest.core, exchange.secrets.shares.ttp
    return committed(world, exchange, sealing.seal(core.suite, core.digest, "R", world.escrow(), share))


def transplanted(world: Served) -> Made:
    """Another exchange's E_T, which M commits to."""
    return committed(world, world.exchange(b"letter"), world.exchange(b"other").sealed.escrow)


def one_octet(world: Served) -> Made:
    """An E_T that is too short for any seal."""
    return committed(world, world.exchange(b"letter"), b"x")


@pytest.mark.parametrize("make", [another_share, a_short_share, another_slot, transplanted, one_octet])
def test_ends_the_exchange(world: Served, a: NodeClient, b: NodeClient, make: Callable[[Served], Made]) -> None:
    """An E_T that M commits to and that doesn't open to com_T ends the exchange as INVALID, and nobody gets the NRR."""
    exchange, escrow = make(world)
    answer = b.complete(exchange, escrow=escrow)
    assert answer.status_code == 200, answer.text
    bundle = bundles.decode(answer.content)
    assert verify_no_trade(bundle, world.trust).refusal.outcome == "INVALID"
    assert bundle.nrr is None
    with world.ttp.desk.store.reading() as stored:
        (entry,) = stored.entries()
    assert exchange.nrr.encode() not in entry.body
    assert b"masked" not in entry.entry
    # The other party is told the same, by every way.
    assert bundles.decode(a.status(exchange).content).token == bundle.token
    assert [fed.token for fed in a.feed().bundles] == [bundle.token]


def test_over_the_bound_is_no_escrow(world: Served, b: NodeClient) -> None:
    """An E_T that is longer than any seal isn't read at all: an error without state, even if M commits to it."""
    exchange, escrow = committed(world, world.exchange(b"letter"), bytes(4096))
    assert b.complete(exchange, escrow=escrow).status_code == 400
    assert world.ttp.desk.stored(exchange.manifest.exchange) is None


def test_a_key_of_another_kind(world: Served, b: NodeClient) -> None:
    """M that names the hybrid escrow key and the X25519 suite is an error without state: nothing can be sealed so."""
    exchange = world.exchange(b"letter", ttp=world.named("MLKEM768_X25519"))
    assert exchange.manifest.core.suite == suites.of_kind("X25519")
    answer = b.complete(exchange)
    assert (answer.status_code, answer.json()["step"]) == (422, "ttp.epoch")
    assert world.ttp.desk.stored(exchange.manifest.exchange) is None


def test_a_key_of_another_epoch(world: Served, b: NodeClient) -> None:
    """M that names one epoch's number and another one's key is an error without state, not the sender's fault."""
    named = world.named()
    exchange = world.exchange(b"letter", ttp=replace(named, epoch=world.named("MLKEM768_X25519").epoch))
    answer = b.complete(exchange)
    assert (answer.status_code, answer.json()["step"]) == (422, "ttp.epoch")
    assert world.ttp.desk.stored(exchange.manifest.exchange) is None
