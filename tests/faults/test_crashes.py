"""A database that fails at any transaction, while the node lives on: one letter, one receipt, one NRR all the same.

tests/secmtp_node/agents/test_crash.py lets the process die there. Here it doesn't, so that nothing is
loaded anew and nothing swept: the programs around the node try again, and the jobs are run again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from secmtp_node.agents import jobs
from secmtp_node.store.database import SqlStore
from secmtp_node.store.unit import SqlUnit
from shared.api.messages import CompleteRequest
from shared.errors import Unavailable
from shared.evidence.bundle import Bundle
from shared.exchange.recipient import State as RecipientState
from shared.exchange.sender import State as SenderState
from tests.doubles.nodes import DoubleNode, TwoNodes, content_of
from tests.doubles.parties import LETTER

ALICE, BOB = "alice@a.example", "bob@b.example"
MOST = 60
PAST_LEASE = jobs.LEASE + 1


class FailingStore:
    """The real store, with an outage of so many transactions, each failing before or after its commit."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._failing = range(0)
        self._count = 0
        self._after = False
        self.failed = 0

    def fail(self, at: int, length: int, *, after: bool) -> None:
        """Fail at the `at`-th transaction from now (1 is the next) and at the ones behind it."""
        self._count, self.failed, self._after = 0, 0, after
        self._failing = range(at, at + length)

    @contextmanager
    def transaction(self) -> Iterator[SqlUnit]:
        """One transaction; an outage looks the same to the caller whether the commit is durable or not."""
        self._count += 1
        fails = self._count in self._failing
        self.failed += fails
        with self._store.transaction() as unit:
            yield unit
            if fails and not self._after:
                raise Unavailable("the database failed before the commit")
        if fails:
            raise Unavailable("the database's answer to the commit was lost")


def failing(node: DoubleNode) -> FailingStore:
    """Put a store that can fail beneath everything of a node."""
    made = FailingStore(node.store._store)
    node.store._store = made  # type: ignore[assignment]
    return made


def insist(work: Callable[[], object]) -> None:
    """Do some work again while it is put off, as a mail program or a worker does."""
    for _ in range(MOST):
        try:
            work()
        except Unavailable:
            continue
        return
    raise AssertionError("it was put off for ever")


def carry_on(world: TwoNodes) -> None:
    """Run all jobs and the feed of both nodes until nothing is due, also when leases and pauses have ended."""

    def all_jobs(node: DoubleNode) -> int:
        done = 0
        while jobs.run_one(node.desk):
            done += 1
            assert done < MOST, "the jobs never end"
        return done

    done: list[int] = []
    for quiet in range(MOST):
        done.clear()
        for node in (world.a, world.b):
            insist(lambda node=node: done.append(all_jobs(node)))  # type: ignore[misc]
            insist(node.follow)
        world.clock.time += PAST_LEASE
        if quiet >= 3 and sum(done) == 0:
            return
    raise AssertionError("there always is something due")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TwoNodes]:
    """Alice at node a, Bob at node b, a TTP."""
    made = TwoNodes(tmp_path)
    yield made
    made.close()


@pytest.fixture
def shown(world: TwoNodes, monkeypatch: pytest.MonkeyPatch) -> dict[bytes, set[str]]:
    """The NRRs that left node b, by exchange."""
    seen: dict[bytes, set[str]] = defaultdict(set)
    real = world.ttp.complete

    def complete(request: CompleteRequest) -> Bundle:
        seen[request.manifest.exchange].add(request.nrr)
        return real(request)

    monkeypatch.setattr(world.ttp, "complete", complete)
    return seen


def check(world: TwoNodes, shown: dict[bytes, set[str]], letters: list[bytes]) -> None:
    """Require each letter once, each receipt once, one NRR for each, and nothing else anywhere."""
    assert sorted(map(content_of, world.b.mailbox(BOB).values())) == sorted(letters)
    receipts = [name for name in world.a.mailbox(ALICE) if name.partition(":")[0].endswith(".receipt")]
    assert len(receipts) == len(world.a.mailbox(ALICE)) == len(letters)
    assert len(world.ttp.outcomes) == len(letters)
    for exchange, bundle in world.ttp.outcomes.items():
        incoming = world.b.incoming(exchange)
        assert incoming is not None
        assert shown[exchange] == {bundle.nrr} == {incoming.nrr}
        assert incoming.state is RecipientState.DELIVERED
        assert world.a.outgoing(exchange).state is SenderState.RECEIPTED
    for node in (world.a, world.b):
        assert node.alarms() == []


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", ["a", "b"])
def test_every_transaction(
    world: TwoNodes, shown: dict[bytes, set[str]], name: str, length: int, *, after: bool
) -> None:
    """Wherever on a letter's way either node's database fails, the letter and its receipt come once."""
    node: DoubleNode = getattr(world, name)
    store = failing(node)
    letters: list[bytes] = []
    for at in range(1, MOST):
        letter = LETTER + f"{at}\r\n".encode()
        letters.append(letter)
        store.fail(at, length, after=after)
        insist(lambda letter=letter: world.a.submit(ALICE, [BOB], letter))  # type: ignore[misc]
        carry_on(world)
        failed = store.failed
        store.fail(0, 0, after=after)
        check(world, shown, letters)
        if failed == 0:
            break
    assert failed == 0
    assert at > 10
    # A short outage leaves no file behind. After a longer one nobody could look whether a row names it: a start does.
    for each in (world.a, world.b):
        if length > 1:
            each.load()
        assert len(each.cipher_files()) == len(letters)
