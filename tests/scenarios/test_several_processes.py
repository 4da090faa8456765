"""Two TTP processes on one PostgreSQL, asked by eight clients at once: one log, and one outcome for each exchange."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from shared.encoding import base64url
from shared.evidence import bundle as bundles
from shared.evidence.bundle import Bundle
from shared.evidence.receipt import verify_bundle, verify_no_trade
from shared.ledger.checkpoint import VerifiedCheckpoint, check_extension, open_checkpoint
from shared.ledger.note import KeyType, verifier_key
from tests.doubles.parties import DIRECT, NOW, Exchange
from tests.doubles.postgres import Server
from tests.doubles.processes import Several, several
from tests.doubles.served import NodeClient
from ttp_server.custody.keys import load_keys
from ttp_server.maintenance import check

CLIENTS = 8
EXCHANGES = 24
SOON = NOW + 30
Ask = Callable[[], httpx.Response]


@pytest.fixture
def world(tmp_path: Path, postgres: Server) -> Iterator[Several]:
    """Two processes."""
    with several(tmp_path, postgres) as made:
        yield made


@pytest.fixture
def a(world: Several) -> list[NodeClient]:
    """The node of a.example, as it asks each process."""
    return enrolled(world, "a.example")


@pytest.fixture
def b(world: Several) -> list[NodeClient]:
    """The node of b.example, as it asks each process."""
    return enrolled(world, "b.example")


def enrolled(world: Several, domain: str) -> list[NodeClient]:
    """Enrol a node at the first process; the second knows it at once."""
    node = NodeClient(world, domain)
    assert node.enrol(world.parties.a if domain == "a.example" else world.parties.b).status_code == 201
    return [world.through(node, number) for number in range(2)]


def checkpoint(world: Several, client: httpx.Client) -> VerifiedCheckpoint:
    """The newest checkpoint that a process shows."""
    key = load_keys(world.directory, "ttp.example", "ttp.example/ledger", NOW).checkpoint.public_key()
    log = verifier_key("ttp.example/ledger", KeyType.LOG, key)
    return open_checkpoint(client.get("/ledger/checkpoint").content, log)


def race(asked: list[list[Ask]], halfway: Callable[[], None] = lambda: None) -> list[list[Bundle]]:
    """Ask everything with eight clients, all that is about one exchange at once; return the answers for each.

    `halfway` is done when half was asked and something was answered.
    """

    def ask(one: Ask) -> Bundle:
        answer = one()
        assert answer.status_code == 200, answer.text
        return bundles.decode(answer.content)

    with ThreadPoolExecutor(CLIENTS) as pool:
        going: list[list[Future[Bundle]]] = []
        for number, group in enumerate(asked):
            if number == len(asked) // 2:
                going[0][0].result()
                halfway()
            going.append([pool.submit(ask, one) for one in group])
        return [[one.result() for one in group] for group in going]


def status(node: NodeClient, exchange: Exchange) -> Ask:
    """Ask for the status."""
    return lambda: node.status(exchange)


def complete(node: NodeClient, exchange: Exchange) -> Ask:
    """Ask for the trade."""
    return lambda: node.complete(exchange)


def abort(node: NodeClient, exchange: Exchange) -> Ask:
    """Ask for the abort."""
    return lambda: node.abort(exchange)


def outcome(world: Several, bundle: Bundle) -> str:
    """Verify evidence of an outcome and name it."""
    if bundle.nrr is not None:
        verify_bundle(bundle, world.trust)
        return "COMPLETED"
    return verify_no_trade(bundle, world.trust).refusal.outcome


def settled(
    world: Several, a: list[NodeClient], b: list[NodeClient], exchanges: list[Exchange], answers: list[list[Bundle]]
) -> Counter[str]:
    """Assert one outcome for each exchange, told alike to everybody by everybody, in one log; count the outcomes."""
    tokens = {}
    for exchange, given in zip(exchanges, answers, strict=True):
        assert {bundle.manifest.exchange for bundle in given} == {exchange.manifest.exchange}
        (tokens[exchange.manifest.exchange],) = {bundle.token for bundle in given}
    feeds = [node.feed(limit=100).bundles for node in (*a, *b)]
    for told in feeds:
        assert {bundle.manifest.exchange: bundle.token for bundle in told} == tokens
        assert len(told) == len(tokens)
    assert len({tuple(bundle.token for bundle in told) for told in feeds}) == 1, "all see one order"
    return Counter(outcome(world, bundle) for bundle in feeds[0])


def one_log(world: Several, entries: int) -> None:
    """Assert that both processes show one log of so many entries, and that everything that is stored holds."""
    shown = sorted((checkpoint(world, client) for client in world.clients), key=lambda one: one.size)
    assert shown[-1].size == entries
    path = world.client.get(f"/ledger/consistency/{shown[0].size}?size={entries}").json()["hashes"]
    check_extension(shown[0], shown[1], [base64url.decode(one) for one in path])
    findings = check(world.directory, print, now=NOW)
    assert (findings.violations, findings.counts["entries"]) == (0, entries)


@pytest.mark.timeout(120)
def test_abort_against_trade(world: Several, a: list[NodeClient], b: list[NodeClient]) -> None:
    """Aborts and trades of the same exchanges race through both processes: whoever comes first, both hear the same."""
    exchanges = [
        world.exchange(b"letter %d" % number, mode="offline", direct_until=DIRECT) for number in range(EXCHANGES)
    ]

    asked = []
    for number, one in enumerate(exchanges):
        first, second = number % 2, 1 - number % 2
        traded, aborted = (
            (complete(b[first], one), complete(b[second], one)),
            (abort(a[second], one), abort(a[first], one)),
        )
        pairs = zip(traded, aborted, strict=True) if number % 4 < 2 else zip(aborted, traded, strict=True)
        asked.append([ask for pair in pairs for ask in pair])
    # Two aren't raced about at first, so that there are both outcomes whoever is faster; what loses is asked later.
    asked[0], asked[1] = [complete(node, exchanges[0]) for node in b], [abort(node, exchanges[1]) for node in a]
    answers = race(asked)
    later = [[abort(node, exchanges[0]) for node in a], [complete(node, exchanges[1]) for node in b]]
    again = race(
        [
            [*(status(node, one) for node in (*a, *b)), *(later[number] if number < 2 else ())]
            for number, one in enumerate(exchanges)
        ]
    )
    together = [[*given, *more] for given, more in zip(answers, again, strict=True)]
    outcomes = settled(world, a, b, exchanges, together)
    assert set(outcomes) == {"COMPLETED", "ABORTED"}, outcomes
    one_log(world, EXCHANGES)


@pytest.mark.timeout(120)
def test_expiry_against_trade(world: Several, a: list[NodeClient], b: list[NodeClient]) -> None:
    """Time runs out in the middle of trades at both processes: what was traded before stays, the rest has expired."""
    exchanges = [world.exchange(b"letter %d" % number, expires=SOON) for number in range(EXCHANGES)]
    answers = race([[complete(node, one) for node in b] for one in exchanges], lambda: world.clock.push(SOON))
    again = race([[status(node, one) for node in (*a, *b)] for one in exchanges])
    together = [[*given, *more] for given, more in zip(answers, again, strict=True)]
    outcomes = settled(world, a, b, exchanges, together)
    assert set(outcomes) == {"COMPLETED", "EXPIRED"}, outcomes
    one_log(world, EXCHANGES)
