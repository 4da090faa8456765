"""The one writer: what a crash at each place leaves, and that nobody waits in vain or gets half an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.errors import Forbidden, OurFault, Unavailable
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle
from shared.evidence.tokens import LedgerPlace
from tests.doubles.faults import FaultyStore, crash
from tests.doubles.served import NodeClient, Served
from ttp_server.ports.store import Transaction, TransactionLost
from ttp_server.services.sequencer import Answered, Appended, _Item

BATCH, CHECKPOINT = 1, 2


def faulty(world: Served) -> FaultyStore:
    """Put a faulty store under the running writer."""
    sequencer = world.ttp.desk.sequencer
    store = FaultyStore(sequencer._store)
    sequencer._store = sequencer._publisher._store = store
    return store


def until(look: Callable[[], Any], what: str) -> None:
    """Poll until something is so."""
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        threading.Event().wait(0.002)


def waits(go: threading.Event, begun: threading.Event | None = None) -> Callable[[], None]:
    """Something that says that it has begun, and waits for a signal."""

    def wait() -> None:
        if begun is not None:
            begun.set()
        assert go.wait(10), "the test never went on"

    return wait


class Proposes:
    """A proposal that appends one entry, after doing whatever a test wants done inside the transaction."""

    def __init__(self, name: str, inside: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.inside = inside

    def decide(self, transaction: Transaction, place: LedgerPlace) -> Appended[str] | Answered[str]:
        """Append an entry of a kind that only tests know."""
        self.inside()
        return Appended("test", b"entry " + self.name.encode(), bytes(32), b"", self.name)


@pytest.mark.both_databases
class TestCrash:
    @pytest.mark.parametrize(
        ("nth", "where", "survives"),
        [
            (BATCH, "before", False),
            (BATCH, "after", True),
            (CHECKPOINT, "before", True),
            (CHECKPOINT, "after", True),
        ],
    )
    def test_at_each_place(self, world: Served, b: NodeClient, nth: int, where: str, *, survives: bool) -> None:
        """Before COMMIT nothing happened, after it the outcome stands; asked again after the start, all is whole."""
        exchange = world.exchange(b"letter")
        before = world.ttp.desk.ledger.size
        faulty(world).inject(nth, **{where: crash})
        assert b.complete(exchange).status_code == 500
        assert world.client.get("/readyz").status_code == 503
        kept = world.ttp.desk.stored(exchange.manifest.exchange)
        assert (kept is not None) == survives
        world.restart()
        assert world.ttp.desk.ledger.snapshot.size == before + survives
        answer = bundles.decode(b.complete(exchange).content)
        verify_bundle(answer, world.trust)
        assert kept is None or answer.token == kept.token
        assert world.ttp.desk.ledger.size == before + 1

    def test_tells_everybody_who_waits(self, world: Served, b: NodeClient) -> None:
        """A writer that dies fails all who wait at once, and new requests are told to try later."""
        held, go = threading.Event(), threading.Event()

        def hold_then_die() -> None:
            held.set()
            go.wait(10)
            crash()

        faulty(world).inject(BATCH, before=hold_then_die)
        first, others = world.exchange(b"first"), [world.exchange(b"other %d" % number) for number in range(5)]
        with ThreadPoolExecutor(6) as pool:
            asked = [pool.submit(b.complete, first)]
            held.wait(10)
            asked += [pool.submit(b.complete, other) for other in others]
            until(lambda: world.ttp.desk.sequencer._queue.qsize() == len(others), "all to wait")
            go.set()
            assert {one.result(10).status_code for one in asked} == {500}
        assert b.complete(first).status_code == 503


@pytest.mark.both_databases
class TestFailure:
    def test_before_commit_is_told_and_repeatable(self, world: Served, b: NodeClient) -> None:
        """A database that fails once is answered 503 with Retry-After, leaves nothing, and the next try trades."""

        def lose() -> None:
            raise TransactionLost("the disk is full")

        exchange = world.exchange(b"letter")
        faulty(world).inject(BATCH, before=lose)
        answer = b.complete(exchange)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert world.ttp.desk.stored(exchange.manifest.exchange) is None
        verify_bundle(bundles.decode(b.complete(exchange).content), world.trust)

    def test_a_commit_whose_answer_was_lost(self, world: Served, b: NodeClient) -> None:
        """When COMMIT seemed to fail and hadn't, the next batch takes the entries in, and the stored token is given."""

        def lose() -> None:
            raise Unavailable("connection lost while committing")

        exchange, next_one = world.exchange(b"letter"), world.exchange(b"next")
        before = world.ttp.desk.ledger.size
        faulty(world).inject(BATCH, after=lose)
        assert b.complete(exchange).status_code == 503
        stored = world.ttp.desk.stored(exchange.manifest.exchange)
        assert stored is not None
        verify_bundle(bundles.decode(b.complete(next_one).content), world.trust)
        assert bundles.decode(b.complete(exchange).content).token == stored.token
        assert world.ttp.desk.ledger.size == before + 2

    def test_asking_again_signs_what_wasnt(self, world: Served, b: NodeClient) -> None:
        """An outcome whose checkpoint couldn't be stored is never "unknown": asking again has the tree signed."""

        def lose() -> None:
            raise Unavailable("the disk is full")

        exchange = world.exchange(b"letter")
        faulty(world).inject(CHECKPOINT, before=lose)
        assert b.complete(exchange).status_code == 503
        verify_bundle(bundles.decode(b.complete(exchange).content), world.trust)

    def test_asked_between_commit_and_checkpoint(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """Whoever asks between COMMIT and checkpoint waits for the checkpoint, by whatever way they ask."""
        go = threading.Event()
        exchange = world.exchange(b"letter")
        faulty(world).inject(CHECKPOINT, before=waits(go))
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(b.complete, exchange)]
            until(lambda: world.ttp.desk.stored(exchange.manifest.exchange), "the commit")
            hm = exchange.manifest.exchange.hex()
            asked += [pool.submit(b.complete, exchange), pool.submit(a.status, exchange)]
            asked += [pool.submit(a.ask, "GET", f"/v1/exchanges/{hm}")]
            until(lambda: world.ttp.desk.sequencer._queue.qsize() == 3, "all to wait")
            assert a.feed().bundles == ()
            go.set()
            answers = [one.result(10) for one in asked]
        assert {answer.status_code for answer in answers} == {200}
        assert len({bundles.decode(answer.content).token for answer in answers}) == 1


