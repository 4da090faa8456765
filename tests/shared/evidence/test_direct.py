"""Evidence of direct exchanges: NRR and ACK, anchored, or it isn't evidence yet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.crypto.keys import key_id
from shared.crypto.signing import token_digest
from shared.errors import EvidenceFault, Malformed, SecMTPError
from shared.evidence import bundle as bundles
from shared.evidence.anchored import Place
from shared.evidence.bundle import DirectBundle
from shared.evidence.receipt import verify_bundle, verify_content
from shared.evidence.statements import sign_ack
from shared.evidence.tokens import sign_nrr
from tests.doubles.parties import LETTER, NOW, LedgerTTP, Parties, User, parties

DAY = 24 * 3600


def good() -> DirectBundle:
    """A direct exchange whose evidence is anchored."""
    return parties().direct(parties().offline())


def fails(bundle: DirectBundle, step: str) -> None:
    """Assert at which step a bundle fails."""
    with pytest.raises(EvidenceFault) as caught:
        verify_bundle(bundle, parties().trust)
    assert caught.value.step == step, caught.value


class TestReceipt:
    def test_is_carried_by_the_ack(self) -> None:
        """NRR and ACK that are anchored are a receipt; it says what carried it and since when the ledger knows."""
        receipt = verify_bundle(good(), parties().trust)
        assert receipt.carried_by == "NRR + ACK, anchored"
        assert receipt.time == NOW + 120
        assert receipt.share == b"T" * 32
        assert receipt.answers == "b.example answers for bob@b.example, level gateway"
        with pytest.raises(EvidenceFault, match="no NRD"):
            _ = receipt.nrd

    def test_a_trade_is_carried_by_the_nrd(self) -> None:
        """An offline exchange that was traded at the TTP is a receipt of the same form as an online one."""
        bundle = parties().ttp.trade(parties().offline())
        assert bundles.encode(bundle).endswith(b'"v":1}')
        assert verify_bundle(bundle, parties().trust).carried_by == "NRR + NRD"

    def test_not_evidence_yet(self) -> None:
        """Without its anchor the best NRR and ACK aren't evidence yet, and the fault says what to do."""
        with pytest.raises(EvidenceFault, match=r"isn't evidence yet.*anchor") as caught:
            verify_bundle(replace(good(), anchor=None), parties().trust)
        assert caught.value.step == "anchor.missing"

    def test_content(self) -> None:
        """With openings it proves exactly the letter that was sent."""
        exchange = parties().offline()
        bundle = parties().direct(exchange).opened(exchange.openings)
        receipt = verify_bundle(bundle, parties().trust)
        verify_content(receipt, exchange.openings, [LETTER])
        with pytest.raises(EvidenceFault, match=r"content\.digest"):
            verify_content(receipt, exchange.openings, [LETTER + b" "])

    def test_certificates_at_the_anchor(self) -> None:
        """Certificates are judged at the anchor's time: an anchor made after they have ended proves nothing."""
        fails(parties().direct(parties().offline(), time=NOW + 400 * DAY), "certificate.validity")


class TestTokens:
    def test_every_part_of_another_exchange(self) -> None:
        """No part of one direct exchange serves in another; the step names the part."""
        world = parties()
        one, other = good(), world.direct(world.offline(b"another letter"))
        expected = {
            "manifest": "nro.exchange",
            "nro": "nro.exchange",
            "nrr": "nrr.exchange",
            "ack": "ack.exchange",
            "anchor": "anchor.inclusion",
        }
        for part, step in expected.items():
            fails(replace(one, **{part: getattr(other, part)}), step)

    def test_ack_of_another_nrr(self) -> None:
        """An ACK belongs to the one NRR that it names, not to a second one by the same key."""
        world = parties()
        exchange, bob = world.offline(), world.bob
        hm = exchange.manifest.exchange
        second = sign_nrr(hm, token_digest(exchange.nro), NOW + 31, bob.receipt, bob.receipt_chain)
        other = sign_ack(hm, (token_digest(second), b"T" * 32), NOW + 40, bob.receipt, bob.receipt_chain)
        fails(world.direct(exchange, other), "ack.nrr")
        verify_bundle(world.direct(replace(exchange, nrr=second), other), world.trust)

    def test_ack_with_another_share(self) -> None:
        """An ACK whose share doesn't open com_T completes nothing: a receipt can't exist without the key."""
        exchange = parties().offline()
        fails(parties().direct(exchange, parties().ack(exchange, b"X" * 32)), "ack.share")

    def test_ack_by_another_key(self) -> None:
        """An ACK signed by a certified key of the same address that M doesn't name is refused."""
        world = parties()
        exchange, other = world.offline(), User("bob@b.example", world.b)
        named = (token_digest(exchange.nrr), b"T" * 32)
        ack = sign_ack(exchange.manifest.exchange, named, NOW + 40, other.receipt, other.receipt_chain)
        fails(world.direct(exchange, ack), "ack.key")

    def test_an_nrr_is_no_ack(self) -> None:
        """An NRR in the ACK's place is refused by its type."""
        exchange = parties().offline()
        fails(parties().direct(exchange, exchange.nrr), "ack.syntax")


