"""Engines and migrations: SQLite as the embedded default (WAL, durable at commit), PostgreSQL by URL.

Writers of one database take turns, whatever process they are in; readers see one snapshot and wait for nobody.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError

from shared.errors import ConfigurationError

BUSY = 15_000
IDLE = 30_000
CONNECT = 10
POOL, OVERFLOW, POOL_WAIT = 8, 8, 10
LOCK = 0x5365634D5450  # "SecMTP"; advisory locks are of one database, so this one is ours alone

# Sent as one message, when a transaction that writes begins. The lock is a transaction's, never a session's: behind
# a pooler such as PgBouncer in transaction mode the next transaction may run on another session, so that a session's
# lock protects nothing and is never given back. Whoever waits longer than BUSY is told so; whoever holds the lock
# and falls silent for IDLE, because its machine is gone or its process stopped, loses transaction and lock. The
# level is READ COMMITTED: with REPEATABLE READ the snapshot would be taken by this very statement, before the lock
# is granted, and would miss what the writer before us committed.
_TAKE_TURNS = (
    f"SET LOCAL lock_timeout = {BUSY}; SET LOCAL idle_in_transaction_session_timeout = {IDLE}; "
    f"SELECT pg_advisory_xact_lock({LOCK})"
)

_GOOD = {
    "fsync": ("on",),
    "synchronous_commit": ("on", "local", "remote_write", "remote_apply"),
    "server_encoding": ("UTF8",),
}


def open_engine(url: str, *, readers: bool = False) -> Engine:
    """Return an engine. Each transaction takes the writer's lock at its beginning.

    With `readers` only those do whose connection has the execution option `writing`: readers then see one
    snapshot and wait for nobody. Raises ConfigurationError for a URL that is neither database's.
    """
    place = _place(url)
    if place.get_backend_name() == "sqlite":
        engine = create_engine(place)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_reading if readers else _begin_writing)
        return engine
    engine = create_engine(
        place,
        pool_pre_ping=True,
        pool_size=POOL,
        max_overflow=OVERFLOW,
        pool_timeout=POOL_WAIT,
        # No prepared statements: behind a pooler the next transaction may be on a session that doesn't know them.
        connect_args={"connect_timeout": CONNECT, "prepare_threshold": None},
    )
    event.listen(engine, "begin", _begin_reading_postgresql if readers else _begin_writing_postgresql)
    return engine


def upgrade(engine: Engine, program: str, revision: str, head: str) -> None:
    """Bring a database to a revision of migrations/`program`.

    One that is at `head` already costs a look: alembic is slow to import. Raises ConfigurationError for a
    PostgreSQL that loses what it has committed, or can't hold every text.
    """
    if engine.dialect.name == "postgresql":
        _check_server(engine)
    if revision == head and is_at(engine, head):
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


def _check_server(engine: Engine) -> None:
    """Refuse settings under which a commit is no commit: what was answered must survive a power failure."""
    with engine.connect() as connection:
        for name, good in _GOOD.items():
            found = str(connection.scalar(text("SELECT current_setting(:name)"), {"name": name}))
            if found not in good:
                raise ConfigurationError(f"PostgreSQL's {name} is {found} here; it must be {' or '.join(good)}")


def is_at(engine: Engine, head: str) -> bool:
    """Whether a database is at a revision."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return False
        return bool(connection.scalar(text("SELECT version_num FROM alembic_version")) == head)


def _place(url: str) -> URL:
    """Read a URL. It may hold a password, so no message shows it."""
    try:
        place = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError("the database's URL can't be read: expected postgresql://… or sqlite:///…") from error
    kind = place.get_backend_name()
    if kind == "postgresql":
        return place.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise ConfigurationError(f"a database of the kind {kind!r} can't be used: expected postgresql or sqlite")
    return place


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions behind our back
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_writing(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_reading(connection: Connection) -> None:
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _begin_writing_postgresql(connection: Connection) -> None:
    _begin_postgresql(connection, "READ_COMMITTED", read_only=False)
    connection.exec_driver_sql(_TAKE_TURNS)


def _begin_reading_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get("writing", False):
        _begin_writing_postgresql(connection)
    else:
        _begin_postgresql(connection, "REPEATABLE_READ", read_only=True)


def _begin_postgresql(connection: Connection, level: str, *, read_only: bool) -> None:
    """Say how the driver is to begin: it does so with the first statement, in one go."""
    from psycopg import IsolationLevel  # noqa: PLC0415  (who runs on SQLite needn't load it)

    driver: Any = connection.connection.driver_connection
    driver.isolation_level = IsolationLevel[level]
    driver.read_only = read_only
