"""A TTP that is killed at each of its operations in turn: a program, which forks for each, and reports in JSON.

    python -m tests.doubles.killed DIRECTORY trade|start|survivor [DATABASE]

The log goes on from one death to the next, so at the end it must be consistent with every checkpoint that
any of them served. `trade` dies while it trades, and is started again; `survivor` likewise, but another process on
the same database, which was there already, goes on; `start` dies while it starts behind one that died with a
batch that was committed and not published.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from shared.evidence import bundle as bundles
from shared.evidence.bundle import Bundle
from shared.evidence.tokens import LedgerPlace
from shared.programs.log import configure_log
from tests.doubles.forks import Child, Message, Pipe
from tests.doubles.points import Points
from tests.doubles.rounds import Ground, Round, bind, complete
from ttp_server import app
from ttp_server.app import TTP
from ttp_server.ports.store import Transaction
from ttp_server.services import feed
from ttp_server.services.ledger import Ledger, Snapshot
from ttp_server.services.publisher import Publisher
from ttp_server.services.sequencer import Answered
from ttp_server.store import tables

NOTE, ANSWER, NAMES, LEAF, READY = "N", "A", "O", "L", "R"
DOMAINS = ("a.example", "b.example")
WAIT = 20.0
Work = Callable[[Pipe, Pipe], None]


class Watched:
    """A TTP whose every checkpoint is looked at when it is published, and all evidence under it."""

    def __init__(self, points: Points, up: Pipe) -> None:
        self._points = points
        self._up = up
        self._ttp: TTP | None = None
        self._cursor = 0
        publish = Ledger.publish

        def shown(ledger: Ledger, snapshot: Snapshot) -> None:
            publish(ledger, snapshot)
            with points.unseen():
                self._look(ledger)

        pytest.MonkeyPatch().setattr(Ledger, "publish", shown)

    def follow(self, ttp: TTP) -> None:
        """From here on the feed is read too."""
        with ttp.engine.connect() as connection:
            self._cursor = connection.scalar(select(func.max(tables.feed.c.cursor))) or 0
        self._ttp = ttp

    def answer(self, bundle: Bundle) -> None:
        """Evidence has left."""
        with self._points.unseen():
            self._up.tell(ANSWER, bundles.encode(bundle))

    def _look(self, ledger: Ledger) -> None:
        self._up.tell(NOTE, ledger.snapshot.note)
        if self._ttp is not None:
            for bundle in feed.page(self._ttp.desk, DOMAINS, self._cursor, 100).bundles:
                self._up.tell(ANSWER, bundles.encode(bundle))


class Held:
    """Appends nothing, but holds the writer until others wait behind it; `last` is done by the writer's thread."""

    def __init__(self, last: Callable[[], None]) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self._last = last

    def decide(self, transaction: Transaction, place: LedgerPlace) -> Answered[None]:
        """Wait."""
        self.begun.set()
        assert self.go.wait(WAIT)
        self._last()
        return Answered(None)


def together(ttp: TTP, held: Held, begun: Callable[[], None], *asks: Callable[[], object]) -> None:
    """Ask several things of the writer that it finds in one batch, always in this order."""
    sequencer = ttp.desk.sequencer
    with ThreadPoolExecutor(len(asks) + 1) as pool:
        waiting: list[Future[object]] = [pool.submit(sequencer.submit, held)]
        assert held.begun.wait(WAIT)
        begun()
        for number, ask in enumerate(asks, 1):
            waiting.append(pool.submit(ask))
            deadline = time.monotonic() + WAIT
            while sequencer._queue.qsize() < number and not waiting[-1].done():
                assert time.monotonic() < deadline, "a proposal never came to the writer"
                threading.Event().wait(0.0005)
        held.go.set()
        for one in waiting:
            one.result(WAIT)


@dataclass(frozen=True)
class Task:
    """What a process does: check the round before, whose TTP was killed, then trade until it is killed itself."""

    ground: Ground
    before: Round | None
    asked: Round | None = None
    at: int = 0
    alone: bool = False

    @property
    def number(self) -> int:
        """The time of the clock."""
        newest = self.asked or self.before
        return newest.number if newest else 0


def checking(task: Task, ttp: TTP, down: Pipe, up: Pipe) -> None:
    """Say that we run; when told what was shown, check it."""
    up.tell(READY)
    told = list(down.messages())
    for leaf in _of(told, LEAF):
        task.ground.tree.append(leaf)
    leaves: list[bytes] = []
    if task.before is not None:
        answers = [bundles.decode(answer) for answer in _of(told, ANSWER)]
        leaves += task.ground.check(ttp, task.before, _of(told, NOTE), answers)
    if task.asked is not None:
        leaves += task.ground.fill(ttp.engine, task.asked)
    for leaf in leaves:
        up.tell(LEAF, leaf)


def trading(task: Task) -> Work:
    """Check, and die at an operation of a batch of two trades and a binding, or of a trade `alone`."""

    def work(down: Pipe, up: Pipe) -> None:
        points = Points(task.at)
        watched = Watched(points, up)
        ttp = task.ground.build(task.number)
        checking(task, ttp, down, up)
        if task.asked is None:
            return
        asked = task.asked
        watched.follow(ttp)
        first, second, third = asked.exchanges
        together(
            ttp,
            Held(points.join),
            points.arm,
            *(
                [lambda: watched.answer(complete(ttp, third))]
                if task.alone
                else [
                    lambda: watched.answer(complete(ttp, first)),
                    lambda: bind(ttp, asked),
                    lambda: watched.answer(complete(ttp, second)),
                ]
            ),
        )
        points.disarm()
        up.tell(NAMES, json.dumps(points.names).encode())

    return work


