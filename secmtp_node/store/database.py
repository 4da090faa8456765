"""Engine, migrations and transactions of the node's database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from secmtp_node.store.unit import SqlUnit
from secmtp_node.store.watermark import Watermark
from shared.errors import Conflict, Unavailable
from shared.programs import database

HEAD = "0004"  # the newest revision in migrations/node; a test compares


def open_engine(url: str) -> Engine:
    """Return an engine whose transactions are serialised: each takes the writer's lock at its beginning."""
    return database.open_engine(url)


def upgrade(engine: Engine, revision: str = HEAD) -> None:
    """Bring the database to a revision."""
    database.upgrade(engine, "node", revision, HEAD)


class SqlStore:
    """Makes transactions."""

    def __init__(self, engine: Engine, watermark: Watermark | None = None) -> None:
        """Without a watermark no step is taken that a restored database must know of."""
        self._engine = engine
        self._watermark = watermark

    @contextmanager
    def transaction(self) -> Iterator[SqlUnit]:
        """Begin a transaction that is durable when the block has ended and rolled back when it raises.

        A marked one is noted outside the database before the block's caller goes on: a crash between the two
        leaves the database ahead of the mark, which is no sign of a restored one.
        """
        try:
            with self._engine.begin() as connection:
                unit = SqlUnit(connection)
                yield unit
            if unit.marked and self._watermark is not None:
                self._watermark.raise_to(unit.marked)
        except IntegrityError as error:
            raise Conflict("it exists already; the first one stands") from error
        except DBAPIError as error:
            raise Unavailable(f"the database failed: {type(error.orig).__name__}") from error
