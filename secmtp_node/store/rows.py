"""Rows of exchanges to values and back, in one place for both directions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, Table
from sqlalchemy.dialects import postgresql, sqlite

from secmtp_node.ports.values import Incoming, Outgoing, StoredFile
from shared.evidence import manifest as manifests
from shared.evidence.composition import Sealed
from shared.exchange import recipient, sender


def sealed_values(exchange: Outgoing | Incoming) -> dict[str, Any]:
    """Return the columns that both directions have."""
    return {
        "exchange": exchange.exchange,
        "state": exchange.state.value,
        "manifest": exchange.manifest.octets,
        "nro": exchange.nro,
        "escrow": exchange.sealed.escrow,
        "recipient_share": exchange.sealed.recipient_share,
        "wrapped_key": exchange.sealed.wrapped_key,
        "sealed_secret": exchange.sealed_secret,
        "file": exchange.ciphertext.name,
        "file_digest": exchange.ciphertext.digest,
        "file_octets": exchange.ciphertext.octets,
        "expires": exchange.manifest.core.expires,
    }


def outgoing(row: RowMapping) -> Outgoing:
    """Return the value of an outgoing row."""
    return Outgoing(
        exchange=row["exchange"],
        letter=row["letter"],
        state=sender.State(row["state"]),
        manifest=manifests.decode(row["manifest"]),
        nro=row["nro"],
        sealed=_sealed(row),
        sealed_secret=row["sealed_secret"],
        ciphertext=_file(row),
        reply=row["reply"],
        sealed_share=row["sealed_share"],
        sealed_abort=row["sealed_abort"],
        nrr=row["nrr"],
        ack=row["ack"],
    )


def incoming(row: RowMapping) -> Incoming:
    """Return the value of an incoming row."""
    return Incoming(
        exchange=row["exchange"],
        state=recipient.State(row["state"]),
        manifest=manifests.decode(row["manifest"]),
        nro=row["nro"],
        nrr=row["nrr"],
        sealed=_sealed(row),
        sealed_secret=row["sealed_secret"],
        ciphertext=_file(row),
        accepted=row["accepted"],
        peer=row["peer"],
        sealed_share=row["sealed_share"],
        ack=row["ack"],
    )


def upsert(connection: Connection, table: Table, values: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Insert a row, or replace what isn't its key."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    rest = {name: value for name, value in values.items() if name not in keys}
    statement = dialect.insert(table).values(values).on_conflict_do_update(index_elements=keys, set_=rest)
    connection.execute(statement)


def insert_once(connection: Connection, table: Table, values: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Insert a row unless there is one: the first one stands."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(dialect.insert(table).values(values).on_conflict_do_nothing(index_elements=keys))


def _sealed(row: RowMapping) -> Sealed:
    return Sealed(row["escrow"], row["recipient_share"], row["wrapped_key"])


def _file(row: RowMapping) -> StoredFile:
    return StoredFile(row["file"], row["file_digest"], row["file_octets"])
