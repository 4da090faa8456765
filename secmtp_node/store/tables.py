"""Tables of the node (docs/protocols/services.md). Times are UTC seconds; secrets are sealed or wrapped."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()


def _sealed_columns() -> list[Column[object]]:
    """What both sides of an exchange keep of its envelope."""
    return [
        Column("manifest", LargeBinary, nullable=False),
        Column("nro", Text, nullable=False),
        Column("escrow", LargeBinary, nullable=False),
        Column("recipient_share", LargeBinary, nullable=False),
        Column("wrapped_key", LargeBinary, nullable=False),
        Column("sealed_secret", LargeBinary, nullable=False),
        Column("file", String(64), nullable=False),
        Column("file_digest", LargeBinary, nullable=False),
        Column("file_octets", BigInteger, nullable=False),
        Column("expires", BigInteger, nullable=False),
    ]


letters = Table(
    "letters",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("login", Text, nullable=False),
    Column("reports", Text),
    Column("accepted", BigInteger, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("headers", LargeBinary, nullable=False),
    Index("letters_by_fingerprint", "fingerprint"),
)

outgoing = Table(
    "outgoing",
    metadata,
    Column("exchange", LargeBinary, primary_key=True),
    Column("letter", LargeBinary, ForeignKey("letters.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reply", Text, nullable=False, default=""),
    Column("sealed_share", LargeBinary, nullable=False, default=b""),
    Column("sealed_abort", LargeBinary, nullable=False, default=b""),
    Column("nrr", Text, nullable=False, default=""),
    Column("ack", Text, nullable=False, default=""),
    *_sealed_columns(),
    Index("outgoing_by_letter", "letter", "position"),
    Index("outgoing_waiting", "state", "expires"),
)

incoming = Table(
    "incoming",
    metadata,
    Column("exchange", LargeBinary, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("nrr", Text, nullable=False),
    Column("accepted", BigInteger, nullable=False),
    Column("peer", Text, nullable=False),
    Column("sealed_share", LargeBinary, nullable=False, default=b""),
    Column("ack", Text, nullable=False, default=""),
    *_sealed_columns(),
    Index("incoming_open", "state"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("task", String(64), primary_key=True),
    Column("exchange", LargeBinary, primary_key=True),
    Column("due", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("reason", Text, nullable=False, default=""),
    Index("jobs_by_due", "due"),
)

evidence = Table(
    "evidence",
    metadata,
    Column("exchange", LargeBinary, primary_key=True),
    Column("bundle", LargeBinary, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("time", BigInteger, nullable=False),
)

faults = Table(
    "faults",
    metadata,
    Column("exchange", LargeBinary, primary_key=True),
    Column("step", String(64), nullable=False),
    Column("proof", LargeBinary, nullable=False),
    Column("time", BigInteger, nullable=False),
)

alarms = Table(
    "alarms",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("exchange", LargeBinary),
    Column("reason", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("time", BigInteger, nullable=False),
)

seen_checkpoints = Table(
    "seen_checkpoints",
    metadata,
    Column("ttp", String(255), primary_key=True),
    Column("origin", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("note", LargeBinary, nullable=False),
    Column("brought", Boolean, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("behind", BigInteger, nullable=False),
    Column("stopped", Text, nullable=False),
)

shown_checkpoints = Table(
    "shown_checkpoints",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("origin", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("note", LargeBinary, nullable=False),
    Column("time", BigInteger, nullable=False),
)

pins = Table(
    "pins",
    metadata,
    Column("address", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("keys", LargeBinary, nullable=False),
)

listings = Table(
    "listings",
    metadata,
    Column("address", Text, primary_key=True),
    Column("binding", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("fetched", BigInteger, nullable=False),
)

named_values = Table(
    "named_values",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("address", Text, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("iterations", Integer, nullable=False),
    Column("stored_key", LargeBinary, nullable=False),
    Column("server_key", LargeBinary, nullable=False),
    Column("delegated", Boolean, nullable=False),
    Column("created", BigInteger, nullable=False),
)

user_keys = Table(
    "user_keys",
    metadata,
    Column("address", Text, ForeignKey("users.address"), primary_key=True),
    Column("use", String(16), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("key_id", LargeBinary, nullable=False),
    Column("kind", String(32)),
    Column("public", LargeBinary),
    Column("certificate", LargeBinary, nullable=False),
    Column("by_login", LargeBinary, nullable=False),
    Column("by_node", LargeBinary),
)

bindings = Table(
    "bindings",
    metadata,
    Column("address", Text, ForeignKey("users.address"), primary_key=True),
    Column("compact", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("issued", BigInteger, nullable=False),
    Column("published", Boolean, nullable=False),
)
