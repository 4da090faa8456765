"""Every row of one database into an empty other one, from one snapshot, in one transaction: all or nothing.

Nobody writes to the source meanwhile; what would be written after the snapshot would be lost without a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Engine, Table, func, select, text

from shared.errors import ConfigurationError
from ttp_server.store.database import require_head, upgrade
from ttp_server.store.sql import database_errors
from ttp_server.store.tables import feed, metadata

ROWS = 200
Digests = dict[str, tuple[int, int]]
Told = Callable[[str, int], None]


def copy(source: Engine, target: Engine, told: Told) -> Digests:
    """Copy all rows and return, for each table, their number and a digest. `told` is called after each page.

    COMMIT of the target is the commit point: a crash before it leaves the target empty, and copying can be
    repeated. Raises ConfigurationError when the target isn't empty.
    """
    require_head(source)
    upgrade(target)
    with database_errors(), target.connect() as connection:
        _require_empty(connection)
    # A connection of its own holds the lock: the snapshot must be taken after the lock was granted, and with
    # REPEATABLE READ the statement that asks for the lock would take it before.
    with (
        database_errors(),
        source.execution_options(writing=True).begin() as lock,
        source.begin() as rows,
        target.execution_options(writing=True).begin() as into,
    ):
        _require_empty(into)
        return {table.name: _copy(table, rows, into, lock, told) for table in metadata.sorted_tables}


def digests(engine: Engine) -> Digests:
    """Return the number of rows and their digest for each table."""
    with database_errors(), engine.connect() as connection, connection.begin():
        return {table.name: _digest(_pages(table, connection)) for table in metadata.sorted_tables}


def _copy(table: Table, rows: Connection, into: Connection, lock: Connection, told: Told) -> tuple[int, int]:
    def written() -> Iterator[list[dict[str, Any]]]:
        count = 0
        for page in _pages(table, rows):
            lock.execute(text("SELECT 1"))  # raises if the lock was lost, and keeps its connection from being idle
            into.execute(table.insert(), page)
            count += len(page)
            told(table.name, count)
            yield page

    found = _digest(written())
    if table is feed and into.dialect.name == "postgresql":
        # SQLite goes on behind the greatest cursor by itself; a sequence knows nothing of rows that name theirs.
        last = into.scalar(select(func.max(feed.c.cursor)))
        if last is not None:
            into.execute(text("SELECT setval(pg_get_serial_sequence('feed', 'cursor'), :last)"), {"last": last})
    return found


def _pages(table: Table, connection: Connection) -> Iterator[list[dict[str, Any]]]:
    query = select(table).order_by(*table.primary_key.columns)
    result = connection.execute(query, execution_options={"yield_per": ROWS}).mappings()
    for page in result.partitions():
        yield [dict(row) for row in page]


def _digest(pages: Iterable[list[dict[str, Any]]]) -> tuple[int, int]:
    """Count rows and add up their hashes: two databases may sort texts differently."""
    count = total = 0
    for page in pages:
        for row in page:
            count += 1
            total += int.from_bytes(sha256(repr(tuple(row.values())).encode()).digest(), "big")
    return count, total % 2**256


def _require_empty(connection: Connection) -> None:
    for table in metadata.sorted_tables:
        if connection.execute(select(table).limit(1)).first() is not None:
            raise ConfigurationError(f"the target isn't empty: it has rows in {table.name}; name an empty database")
