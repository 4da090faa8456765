"""ABORTED, refusal files, and what several pieces of evidence say together."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from shared.crypto.signing import token_digest
from shared.errors import EvidenceFault, Malformed
from shared.evidence import bundle as bundles
from shared.evidence import refusal as refusals
from shared.evidence.precedence import weigh
from shared.evidence.receipt import NoTrade, Receipt, verify_bundle, verify_no_trade
from shared.evidence.statements import sign_abort, sign_refuse
from tests.doubles.parties import EXPIRES, NOW, Parties, User, parties


class TestAborted:
    def test_is_sound_with_the_senders_statement(self) -> None:
        """ABORTED with the sender's ABORT is sound evidence that no trade happened, and no receipt."""
        exchange = parties().offline()
        bundle = parties().ttp.abort(exchange, parties().abort(exchange))
        ended = verify_no_trade(bundle, parties().trust)
        assert ended.refusal.outcome == "ABORTED"
        assert ended.abort is not None
        with pytest.raises(EvidenceFault, match=r"receipt\.completion"):
            verify_bundle(bundle, parties().trust)

    def test_round_trip(self) -> None:
        """Its bundle is of version 2, decodes to itself, and encodes to the same octets."""
        exchange = parties().offline()
        data = bundles.encode(parties().ttp.abort(exchange, parties().abort(exchange)))
        assert data.endswith(b'"v":2}')
        assert bundles.encode(bundles.decode(data)) == data

    def test_without_the_statement(self) -> None:
        """A TTP's ABORTED without the sender's own word proves nothing: a TTP can't abort by itself."""
        exchange = parties().offline()
        bundle = parties().ttp.abort(exchange, parties().abort(exchange))
        with pytest.raises(EvidenceFault, match=r"refusal\.abort"):
            verify_no_trade(replace(bundle, abort=None), parties().trust)

    def test_with_a_strangers_statement(self) -> None:
        """An ABORT by a key that M doesn't name as the sender's is none."""
        world = parties()
        exchange, other = world.offline(), User("alice@a.example", world.a)
        statement = sign_abort(exchange.manifest.exchange, token_digest(exchange.nro), other.origin, other.origin_chain)
        with pytest.raises(EvidenceFault, match=r"abort\.key"):
            verify_no_trade(world.ttp.abort(exchange, statement), world.trust)

    def test_in_a_mode_with_agents(self) -> None:
        """Where agents hand out shares nothing can be aborted, whoever signs that it was."""
        world = parties()
        exchange = world.offline()
        core = replace(exchange.manifest.core, mode="hybrid", direct_until=None)
        hybrid = world.resigned(exchange, core=core)
        with pytest.raises(EvidenceFault, match=r"abort\.mode"):
            verify_no_trade(world.ttp.abort(hybrid, world.abort(hybrid)), world.trust)

    def test_with_another_exchanges_statement(self) -> None:
        """The ABORT of one exchange ends no other."""
        world = parties()
        exchange, other = world.offline(), world.offline(b"another letter")
        with pytest.raises(EvidenceFault, match=r"abort\.exchange"):
            verify_no_trade(world.ttp.abort(exchange, world.abort(other)), world.trust)

    def test_an_abort_beside_another_token(self) -> None:
        """An ABORT beside EXPIRED isn't what that token is about."""
        world = parties()
        exchange = world.offline()
        bundle = replace(world.ttp.refuse(exchange, "EXPIRED", EXPIRES), abort=world.abort(exchange))
        with pytest.raises(EvidenceFault, match=r"refusal\.abort"):
            verify_no_trade(bundle, world.trust)


