"""The store: transactions, jobs, files beside the database, and that one program has a directory."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData, event, select

from secmtp_node.ports.values import Alarm, CachedListing, Letter, Pin, SenderFault, StoredFile, Task
from secmtp_node.store.database import SqlStore, open_engine, upgrade
from secmtp_node.store.files import FileBox
from secmtp_node.store.lock import DirectoryLock
from shared.errors import ConfigurationError, Conflict, NotFound, Unavailable
from tests.doubles.nodes import TwoNodes, content_of
from tests.doubles.parties import LETTER

ONE, TWO, THREE = (bytes([number]) * 32 for number in (1, 2, 3))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A fresh database at head."""
    made = open_engine(f"sqlite:///{tmp_path / 'node.sqlite'}")
    upgrade(made)
    yield made
    made.dispose()


@pytest.fixture
def store(engine: Engine) -> SqlStore:
    """A store on it."""
    return SqlStore(engine)


def letter(name: bytes = b"l" * 16, fingerprint: bytes = ONE, accepted: int = 100) -> Letter:
    """Return a letter."""
    return Letter(name, "alice@a.example", None, accepted, fingerprint, b"sealed")


class TestTransactions:
    """All of it, or none of it."""

    def test_rolled_back(self, store: SqlStore) -> None:
        """A block that raises leaves nothing."""

        class Surprise(Exception):
            pass

        def fail() -> None:
            with store.transaction() as unit:
                unit.letters.add(letter())
                raise Surprise

        with pytest.raises(Surprise):
            fail()
        with store.transaction() as unit, pytest.raises(NotFound):
            unit.letters.get(b"l" * 16)

    def test_the_same_again(self, store: SqlStore) -> None:
        """What is there already is a conflict, and undoes the rest of its block."""
        with store.transaction() as unit:
            unit.letters.add(letter())

        def again() -> None:
            with store.transaction() as unit:
                unit.jobs.add(Task.CARRY, ONE, 1)
                unit.letters.add(letter())

        with pytest.raises(Conflict):
            again()
        with store.transaction() as unit:
            assert unit.jobs.next_due() is None

    def test_failing_database(self, engine: Engine, store: SqlStore) -> None:
        """A database that fails is something to come back for, without details that help nobody."""
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE letters")
        with pytest.raises(Unavailable, match="the database failed"), store.transaction() as unit:
            unit.letters.get(b"x")

    def test_one_after_the_other(self, store: SqlStore) -> None:
        """Twenty threads that read and write the same value lose no step."""

        def step(_number: int) -> None:
            with store.transaction() as unit:
                unit.directory.set_value("n", str(int(unit.directory.value("n") or "0") + 1))

        with ThreadPoolExecutor(20) as pool:
            list(pool.map(step, range(100)))
        with store.transaction() as unit:
            assert unit.directory.value("n") == "100"

    def test_durable(self, engine: Engine) -> None:
        """SQLite writes ahead, syncs at each commit, and checks references."""
        with engine.connect() as connection:
            settings = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
        assert settings == ["wal", 2, 1]

    def test_head_is_looked_at(self, engine: Engine) -> None:
        """A database that is at head is left alone: no statement that changes anything is sent."""
        seen: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda _c, _cu, statement, *_: seen.append(statement))
        upgrade(engine)
        assert not [one for one in seen if one.lstrip().upper().startswith(("CREATE", "ALTER", "INSERT", "UPDATE"))]


class TestRecords:
    """Small records."""

    def test_letters_by_fingerprint(self, store: SqlStore) -> None:
        """A fingerprint finds the letter within the window only."""
        with store.transaction() as unit:
            unit.letters.add(letter(accepted=100))
            assert unit.letters.find(ONE, 100) == letter()
            assert unit.letters.find(ONE, 101) is None
            assert unit.letters.find(TWO, 0) is None

    def test_first_fault_stands(self, store: SqlStore) -> None:
        """The first proof against a sender is kept, whatever comes later."""
        first, second = (SenderFault(ONE, step, b"p", 1) for step in ("content.chunk", "content.key"))
        with store.transaction() as unit:
            unit.evidence.add_fault(first)
            unit.evidence.add_fault(second)
            assert unit.evidence.find_fault(ONE) == first
            assert unit.evidence.find_fault(TWO) is None

    def test_alarms(self, store: SqlStore) -> None:
        """The same alarm again is one alarm; others are listed newest first."""
        old, new = Alarm("k", ONE, "r", b"d", 1), Alarm("k", None, "r", b"d", 2)
        with store.transaction() as unit:
            for alarm in (old, new, Alarm("k", ONE, "r", b"d", 3)):
                unit.evidence.alarm(alarm)
            assert unit.evidence.alarms(10) == [new, old]
            assert unit.evidence.alarms(1) == [new]

    def test_replaced(self, store: SqlStore) -> None:
        """Pins, listings and named values hold the newest."""
        with store.transaction() as unit:
            for number in (1, 2):
                unit.directory.set_pin("a@b", Pin(bytes([number]), b"k"))
                unit.directory.set_listing("a@b", CachedListing("b", "d", number))
                unit.directory.set_value("n", str(number))
            assert unit.directory.pin("a@b") == Pin(b"\x02", b"k")
            assert unit.directory.listing("a@b") == CachedListing("b", "d", 2)
            assert unit.directory.value("n") == "2"


