"""The trade over real HTTPS: order, idempotence, races, and every refusal without state."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from shared.crypto.signing import token_digest
from shared.encoding.labels import blob_digest
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle, verify_no_trade
from shared.evidence.tokens import sign_nro, sign_nrr
from tests.doubles.parties import EXPIRES, NOW, Exchange, User
from tests.doubles.served import NodeClient, Served


def no_state(world: Served, exchange: Exchange, before: int) -> None:
    """Assert that a refused request left nothing: no row, no entry."""
    assert world.ttp.desk.stored(exchange.manifest.exchange) is None
    assert world.ttp.desk.ledger.size == before


@pytest.mark.both_databases
class TestTrade:
    def test_gives_a_receipt(self, world: Served, b: NodeClient) -> None:
        """A good trade is answered with a bundle that is a receipt, offline, with the root alone."""
        exchange = world.exchange(b"letter")
        answer = b.complete(exchange)
        assert answer.status_code == 200, answer.text
        receipt = verify_bundle(bundles.decode(answer.content), world.trust)
        assert receipt.manifest.exchange == exchange.manifest.exchange
        assert receipt.nrd.share == exchange.secrets.shares.ttp

    def test_is_idempotent_for_ever(self, world: Served, b: NodeClient) -> None:
        """Asked again, after expiry, after a restart, and after certificates ended, the same NRD is the answer."""
        exchange = world.exchange(b"letter")
        first = bundles.decode(b.complete(exchange).content)
        for later in (NOW + 1, EXPIRES + 1):
            world.clock.time = later
            again = bundles.decode(b.complete(exchange).content)
            assert (again.token, again.nrr, again.salt) == (first.token, first.nrr, first.salt)
            assert verify_bundle(again, world.trust).nrd.time == NOW
        world.restart()
        world.clock.time += 1
        assert bundles.decode(b.complete(exchange).content).token == first.token

    def test_at_once_from_many(self, world: Served, b: NodeClient) -> None:
        """Twenty at once about one exchange make one entry, and all get the same token."""
        exchange = world.exchange(b"letter")
        before = world.ttp.desk.ledger.size
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: b.complete(exchange), range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({bundles.decode(answer.content).token for answer in answers}) == 1
        assert world.ttp.desk.ledger.size == before + 1

    def test_moving_head(self, world: Served, b: NodeClient) -> None:
        """While the ledger grows, every answer verifies as a unit: proof, size and root are of one snapshot."""
        exchanges = [world.exchange(b"letter %d" % number) for number in range(60)]
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(b.complete, exchanges))
            answers += list(pool.map(b.complete, exchanges))
        for answer in answers:
            verify_bundle(bundles.decode(answer.content), world.trust)


class TestExpiry:
    def test_late_complete(self, world: Served, b: NodeClient) -> None:
        """After expires the outcome is EXPIRED: sound evidence of no trade, without the NRR, for ever."""
        exchange = world.exchange(b"letter")
        world.clock.time = EXPIRES
        bundle = bundles.decode(b.complete(exchange).content)
        assert bundle.nrr is None
        assert verify_no_trade(bundle, world.trust).refusal.outcome == "EXPIRED"
        world.clock.time = NOW
        assert bundles.decode(b.complete(exchange).content).token == bundle.token

    def test_race_of_complete_and_status(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """When complete and status meet at the deadline, both get the one outcome that was first."""
        exchange = world.exchange(b"letter")
        world.clock.time = EXPIRES
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(b.complete, exchange) for _ in range(4)]
            asked += [pool.submit(a.status, exchange) for _ in range(4)]
            tokens = {bundles.decode(one.result().content).token for one in asked}
        assert len(tokens) == 1

    def test_time_never_goes_back(self, world: Served, b: NodeClient) -> None:
        """Ledger time is monotone: a clock that jumps back doesn't reopen what has expired."""
        late, other = world.exchange(b"late"), world.exchange(b"other", expires=EXPIRES + 3600)
        world.clock.time = EXPIRES + 10
        assert verify_bundle(bundles.decode(b.complete(other).content), world.trust).nrd.time == EXPIRES + 10
        world.clock.time = NOW
        assert bundles.decode(b.complete(late).content).nrr is None


