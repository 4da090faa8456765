"""The node's database: an old one with data in it comes to head and serves; nothing is lost on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, Table, inspect, select, text

from secmtp_node.store import database
from secmtp_node.store.database import SqlStore, open_engine, upgrade
from secmtp_node.store.tables import metadata

HASH = b"\x01" * 32
SEALED = {
    "manifest": b"m",
    "nro": "n",
    "escrow": b"e",
    "recipient_share": b"r",
    "wrapped_key": b"w",
    "sealed_secret": b"s",
    "file": "f",
    "file_digest": HASH,
    "file_octets": 1,
    "expires": 9,
}
ROWS: dict[str, dict[str, object]] = {
    "letters": {"id": HASH, "login": "a@a.example", "reports": None, "accepted": 1, "fingerprint": HASH},
    "outgoing": {"exchange": HASH, "letter": HASH, "position": 0, "state": "SENT", "reply": "", **SEALED},
    "incoming": {"exchange": HASH, "state": "HAVE", "nrr": "r", "accepted": 1, "peer": "p", **SEALED},
    "jobs": {"task": "deliver", "exchange": HASH, "due": 1, "attempts": 0, "reason": ""},
    "evidence": {"exchange": HASH, "bundle": b"b", "outcome": "COMPLETED", "time": 1},
    "faults": {"exchange": HASH, "step": "content.key", "proof": b"p", "time": 1},
    "pins": {"address": "a@a.example", "digest": HASH, "keys": HASH},
    "listings": {"address": "a@a.example", "binding": "b", "domain": "d", "fetched": 1},
    "named_values": {"name": "n", "value": "v"},
    "users": {
        "address": "a@a.example",
        "salt": b"s",
        "iterations": 1,
        "stored_key": HASH,
        "server_key": HASH,
        "delegated": True,
        "created": 1,
    },
    "user_keys": {
        "address": "a@a.example",
        "use": "origin",
        "version": 1,
        "key_id": HASH,
        "kind": None,
        "public": None,
        "certificate": b"c",
        "by_login": b"l",
        "by_node": None,
    },
    "bindings": {"address": "a@a.example", "compact": "c", "digest": HASH, "issued": 1, "published": False},
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
    engine = open_engine(f"sqlite:///{tmp_path / 'old.sqlite'}")
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


def test_old_letters_have_no_head(old: Engine) -> None:
    """A letter that was accepted before has an empty head: its report goes without."""
    upgrade(old)
    with SqlStore(old).transaction() as unit:
        assert unit.letters.get(HASH).headers == b""


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
    """The revision that the code looks for without alembic is the newest in migrations/node."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations" / "node"))
    assert ScriptDirectory.from_config(config).get_heads() == [database.HEAD]
