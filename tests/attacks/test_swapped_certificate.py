"""Attack: sign with a key of one's own that is certified, only not the one that M names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.crypto.certificates import Purpose
from shared.crypto.signing import token_digest
from shared.errors import EvidenceFault
from shared.evidence.receipt import verify_bundle
from shared.evidence.tokens import sign_nro, sign_nrr
from tests.doubles.parties import NOW, Exchange, Parties, User


def step_of(world: Parties, exchange: Exchange) -> str:
    """Trade the exchange as a TTP that doesn't look would, and return the step that finds it."""
    with pytest.raises(EvidenceFault) as caught:
        verify_bundle(world.ttp.trade(exchange), world.trust)
    return caught.value.step


def with_nro(world: Parties, exchange: Exchange, user: User) -> Exchange:
    """The exchange with an NRO by somebody else, and Bob's NRR over that NRO."""
    nro = sign_nro(exchange.manifest.exchange, NOW, user.origin, user.origin_chain)
    nrr = sign_nrr(exchange.manifest.exchange, token_digest(nro), NOW, world.bob.receipt, world.bob.receipt_chain)
    return replace(exchange, nro=nro, nrr=nrr)


def with_nrr(exchange: Exchange, user: User) -> Exchange:
    """The exchange with an NRR by somebody else."""
    nrr = sign_nrr(exchange.manifest.exchange, token_digest(exchange.nro), NOW, user.receipt, user.receipt_chain)
    return replace(exchange, nrr=nrr)


def test_origin_by_another_user() -> None:
    """An NRO by Mallory's certified key isn't Alice's."""
    world = Parties()
    assert step_of(world, with_nro(world, world.exchange(), User("mallory@a.example", world.a))) == "nro.key"


def test_origin_by_another_key_of_the_same_address() -> None:
    """A second certificate for Alice's address doesn't help: M names the key, not the address alone."""
    world = Parties()
    assert step_of(world, with_nro(world, world.exchange(), User("alice@a.example", world.a))) == "nro.key"


def test_receipt_by_another_key_of_the_same_address() -> None:
    """A receipt by a rogue second binding of Bob's isn't the one that M asked for."""
    world = Parties()
    assert step_of(world, with_nrr(world.exchange(), User("bob@b.example", world.b))) == "nrr.key"


def test_receipt_of_another_level() -> None:
    """A key certified for the level `user` doesn't sign where M says `gateway`."""
    world = Parties()
    assert (
        step_of(world, with_nrr(world.exchange(), User("bob@b.example", world.b, level="user")))
        == "certificate.purpose"
    )


def test_certified_by_another_domain() -> None:
    """The same key, certified for Bob's address by the CA of a.example, proves nothing."""
    world = Parties()
    exchange = world.exchange()
    chain = world.a.certify(Purpose.RECEIPT_GATEWAY, "bob@a.example", world.bob.receipt)
    forged = sign_nrr(exchange.manifest.exchange, token_digest(exchange.nro), NOW, world.bob.receipt, chain)
    assert step_of(world, replace(exchange, nrr=forged)) == "nrr.key"


def test_the_right_certificate_over_anothers_signature() -> None:
    """Alice's certificate in front of Mallory's signature is found by the signature."""
    world = Parties()
    exchange = world.exchange()
    mallory = User("mallory@a.example", world.a)
    nro = sign_nro(exchange.manifest.exchange, NOW, mallory.origin, world.alice.origin_chain)
    nrr = sign_nrr(exchange.manifest.exchange, token_digest(nro), NOW, world.bob.receipt, world.bob.receipt_chain)
    assert step_of(world, replace(exchange, nro=nro, nrr=nrr)) == "nro.signature"
