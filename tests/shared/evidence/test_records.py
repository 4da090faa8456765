"""Bindings, domain records, TTP records and revocations: who may say what, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from shared.crypto import signing
from shared.crypto.keys import generate_hpke, key_id
from shared.errors import EvidenceFault
from shared.evidence.binding import MAX_AGE, BindingContent, check_pin, sign_binding, verify_binding
from shared.evidence.records import (
    DomainRecord,
    EscrowEpoch,
    TTPRecord,
    sign_domain,
    sign_ttp,
    verify_domain,
    verify_ttp,
)
from shared.evidence.revocation import Revocation, sign_revocation, verify_revocation
from shared.ledger.note import KeyType
from tests.doubles.parties import EXPIRES, NOW, Domain, Parties, User, parties
from tests.doubles.witnesses import Cosigner

WITNESS = Cosigner("w.test").verifier
OWN = {"v", "label"}  # what every token has


def content(user: User) -> BindingContent:
    """What a domain would bind to a user's address."""
    return BindingContent(
        address=user.address,
        origin=user.origin_chain[0],
        receipt=user.receipt_chain[0],
        hpke=user.hpke.public,
        policy="on_delivery",
        issued=NOW,
        predecessor=None,
    )


def bind(binding: BindingContent, domain: Domain) -> str:
    """Sign a binding with a domain's CA."""
    return sign_binding(binding, domain.key, domain.certificate)


def step_of(action: Callable[[], object]) -> str:
    """Return the step at which something fails."""
    with pytest.raises(EvidenceFault) as caught:
        action()
    return caught.value.step


class TestBinding:
    def test_valid(self) -> None:
        """A binding by the domain's CA names the address's keys and the level of the receipt key."""
        world = parties()
        binding = verify_binding(bind(content(world.bob), world.b), world.trust, NOW)
        assert binding.origin.key_id == key_id(world.bob.origin.public_key())
        assert (binding.level, binding.address) == ("gateway", "bob@b.example")

    def test_by_another_domain(self) -> None:
        """The CA of a.example can't bind an address of b.example."""
        world = parties()
        assert step_of(lambda: verify_binding(bind(content(world.bob), world.a), world.trust, NOW)) == "binding.domain"

    def test_signed_by_another_key(self) -> None:
        """A certificate of b.example in front of another key's signature is found."""
        world = parties()
        forged = sign_binding(content(world.bob), world.a.key, world.b.certificate)
        assert step_of(lambda: verify_binding(forged, world.trust, NOW)) == "binding.signature"

    @pytest.mark.parametrize("at", [NOW + MAX_AGE + 1, NOW - 3600])
    def test_age(self, at: int) -> None:
        """A binding older than a week, or from the future, is refused."""
        world = parties()
        assert step_of(lambda: verify_binding(bind(content(world.bob), world.b), world.trust, at)) == "binding.age"

    def test_certificates_of_another_address(self) -> None:
        """A binding can't lend another user's certificates to an address."""
        world = Parties()
        carol = User("carol@b.example", world.b)
        mixed = replace(content(world.bob), receipt=carol.receipt_chain[0])
        assert step_of(lambda: verify_binding(bind(mixed, world.b), world.trust, NOW)) == "binding.address"

    def test_purposes_are_not_interchangeable(self) -> None:
        """An origin certificate isn't accepted in the place of the receipt certificate."""
        world = parties()
        mixed = replace(content(world.bob), receipt=world.bob.origin_chain[0])
        assert step_of(lambda: verify_binding(bind(mixed, world.b), world.trust, NOW)) == "certificate.purpose"

    def test_pin(self) -> None:
        """A pin accepts the same binding and its successor, and nothing that doesn't continue the history."""
        world = parties()
        first = verify_binding(bind(content(world.bob), world.b), world.trust, NOW)
        next_one = replace(content(world.bob), issued=NOW + 1, predecessor=first.digest)
        second = verify_binding(bind(next_one, world.b), world.trust, NOW)
        check_pin(None, first)
        check_pin(first.digest, first)
        check_pin(first.digest, second)
        assert step_of(lambda: check_pin(second.digest, first)) == "binding.predecessor"