class TestJobs:
    """What is to be done."""

    def test_in_order_of_due_times(self, store: SqlStore) -> None:
        """The job that is due longest is taken first, and none before its time."""
        with store.transaction() as unit:
            for exchange, due in ((ONE, 30), (TWO, 10), (THREE, 20)):
                unit.jobs.add(Task.CARRY, exchange, due)
            assert unit.jobs.next_due() == 10
            taken = [unit.jobs.take(25, 100) for _ in range(3)]
        assert [job.exchange for job in taken if job] == [TWO, THREE]

    def test_lease(self, store: SqlStore) -> None:
        """A taken job is hidden until its lease ends, so that a crash of its taker loses nothing."""
        with store.transaction() as unit:
            unit.jobs.add(Task.TRADE, ONE, 10)
            first = unit.jobs.take(10, 100)
            assert unit.jobs.take(109, 100) is None
            second = unit.jobs.take(110, 100)
        assert first is not None
        assert second is not None
        assert (first.attempts, second.attempts) == (0, 1)

    def test_recovered(self, store: SqlStore) -> None:
        """At start what a killed process took is due at once; what nobody tried yet keeps its time."""
        with store.transaction() as unit:
            unit.jobs.add(Task.CARRY, ONE, 10)
            unit.jobs.add(Task.STATUS, TWO, 500)
            assert unit.jobs.take(10, 900) is not None
            unit.jobs.recover(11)
            again = unit.jobs.take(11, 900)
            assert again is not None
            assert (again.task, again.exchange, again.attempts) == (Task.CARRY, ONE, 1)
            assert unit.jobs.take(499, 900) is None

    def test_added_again(self, store: SqlStore) -> None:
        """A job that is there becomes due earlier, never later, and is one job."""
        with store.transaction() as unit:
            for due in (20, 30, 10):
                unit.jobs.add(Task.TRADE, ONE, due)
            assert unit.jobs.next_due() == 10
            unit.jobs.finish(Task.TRADE, ONE)
            assert unit.jobs.next_due() is None

    def test_postponed(self, store: SqlStore) -> None:
        """A job that couldn't be done comes again at its new time, and keeps its count."""
        with store.transaction() as unit:
            unit.jobs.add(Task.TRADE, ONE, 10)
            job = unit.jobs.take(10, 100)
            assert job is not None
            unit.jobs.postpone(job, 40, "x" * 10_000)
            assert unit.jobs.take(39, 100) is None
            again = unit.jobs.take(40, 100)
        assert again is not None
        assert again.attempts == 1

    def test_tasks_of_one_exchange(self, store: SqlStore) -> None:
        """Finishing one task leaves the others of the same exchange."""
        with store.transaction() as unit:
            for task in Task:
                unit.jobs.add(task, ONE, 1)
            unit.jobs.finish(Task.CARRY, ONE)
            left = set()
            while job := unit.jobs.take(1, 100):
                left.add(job.task)
            anchors = unit.jobs.due(Task.ANCHOR, 1, 9)  # gathered by one worker, and never taken one by one
        assert left == set(Task) - {Task.CARRY, Task.ANCHOR}
        assert [(job.task, job.exchange) for job in anchors] == [(Task.ANCHOR, ONE)]

    def test_many_workers(self, store: SqlStore) -> None:
        """Eight workers that take at once never take the same job."""
        with store.transaction() as unit:
            for number in range(100):
                unit.jobs.add(Task.CARRY, bytes([number]) * 32, 1)

        def take_all(_worker: int) -> list[bytes]:
            taken: list[bytes] = []
            while True:
                with store.transaction() as unit:
                    job = unit.jobs.take(1, 1000)
                if job is None:
                    return taken
                taken.append(job.exchange)

        with ThreadPoolExecutor(8) as pool:
            taken = [exchange for some in pool.map(take_all, range(8)) for exchange in some]
        assert len(taken) == len(set(taken)) == 100


