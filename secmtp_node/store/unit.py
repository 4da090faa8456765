"""One transaction: letters, exchanges of both directions, jobs, and the rooms of records.py."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, case, func, select

from secmtp_node.ports.values import Incoming, Job, Letter, Outgoing, Task
from secmtp_node.store import rows
from secmtp_node.store import tables as t
from secmtp_node.store.checkpoints import SqlCheckpoints
from secmtp_node.store.records import SqlDirectory, SqlEvidence
from secmtp_node.store.users import SqlUsers
from shared.errors import NotFound
from shared.exchange import recipient, sender

MARK = "watermark"
BATCHED = (Task.ANCHOR,)


class SqlLetters:
    """Accepted submissions."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, fingerprint: bytes, since: int) -> Letter | None:
        """Return the letter of this fingerprint that was accepted at or after `since`."""
        query = select(t.letters).where(t.letters.c.fingerprint == fingerprint, t.letters.c.accepted >= since)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else _letter(row)

    def add(self, letter: Letter) -> None:
        """Add a letter."""
        values = {name: getattr(letter, name) for name in letter.__slots__}
        self._connection.execute(t.letters.insert().values(values))

    def get(self, letter: bytes) -> Letter:
        """Return a letter. Raises NotFound."""
        row = self._connection.execute(select(t.letters).where(t.letters.c.id == letter)).mappings().first()
        if row is None:
            raise NotFound("no such letter")
        return _letter(row)