class TestRecords:
    def test_domain(self) -> None:
        """A domain record by the domain's CA says where its node is; another domain's CA can't."""
        world = parties()
        record = DomainRecord("b.example", "mail.b.example", 25, generate_hpke("X25519").public, ("online",), NOW)
        assert verify_domain(sign_domain(record, world.b.key, world.b.certificate), world.trust, NOW) == record
        forged = sign_domain(record, world.a.key, world.a.certificate)
        assert step_of(lambda: verify_domain(forged, world.trust, NOW)) == "domain.name"
        early = sign_domain(replace(record, issued=NOW + 3600), world.b.key, world.b.certificate)
        assert step_of(lambda: verify_domain(early, world.trust, NOW)) == "domain.issued"

    def test_ttp(self) -> None:
        """A TTP record by its NRD key offers epochs; the one that is open past expires is chosen."""
        world = parties()
        verified = verify_ttp(ttp_record(world), world.trust, NOW)
        assert verified.epoch_for(EXPIRES, "X25519").epoch == 2
        assert step_of(lambda: verified.epoch_for(EXPIRES * 2, "X25519")) == "ttp.epoch"
        assert step_of(lambda: verified.epoch_for(EXPIRES, "MLKEM768_X25519")) == "ttp.epoch"

    def test_witnesses_of_a_ttp(self) -> None:
        """A record lists witnesses and quorum; keys that are no witness, or too few of them, are refused."""
        world = parties()
        good = verify_ttp(ttp_record(world, witnesses=(WITNESS,), quorum=1), world.trust, NOW).record
        assert (good.witnesses, good.quorum) == ((WITNESS,), 1)
        log = replace(WITNESS, type=KeyType.LOG)
        for changed in ({"witnesses": (log,)}, {"witnesses": (WITNESS,), "quorum": 2}, {"witnesses": (WITNESS,) * 32}):
            assert step_of(partial(_verified_ttp, world, changed)) == "ttp.syntax"

    def test_ttp_of_another_name(self) -> None:
        """A TTP can't speak under a name, or about a ledger, that it isn't certified for."""
        world = parties()
        assert step_of(lambda: verify_ttp(ttp_record(world, name="x.example"), world.trust, NOW)) == "ttp.name"
        assert step_of(lambda: verify_ttp(ttp_record(world, log="x.example/l"), world.trust, NOW)) == "ttp.log"


class TestChains:
    def test_more_than_the_ca(self) -> None:
        """What a domain CA signs comes with its certificate alone: nobody would check what stands behind it."""
        world = parties()
        record = DomainRecord("b.example", "mail.b.example", 25, generate_hpke("X25519").public, ("online",), NOW)
        revocation = Revocation(world.bob.address, key_id(world.bob.receipt.public_key()), "superseded", NOW)
        cases: tuple[tuple[signing.TokenType, Callable[..., object], str], ...] = (
            (signing.BINDING, verify_binding, bind(content(world.bob), world.b)),
            (signing.DOMAIN, verify_domain, sign_domain(record, world.b.key, world.b.certificate)),
            (signing.REVOCATION, verify_revocation, sign_revocation(revocation, world.b.key, world.b.certificate)),
        )
        for kind, verify, good in cases:
            verify(good, world.trust, NOW)
            members = {name: value for name, value in signing.parse(good, kind).payload.items() if name not in OWN}
            forged = signing.sign(kind, members, world.b.key, [world.b.certificate, world.a.certificate])
            assert step_of(partial(verify, forged, world.trust, NOW)) == f"{kind.label.lower()}.syntax"


def _verified_ttp(world: Parties, changed: dict[str, Any]) -> object:
    return verify_ttp(ttp_record(world, **changed), world.trust, NOW)


def ttp_record(world: Parties, name: str = "ttp.example", log: str = "ttp.example/ledger", **more: Any) -> str:
    """A TTP's record with an old and a new epoch."""
    epochs = (
        EscrowEpoch(1, generate_hpke("X25519").public, EXPIRES - 1),
        EscrowEpoch(2, world.ttp.escrow.public, EXPIRES),
    )
    record = TTPRecord(name, log, world.ttp.ledger_certificate, epochs, 259_200, NOW, **more)
    return sign_ttp(record, world.ttp.nrd, world.ttp.nrd_chain[0])


class TestRevocation:
    def test_by_the_domain(self) -> None:
        """The domain's CA revokes a key of one of its addresses; another's can't."""
        world = parties()
        revocation = Revocation("bob@b.example", key_id(world.bob.receipt.public_key()), "key-compromise", NOW)
        assert (
            verify_revocation(sign_revocation(revocation, world.b.key, world.b.certificate), world.trust, NOW)
            == revocation
        )
        forged = sign_revocation(revocation, world.a.key, world.a.certificate)
        assert step_of(lambda: verify_revocation(forged, world.trust, NOW)) == "revocation.domain"
