"""Engine and migrations of the TTP's database."""

from __future__ import annotations

from sqlalchemy import Engine

from shared.programs import database

HEAD = "0006"  # the newest revision in migrations/ttp; a test compares


def open_engine(url: str) -> Engine:
    """Return an engine whose readers wait for nobody; the one writer takes its lock at the beginning."""
    return database.open_engine(url, readers=True)


def upgrade(engine: Engine, revision: str = HEAD) -> None:
    """Bring the database to a revision."""
    database.upgrade(engine, "ttp", revision, HEAD)