def dying_committed(task: Task) -> Work:
    """Check, and die as soon as a batch is committed."""

    def die(_publisher: Publisher, _parties: object = ()) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def work(down: Pipe, up: Pipe) -> None:
        asked = task.asked
        assert asked is not None
        Watched(Points(), up)
        ttp = task.ground.build(task.number)
        checking(task, ttp, down, up)
        first, second, _ = asked.exchanges
        together(
            ttp,
            Held(lambda: None),
            lambda: pytest.MonkeyPatch().setattr(Publisher, "publish", die),
            lambda: complete(ttp, first),
            lambda: bind(ttp, asked),
            lambda: complete(ttp, second),
        )

    return work


def starting(task: Task) -> Work:
    """Die at an operation of a start."""

    def work(_down: Pipe, up: Pipe) -> None:
        points = Points(task.at)
        Watched(points, up)
        points.arm()
        task.ground.build(task.number)
        points.disarm()
        up.tell(NAMES, json.dumps(points.names).encode())

    return work


@dataclass
class Running:
    """A process that was forked when the reference had so many leaves."""

    child: Child
    asked: Round
    leaves: int


class Series:
    """One death after the other, at the first operation, the second, and so on until one isn't reached."""

    def __init__(self, ground: Ground, mode: str) -> None:
        self.ground = ground
        self._mode = mode
        self._step = 5 if mode == "survivor" else 1
        self._notes: list[bytes] = []
        self._shown: list[Message] = []
        self.deaths = 0

    def run(self) -> dict[str, list[str]]:
        """Return the names of the operations by what was going on."""
        names, last = self._starts() if self._mode == "start" else self._trades()
        self._end(Running(Child(trading(Task(self.ground, last))), last, self.ground.tree.size))
        for note in self._notes:
            self.ground.check_note(note)
        return names

    def _trades(self) -> tuple[dict[str, list[str]], Round]:
        batch, last = self._every(None, alone=False)
        alone, last = self._every(last, alone=True)
        return {"batch": batch, "alone": alone}, last

    def _every(self, last: Round | None, *, alone: bool) -> tuple[list[str], Round]:
        at, names = 1, None
        current = self._trading(last, at, alone=alone)
        while names is None:
            at += self._step
            follower = self._trading(current.asked, at, alone=alone) if self._mode == "survivor" else None
            names = self._end(current)
            current = follower or self._after(current.asked, at, alone=alone)
        self._end(current)
        return names, current.asked

    def _after(self, asked: Round, at: int, *, alone: bool) -> Running:
        """Go on after a death. One that left the log as it was needs no look: the same is asked again."""
        if not self.ground.untouched(asked):
            return self._trading(asked, at, alone=alone)
        again = replace(asked, filling=range(asked.start, asked.start))
        return self._running(Task(self.ground, None, again, at, alone), again)

    def _trading(self, before: Round | None, at: int, *, alone: bool) -> Running:
        asked = self.ground.next_round(full=not alone)
        return self._running(Task(self.ground, before, asked, at, alone), asked)

    def _running(self, task: Task, asked: Round) -> Running:
        running = Running(Child(trading(task)), asked, self.ground.tree.size)
        running.child.first(READY)
        return running

    def _starts(self) -> tuple[dict[str, list[str]], Round]:
        at, names = 0, None
        asked: Round | None = None
        state: object = None
        while names is None:
            at += 1
            if asked is None or self.ground.state() != state:  # a start got somewhere: the next needs a fresh tail
                before, asked = asked, self.ground.next_round(full=asked is None)
                dying = Child(dying_committed(Task(self.ground, before, asked)))
                self._end(Running(dying, asked, self.ground.tree.size))
                state = self.ground.state()
            names = self._took(*Child(starting(Task(self.ground, None, asked, at))).end())
        assert asked is not None
        return {"start": names}, asked

    def _end(self, running: Running) -> list[str] | None:
        """Let a process work until its end, and bring the reference to where the log is then."""
        tree = self.ground.tree
        leaves = [Message(LEAF, tree.leaf(index)) for index in range(running.leaves, tree.size)]
        running.child.go(*leaves, *self._shown)
        self._shown = []
        told, killed = running.child.end()
        for leaf in _of(told, LEAF):
            tree.append(leaf)
        return self._took(told, killed)

    def _took(self, told: list[Message], killed: bool) -> list[str] | None:
        self._shown += [message for message in told if message.kind in {NOTE, ANSWER}]
        self._notes += _of(told, NOTE)
        self.ground.check_copied(_of(told, NOTE))
        self.deaths += killed
        names = _of(told, NAMES)
        return json.loads(names[0]) if names else None


def _of(messages: list[Message], kind: str) -> list[bytes]:
    return [message.body for message in messages if message.kind == kind]


def main(place: str, mode: str, database: str = "") -> None:
    """Run one series and print its report."""
    configure_log()
    gc.freeze()
    gc.disable()  # collecting would touch, and so copy, every page that a child shares with us
    pytest.MonkeyPatch().setattr(app, "FOLLOW", 3600.0)  # it only reads; when it does so would be luck
    begun = time.monotonic()
    series = Series(Ground(Path(place), database), mode)
    names = series.run()
    checked = series.ground.check_whole()
    report = {
        "entries": checked,
        "points": {what: len(found) for what, found in names.items()},
        "deaths": series.deaths,
        "seconds": round(time.monotonic() - begun, 1),
        "names": Counter(name for found in names.values() for name in found),
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
