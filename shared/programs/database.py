"""Engines and migrations: SQLite as the embedded default (WAL, durable at commit), PostgreSQL by URL."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, text

BUSY = 15_000


def open_engine(url: str, *, readers: bool = False) -> Engine:
    """Return an engine. On SQLite each transaction takes the writer's lock at its beginning.

    With `readers` only those do whose connection has the execution option `writing`: readers then see one
    snapshot and wait for nobody.
    """
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_reading if readers else _begin_writing)
    return engine


def upgrade(engine: Engine, program: str, revision: str, head: str) -> None:
    """Bring a database to a revision of migrations/`program`.

    One that is at `head` already costs a look: alembic is slow to import.
    """
    if revision == head and _is_at(engine, head):
        return
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(files("migrations") / program))
    # Writing: two that start at once do it one after the other; without, the second would be refused at once.
    with engine.execution_options(writing=True).connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()


def _is_at(engine: Engine, head: str) -> bool:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return False
        return bool(connection.scalar(text("SELECT version_num FROM alembic_version")) == head)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions behind our back
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_writing(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_reading(connection: Any) -> None:
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
