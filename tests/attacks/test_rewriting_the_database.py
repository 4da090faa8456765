"""Whoever owns the tables tries to change, remove or replace evidence: the database itself refuses.

What the owner can do, take the triggers away first, is found by `fsck`, by a start, and by who holds checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, LargeBinary, Table, UniqueConstraint, text
from sqlalchemy.exc import DBAPIError

from tests.doubles.databases import unprotect
from ttp_server.store.database import open_engine, upgrade
from ttp_server.store.tables import metadata

MAY_CHANGE = {"nodes", "enrolment_tokens", "domains", "escrow_epochs"}
EVIDENCE = [table for table in metadata.sorted_tables if table.name not in MAY_CHANGE]


def row(table: Table, number: int) -> dict[str, Any]:
    """A row for any table, different in each column for each number."""
    values: dict[str, Any] = {}
    for column in table.columns:
        kind = column.type.python_type
        value = bytes([number]) * 32 if isinstance(column.type, LargeBinary) else kind(number)
        values[column.name] = value
    return values


def columns(table: Table) -> str:
    """The names of the columns, for a statement."""
    return ", ".join(f'"{column.name}"' for column in table.columns)


def places(table: Table) -> str:
    """The parameters of a row, for a statement."""
    return ", ".join(f":{column.name}" for column in table.columns)


def last(table: Table) -> str:
    """A column that is no key where there is one, to be changed."""
    return [column.name for column in table.columns][-1]


def insert(table: Table, how: str = "INSERT", more: str = "") -> str:
    """Insert a row, somehow."""
    return f"{how} INTO {table.name} ({columns(table)}) VALUES ({places(table)}){more}"


def upsert(table: Table) -> str:
    """Insert, or change what is there."""
    key = ", ".join(f'"{column.name}"' for column in table.primary_key)
    return insert(table, more=f' ON CONFLICT ({key}) DO UPDATE SET "{last(table)}" = {table.name}."{last(table)}"')


def uniques(table: Table) -> list[list[str]]:
    """Every set of columns that is unique."""
    keys = [[column.name for column in table.primary_key]]
    keys += [[column.name] for column in table.columns if column.unique]
    keys += [
        [column.name for column in constraint.columns]
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    ]
    return keys


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """A database at head with two rows in every table."""
    made = open_engine(url).execution_options(writing=True)
    upgrade(made)
    with made.begin() as connection:
        for table in metadata.sorted_tables:
            for number in (1, 2):
                connection.execute(table.insert().values(row(table, number)))
    yield made
    made.dispose()


def rows(engine: Engine) -> dict[str, list[Any]]:
    """Everything that is there."""
    with engine.connect() as connection:
        return {table.name: sorted(map(tuple, connection.execute(table.select())), key=repr) for table in EVIDENCE}


def refuses(engine: Engine, statement: str, values: dict[str, Any] | None = None, first: str = "") -> None:
    """Assert that the database refuses a statement."""
    with engine.connect() as connection:
        if first:
            connection.execute(text(first))
        with pytest.raises(DBAPIError, match=r"append-only|permission denied"):
            connection.execute(text(statement), values or {})


class TestBoth:
    pytestmark = pytest.mark.both_databases

    @pytest.mark.parametrize(
        "statement",
        [
            lambda table: f'UPDATE {table.name} SET "{last(table)}" = "{last(table)}"',
            lambda table: f"DELETE FROM {table.name}",
            upsert,
        ],
        ids=["update", "delete", "upsert"],
    )
    def test_refused(self, engine: Engine, statement: Any) -> None:
        """UPDATE, DELETE and ON CONFLICT DO UPDATE are refused on every table of evidence, and nothing is changed."""
        before = rows(engine)
        for table in EVIDENCE:
            refuses(engine, statement(table), row(table, 1))
        assert rows(engine) == before

    def test_more_may_come(self, engine: Engine) -> None:
        """A new row is taken by every table, and changes nothing of those that are there."""
        before = rows(engine)
        with engine.begin() as connection:
            for table in EVIDENCE:
                connection.execute(table.insert().values(row(table, 3)))
        after = rows(engine)
        assert {name: len(found) for name, found in after.items()} == {table.name: 3 for table in EVIDENCE}
        assert all(set(before[name]) < set(after[name]) for name in before)

    def test_what_it_cant_stop(self, engine: Engine) -> None:
        """An owner who takes the triggers away can change everything: that is why the log is signed and witnessed."""
        with engine.begin() as connection:
            unprotect(connection)
            change(connection)


def change(connection: Connection) -> None:
    """Remove a row of evidence."""
    assert connection.execute(text("DELETE FROM entries WHERE time = 1")).rowcount == 1


class TestSQLite:
    @pytest.mark.parametrize("how", ["INSERT OR REPLACE", "REPLACE", "INSERT OR IGNORE", "INSERT"])
    def test_replace(self, engine: Engine, how: str) -> None:
        """A row isn't replaced through any of its keys, which would remove it without a DELETE."""
        before = rows(engine)
        for table in EVIDENCE:
            for key in uniques(table):
                same = {name: row(table, 1)[name] for name in key}
                refuses(engine, insert(table, how), {**row(table, 3), **same})
        assert rows(engine) == before

    @pytest.mark.parametrize("rowid", [-(2**63), -1, 0, 1, 2])
    def test_replace_by_rowid(self, engine: Engine, rowid: int) -> None:
        """Nor through the rowid that every table has beside its keys; and no row can be put where it could be."""
        before = rows(engine)
        for table in EVIDENCE:
            if table.name == "feed":  # its cursor is the rowid
                refuses(engine, insert(table, "REPLACE"), {**row(table, 3), "cursor": rowid})
                continue
            statement = f"REPLACE INTO {table.name} (rowid, {columns(table)}) VALUES ({rowid}, {places(table)})"
            refuses(engine, statement, row(table, 3))
        assert rows(engine) == before

    def test_update_or_replace(self, engine: Engine) -> None:
        """UPDATE OR REPLACE, which removes the row in its way, is refused."""
        before = rows(engine)
        for table in EVIDENCE:
            name = next(iter(table.primary_key)).name
            refuses(engine, f'UPDATE OR REPLACE {table.name} SET "{name}" = "{name}"')
        assert rows(engine) == before


