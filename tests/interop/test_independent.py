"""The verifier that was written from the specification agrees with the product's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from shared.errors import SecMTPError
from shared.evidence import bundle as bundles
from shared.evidence.bundle import Bundle
from shared.evidence.receipt import verify_bundle
from shared.evidence.tokens import KeyState
from tests.doubles.parties import EXPIRES, NOW, Exchange, LedgerTTP, Parties, Root, User, parties
from tests.interop import independent


def ours(data: bytes, root: Root) -> bool:
    """Whether the product accepts."""
    try:
        verify_bundle(bundles.decode(data), root.trust)
    except SecMTPError:
        return False
    return True


def theirs(data: bytes, root: Root) -> bool:
    """Whether the independent verifier accepts; it may fail in any way."""
    try:
        independent.verify(data, root.certificate)
    except Exception:  # noqa: BLE001  (it says no by any exception)
        return False
    return True


def late(world: Parties, exchange: Exchange) -> Bundle:
    """Traded after expires."""
    return world.ttp.trade(exchange, time=EXPIRES)


def revoked(world: Parties, exchange: Exchange) -> Bundle:
    """Traded for a revoked key."""
    return world.ttp.trade(exchange, keys=(KeyState(NOW), KeyState()))


def expired(world: Parties, exchange: Exchange) -> Bundle:
    """No trade at all."""
    return world.ttp.refuse(exchange, "EXPIRED", EXPIRES)


def bad_commitment(world: Parties, exchange: Exchange) -> Bundle:
    """The share in the NRD isn't the one that M commits to."""
    good = world.ttp.trade(exchange)
    return replace(good, manifest=replace(good.manifest, com_T=bytes(32)))


def other_salt(world: Parties, exchange: Exchange) -> Bundle:
    """The body isn't the one in the ledger."""
    return replace(world.ttp.trade(exchange), salt=bytes(32))


def other_ledger(world: Parties, exchange: Exchange) -> Bundle:
    """The checkpoint is signed by a ledger that M doesn't name."""
    return replace(world.ttp.trade(exchange), ledger=LedgerTTP(world.root, "other.example").ledger_certificate)


def other_level(world: Parties, exchange: Exchange) -> Bundle:
    """Signed at another level than M asks for."""
    user = User("bob@b.example", world.b, level="user")
    return replace(world.ttp.trade(exchange), nrr=replace(exchange, nrr=user_nrr(exchange, user)).nrr)


def user_nrr(exchange: Exchange, user: User) -> str:
    """An NRR by a user's key."""
    from shared.crypto.signing import token_digest
    from shared.evidence.tokens import sign_nrr

    return sign_nrr(exchange.manifest.exchange, token_digest(exchange.nro), NOW, user.receipt, user.receipt_chain)


@pytest.mark.parametrize("kem", ["X25519", "MLKEM768_X25519"])
def test_both_accept_a_receipt(kem: str) -> None:
    """A good receipt, with and without openings, is valid to both."""
    world = Parties(kem)
    exchange = world.exchange()
    bundle = world.ttp.trade(exchange)
    for good in (bundle, bundle.opened(exchange.openings)):
        data = bundles.encode(good)
        assert ours(data, world.root)
        assert theirs(data, world.root)


@pytest.mark.parametrize("spoil", [late, revoked, expired, bad_commitment, other_salt, other_ledger, other_level])
def test_both_refuse(spoil: Callable[[Parties, Exchange], Bundle]) -> None:
    """What isn't a receipt is refused by both."""
    world = parties()
    data = bundles.encode(spoil(world, world.exchange()))
    assert not ours(data, world.root)
    assert not theirs(data, world.root)


def test_both_refuse_every_altered_octet() -> None:
    """A bundle with one octet altered, anywhere, is refused by both."""
    world = parties()
    exchange = world.exchange()
    data = bundles.encode(world.ttp.trade(exchange).opened(exchange.openings))
    for place in range(0, len(data), 23):
        altered = bytearray(data)
        altered[place] ^= 1
        assert not theirs(bytes(altered), world.root), place
        assert not ours(bytes(altered), world.root), place
