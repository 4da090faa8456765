"""Engine, migrations and transactions of the node's database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from secmtp_node.store.unit import SqlUnit
from shared.errors import Conflict, Unavailable
from shared.programs import database

HEAD = "0003"  # the newest revision in migrations/node; a test compares


def open_engine(url: str) -> Engine:
    """Return an engine whose transactions are serialised: each takes the writer's lock at its beginning."""
    return database.open_engine(url)


def upgrade(engine: Engine, revision: str = HEAD) -> None:
    """Bring the database to a revision."""
    database.upgrade(engine, "node", revision, HEAD)


class SqlStore:
    """Makes transactions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def transaction(self) -> Iterator[SqlUnit]:
        """Begin a transaction that is durable when the block has ended and rolled back when it raises."""
        try:
            with self._engine.begin() as connection:
                yield SqlUnit(connection)
        except IntegrityError as error:
            raise Conflict("it exists already; the first one stands") from error
        except DBAPIError as error:
            raise Unavailable(f"the database failed: {type(error.orig).__name__}") from error
