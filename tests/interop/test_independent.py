"""The verifier that was written from the specification agrees with the product's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from shared.errors import SecMTPError
from shared.evidence import bundle as bundles
from shared.evidence.bundle import AnyBundle, Bundle, DirectBundle
from shared.evidence.receipt import verify_bundle
from shared.evidence.tokens import KeyState
from shared.ledger import policy as policies
from shared.ledger.note import KeyType, verifier_key
from tests.doubles.parties import EXPIRES, NOW, Exchange, LedgerTTP, Parties, Root, User, parties
from tests.doubles.witnesses import Cosigner, cosigned, policy_file
from tests.interop import independent


def ours(data: bytes, root: Root, policy: bytes | None = None) -> bool:
    """Whether the product accepts."""
    try:
        verify_bundle(bundles.decode_any(data), root.trust, policies.decode(policy) if policy else None)
    except SecMTPError:
        return False
    return True


def theirs(data: bytes, root: Root, policy: bytes | None = None) -> bool:
    """Whether the independent verifier accepts; it may fail in any way."""
    try:
        independent.verify(data, root.certificate, policy)
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
    exchange, offline = world.exchange(), world.offline()
    bundle, direct = world.ttp.trade(exchange), world.direct(offline)
    good: list[AnyBundle] = [bundle, bundle.opened(exchange.openings), world.ttp.trade(offline)]
    for one in [*good, direct, direct.opened(offline.openings)]:
        data = bundles.encode(one)
        assert ours(data, world.root)
        assert theirs(data, world.root)


def unanchored(world: Parties, exchange: Exchange) -> DirectBundle:
    """NRR and ACK without an anchor."""
    return replace(world.direct(exchange), anchor=None)


def other_share(world: Parties, exchange: Exchange) -> DirectBundle:
    """An ACK with a share that isn't s_T."""
    return world.direct(exchange, world.ack(exchange, b"X" * 32))


def other_places(world: Parties, exchange: Exchange) -> DirectBundle:
    """Places of other digests."""
    bundle = world.direct(exchange)
    assert bundle.anchor is not None
    return replace(bundle, anchor=replace(bundle.anchor, places=bundle.anchor.places[::-1]))


def other_time(world: Parties, exchange: Exchange) -> DirectBundle:
    """Anchored, it says, a second earlier than it was."""
    bundle = world.direct(exchange)
    assert bundle.anchor is not None
    lodged = replace(bundle.anchor.lodged, time=bundle.anchor.lodged.time - 1)
    return replace(bundle, anchor=replace(bundle.anchor, lodged=lodged))


def aborted(world: Parties, exchange: Exchange) -> Bundle:
    """No trade, because the sender aborted."""
    return world.ttp.abort(exchange, world.abort(exchange))


SPOILT = [
    late,
    revoked,
    expired,
    bad_commitment,
    other_salt,
    other_ledger,
    other_level,
    unanchored,
    other_share,
    other_places,
    other_time,
    aborted,
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_both_refuse(spoil: Callable[[Parties, Exchange], AnyBundle]) -> None:
    """What isn't a receipt is refused by both."""
    world = parties()
    data = bundles.encode(spoil(world, world.offline()))
    assert not ours(data, world.root)
    assert not theirs(data, world.root)


def test_both_refuse_every_altered_octet() -> None:
    """A bundle with one octet altered, anywhere, is refused by both."""
    world = parties()
    exchange, offline = world.exchange(), world.offline()
    traded, direct = world.ttp.trade(exchange).opened(exchange.openings), world.direct(offline)
    for data, step in ((bundles.encode(traded), 23), (bundles.encode(direct), 29)):
        for place in range(0, len(data), step):
            altered = bytearray(data)
            altered[place] ^= 1
            assert not theirs(bytes(altered), world.root), place
            assert not ours(bytes(altered), world.root), place


THREE = ("x.test/1", "x.test/2", "y.test")
FOUR = ("x.test/1", "z.test", "x.test/2", "y.test")
POLICIES = [
    ("1", ("x.test/1",), ("x.test/1",), True),
    ("1", ("x.test/1",), (), False),
    ("1", ("x.test/1",), ("y.test",), False),
    ("2", THREE, ("x.test/1", "x.test/2"), False),
    ("2", THREE, ("x.test/2", "y.test"), True),
    ("all", ("x.test", "b.example/witness"), ("x.test", "b.example/witness"), False),
    ("any", ("mail.a.example", "y.test"), ("mail.a.example",), False),
    ("any", ("ba.example", "y.test"), ("ba.example",), True),
    ("quorum none", THREE, (), True),
    ("group a all w0 w1\ngroup b all w2 w3\ngroup c any a b\nquorum c", FOUR, ("x.test/1", "x.test/2", "y.test"), True),
    ("group a all w0 w1\ngroup b all w2 w3\ngroup c all a b\nquorum c", FOUR, FOUR, False),
    ("group a any w0 w1\ngroup b all a w2\nquorum b", THREE, ("x.test/2", "y.test"), True),
    ("group a any w0\ngroup b any w1\ngroup c all a b\nquorum c", THREE, THREE, False),
]


@pytest.mark.parametrize(("quorum", "names", "signed", "met"), POLICIES)
def test_both_hold_it_against_a_policy(quorum: str, names: tuple[str, ...], signed: tuple[str, ...], met: bool) -> None:
    """A policy's quorum is met, or missed, to both: nested groups, organisations, parties' own witnesses."""
    world = parties()
    bundle = cosigned(world.ttp.trade(world.exchange()), *signed)
    file = policy_file(quorum, *names)
    assert ours(bundles.encode(bundle), world.root, file) is met
    assert theirs(bundles.encode(bundle), world.root, file) is met


def test_both_refuse_a_false_cosignature() -> None:
    """A cosignature of a listed witness over another checkpoint refuses the bundle, also where others are enough."""
    world = parties()
    good = cosigned(world.ttp.trade(world.exchange()), "x.test", "y.test")
    bad = bundles.encode(cosigned(good, "z.test", over="another\n1\ntext\n"))
    file = policy_file("2", "x.test", "y.test", "z.test")
    assert not ours(bad, world.root, file)
    assert not theirs(bad, world.root, file)
    assert ours(bad, world.root)  # who doesn't know the witness ignores its line


def test_both_demand_a_listed_log() -> None:
    """A policy that lists other logs refuses the bundle."""
    world = parties()
    data = bundles.encode(world.ttp.trade(world.exchange()))
    other = verifier_key("ttp.example/ledger", KeyType.LOG, Cosigner("other").key.public_key())
    mine = verifier_key("ttp.example/ledger", KeyType.LOG, world.ttp.checkpoint.public_key())
    for key, good in ((other, False), (mine, True)):
        file = f"log {key.encode()}\nquorum none\n".encode()
        assert ours(data, world.root, file) is good
        assert theirs(data, world.root, file) is good
