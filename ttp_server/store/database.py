"""Engine and migrations of the TTP's database."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from shared.errors import ConfigurationError
from shared.programs import database

HEAD = "0006"  # the newest revision in migrations/ttp; a test compares


def open_engine(url: str) -> Engine:
    """Return an engine whose readers wait for nobody; the one writer takes its lock at the beginning."""
    return database.open_engine(url, readers=True)


def upgrade(engine: Engine, revision: str = HEAD) -> None:
    """Bring the database to a revision."""
    database.upgrade(engine, "ttp", revision, HEAD)


def require_head(engine: Engine) -> None:
    """Require that there is a database and that its tables are those of this version. Raises ConfigurationError."""
    file = engine.url.database if engine.dialect.name == "sqlite" else None
    if file is not None and not Path(file).is_file():
        raise ConfigurationError(f"there is no database {file}")
    if not database.is_at(engine, HEAD):
        raise ConfigurationError("the database is of another version: start the TTP of this version on it once")