class SqlOutgoing:
    """The sender's side."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, exchange: Outgoing) -> None:
        """Add an exchange. Raises Conflict when hM is there."""
        query = select(func.count()).select_from(t.outgoing).where(t.outgoing.c.letter == exchange.letter)
        names = ("letter", "reply", "sealed_share", "sealed_abort", "nrr", "ack")
        values = {**rows.sealed_values(exchange), **{name: getattr(exchange, name) for name in names}}
        position = self._connection.scalar(query)
        self._connection.execute(t.outgoing.insert().values({**values, "position": position}))

    def find(self, exchange: bytes) -> Outgoing | None:
        """Return an exchange, None when there is none."""
        row = self._connection.execute(select(t.outgoing).where(t.outgoing.c.exchange == exchange)).mappings().first()
        return None if row is None else rows.outgoing(row)

    def of_letter(self, letter: bytes) -> Sequence[Outgoing]:
        """Return the exchanges of a letter in the order of submission."""
        query = select(t.outgoing).where(t.outgoing.c.letter == letter).order_by(t.outgoing.c.position)
        return [rows.outgoing(row) for row in self._connection.execute(query).mappings()]

    def move(self, exchange: bytes, state: sender.State, **more: str) -> None:
        """Set the state; and `reply` (the peer's), `nrr`, `ack` where they are given."""
        values: dict[str, Any] = {"state": state.value, **more}
        self._connection.execute(t.outgoing.update().where(t.outgoing.c.exchange == exchange).values(values))

    def in_states(self, states: Collection[sender.State]) -> Sequence[bytes]:
        """Return the ids of exchanges that are in one of these states."""
        query = select(t.outgoing.c.exchange).where(t.outgoing.c.state.in_([state.value for state in states]))
        return list(self._connection.scalars(query))


class SqlIncoming:
    """The recipient's side."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, exchange: Incoming) -> None:
        """Add an exchange. Raises Conflict when hM is there."""
        names = ("nrr", "accepted", "peer", "sealed_share", "ack")
        values = {**rows.sealed_values(exchange), **{name: getattr(exchange, name) for name in names}}
        self._connection.execute(t.incoming.insert().values(values))

    def find(self, exchange: bytes) -> Incoming | None:
        """Return an exchange, None when there is none."""
        row = self._connection.execute(select(t.incoming).where(t.incoming.c.exchange == exchange)).mappings().first()
        return None if row is None else rows.incoming(row)

    def move(self, exchange: bytes, state: recipient.State, **more: str | bytes) -> None:
        """Set the state; and `sealed_share`, `ack` where they are given."""
        values: dict[str, Any] = {"state": state.value, **more}
        self._connection.execute(t.incoming.update().where(t.incoming.c.exchange == exchange).values(values))

    def in_states(self, states: Collection[recipient.State]) -> Sequence[bytes]:
        """Return the ids of exchanges that are in one of these states."""
        query = select(t.incoming.c.exchange).where(t.incoming.c.state.in_([state.value for state in states]))
        return list(self._connection.scalars(query))


class SqlJobs:
    """What is to be done, and when. Taking a job hides it by moving its due time: a crash loses nothing."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, task: Task, exchange: bytes, due: int) -> None:
        """Have it done at `due`, or earlier if it is there already with an earlier time."""
        key = (t.jobs.c.task == task.value, t.jobs.c.exchange == exchange)
        row = self._connection.execute(select(t.jobs.c.due).where(*key)).first()
        if row is None:
            values = {"task": task.value, "exchange": exchange, "due": due, "attempts": 0, "reason": ""}
            self._connection.execute(t.jobs.insert().values(values))
        elif due < row.due:
            self._connection.execute(t.jobs.update().where(*key).values(due=due))

    def take(self, now: int, lease: int) -> Job | None:
        """Take the job that is due longest, hide it from others for `lease` seconds and count the attempt."""
        alone = t.jobs.c.task.not_in([task.value for task in BATCHED])
        query = select(t.jobs).where(t.jobs.c.due <= now, alone).order_by(t.jobs.c.due).limit(1)
        row = self._connection.execute(query).mappings().first()
        if row is None:
            return None
        job = Job(Task(row["task"]), row["exchange"], row["due"], row["attempts"])
        self._set(job.task, job.exchange, due=now + lease, attempts=job.attempts + 1)
        return job

    def due(self, task: Task, now: int, limit: int) -> Sequence[Job]:
        """Return the jobs of one task that are due longest. They stay due: one worker alone asks for them."""
        query = select(t.jobs).where(t.jobs.c.task == task.value, t.jobs.c.due <= now)
        found = self._connection.execute(query.order_by(t.jobs.c.due).limit(limit)).mappings()
        return [Job(task, row["exchange"], row["due"], row["attempts"]) for row in found]

    def recover(self, now: int) -> None:
        """Make every job due that was tried before: at start, whoever took it is dead. Trying early is harmless."""
        tried = (t.jobs.c.attempts > 0, t.jobs.c.due > now)
        self._connection.execute(t.jobs.update().where(*tried).values(due=now))

    def postpone(self, job: Job, due: int, reason: str) -> None:
        """Have a taken job done again at `due`."""
        self._set(job.task, job.exchange, due=due, reason=reason[:500])

    def finish(self, task: Task, exchange: bytes) -> None:
        """Forget a job."""
        self._connection.execute(t.jobs.delete().where(t.jobs.c.task == task.value, t.jobs.c.exchange == exchange))

    def next_due(self) -> int | None:
        """Return when the next job is due, None without jobs."""
        due: int | None = self._connection.scalar(select(func.min(t.jobs.c.due)))
        return due

    def waiting(self) -> Mapping[str, tuple[int, int]]:
        """Return how many jobs of each task there are, and how many of them failed before."""
        failed = func.sum(case((t.jobs.c.reason != "", 1), else_=0))
        query = select(t.jobs.c.task, func.count(), failed).group_by(t.jobs.c.task)
        return {task: (count, int(tried)) for task, count, tried in self._connection.execute(query)}

    def _set(self, task: Task, exchange: bytes, **values: Any) -> None:
        key = (t.jobs.c.task == task.value, t.jobs.c.exchange == exchange)
        self._connection.execute(t.jobs.update().where(*key).values(values))


class SqlUnit:
    """One transaction."""

    def __init__(self, connection: Connection) -> None:
        self.letters = SqlLetters(connection)
        self.outgoing = SqlOutgoing(connection)
        self.incoming = SqlIncoming(connection)
        self.jobs = SqlJobs(connection)
        self.evidence = SqlEvidence(connection)
        self.directory = SqlDirectory(connection)
        self.checkpoints = SqlCheckpoints(connection)
        self.users = SqlUsers(connection)
        self.marked = 0
        self._connection = connection

    def mark(self, least: int = 0) -> None:
        """Count a step that a database from before it must not take back: something leaves after this commit."""
        if not self.marked:
            self.marked = max(self.mark_of_database(), least) + 1
            self.directory.set_value(MARK, str(self.marked))

    def mark_of_database(self) -> int:
        """Return how many such steps the database knows."""
        return int(self.directory.value(MARK) or "0")

    def file_names(self) -> frozenset[str]:
        """Return the names of all files that rows name."""
        queries = (select(t.outgoing.c.file), select(t.incoming.c.file))
        return frozenset(name for query in queries for name in self._connection.scalars(query))


def _letter(row: RowMapping) -> Letter:
    return Letter(**{name: row[name] for name in Letter.__slots__})
