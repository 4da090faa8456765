"""Attack: use Bob's receipt for one letter as the receipt for another, or for another origin."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import EvidenceFault
from shared.evidence.receipt import verify_bundle
from shared.evidence.tokens import sign_nro
from tests.doubles.parties import NOW, Exchange, Parties


def step_of(world: Parties, exchange: Exchange) -> str:
    """Trade the exchange as a TTP that doesn't look would, and return the step that finds it."""
    with pytest.raises(EvidenceFault) as caught:
        verify_bundle(world.ttp.trade(exchange), world.trust)
    return caught.value.step


def test_receipt_of_another_letter() -> None:
    """Bob's NRR over one exchange is no receipt for another with the same parties."""
    world = Parties()
    exchange, other = world.exchange(), world.exchange(b"You owe me a house")
    assert step_of(world, replace(other, nrr=exchange.nrr)) == "nrr.exchange"


def test_origin_minted_anew_over_the_same_manifest() -> None:
    """A second NRO over the same M isn't the one that Bob answered; his NRR names the first by digest."""
    world = Parties()
    exchange = world.exchange()
    again = sign_nro(exchange.manifest.exchange, NOW + 1, world.alice.origin, world.alice.origin_chain)
    assert step_of(world, replace(exchange, nro=again)) == "nrr.nro"


def test_the_trade_of_another_origin() -> None:
    """An NRD that was made for one NRO doesn't complete another, even when Bob answered both."""
    world = Parties()
    exchange = world.exchange()
    again = world.signed(exchange.manifest, exchange.sealed, exchange.secrets, exchange.ciphertext)
    nro = sign_nro(exchange.manifest.exchange, NOW + 1, world.alice.origin, world.alice.origin_chain)
    bundle = world.ttp.trade(exchange)
    assert again.nro == exchange.nro
    with pytest.raises(EvidenceFault, match=r"nrr\.nro"):
        verify_bundle(replace(bundle, nro=nro), world.trust)
