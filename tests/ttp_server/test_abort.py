"""Aborts over real HTTPS: who may, when, and that whoever loses the race is given the winner's token."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from shared.crypto.keys import key_id
from shared.crypto.signing import token_digest
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle, verify_no_trade
from shared.evidence.statements import sign_abort
from shared.ledger import entry as entries
from shared.ledger.entry import ExchangeEntry
from tests.doubles.ledger import stored_entries
from tests.doubles.parties import DIRECT, EXPIRES, NOW, Exchange, User
from tests.doubles.served import NodeClient, Served

NOTICE = 72 * 3600


def offline(world: Served, content: bytes = b"letter") -> Exchange:
    """An offline exchange that names this TTP."""
    return world.exchange(content, mode="offline", direct_until=DIRECT)


def no_state(world: Served, exchange: Exchange) -> None:
    """Assert that a refused request left nothing."""
    assert world.ttp.desk.stored(exchange.manifest.exchange) is None


@pytest.mark.both_databases
class TestAbort:
    @pytest.mark.both_databases
    def test_ends_an_open_exchange(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """An open exchange ends as ABORTED; both parties get the token with the sender's own statement, and no NRR."""
        exchange = offline(world)
        bundle = bundles.decode(a.abort(exchange).content)
        ended = verify_no_trade(bundle, world.trust)
        assert ended.refusal.outcome == "ABORTED"
        assert bundle.abort == world.parties.abort(exchange)
        for node in (a, b):
            assert [fed.token for fed in node.feed().bundles] == [bundle.token]
            assert bundles.decode(node.status(exchange).content).token == bundle.token
        entry = entries.decode(stored_entries(world)[-1].entry)
        assert isinstance(entry, ExchangeEntry)
        assert (entry.outcome, entry.masked) == ("ABORTED", None)

    @pytest.mark.parametrize("mode", [{}, {"mode": "offline", "direct_until": DIRECT}])
    def test_in_every_mode_that_has_it(self, world: Served, a: NodeClient, mode: dict[str, object]) -> None:
        """The mode in M decides, never the caller: online and offline exchanges can be aborted."""
        exchange = world.exchange(b"letter", **mode)
        assert verify_no_trade(bundles.decode(a.abort(exchange).content), world.trust).refusal.outcome == "ABORTED"

    def test_is_idempotent_for_ever(self, world: Served, a: NodeClient) -> None:
        """Asked again, also after expiry and a restart, the same token is the answer."""
        exchange = offline(world)
        token = bundles.decode(a.abort(exchange).content).token
        world.clock.time = EXPIRES + 1
        world.restart()
        world.clock.time += 1
        assert bundles.decode(a.abort(exchange).content).token == token

    @pytest.mark.both_databases
    def test_after_the_trade_it_is_answered_with_the_receipt(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """An abort that comes too late gets what the sender wanted: the receipt."""
        exchange = offline(world)
        assert b.complete(exchange).status_code == 200
        receipt = verify_bundle(bundles.decode(a.abort(exchange).content), world.trust)
        assert receipt.nrr.compact == exchange.nrr

    def test_before_the_trade_there_is_no_key(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """A recipient that completes after the abort gets ABORTED and no s_T, by no way."""
        exchange = offline(world)
        assert a.abort(exchange).status_code == 200
        bundle = bundles.decode(b.complete(exchange).content)
        assert verify_no_trade(bundle, world.trust).refusal.outcome == "ABORTED"
        assert exchange.secrets.shares.ttp not in b"".join(one.body + one.entry for one in stored_entries(world))

    def test_after_expires(self, world: Served, a: NodeClient) -> None:
        """After expires the outcome is EXPIRED, whatever was asked for."""
        exchange = offline(world)
        world.clock.time = EXPIRES
        bundle = bundles.decode(a.abort(exchange).content)
        assert verify_no_trade(bundle, world.trust).refusal.outcome == "EXPIRED"
        assert bundle.abort is None

    @pytest.mark.both_databases
    def test_race_with_complete(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """When abort and complete meet, one wins, and all of both sides are given that one's token."""
        winners = set()
        for number in range(6):
            exchange = offline(world, b"letter %d" % number)
            with ThreadPoolExecutor(8) as pool:
                asked = [pool.submit(ask, exchange) for ask in (b.complete, a.abort) for _ in range(4)]
                tokens = {bundles.decode(one.result().content).token for one in asked}
            assert len(tokens) == 1
            stored = world.ttp.desk.stored(exchange.manifest.exchange)
            winners.add(stored and stored.state)
        assert winners <= {"COMPLETED", "ABORTED"}


class TestWho:
    def test_only_the_senders_node(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """A stolen ABORT is of no use to the recipient's node, or to anybody else's: an error without state."""
        exchange = offline(world)
        answer = b.abort(exchange)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:secmtp:problem:forbidden")
        no_state(world, exchange)
        assert a.abort(exchange).status_code == 200

    def test_only_with_the_senders_signature(self, world: Served, a: NodeClient) -> None:
        """The sender's node can't abort with the recipient's key, another user's, or another exchange's statement."""
        exchange, other = offline(world), offline(world, b"other")
        parties, hm, nro = world.parties, exchange.manifest.exchange, token_digest(exchange.nro)
        stranger = User("alice@a.example", parties.a)
        for statement, step in (
            (sign_abort(hm, nro, parties.bob.receipt, parties.bob.receipt_chain), "certificate.purpose"),
            (sign_abort(hm, nro, stranger.origin, stranger.origin_chain), "abort.key"),
            (parties.abort(other), "abort.exchange"),
            (sign_abort(hm, bytes(32), parties.alice.origin, parties.alice.origin_chain), "abort.nro"),
            (exchange.nro, "abort.syntax"),
        ):
            answer = a.abort(exchange, statement)
            assert (answer.status_code, answer.json()["step"]) == (422, step)
        no_state(world, exchange)

    def test_another_ttp(self, world: Served, a: NodeClient) -> None:
        """M that names another TTP is an error without state: nothing else would stop it, for no escrow is opened."""
        exchange = world.exchange(b"letter", mode="offline", direct_until=DIRECT, ttp=world.parties.ttp.named)
        exchange = world.parties.resigned(exchange)
        answer = a.abort(exchange)
        assert (answer.status_code, answer.json()["step"]) == (422, "ttp.nrd-key")
        no_state(world, exchange)


class TestRevocation:
    """The origin key's state is read inside the transaction."""

    def test_within_the_notice(self, world: Served, a: NodeClient) -> None:
        """Within the notice of its origin key's revocation a sender may still abort what it sent before."""
        exchange = world.exchange(b"letter", mode="offline", direct_until=DIRECT, created=NOW - 60)
        self._revoke(world, a)
        assert a.abort(exchange).status_code == 200

    def test_when_it_counts(self, world: Served, a: NodeClient) -> None:
        """From `effective` on the statement is nobody's word: an error without state, and the exchange expires."""
        exchange = world.exchange(b"letter", mode="offline", direct_until=DIRECT, created=NOW - 60)
        self._revoke(world, a)
        world.clock.time = NOW + NOTICE
        answer = a.abort(exchange)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:secmtp:problem:key-revoked")
        no_state(world, exchange)
        world.clock.time = EXPIRES
        assert bundles.decode(a.abort(exchange).content).abort is None

    @staticmethod
    def _revoke(world: Served, a: NodeClient) -> None:
        alice = world.parties.alice
        assert a.publish(alice, world.parties.a).status_code == 201
        assert a.revoke(alice.address, key_id(alice.origin.public_key()), world.parties.a).status_code == 201


def test_a_swapped_nro(world: Served, a: NodeClient) -> None:
    """The ABORT names one NRO; with another one of the same M it is an error without state."""
    exchange = offline(world)
    again = replace(exchange, nro=world.parties.resigned(offline(world, b"x")).nro)
    assert a.abort(again).json()["step"] == "nro.exchange"
    no_state(world, exchange)
