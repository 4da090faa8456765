"""The feed over real HTTPS: both parties are told of every outcome once, in one order, and nobody else is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.api.messages import FeedPage
from shared.encoding.labels import blob_digest
from shared.evidence import bundle as bundles
from tests.doubles.parties import EXPIRES, NOW, Domain, Exchange
from tests.doubles.served import NodeClient, Served


def told(page: FeedPage) -> list[bytes]:
    """The exchanges of a page, in its order."""
    return [bundle.manifest.exchange for bundle in page.bundles]


def follow(node: NodeClient, cursor: int = 0, limit: int = 100) -> tuple[list[bytes], int]:
    """Read the feed from a cursor on until a page is empty."""
    seen: list[bytes] = []
    while True:
        page = node.feed(cursor, limit=limit)
        if not page.bundles:
            assert page.cursor == cursor
            return seen, cursor
        assert page.cursor > cursor
        seen, cursor = seen + told(page), page.cursor


def trade(world: Served, b: NodeClient, count: int) -> list[bytes]:
    """Trade some letters, one after the other; return their hM."""
    exchanges = [world.exchange(b"letter %d" % number) for number in range(count)]
    assert {b.complete(exchange).status_code for exchange in exchanges} == {200}
    return [exchange.manifest.exchange for exchange in exchanges]


def until(look: Callable[[], object], what: str) -> None:
    """Poll until something is so."""
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        threading.Event().wait(0.002)


def listeners(world: Served) -> int:
    """How many long polls wait."""
    bell = world.ttp.desk.sequencer._publisher._published.__self__  # type: ignore[attr-defined]
    return len(bell._listeners)


@pytest.mark.both_databases
class TestOrder:
    def test_both_parties_get_every_outcome_once(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """COMPLETED, INVALID and EXPIRED come to both parties' nodes, each once, in the ledger's order."""
        garbage = bytes(80)
        good, late = world.exchange(b"good"), world.exchange(b"late")
        bad = world.parties.resigned(world.exchange(b"bad"), h_ET=blob_digest(garbage))
        answers = [b.complete(good), b.complete(bad, escrow=garbage)]
        world.clock.time = EXPIRES
        answers += [a.status(late), b.complete(late), b.complete(good)]
        given = [bundles.decode(answer.content).token for answer in answers[:3]]
        for node in (a, b):
            page = node.feed()
            assert told(page) == [one.manifest.exchange for one in (good, bad, late)]
            assert [bundle.token for bundle in page.bundles] == given
            assert node.feed(page.cursor).bundles == ()

    def test_pages(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """Read in pages of any size the feed has no gap and nothing twice; a page holds at most its limit."""
        made = trade(world, b, 7)
        for limit in (1, 2, 3, 7, 100):
            assert follow(a, limit=limit)[0] == made
            assert len(a.feed(limit=limit).bundles) == min(limit, 7)

    def test_a_node_that_was_down_for_long(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """A node continues at its cursor after restarts of the TTP and misses nothing of what came meanwhile."""
        before = trade(world, b, 2)
        seen, cursor = follow(a)
        assert seen == before
        world.restart()
        world.clock.time = NOW + 1
        meanwhile = trade(world, b, 3)
        world.restart()
        world.clock.time = NOW + 2
        assert follow(a, cursor)[0] == meanwhile
        assert follow(a)[0] == before + meanwhile

    def test_while_many_trade(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """Followed while many trade at once, the feed still gives each outcome once."""
        exchanges = [world.exchange(b"letter %d" % number) for number in range(30)]
        seen: list[bytes] = []
        cursor = 0
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(b.complete, exchange) for exchange in exchanges]
            deadline = time.monotonic() + 20
            while len(seen) < len(exchanges) and time.monotonic() < deadline:
                page = a.feed(cursor, wait=5, limit=4)
                seen, cursor = seen + told(page), page.cursor
            assert {one.result().status_code for one in asked} == {200}
        assert sorted(seen) == sorted(one.manifest.exchange for one in exchanges)
        assert a.feed(cursor).bundles == ()


@pytest.mark.both_databases
class TestWhoIsTold:
    def test_nobody_else(self, world: Served, b: NodeClient) -> None:
        """The node of another domain is told nothing, neither by the feed nor by asking for an exchange it knows."""
        exchange = world.exchange(b"letter")
        c = NodeClient(world, "c.example")
        assert c.enrol(Domain("c.example", world.parties.root)).status_code == 201
        b.complete(exchange)
        assert c.feed() == FeedPage((), 0)
        hm, unknown = exchange.manifest.exchange.hex(), bytes(32).hex()
        answers = [c.ask("GET", f"/v1/exchanges/{name}") for name in (hm, unknown)]
        assert {answer.status_code for answer in answers} == {404}
        assert answers[0].content == answers[1].content
        assert c.status(exchange).status_code == 403

    @pytest.mark.parametrize("limit", [1, 3, 100])
    def test_a_node_of_both_parties(self, world: Served, b: NodeClient, limit: int) -> None:
        """A node that answers for both parties' domains is told of each exchange once, not once for each."""
        made = trade(world, b, 4)
        both = NodeClient(world, "a.example", "b.example")
        assert both.enrol(world.parties.a).status_code == 201
        assert follow(both, limit=limit)[0] == made


