"""`secmtp ttp db copy`: a TTP moves to another database and goes on as if nothing had been."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner, Result

from shared.errors import ConfigurationError
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle
from shared.programs.database import LOCK
from tests.doubles.parties import NOW
from tests.doubles.postgres import Server
from tests.doubles.served import NodeClient, Served
from ttp_server import settings as settings_module
from ttp_server.cli import app
from ttp_server.maintenance import check, copy
from ttp_server.services.findings import Findings
from ttp_server.store.database import open_engine, upgrade
from ttp_server.store.tables import feed, metadata
from ttp_server.store.transfer import Digests, digests


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Path:
    """The directory of a stopped TTP with a whole ledger on SQLite."""
    return Path(shutil.copytree(whole, tmp_path / "ttp"))


@pytest.fixture
def target(postgres: Server) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    url = postgres.create()
    yield url
    postgres.drop(url)


def rows(url: str) -> Digests:
    """Everything in a database, by its digest."""
    engine = open_engine(url)
    found = digests(engine)
    engine.dispose()
    return found


def of(place: Path) -> str:
    """The URL of the directory's SQLite database."""
    return f"sqlite:///{place / 'data' / 'ttp.sqlite'}"


def run(place: Path, to: str, *more: str) -> Result:
    """Run the command as an operator would."""
    return CliRunner().invoke(app, ["db", "copy", "--dir", str(place), "--to", to, *more])


def quietly(place: Path, source: str, to: str) -> Findings:
    """Copy without a word."""
    return copy(place, source, to, lambda _table, _count: None, lambda _violation: None, now=NOW)


class TestThereAndBack:
    def test_every_row(self, place: Path, target: str) -> None:
        """Every row of every table comes to PostgreSQL and from there to SQLite again, and all of it is checked."""
        before = rows(of(place))
        assert {name for name, (count, _) in before.items() if not count} <= {"domains", "stamps", "enrolment_tokens"}
        there = run(place, target)
        assert (there.exit_code, "Everything holds." in there.output) == (0, True), there.output
        assert rows(target) == before
        back = f"sqlite:///{place / 'back.sqlite'}"
        assert run(place, back, "--from", target).exit_code == 0
        assert rows(back) == before == rows(of(place))

    def test_goes_on(self, world: Served, a: NodeClient, b: NodeClient, target: str) -> None:
        """On PostgreSQL the TTP answers what it answered, the feed goes on behind its cursor, the log only grew."""
        first = world.exchange(b"first")
        token = bundles.decode(b.complete(first).content).token
        cursor, before = a.feed().cursor, world.ttp.desk.ledger.snapshot
        world.stop()
        assert quietly(world.directory, "", target).violations == 0
        file = world.directory / settings_module.FILE
        file.write_text(file.read_text().replace('database = ""', f'database = "{target}"'))
        world.clock.time += 1
        world.start()
        assert world.ttp.engine.dialect.name == "postgresql"
        assert bundles.decode(b.complete(first).content).token == token
        second = bundles.decode(b.complete(world.exchange(b"second")).content)
        verify_bundle(second, world.trust)
        assert [one.token for one in a.feed(cursor).bundles] == [second.token]
        assert world.client.get(f"/ledger/consistency/{before.size}").status_code == 200
        assert check(world.directory, print, now=NOW).violations == 0

    def test_cursors(self, place: Path, target: str) -> None:
        """The next place in the feed comes behind all that were copied."""
        quietly(place, "", target)
        engine = open_engine(target)
        with engine.execution_options(writing=True).begin() as connection:
            last = connection.scalar(select(func.max(feed.c.cursor)))
            exchange = connection.scalar(select(feed.c.exchange).limit(1))
            connection.execute(feed.insert().values(domain="c.example", exchange=exchange))
            assert connection.scalar(select(func.max(feed.c.cursor))) == last + 1
        engine.dispose()


class TestRefused:
    def test_a_target_with_rows(self, place: Path, target: str) -> None:
        """A target in which anything is stays as it is."""
        assert run(place, target).exit_code == 0
        before = rows(target)
        error = run(place, target).exception
        assert isinstance(error, ConfigurationError)
        assert "isn't empty" in error.message
        assert rows(target) == before

    def test_itself(self, place: Path) -> None:
        """A database isn't copied into itself."""
        assert isinstance(run(place, of(place)).exception, ConfigurationError)

    def test_while_it_is_served(self, world: Served, target: str) -> None:
        """What a TTP that still runs would write after the snapshot would be lost: it must be stopped first."""
        error = run(world.directory, target).exception
        assert isinstance(error, ConfigurationError)
        assert "another process serves" in error.message

    def test_no_source(self, place: Path, target: str) -> None:
        """Where there is no database nothing is copied, and none is made."""
        (place / "data" / "ttp.sqlite").unlink()
        assert isinstance(run(place, target).exception, ConfigurationError)
        assert not (place / "data" / "ttp.sqlite").exists()

    def test_an_old_source(self, place: Path, target: str) -> None:
        """A database of another version isn't copied into tables of this one."""
        old = f"sqlite:///{place / 'old.sqlite'}"
        engine = open_engine(old)
        upgrade(engine, "0001")
        engine.dispose()
        error = run(place, target, "--from", old).exception
        assert isinstance(error, ConfigurationError)
        assert "another version" in error.message


class TestWhatGoesWrong:
    def test_a_spoiled_source(self, place: Path, target: str) -> None:
        """What is wrong in the source is told of the copy, and the command exits 1."""
        with closing(sqlite3.connect(place / "data" / "ttp.sqlite")) as database, database:
            database.execute("INSERT INTO anchors VALUES (zeroblob(32), 999)")
        result = run(place, target)
        assert result.exit_code == 1
        assert "anchors.entry: entry 999" in result.output

    def test_interrupted(self, place: Path, target: str) -> None:
        """Interrupted anywhere, the target stays empty, and copying again does it."""
        before = rows(of(place))

        def told(table: str, count: int) -> None:
            if table == "feed":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            copy(place, "", target, told, print, now=NOW)
        assert set(rows(target).values()) == {(0, 0)}
        assert quietly(place, "", target).violations == 0
        assert rows(target) == before

    def test_nobody_writes_meanwhile(self, place: Path, target: str) -> None:
        """While rows are copied nobody can write to the source, on either database."""
        refused: list[str] = []

        def sqlite(table: str, count: int) -> None:
            with closing(sqlite3.connect(place / "data" / "ttp.sqlite", timeout=0)) as other:
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute("BEGIN IMMEDIATE")
                refused.append(table)

        def postgresql(table: str, count: int) -> None:
            other = open_engine(target)
            with other.connect() as connection:
                assert not connection.scalar(select(func.pg_try_advisory_xact_lock(LOCK)))
            other.dispose()

        copy(place, "", target, sqlite, print, now=NOW)
        copy(place, target, f"sqlite:///{place / 'back.sqlite'}", postgresql, print, now=NOW)
        assert {"entries", "exchanges", "feed"} <= set(refused)
        assert set(refused) < set(metadata.tables)
