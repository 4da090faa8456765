"""The TTP's database: an old one with data in it comes to head and serves; nothing is lost on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, Table, inspect, select, text

from ttp_server.store import database
from ttp_server.store.database import open_engine, upgrade
from ttp_server.store.sql import SqlStore
from ttp_server.store.tables import metadata

HASH = b"\x01" * 32
ROWS: dict[str, dict[str, object]] = {
    "entries": {
        "index": 0,
        "time": 1,
        "kind": "binding",
        "entry": b"{}",
        "leaf_hash": HASH,
        "salt": HASH,
        "body": b"b",
    },
    "exchanges": {
        "exchange": HASH,
        "state": "EXPIRED",
        "index": 1,
        "time": 2,
        "manifest": b"m",
        "nro": "n",
        "nrr": None,
        "token": "t",
        "salt": HASH,
    },
    "feed": {"domain": "a.example", "exchange": HASH},
    "checkpoints": {"size": 2, "note": b"note"},
    "nodes": {"key_id": HASH, "domains": '["a.example"]'},
    "enrolment_tokens": {"digest": HASH, "domains": "[]", "expires": 9, "used_by": None},
    "domains": {"domain": "a.example", "record": "r"},
    "bindings": {"digest": HASH, "address": "Jose\u0301@a.example", "token": "t", "receipt_key": HASH, "index": 0},
    "bound_keys": {"key": HASH, "address": "x@a.example"},
    "escrow_epochs": {"epoch": 1, "kind": "X25519", "public": HASH, "open_until": 5, "destroyed": None},
}


def table(engine: Engine, name: str) -> Table:
    """A table as it is in the database: the tables of today aren't those of then."""
    return Table(name, MetaData(), autoload_with=engine)


def fill(engine: Engine) -> None:
    """Put a row into every table."""
    tables = {name: table(engine, name) for name in ROWS}
    with engine.begin() as connection:
        for name, values in ROWS.items():
            connection.execute(tables[name].insert().values(values))


@pytest.fixture
def old(tmp_path: Path) -> Engine:
    """A database of the first revision with a row in every table."""
    engine = open_engine(f"sqlite:///{tmp_path / 'old.sqlite'}").execution_options(writing=True)
    upgrade(engine, "0001")
    fill(engine)
    return engine


def test_rows_are_kept(old: Engine) -> None:
    """Every row of the old database is there after the migration, with what it said."""
    assert set(ROWS) == set(inspect(old).get_table_names()) - {"alembic_version"}
    upgrade(old)
    tables = {name: table(old, name) for name in ROWS}
    with old.begin() as connection:
        for name, values in ROWS.items():
            (row,) = connection.execute(select(tables[name])).mappings()
            assert {column: row[column] for column in values} == values


def test_old_addresses_are_folded(old: Engine) -> None:
    """An address that was bound before is found by its composed form: one person can't get two keys."""
    upgrade(old)
    with SqlStore(old).reading() as stored:
        assert stored.same_person("other@a.example", "Jos\u00e9@a.example") == "Jose\u0301@a.example"


@pytest.mark.parametrize("start", ["0001", None])
def test_head_is_what_the_code_expects(tmp_path: Path, start: str | None) -> None:
    """From nothing and from the first revision alike, the schema at head is the one in tables.py."""
    engine = open_engine(f"sqlite:///{tmp_path / 'new.sqlite'}")
    if start is not None:
        upgrade(engine, start)
    upgrade(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_repeating_is_harmless(old: Engine) -> None:
    """A database at head stays as it is."""
    upgrade(old)
    upgrade(old)
    with old.begin() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == database.HEAD


def test_head_is_named_right() -> None:
    """The revision that the code looks for without alembic is the newest in migrations/ttp."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations" / "ttp"))
    assert ScriptDirectory.from_config(config).get_heads() == [database.HEAD]