class TestAnchor:
    def test_places_of_other_digests(self) -> None:
        """Places of other digests in the same batch prove nothing of these tokens."""
        bundle = good()
        assert bundle.anchor is not None
        first, second, third = bundle.anchor.places
        for places in (
            (second, first, third),
            (first, first, third),
            (replace(first, index=second.index), second, third),
        ):
            fails(replace(bundle, anchor=replace(bundle.anchor, places=places)), "anchor.inclusion")

    def test_another_time(self) -> None:
        """The anchor's time is the ledger's: stated as earlier, the entry isn't in the log."""
        bundle = good()
        assert bundle.anchor is not None
        lodged = replace(bundle.anchor.lodged, time=NOW)
        fails(replace(bundle, anchor=replace(bundle.anchor, lodged=lodged)), "ledger.inclusion")

    def test_another_ledger(self) -> None:
        """An anchor in a ledger that M doesn't name is none, though the root certified that ledger."""
        world = parties()
        bundle, foreign = good(), LedgerTTP(world.root, name="other.example")
        assert bundle.anchor is not None
        shown = replace(bundle.anchor.lodged.shown, ledger=foreign.ledger_certificate)
        lodged = replace(bundle.anchor.lodged, shown=shown)
        fails(replace(bundle, anchor=replace(bundle.anchor, lodged=lodged)), "ledger.key")


class TestRevocations:
    """evidence.md V11."""

    def test_counts_from_its_notice_on(self) -> None:
        """A revocation counts against an anchor from its ledger time plus the notice, and not a second before."""
        world = Parties()
        bundle = world.direct(world.offline(), time=NOW + 3 * DAY)
        key = key_id(world.bob.receipt.public_key())
        within = world.revocation(world.bob, key, world.b, NOW + 1)
        verify_bundle(bundle, world.trust, revocations=[within])
        counting = world.revocation(world.bob, key, world.b, NOW)
        with pytest.raises(EvidenceFault, match=r"receipt\.revoked"):
            verify_bundle(bundle, world.trust, revocations=[counting])

    def test_of_another_key(self) -> None:
        """A revocation of a key that M doesn't name is refused, not weighed."""
        world = Parties()
        stranger = User("bob@b.example", world.b)
        shown = world.revocation(stranger, key_id(stranger.receipt.public_key()), world.b, NOW)
        with pytest.raises(EvidenceFault, match=r"revocation\.key"):
            verify_bundle(world.direct(world.offline()), world.trust, revocations=[shown])

    def test_that_is_not_in_the_ledger(self) -> None:
        """A revocation with a better time than its entry isn't in the ledger, and is refused."""
        world = Parties()
        shown = world.revocation(world.bob, key_id(world.bob.receipt.public_key()), world.b, NOW)
        for false in (replace(shown, time=NOW - 1), replace(shown, effective=NOW)):
            with pytest.raises(EvidenceFault, match=r"ledger\.inclusion"):
                verify_bundle(world.direct(world.offline()), world.trust, revocations=[false])

    def test_nothing_to_an_nrd(self) -> None:
        """An NRD holds the TTP's snapshot: a revocation shown later changes nothing."""
        world = Parties()
        bundle = world.ttp.trade(world.offline(), time=NOW + 3 * DAY)
        shown = world.revocation(world.bob, key_id(world.bob.receipt.public_key()), world.b, NOW)
        verify_bundle(bundle, world.trust, revocations=[shown])


class TestForm:
    def test_round_trip(self) -> None:
        """Each form of a bundle decodes to itself and encodes to the same octets."""
        exchange = parties().offline()
        anchored = parties().direct(exchange)
        for bundle in (anchored, replace(anchored, anchor=None), anchored.opened(exchange.openings)):
            data = bundles.encode(bundle)
            assert bundles.decode_any(data) == bundle
            assert bundles.encode(bundles.decode_any(data)) == data

    def test_is_no_outcome(self) -> None:
        """Where an outcome at the TTP is expected a direct bundle is malformed."""
        with pytest.raises(Malformed, match="direct exchange"):
            bundles.decode(bundles.encode(good()))

    @pytest.mark.parametrize("version", [b'"v":1}', b'"v":3}', b'"v":0}'])
    def test_other_versions(self, version: bytes) -> None:
        """The direct form is of version 2 and of no other."""
        data = bundles.encode(good())
        assert data.endswith(b'"v":2}')
        with pytest.raises(Malformed):
            bundles.decode_any(data.replace(b'"v":2}', version))

    def test_version_two_of_what_version_one_says(self) -> None:
        """An outcome without ABORT is of version 1: no evidence has two forms."""
        data = bundles.encode(parties().ttp.trade(parties().exchange()))
        with pytest.raises(Malformed, match="abort"):
            bundles.decode_any(data.replace(b'"v":1}', b'"v":2}'))

    def test_number_of_places(self) -> None:
        """An anchor has one place for each of NRO, NRR and ACK."""
        bundle = good()
        assert bundle.anchor is not None
        for places in (bundle.anchor.places[:2], (*bundle.anchor.places, Place(0, ()))):
            data = bundles.encode(replace(bundle, anchor=replace(bundle.anchor, places=places)))
            with pytest.raises(Malformed, match="places"):
                bundles.decode_any(data)

    def test_every_bit_matters(self) -> None:
        """A direct bundle with any octet altered is refused with an error of ours, never accepted."""
        exchange = parties().offline()
        data = bundles.encode(parties().direct(exchange).opened(exchange.openings))
        for place in range(0, len(data), 13):
            altered = bytearray(data)
            altered[place] ^= 1 << place % 7
            with pytest.raises(SecMTPError):
                verify_bundle(bundles.decode_any(bytes(altered)), parties().trust)