class TestFiles:
    """Ciphertexts beside the database."""

    def test_written_and_read(self, tmp_path: Path) -> None:
        """What is written is read, for the owner alone; digest and length are of the octets."""
        import hashlib

        box = FileBox(tmp_path / "files")
        file = box.write([b"one", b"", b"two" * 50_000])
        whole = b"one" + b"two" * 50_000
        assert b"".join(box.read(file)) == whole
        assert (file.digest, file.octets) == (hashlib.sha256(whole).digest(), len(whole))
        path = tmp_path / "files" / file.name
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700

    def test_source_fails(self, tmp_path: Path) -> None:
        """When the octets stop coming, nothing is left."""

        def broken() -> Iterator[bytes]:
            yield b"some"
            raise Unavailable("no more")

        box = FileBox(tmp_path / "files")
        with pytest.raises(Unavailable):
            box.write(broken())
        assert list((tmp_path / "files").iterdir()) == []

    @pytest.mark.parametrize("call", ["fsync", "open"])
    def test_failing_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
        """A full or failing disk is something to come back for, and leaves nothing."""
        box = FileBox(tmp_path / "files")

        def fails(*_arguments: object, **_more: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, call, fails)
        with pytest.raises(Unavailable, match="No space left"):
            box.write([b"x"])
        monkeypatch.undo()
        assert list((tmp_path / "files").iterdir()) == []

    def test_missing(self, tmp_path: Path) -> None:
        """A file that isn't there may come back with the disk it lies on."""
        with pytest.raises(Unavailable):
            list(FileBox(tmp_path / "files").read(StoredFile("gone", b"", 0)))

    def test_sweep(self, tmp_path: Path) -> None:
        """A start removes what no row names, and nothing else."""
        box = FileBox(tmp_path / "files")
        kept, orphan = box.write([b"kept"]), box.write([b"orphan"])
        assert box.sweep({kept.name}) == 1
        assert b"".join(box.read(kept)) == b"kept"
        with pytest.raises(Unavailable):
            list(box.read(orphan))
        box.discard(orphan)
        box.discard(kept)
        box.discard(kept)


class TestLock:
    """One node a directory."""

    def test_second_program(self, tmp_path: Path) -> None:
        """A second process is refused while the first holds the directory, and let in once it is gone."""
        lock = DirectoryLock(tmp_path)
        script = (
            "import sys; from pathlib import Path; from secmtp_node.store.lock import DirectoryLock; "
            "DirectoryLock(Path(sys.argv[1]))"
        )
        command = [sys.executable, "-c", script, str(tmp_path)]
        refused = subprocess.run(command, capture_output=True, timeout=30, check=False)
        assert refused.returncode != 0
        assert b"another node runs" in refused.stderr
        lock.release()
        lock.release()
        assert subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0

    def test_in_one_process(self, tmp_path: Path) -> None:
        """Two locks in one process exclude each other too."""
        held = DirectoryLock(tmp_path)
        with pytest.raises(ConfigurationError, match="another node runs"):
            DirectoryLock(tmp_path)
        held.release()
        DirectoryLock(tmp_path).release()


class TestOldDatabase:
    """A node that was run by the first version."""

    def test_goes_on(self, tmp_path: Path) -> None:
        """Exchanges that were open under revision 0001 come to their end, and what is done stays done."""
        world = TwoNodes(tmp_path)
        world.a.submit("alice@a.example", ["bob@b.example"], LETTER)
        world.settle(4)
        world.a.submit("alice@a.example", ["bob@b.example"], LETTER + b"second\r\n")
        world.a.work()
        for node in (world.a, world.b):
            node.close()
            to_first_revision(node.place / "data" / "node.sqlite")
            node.load()
        world.settle(6)
        got = sorted(content_of(text) for text in world.b.mailbox("bob@b.example").values())
        assert got == [LETTER, LETTER + b"second\r\n"]
        assert len(world.a.mailbox("alice@a.example")) == 2
        world.close()


def to_first_revision(database: Path) -> None:
    """Replace a database by one of revision 0001 with the same rows, as far as it had a place for them."""
    aside = database.with_suffix(".now")
    database.rename(aside)
    new, old = open_engine(f"sqlite:///{aside}"), open_engine(f"sqlite:///{database}")
    upgrade(old, "0001")
    was, now = MetaData(), MetaData()
    was.reflect(old)
    now.reflect(new)
    with new.connect() as source, old.begin() as target:
        for table in was.sorted_tables:
            columns = [now.tables[table.name].c[column.name] for column in table.columns]
            rows = [dict(row) for row in source.execute(select(*columns)).mappings()]
            if rows and table.name != "alembic_version":
                target.execute(table.insert(), rows)
    new.dispose()
    old.dispose()


def test_busy_database(engine: Engine, store: SqlStore) -> None:
    """A writer that holds the database up makes others wait, not fail, for as long as is bearable."""
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with store.transaction() as unit:
            unit.directory.set_value("held", "1")
            entered.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(10)
    threading.Timer(0.3, leave.set).start()
    with store.transaction() as unit:
        assert unit.directory.value("held") == "1"
    holder.join(10)
    assert engine.dialect.name == "sqlite"