class TestInvalid:
    def test_an_escrow_that_m_commits_to(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """An escrow that doesn't open to com_T ends the exchange as INVALID; nobody is handed the NRR."""
        good = world.exchange(b"letter")
        garbage = bytes(80)
        bad = world.parties.resigned(good, h_ET=blob_digest(garbage))
        bundle = bundles.decode(b.complete(bad, escrow=garbage).content)
        assert verify_no_trade(bundle, world.trust).refusal.outcome == "INVALID"
        for node in (a, b):
            (fed,) = node.feed().bundles
            assert fed.nrr is None
            assert bad.nrr.encode() not in bundles.encode(fed)

    def test_garbage_is_an_error_without_state(self, world: Served, b: NodeClient) -> None:
        """Garbage, or another exchange's escrow, handed in for a good exchange leaves it open for the real trade."""
        exchange, other = world.exchange(b"letter"), world.exchange(b"other")
        before = world.ttp.desk.ledger.size
        for escrow in (b"garbage", other.sealed.escrow, exchange.sealed.escrow[:-1]):
            answer = b.complete(exchange, escrow=escrow)
            assert (answer.status_code, answer.json()["step"]) == (422, "escrow.digest")
        no_state(world, exchange, before)
        assert b.complete(exchange).status_code == 200


def other_nro(world: Served, exchange: Exchange) -> dict[str, Any]:
    """A second NRO over the same M."""
    alice = world.parties.alice
    return {"nro": sign_nro(exchange.manifest.exchange, NOW + 1, alice.origin, alice.origin_chain)}


def foreign_nrr(world: Served, exchange: Exchange) -> dict[str, Any]:
    """An NRR by another user of Bob's domain."""
    eve = User("eve@b.example", world.parties.b)
    digest = token_digest(exchange.nro)
    return {"nrr": sign_nrr(exchange.manifest.exchange, digest, NOW, eve.receipt, eve.receipt_chain)}


def replayed_nrr(world: Served, exchange: Exchange) -> dict[str, Any]:
    """Bob's NRR over another exchange."""
    return {"nrr": world.exchange(b"another").nrr}


def foreign_ttp(world: Served, exchange: Exchange) -> dict[str, Any]:
    """A manifest that names another TTP, signed by both parties."""
    named = replace(exchange.manifest.core.ttp, name="other.example")
    return signed_anew(world, exchange, ttp=named)


def foreign_ledger(world: Served, exchange: Exchange) -> dict[str, Any]:
    """A manifest that names another checkpoint key."""
    named = replace(exchange.manifest.core.ttp, checkpoint_key=bytes(32))
    return signed_anew(world, exchange, ttp=named)


def foreign_epoch(world: Served, exchange: Exchange) -> dict[str, Any]:
    """A manifest that names an epoch which isn't offered."""
    named = replace(exchange.manifest.core.ttp, epoch=99)
    return signed_anew(world, exchange, ttp=named)


def after_the_epoch(world: Served, exchange: Exchange) -> dict[str, Any]:
    """A manifest that expires after its epoch has closed."""
    return signed_anew(world, exchange, expires=NOW + 10 * 365 * 24 * 3600)


def signed_anew(world: Served, exchange: Exchange, **core: Any) -> dict[str, Any]:
    """The members of a request about a changed core that both parties signed."""
    changed = world.parties.resigned(exchange, core=replace(exchange.manifest.core, **core))
    return {"manifest": changed.manifest, "nro": changed.nro, "nrr": changed.nrr}


@pytest.mark.parametrize(
    ("spoil", "step"),
    [
        (other_nro, "nrr.nro"),
        (foreign_nrr, "nrr.key"),
        (replayed_nrr, "nrr.exchange"),
        (foreign_ttp, "ttp.name"),
        (foreign_ledger, "ttp.checkpoint-key"),
        (foreign_epoch, "ttp.epoch"),
        (after_the_epoch, "ttp.epoch"),
    ],
)
def test_refusals_without_state(world: Served, b: NodeClient, spoil: Any, step: str) -> None:
    """Whatever isn't this exchange's, or isn't for this TTP, is refused with the step's name and makes no state."""
    exchange = world.exchange(b"letter")
    before = world.ttp.desk.ledger.size
    changed = spoil(world, exchange)
    answer = b.complete(exchange, **changed)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["step"] == step
    no_state(world, exchange, before)


def test_altered_tokens(world: Served, b: NodeClient) -> None:
    """A flipped character anywhere in NRO or NRR is refused as malformed or by a step, without state."""
    exchange = world.exchange(b"letter")
    before = world.ttp.desk.ledger.size
    for name in ("nro", "nrr"):
        token = getattr(exchange, name)
        for place in range(0, len(token), 97):
            flipped = "A" if token[place] != "A" else "B"
            answer = b.complete(exchange, **{name: token[:place] + flipped + token[place + 1 :]})
            assert answer.status_code in {400, 422}, (name, place, answer.text)
    no_state(world, exchange, before)


def test_a_lost_epoch_key_is_the_ttps_fault(world: Served, b: NodeClient) -> None:
    """When the TTP has lost an escrow key it answers with its own fault, and the exchange stays open."""
    exchange = world.exchange(b"letter")
    before = world.ttp.desk.ledger.size
    custody = world.ttp.desk.custody
    kept = custody._private  # type: ignore[attr-defined]
    custody._private = {}  # type: ignore[attr-defined]
    assert b.complete(exchange).status_code == 500
    no_state(world, exchange, before)
    custody._private = kept  # type: ignore[attr-defined]
    assert b.complete(exchange).status_code == 200
