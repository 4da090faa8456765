"""Triggers that refuse to change or remove rows: evidence is append-only in the database itself, for its owner too.

A migration that makes an evidence table ends with `protect`; one that rebuilds it (alembic's batch mode does on
SQLite) too, because a rebuilt table has lost its triggers. Repeating it is harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from alembic import op
from sqlalchemy import inspect

# An integrity error, as a second row with the same key is: both say that what is there stands.
_REFUSE = """
CREATE OR REPLACE FUNCTION secmtp_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING
        MESSAGE = 'append-only: ' || TG_OP || ' of ' || TG_TABLE_NAME || ' is refused', ERRCODE = 'restrict_violation';
END $$
"""


def protect(tables: Iterable[str]) -> None:
    """Let these tables refuse UPDATE, DELETE, TRUNCATE and whatever replaces a row."""
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_REFUSE)
        statements = [statement for table in tables for statement in _postgresql(table)]
    else:
        schema = inspect(connection)
        keys = {
            table: [
                schema.get_pk_constraint(table)["constrained_columns"],
                *(unique["column_names"] for unique in schema.get_unique_constraints(table)),
            ]
            for table in tables
        }
        statements = [statement for table in tables for statement in _sqlite(table, keys[table])]
    for statement in statements:
        connection.exec_driver_sql(statement)


def _postgresql(table: str) -> Iterator[str]:
    """Rows are watched one by one, TRUNCATE as a statement; ALWAYS: also where replication switches triggers off."""
    for name, watched in (
        (f"{table}_rows_stay", f'BEFORE UPDATE OR DELETE ON "{table}" FOR EACH ROW'),
        (f"{table}_stays", f'BEFORE TRUNCATE ON "{table}" FOR EACH STATEMENT'),
    ):
        yield f'DROP TRIGGER IF EXISTS "{name}" ON "{table}"'
        yield f'CREATE TRIGGER "{name}" {watched} EXECUTE FUNCTION secmtp_append_only()'
        yield f'ALTER TABLE "{table}" ENABLE ALWAYS TRIGGER "{name}"'


def _sqlite(table: str, keys: Sequence[Sequence[str | None]]) -> Iterator[str]:
    """Without TRUNCATE, but with REPLACE, which removes a row without a DELETE: so no key may come twice.

    That holds for the hidden rowid too, which an INSERT may name. Where it doesn't, a BEFORE trigger sees -1,
    so no row may have that, or anything below 1.
    """
    refuse = f"SELECT RAISE(ABORT, 'append-only: {{}} of {table} is refused')"
    there = [" AND ".join(f'"{column}" = NEW."{column}"' for column in key) for key in keys]
    twice = " OR ".join(
        f'EXISTS (SELECT 1 FROM "{table}" WHERE {same})'  # noqa: S608  (names of our own tables)
        for same in [*there, "NEW.rowid > 0 AND rowid = NEW.rowid"]
    )
    for name, watched, what in (
        ("no_update", f'BEFORE UPDATE ON "{table}"', "UPDATE"),
        ("no_delete", f'BEFORE DELETE ON "{table}"', "DELETE"),
        ("no_replace", f'BEFORE INSERT ON "{table}" WHEN {twice}', "REPLACE"),
        ("no_place", f'AFTER INSERT ON "{table}" WHEN NEW.rowid < 1', "INSERT before the first row"),
    ):
        yield f'DROP TRIGGER IF EXISTS "{table}_{name}"'
        yield f'CREATE TRIGGER "{table}_{name}" {watched} BEGIN {refuse.format(what)}; END'