class TestLongPoll:
    def test_wakes_on_commit(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """A node that waits is told of an outcome as soon as it is committed, long before its wait ends."""
        exchange = world.exchange(b"letter")
        started = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(a.feed, 0, 30)
            until(lambda: listeners(world), "the node to wait")
            b.complete(exchange)
            assert told(asked.result(10)) == [exchange.manifest.exchange]
        assert time.monotonic() - started < 15
        assert listeners(world) == 0

    def test_goes_on_waiting_when_it_is_another_domains(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """Commits that aren't for a node don't end its wait; it answers empty when its time is over."""
        c = NodeClient(world, "c.example")
        c.enrol(Domain("c.example", world.parties.root))
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(c.feed, 0, 1)
            until(lambda: listeners(world), "the node to wait")
            trade(world, b, 3)
            assert asked.result(10) == FeedPage((), 0)

    def test_a_node_waits_with_few(self, world: Served, a: NodeClient) -> None:
        """A node can't take all connections by waiting: over its bound it is answered at once."""
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(a.feed, 0, 30) for _ in range(4)]
            until(lambda: listeners(world) == 4, "four to wait")
            started = time.monotonic()
            assert a.feed(0, 30) == FeedPage((), 0)
            assert time.monotonic() - started < 10
            world._server.should_exit = True
            assert [one.result(10) for one in asked] == [FeedPage((), 0)] * 4

    def test_ends_at_shutdown(self, world: Served, a: NodeClient) -> None:
        """A TTP that is told to stop answers those who wait at once, with an empty page."""
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(a.feed, 0, 30)
            until(lambda: listeners(world), "the node to wait")
            started = time.monotonic()
            world._server.should_exit = True
            assert asked.result(10) == FeedPage((), 0)
            assert time.monotonic() - started < 5


@pytest.mark.parametrize("query", ["cursor=-1", "cursor=x", "cursor=1.0", "limit=%C2%B2", "wait=1e3", "wait="])
def test_what_isnt_a_number(world: Served, a: NodeClient, query: str) -> None:
    """A cursor, limit or wait that isn't a plain number is refused as malformed, not guessed at."""
    answer = a.ask("GET", f"/v1/feed?{query}")
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:secmtp:problem:malformed")


def test_bounds(world: Served, a: NodeClient, b: NodeClient) -> None:
    """A limit of nothing gives one bundle, one that is over the bound gives the bound, a far cursor gives nothing."""
    trade(world, b, 2)
    assert len(a.feed(limit=1).bundles) == 1
    assert a.ask("GET", "/v1/feed?limit=0").json()["bundles"] != []
    assert len(a.ask("GET", f"/v1/feed?limit={2**50}").json()["bundles"]) == 2
    far = a.ask("GET", f"/v1/feed?cursor={2**53}").json()
    assert (far["bundles"], far["cursor"]) == ([], 2**53)


def test_the_same_exchange_stays_at_its_place(world: Served, a: NodeClient, b: NodeClient) -> None:
    """Asking again about an exchange that has its outcome doesn't tell anybody twice."""
    exchange: Exchange = world.exchange(b"letter")
    for _ in range(3):
        assert b.complete(exchange).status_code == 200
        assert a.status(exchange).status_code == 200
    assert told(a.feed()) == [exchange.manifest.exchange]
