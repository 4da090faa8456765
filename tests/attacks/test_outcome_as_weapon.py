"""A15: a token of no trade is held against a receipt, or taken for what it doesn't say.

Counsel for the recipient shows a TTP-signed EXPIRED against his client's own ACK; counsel for the sender shows
EXPIRED as "he never fetched it", or ABORTED to disown the origin; INVALID is called the sender's fault.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.evidence import bundle as bundles
from shared.evidence.bundle import Bundle
from shared.evidence.precedence import weigh
from shared.evidence.receipt import NoTrade, Receipt, verify_bundle, verify_content, verify_no_trade
from tests.doubles.parties import EXPIRES, LETTER, NOW, Exchange, Parties


def expired(world: Parties, exchange: Exchange) -> Bundle:
    """EXPIRED."""
    return world.ttp.refuse(exchange, "EXPIRED", EXPIRES)


def invalid(world: Parties, exchange: Exchange) -> Bundle:
    """INVALID."""
    return world.ttp.refuse(exchange, "INVALID", NOW + 60)


def aborted(world: Parties, exchange: Exchange) -> Bundle:
    """ABORTED, at the sender's own word."""
    return world.ttp.abort(exchange, world.abort(exchange))


OUTCOMES = [expired, invalid, aborted]


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("first", ["receipt", "outcome"])
def test_a_receipt_by_ack_stands(outcome: Callable[[Parties, Exchange], Bundle], first: str) -> None:
    """Whatever the TTP's state says, and whichever came first, NRR + ACK stand; and no fault of the TTP is made up."""
    world = Parties()
    exchange = world.offline()
    if first == "receipt":
        direct = world.direct(exchange, time=EXPIRES + 60)
        token = outcome(world, exchange)
    else:
        token = outcome(world, exchange)
        direct = world.direct(exchange, time=EXPIRES + 60)
    receipt, ended = verify_bundle(direct, world.trust), verify_no_trade(token, world.trust)
    standing = weigh([receipt], [ended])
    assert standing.receipt is receipt
    assert not standing.ttp_fault


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_token_is_no_statement_about_the_parties(outcome: Callable[[Parties, Exchange], Bundle]) -> None:
    """A verified token of no trade has an outcome, a time and a place; nothing in it says who read, sent or failed."""
    world = Parties()
    ended = verify_no_trade(outcome(world, world.offline()), world.trust)
    assert set(NoTrade.__slots__) == {"manifest", "nro", "refusal", "inclusion", "abort"}
    assert {"fault", "read", "sent", "sender", "recipient"}.isdisjoint(type(ended.refusal).__slots__)
    standing = weigh([], [ended])
    assert (standing.receipt, standing.ttp_fault) == (None, False)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_origin_stands(outcome: Callable[[Parties, Exchange], Bundle]) -> None:
    """Whoever has M, NRO, openings and letter proves who sent what, in every state: an abort is about the receipt."""
    world = Parties()
    exchange = world.offline()
    ended = verify_no_trade(outcome(world, exchange), world.trust)
    assert ended.nro.certificate.address == "alice@a.example"
    # The content is that of h_ct in M, which the NRO signs; openings come from whoever asserts it.
    receipt: Receipt = verify_bundle(world.direct(exchange).opened(exchange.openings), world.trust)
    assert receipt.nro.compact == ended.nro.compact
    verify_content(receipt, exchange.openings, [LETTER])


def test_absence_is_no_argument() -> None:
    """A receipt verifies with nothing but its own octets: what the TTP doesn't have, or a feed lacks, never enters."""
    world = Parties()
    data = bundles.encode(world.direct(world.offline()))
    assert verify_bundle(bundles.decode_any(data), world.trust).carried_by == "NRR + ACK, anchored"


def test_two_outcomes_are_the_ttps_fault_and_nobody_elses() -> None:
    """A TTP that signs a trade and an abort has broken its rule; the receipt isn't void for that."""
    world = Parties()
    exchange = world.offline()
    receipt = verify_bundle(world.ttp.trade(exchange), world.trust)
    standing = weigh([receipt], [verify_no_trade(aborted(world, exchange), world.trust)])
    assert standing.ttp_fault
    assert standing.receipt is receipt
