"""The one writer of a process: it gives entries their places, commits batches, has them published, then answers.

Whoever waits gets an answer or an error by a deadline; a writer that dies fails everybody and readiness.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from shared.errors import OurFault, SecMTPError, Unavailable
from shared.evidence.tokens import LedgerPlace
from ttp_server.ports.services import Clock
from ttp_server.ports.store import Store, Transaction, TransactionLost
from ttp_server.ports.values import StoredEntry, StoredExchange
from ttp_server.services.ledger import put_tiles
from ttp_server.services.publisher import Publisher

BATCH = 64
LINGER = 0.005
WAITING = 1024
DEADLINE = 30.0
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Appended(Generic[Answer_co]):
    """A proposal's decision to append one entry. `body` is what the entry's salted hash is over."""

    kind: str
    entry: bytes
    salt: bytes
    body: bytes
    answer: Answer_co


@dataclass(frozen=True, slots=True)
class Answered(Generic[Answer_co]):
    """A proposal's decision that nothing new happens; `answer` is what is stored."""

    answer: Answer_co


class Proposal(Protocol[Answer_co]):
    """What somebody wants written. `decide` runs inside the transaction, under the writer's lock."""

    def decide(self, transaction: Transaction, place: LedgerPlace) -> Appended[Answer_co] | Answered[Answer_co]:
        """Read the state, write the rows, return the entry. Raising undoes this proposal alone."""


@dataclass(slots=True)
class _Item:
    proposal: Proposal[object]
    future: Future[object] = field(default_factory=Future)
    answer: object = None
    error: BaseException | None = None


class _UnpublishedError(Exception):
    """Something is committed that isn't published."""


