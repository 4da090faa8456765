"""Engine, migrations and transactions of the node's database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from secmtp_node.store.unit import SqlUnit
from shared.errors import Conflict, Unavailable

BUSY = 15_000
HEAD = "0002"  # the newest revision in migrations/node; a test compares


def open_engine(url: str) -> Engine:
    """Return an engine whose transactions are serialised: each takes the writer's lock at its beginning."""
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def upgrade(engine: Engine, revision: str = HEAD) -> None:
    """Bring the database to a revision. One that is there already costs a look: alembic is slow to import."""
    if revision == HEAD and _is_at_head(engine):
        return
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(files("migrations") / "node"))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()


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


def _is_at_head(engine: Engine) -> bool:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return False
        return bool(connection.scalar(text("SELECT version_num FROM alembic_version")) == HEAD)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions behind our back
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY}"):
        connection.execute(f"PRAGMA {pragma}")