@pytest.mark.both_databases
class TestBatch:
    def submit_together(self, world: Served, *proposals: Proposes) -> list[Any]:
        """Submit proposals so that the writer takes them in one batch; return answers and errors."""
        sequencer, go, begun = world.ttp.desk.sequencer, threading.Event(), threading.Event()
        with ThreadPoolExecutor(len(proposals) + 1) as pool:
            pool.submit(sequencer.submit, Proposes("held", waits(go, begun)))
            assert begun.wait(10), "the writer never began"
            asked = []
            for number, proposal in enumerate(proposals, 1):
                asked.append(pool.submit(sequencer.submit, proposal))
                until(lambda number=number: sequencer._queue.qsize() == number, "the queue")  # type: ignore[misc]
            go.set()
            return [one.exception(10) or one.result() for one in asked]

    def test_a_failing_one_doesnt_hurt_its_neighbours(self, world: Served) -> None:
        """One proposal that is refused, or that runs into a fault of ours, is undone alone; the others are written."""

        def refuse() -> None:
            raise Forbidden("not this one")

        def break_down() -> None:
            raise ZeroDivisionError

        before = world.ttp.desk.ledger.size
        answers = self.submit_together(
            world, Proposes("one"), Proposes("two", refuse), Proposes("three", break_down), Proposes("four")
        )
        assert (answers[0], answers[3]) == ("one", "four")
        assert isinstance(answers[1], Forbidden)
        assert isinstance(answers[2], OurFault)
        assert world.ttp.desk.ledger.size == before + 3
        assert world.ttp.desk.ledger.snapshot.size == before + 3

    def test_the_same_exchange_twice_in_a_batch(self, world: Served, b: NodeClient) -> None:
        """The second proposal about an exchange in one batch is answered with the first one's token."""
        exchange, go, begun = world.exchange(b"letter"), threading.Event(), threading.Event()
        before = world.ttp.desk.ledger.size
        sequencer = world.ttp.desk.sequencer
        with ThreadPoolExecutor(3) as pool:
            pool.submit(sequencer.submit, Proposes("held", waits(go, begun)))
            assert begun.wait(10), "the writer never began"
            asked = [pool.submit(b.complete, exchange) for _ in range(2)]
            until(lambda: sequencer._queue.qsize() == 2, "both to wait")
            go.set()
            tokens = {bundles.decode(one.result(10).content).token for one in asked}
        assert len(tokens) == 1
        assert world.ttp.desk.ledger.size == before + 2

    def test_a_full_queue_turns_away(self, world: Served, b: NodeClient) -> None:
        """When the queue is full a request is answered 503 at once instead of waiting."""
        exchange = world.exchange(b"letter")
        sequencer, go, begun = world.ttp.desk.sequencer, threading.Event(), threading.Event()
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(sequencer.submit, Proposes("held", waits(go, begun)))
            assert begun.wait(10), "the writer never began"
            sequencer._queue.maxsize = 1
            sequencer._queue.put_nowait(_Item(Proposes("waits")))
            assert b.complete(exchange).status_code == 503
            go.set()
            held.result(10)
        assert b.complete(exchange).status_code == 200


class TestStopping:
    def test_what_waits_is_written_and_the_rest_is_told(self, world: Served, b: NodeClient) -> None:
        """A writer that is told to stop writes what waits; whoever comes after is told at once."""
        sequencer = world.ttp.desk.sequencer
        assert sequencer.submit(Proposes("last")) == "last"
        sequencer.close()
        with pytest.raises(Unavailable):
            sequencer.submit(Proposes("late"))
        assert world.client.get("/readyz").status_code == 503