class TestRefusal:
    def test_says_that_the_recipient_refused(self) -> None:
        """A refusal file proves that the recipient refused, and since when the ledger knows."""
        refused = refusals.verify(parties().refused(parties().offline()), parties().trust)
        assert refused.inclusion.time == NOW + 60

    def test_round_trip(self) -> None:
        """It decodes to itself and encodes to the same octets."""
        file = parties().refused(parties().offline())
        data = refusals.encode(file)
        assert refusals.decode(data) == file
        assert refusals.encode(refusals.decode(data)) == data

    def test_is_no_bundle(self) -> None:
        """A refusal file isn't taken for a bundle, nor a bundle for it."""
        world = parties()
        with pytest.raises(Malformed):
            bundles.decode_any(refusals.encode(world.refused(world.offline())))
        with pytest.raises(Malformed):
            refusals.decode(bundles.encode(world.direct(world.offline())))

    def test_by_somebody_else(self) -> None:
        """A refusal that the sender signed, or a key that M doesn't name, is none."""
        world = parties()
        file, alice, other = world.refused(world.offline()), world.alice, User("bob@b.example", world.b)
        exchange, nro = file.manifest.exchange, token_digest(file.nro)
        by_alice = sign_refuse(exchange, nro, NOW, alice.origin, alice.origin_chain)
        by_other = sign_refuse(exchange, nro, NOW, other.receipt, other.receipt_chain)
        for refuse, step in ((by_alice, "certificate.purpose"), (by_other, "refuse.key")):
            with pytest.raises(EvidenceFault) as caught:
                refusals.verify(replace(file, refuse=refuse), world.trust)
            assert caught.value.step == step


class TestPrecedence:
    """precedence.weigh."""

    @pytest.fixture
    def evidence(self) -> tuple[list[Receipt], list[NoTrade]]:
        """A receipt by ACK, and every token of no trade that a TTP can sign about the same exchange."""
        world = Parties()
        exchange = world.offline()
        ended = [
            world.ttp.refuse(exchange, "EXPIRED", EXPIRES),
            world.ttp.refuse(exchange, "INVALID", NOW + 60),
            world.ttp.abort(exchange, world.abort(exchange)),
        ]
        receipt = verify_bundle(world.direct(exchange), world.trust)
        return [receipt], [verify_no_trade(bundle, world.trust) for bundle in ended]

    def test_a_receipt_stands(self, evidence: tuple[list[Receipt], list[NoTrade]]) -> None:
        """A receipt by ACK stands beside each token of no trade, and no fault of the TTP is seen in that."""
        receipts, ended = evidence
        for one in ended:
            standing = weigh(receipts, [one, one])
            assert standing.receipt is receipts[0]
            assert standing.no_trade == (one,)
            assert not standing.ttp_fault

    def test_two_outcomes(self, evidence: tuple[list[Receipt], list[NoTrade]]) -> None:
        """Two outcomes of one exchange prove the TTP's fault, in whatever order they are shown."""
        receipts, ended = evidence
        for order in permutations(ended):
            standing = weigh(receipts, order)
            assert standing.ttp_fault
            assert standing.no_trade == weigh(receipts, ended).no_trade

    def test_nrd_beside_aborted(self) -> None:
        """A trade and an abort of one exchange prove the TTP's fault; the receipt stands all the same."""
        world = Parties()
        exchange = world.offline()
        receipt = verify_bundle(world.ttp.trade(exchange), world.trust)
        aborted = verify_no_trade(world.ttp.abort(exchange, world.abort(exchange)), world.trust)
        standing = weigh([receipt], [aborted])
        assert standing.receipt is receipt
        assert standing.ttp_fault

    def test_nothing_follows_from_nothing(self) -> None:
        """Without evidence there is no receipt, no refusal and no fault."""
        standing = weigh([], [])
        assert (standing.receipt, standing.no_trade, standing.ttp_fault) == (None, (), False)

    def test_of_two_exchanges(self, evidence: tuple[list[Receipt], list[NoTrade]]) -> None:
        """Evidence of two exchanges isn't weighed together."""
        world = parties()
        other = verify_bundle(world.ttp.trade(world.exchange()), world.trust)
        with pytest.raises(EvidenceFault, match=r"precedence\.exchange"):
            weigh([*evidence[0], other], [])
