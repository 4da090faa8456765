"""Engines on both databases: writers take turns, readers see one state, and what can't be trusted is refused."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.errors import ConfigurationError
from shared.programs import database
from shared.programs.database import open_engine, upgrade
from tests.doubles.postgres import Server
from ttp_server.store.database import HEAD

READ, ADD = text("SELECT number FROM counter"), text("UPDATE counter SET number = :number")


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """A database with a counter at 0."""
    made = open_engine(url, readers=True)
    with writing(made) as connection, connection.begin():
        connection.execute(text("CREATE TABLE counter (number INTEGER NOT NULL)"))
        connection.execute(text("INSERT INTO counter VALUES (0)"))
    yield made
    made.dispose()


def writing(engine: Engine) -> Connection:
    """A connection whose transactions write."""
    return engine.execution_options(writing=True).connect()


def count(engine: Engine) -> None:
    """Read the counter and write it one higher, which loses counts if two do it at once."""
    with writing(engine) as connection, connection.begin():
        number = connection.scalar(READ)
        connection.execute(ADD, {"number": number + 1})


@pytest.mark.both_databases
class TestTurns:
    def test_no_count_is_lost(self, engine: Engine, url: str) -> None:
        """Writers of several processes' engines take turns, and each sees what the one before it committed."""
        engines = [engine, open_engine(url, readers=True)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: count(engines[number % 2]), range(80)))
        with engine.connect() as connection:
            assert connection.scalar(READ) == 80
        engines[1].dispose()

    def test_readers_wait_for_nobody(self, engine: Engine) -> None:
        """A reader isn't held up by a writer, and sees the same until its transaction ends."""
        with engine.connect() as reader, writing(engine) as writer:
            with writer.begin():
                writer.execute(ADD, {"number": 1})
                assert reader.scalar(READ) == 0
            assert reader.scalar(READ) == 0
            reader.rollback()
            assert reader.scalar(READ) == 1

    def test_without_readers_everybody_takes_turns(self, engine: Engine, url: str) -> None:
        """An engine without readers takes the writer's lock for every transaction."""
        plain = open_engine(url)
        entered = threading.Event()

        def enter() -> None:
            with plain.connect() as connection:
                connection.scalar(READ)
                entered.set()

        with ThreadPoolExecutor(1) as pool:
            with writing(engine) as connection, connection.begin():
                connection.scalar(READ)
                waiting = pool.submit(enter)
                assert not entered.wait(0.2)
            waiting.result(10)
        plain.dispose()


class TestPostgreSQL:
    @pytest.fixture
    def kind(self) -> str:
        """What is PostgreSQL's alone."""
        return "postgresql"

    def test_a_reader_cant_write(self, engine: Engine) -> None:
        """A transaction that only reads can't write by mistake, and so never without the lock."""
        with engine.connect() as connection, pytest.raises(DBAPIError, match="read-only"):
            connection.execute(ADD, {"number": 1})

    def test_waits_only_so_long(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever can't have the lock in time gets an error instead of waiting for ever."""
        short = database._TAKE_TURNS.replace(f"lock_timeout = {database.BUSY}", "lock_timeout = 50")
        with writing(engine) as holder, holder.begin():
            holder.scalar(READ)
            monkeypatch.setattr(database, "_TAKE_TURNS", short)
            with writing(engine) as late, pytest.raises(OperationalError, match="lock timeout"):
                late.scalar(READ)
        count(engine)

    def test_who_falls_silent_loses_the_lock(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """A writer whose machine is gone holds the lock only so long; what it had written is undone."""
        quick = database._TAKE_TURNS.replace(f"session_timeout = {database.IDLE}", "session_timeout = 100")
        monkeypatch.setattr(database, "_TAKE_TURNS", quick)
        with writing(engine) as silent:
            silent.execute(ADD, {"number": 7})
            count(engine)
            with pytest.raises(DBAPIError):
                silent.commit()
            silent.invalidate()
        with engine.connect() as connection:
            assert connection.scalar(READ) == 1

    def test_a_lock_is_never_a_sessions(self, engine: Engine) -> None:
        """After a transaction nothing of the lock is left on its session: a pooler may give that to anybody."""
        held = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        with writing(engine) as connection:
            assert connection.scalar(held) == 1
            connection.rollback()
        with engine.connect() as connection:
            assert connection.scalar(held) == 0

    def test_connections_are_bounded(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """One process opens so many connections and no more; who wants another is told when none comes free."""
        monkeypatch.setattr(engine.pool, "_timeout", 0.05)
        held = [engine.connect() for _ in range(database.POOL + database.OVERFLOW)]
        with pytest.raises(PoolTimeout):
            engine.connect()
        for connection in held:
            connection.close()
        count(engine)

    def test_a_commit_that_is_none(self, engine: Engine) -> None:
        """A database that forgets in a power failure what it has committed isn't used."""
        with writing(engine) as connection, connection.begin():
            name = connection.scalar(text("SELECT current_database()"))
            connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
        engine.dispose()
        with pytest.raises(ConfigurationError, match="synchronous_commit is off here; it must be on or"):
            upgrade(engine, "ttp", HEAD, HEAD)

    def test_another_encoding(self, postgres: Server) -> None:
        """A database that can't hold every address isn't used."""
        url = postgres.create(encoding="LATIN1")
        engine = open_engine(url)
        with pytest.raises(ConfigurationError, match="server_encoding is LATIN1 here; it must be UTF8"):
            upgrade(engine, "ttp", HEAD, HEAD)
        engine.dispose()
        postgres.drop(url)


class TestURL:
    @pytest.mark.parametrize("url", ["", "nonsense", "mysql://root:secret@localhost/x", "postgres:secret"])
    def test_neither_database(self, url: str) -> None:
        """What isn't the URL of one of the two databases is refused without showing a password."""
        with pytest.raises(ConfigurationError) as error:
            open_engine(url)
        assert "secret" not in error.value.message

    def test_plain(self) -> None:
        """postgresql:// is enough: which driver is used needn't be known."""
        assert open_engine("postgresql://localhost/ttp").driver == "psycopg"


@pytest.mark.both_databases
def test_two_processes_upgrade_at_once(url: str) -> None:
    """Two processes that start on an empty database make its tables one after the other, and both go on."""
    program = "import sys; from ttp_server.store.database import *; upgrade(open_engine(sys.argv[1])); print('up')"
    started = [subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE) for _ in range(2)]
    assert [one.communicate(timeout=30)[0] for one in started] == [b"up\n", b"up\n"]
    assert [one.returncode for one in started] == [0, 0]
    engine = open_engine(url, readers=True)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == HEAD
    engine.dispose()