class TestPostgreSQL:
    @pytest.fixture
    def kind(self) -> str:
        """What is PostgreSQL's alone."""
        return "postgresql"

    @pytest.mark.parametrize("how", ["", " CASCADE", " RESTART IDENTITY CASCADE"])
    def test_truncate(self, engine: Engine, how: str) -> None:
        """TRUNCATE is refused, of one table and of those that hang on it."""
        before = rows(engine)
        for table in EVIDENCE:
            if how or table.name not in {"exchanges", "checkpoints"}:  # else foreign keys stop it before
                refuses(engine, f"TRUNCATE {table.name}{how}")
        assert rows(engine) == before

    def test_merge(self, engine: Engine) -> None:
        """MERGE changes nothing that is there."""
        before = rows(engine)
        for table in EVIDENCE:
            same = " AND ".join(f't."{column.name}" = s."{column.name}"' for column in table.primary_key)
            for then in (f'UPDATE SET "{last(table)}" = s."{last(table)}"', "DELETE"):
                merge = f"MERGE INTO {table.name} t USING {table.name} s ON {same} WHEN MATCHED THEN {then}"
                refuses(engine, merge)
        assert rows(engine) == before

    def test_as_a_replica(self, engine: Engine) -> None:
        """A session that says it is a replica's, for which triggers are switched off, is refused as well."""
        before = rows(engine)
        for table in EVIDENCE:
            refuses(engine, f"DELETE FROM {table.name}", first="SET session_replication_role = replica")
        assert rows(engine) == before