class Sequencer:
    """Single writer of a process. Those of other processes on the same database wait at the store's lock."""

    def __init__(self, store: Store, publisher: Publisher, clock: Clock) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._queue: queue.Queue[_Item | None] = queue.Queue(WAITING)
        self._in_flight = 0
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="sequencer", daemon=True)
        self._dead: BaseException | None = None
        self._closing = False

    def open(self) -> None:
        """Check the ledger, publish what was committed without a checkpoint, start writing (L8)."""
        self._publisher.open()
        self._thread.start()

    def close(self) -> None:
        """Finish what waits and stop."""
        self._closing = True
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(DEADLINE)

    @property
    def alive(self) -> bool:
        """Whether proposals are being written."""
        return self._thread.is_alive() and self._dead is None and not self._closing

    def suits(self, domains: Sequence[str]) -> bool:
        """Whether what is published may be handed out in an exchange between these domains (witness.md T4)."""
        return self._publisher.suits([domains])

    def check_parties(self, domains: Sequence[str]) -> None:
        """Require that witnesses can be had for an exchange between these domains. Raises Unavailable."""
        self._publisher.check_parties(domains)

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Announce that a proposal may come from inside: the writer lingers for those, a moment."""
        with self._counting:
            self._in_flight += 1
        try:
            yield
        finally:
            with self._counting:
                self._in_flight -= 1

    def submit(self, proposal: Proposal[Answer]) -> Answer:
        """Write a proposal and return its answer, when it is durable and under a stored checkpoint.

        Raises what the proposal raised, or Unavailable: then it may or may not have been written, and
        asking again tells.
        """
        if not self.alive:
            raise Unavailable("the ledger's writer isn't running; try again later")
        item = _Item(proposal)
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            raise Unavailable("too many requests are waiting; try again later") from None
        try:
            answer: Answer = item.future.result(DEADLINE)  # type: ignore[assignment]
        except FutureTimeout:
            raise Unavailable("the ledger's writer didn't answer in time; ask again") from None
        return answer

    def _run(self) -> None:
        batch: list[_Item] = []
        try:
            while True:
                batch, stop = self._gather()
                self._write(batch)
                if stop:
                    break
            self._fail([], Unavailable("the TTP is stopping; ask again later"))
        except BaseException as error:  # noqa: BLE001  (a writer must not die silently: everybody is told)
            self._dead = error
            self._fail(batch, OurFault("the ledger's writer died; the TTP must be restarted"))

    def _gather(self) -> tuple[list[_Item], bool]:
        """Wait for one proposal; take what else is there, lingering only while more is on its way."""
        batch: list[_Item] = []
        wait: float | None = None
        while len(batch) < BATCH:
            try:
                item = self._queue.get(timeout=wait)
            except queue.Empty:
                return batch, False
            if item is None:
                return batch, True
            batch.append(item)
            wait = LINGER if self._in_flight > len(batch) else 0.0001
        return batch, False

    def _write(self, batch: list[_Item]) -> None:
        if not batch:
            return
        try:
            self._publisher.check_clock()
            appended = self._commit_next(batch)
            parties = [item.answer.domains for item in batch if isinstance(item.answer, StoredExchange)]
            if appended or not self._publisher.suits(parties):
                self._publisher.publish(parties)
        except Exception as error:  # noqa: BLE001  (database or witnesses failed: it may or may not be committed)
            for item in batch:
                if not item.future.done():
                    item.future.set_exception(_unavailable(error))
            return
        for item in batch:
            if item.error is not None:
                item.future.set_exception(item.error)
            else:
                item.future.set_result(item.answer)

    def _commit_next(self, batch: list[_Item]) -> int:
        """Commit a batch behind what is published: what somebody left committed is published first (L7)."""
        try:
            return self._commit(batch, self._publisher.size)
        except _UnpublishedError:
            self._publisher.publish()
        return self._commit(batch, None)  # what came in between is published with it

    def _commit(self, batch: list[_Item], published: int | None) -> int:
        """Write one batch and return how many entries it appended (online.md T6, T7).

        COMMIT is the commit point. A crash before it: nothing happened, nothing was visible, asking again
        starts afresh. A crash after it: the outcomes stand; they are published at the next start, and asking
        again is answered with the stored tokens.
        """
        with self._store.writing() as transaction:
            size = transaction.size()  # under the lock: other processes write too
            if published not in {None, size}:
                raise _UnpublishedError
            time = max(transaction.last_time(), self._clock.now())
            leaves: list[bytes] = []
            for item in batch:
                self._decide(item, transaction, LedgerPlace(size + len(leaves), time), leaves)
            put_tiles(transaction, size, leaves)
        return len(leaves)

    def _decide(self, item: _Item, transaction: Transaction, place: LedgerPlace, leaves: list[bytes]) -> None:
        try:
            with transaction.savepoint():
                decided = item.proposal.decide(transaction, place)
                if isinstance(decided, Appended):
                    entry = StoredEntry.of(decided.kind, decided.entry, place, decided.salt, decided.body)
                    transaction.put_entry(entry)
        except TransactionLost:
            raise
        except SecMTPError as error:
            item.error = error
            return
        except Exception as error:  # noqa: BLE001  (a fault of ours in one proposal must not hurt its neighbours)
            item.error = OurFault("a proposal couldn't be decided")
            item.error.__cause__ = error
            return
        item.answer = decided.answer
        if isinstance(decided, Appended):
            leaves.append(entry.leaf_hash)

    def _fail(self, batch: list[_Item], error: SecMTPError) -> None:
        waiting = list(batch)
        while not self._queue.empty():
            item = self._queue.get_nowait()
            if item is not None:
                waiting.append(item)
        for item in waiting:
            if not item.future.done():
                item.future.set_exception(error)


def _unavailable(error: Exception) -> Unavailable:
    """Say why there is no answer; what isn't one of our own errors is named by its kind only."""
    reason = error.message if isinstance(error, SecMTPError) else type(error).__name__
    code = error.code if isinstance(error, Unavailable) else None
    return Unavailable(f"the ledger couldn't be written: {reason}", code=code)
