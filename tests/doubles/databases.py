"""What a forger does who owns the database: takes its triggers away, which nothing can stop."""

from __future__ import annotations

from sqlalchemy import Connection, text


def unprotect(connection: Connection) -> None:
    """Take away everything that refuses changes."""
    if connection.dialect.name == "sqlite":
        query, statement = "SELECT name FROM sqlite_master WHERE type = 'trigger'", 'DROP TRIGGER "{}"'
    else:
        query = "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
        statement = "ALTER TABLE {} DISABLE TRIGGER USER"
    statements = [statement.format(name) for name in connection.scalars(text(query)).all()]
    assert statements, "nothing is protected"
    for one in statements:
        connection.execute(text(one))
