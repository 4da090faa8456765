"""A bundle is a receipt, or it fails at the step that names what is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import EvidenceFault, Malformed, SecMTPError
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle, verify_content, verify_no_trade
from shared.evidence.tokens import KeyState
from shared.ledger.policy import NOT_ASKED
from tests.doubles.parties import EXPIRES, LETTER, NOW, LedgerTTP, Parties, Root, parties


class TestReceipt:
    @pytest.mark.parametrize("kem", ["X25519", "MLKEM768_X25519"])
    def test_valid(self, kem: str) -> None:
        """A complete exchange is a valid receipt that says who answers, at which level, since when."""
        world = Parties(kem)
        receipt = verify_bundle(world.ttp.trade(world.exchange()), world.trust)
        assert receipt.answers == "b.example answers for bob@b.example, level gateway"
        assert receipt.nrd.time == NOW + 60
        assert receipt.inclusion.witnessing == NOT_ASKED

    def test_round_trip(self) -> None:
        """A bundle's octets decode to the same bundle and encode to the same octets, openings included."""
        exchange = parties().exchange()
        bundle = parties().ttp.trade(exchange).opened(exchange.openings)
        data = bundles.encode(bundle)
        assert bundles.decode(data) == bundle
        assert bundles.encode(bundles.decode(data)) == data

    def test_content(self) -> None:
        """With openings the receipt proves exactly the letter that was sent, and no other."""
        exchange = parties().exchange()
        bundle = parties().ttp.trade(exchange).opened(exchange.openings)
        receipt = verify_bundle(bundle, parties().trust)
        verify_content(receipt, exchange.openings, [LETTER])
        with pytest.raises(EvidenceFault, match=r"content\.digest"):
            verify_content(receipt, exchange.openings, [LETTER + b" "])

    def test_other_root(self) -> None:
        """Under another root nothing is valid."""
        bundle = parties().ttp.trade(parties().exchange())
        with pytest.raises(EvidenceFault, match=r"certificate\.chain"):
            verify_bundle(bundle, Root().trust)

    def test_notice_is_no_revocation_yet(self) -> None:
        """A key whose revocation is only announced still carries a receipt; the snapshot says so."""
        keys = (KeyState(), KeyState(effective=NOW + 72 * 3600))
        bundle = parties().ttp.trade(parties().exchange(), keys=keys)
        assert verify_bundle(bundle, parties().trust).nrd.receipt_key.effective == NOW + 72 * 3600

    def test_effective_revocation(self) -> None:
        """A TTP that trades for a key whose revocation already counts doesn't make a receipt."""
        bundle = parties().ttp.trade(parties().exchange(), keys=(KeyState(), KeyState(effective=NOW)))
        with pytest.raises(EvidenceFault, match=r"nrd\.keys"):
            verify_bundle(bundle, parties().trust)

    def test_traded_too_late(self) -> None:
        """A trade at or after expires is no receipt."""
        bundle = parties().ttp.trade(parties().exchange(), time=EXPIRES)
        with pytest.raises(EvidenceFault, match=r"nrd\.time"):
            verify_bundle(bundle, parties().trust)

    def test_certificates_at_the_trade(self) -> None:
        """Certificates are judged at the ledger time: before they were valid, nothing was certified."""
        bundle = parties().ttp.trade(parties().exchange(), time=NOW - 48 * 3600)
        with pytest.raises(EvidenceFault, match=r"certificate\.validity"):
            verify_bundle(bundle, parties().trust)


class TestNoTrade:
    @pytest.mark.parametrize(("outcome", "time"), [("EXPIRED", EXPIRES), ("INVALID", NOW + 60)])
    def test_is_no_receipt(self, outcome: str, time: int) -> None:
        """EXPIRED and INVALID are sound evidence of no trade, and never a receipt."""
        bundle = parties().ttp.refuse(parties().exchange(), outcome, time)
        assert verify_no_trade(bundle, parties().trust).refusal.outcome == outcome
        with pytest.raises(EvidenceFault, match=r"receipt\.completion"):
            verify_bundle(bundle, parties().trust)

    def test_expired_too_early(self) -> None:
        """A TTP can't say EXPIRED before the manifest expires."""
        bundle = parties().ttp.refuse(parties().exchange(), "EXPIRED", EXPIRES - 1)
        with pytest.raises(EvidenceFault, match=r"refusal\.time"):
            verify_no_trade(bundle, parties().trust)

    def test_receipt_is_not_no_trade(self) -> None:
        """A receipt isn't evidence of no trade."""
        with pytest.raises(EvidenceFault, match=r"refusal\.syntax"):
            verify_no_trade(parties().ttp.trade(parties().exchange()), parties().trust)


class TestMixing:
    def test_every_part_of_another_exchange(self) -> None:
        """No part of one exchange's evidence serves in another's; the step names the part."""
        world = parties()
        one, other = world.ttp.trade(world.exchange()), world.ttp.trade(world.exchange(b"another letter"))
        expected = {
            "manifest": "nro.exchange",
            "nro": "nro.exchange",
            "nrr": "nrr.exchange",
            "token": "nrd.exchange",
            "proof": "ledger.index",
        }
        for part, step in expected.items():
            mixed = replace(one, **{part: getattr(other, part)})
            with pytest.raises(EvidenceFault) as caught:
                verify_bundle(mixed, world.trust)
            assert caught.value.step == step, part

    def test_other_salt(self) -> None:
        """A body under another salt isn't the one in the ledger."""
        bundle = replace(parties().ttp.trade(parties().exchange()), salt=bytes(32))
        with pytest.raises(EvidenceFault, match=r"ledger\.inclusion"):
            verify_bundle(bundle, parties().trust)

    def test_other_ledger(self) -> None:
        """A ledger that M doesn't name proves nothing, though the root certified it."""
        world = parties()
        foreign = LedgerTTP(world.root, name="other.example")
        bundle = replace(world.ttp.trade(world.exchange()), ledger=foreign.ledger_certificate)
        with pytest.raises(EvidenceFault, match=r"ledger\.key"):
            verify_bundle(bundle, world.trust)

    def test_openings_of_another_exchange(self) -> None:
        """Openings that aren't this exchange's are refused."""
        world = parties()
        exchange = world.exchange()
        wrong = replace(exchange.openings, recipient_share=bytes(32))
        with pytest.raises(EvidenceFault, match=r"openings\.share"):
            verify_bundle(world.ttp.trade(exchange).opened(wrong), world.trust)


class TestOctets:
    def test_every_bit_matters(self) -> None:
        """A bundle with any octet altered is refused with an error of ours, never accepted, never a crash."""
        world = parties()
        exchange = world.exchange()
        data = bundles.encode(world.ttp.trade(exchange).opened(exchange.openings))
        for place in range(0, len(data), 7):
            altered = bytearray(data)
            altered[place] ^= 1 << place % 7
            with pytest.raises(SecMTPError):
                verify_bundle(bundles.decode(bytes(altered)), world.trust)

    def test_truncation(self) -> None:
        """A truncated bundle is malformed."""
        data = bundles.encode(parties().ttp.trade(parties().exchange()))
        for length in range(0, len(data), 97):
            with pytest.raises(Malformed):
                bundles.decode(data[:length])
