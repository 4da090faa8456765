"""Tables of the TTP (docs/protocols/services.md). Octets are binary columns, times ledger seconds."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

entries = Table(
    "entries",
    metadata,
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

exchanges = Table(
    "exchanges",
    metadata,
    Column("exchange", LargeBinary, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("index", BigInteger, nullable=False, unique=True),
    Column("time", BigInteger, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("nro", Text, nullable=False),
    Column("nrr", Text),
    Column("token", Text, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("abort", Text),
)

refusals = Table(
    "refusals",
    metadata,
    Column("exchange", LargeBinary, primary_key=True),
    Column("manifest", LargeBinary, nullable=False),
    Column("nro", Text, nullable=False),
    Column("refuse", Text, nullable=False),
    Column("index", BigInteger, nullable=False, unique=True),
)

anchors = Table(
    "anchors",
    metadata,
    Column("root", LargeBinary, primary_key=True),
    Column("index", BigInteger, nullable=False, unique=True),
)

feed = Table(
    "feed",
    metadata,
    Column("cursor", Integer().with_variant(BigInteger, "postgresql"), primary_key=True, autoincrement=True),
    Column("domain", String(255), nullable=False),
    Column("exchange", LargeBinary, ForeignKey("exchanges.exchange"), nullable=False),
    UniqueConstraint("domain", "exchange"),
    Index("feed_by_domain", "domain", "cursor"),
    sqlite_autoincrement=True,
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
)

tiles = Table(
    "tiles",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
    Column("root", LargeBinary, nullable=False),
)

cosignatures = Table(
    "cosignatures",
    metadata,
    Column("size", BigInteger, ForeignKey("checkpoints.size"), primary_key=True, autoincrement=False),
    Column("name", String(255), primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("line", Text, nullable=False),
)

witness_keys = Table(
    "witness_keys",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("vkey", Text, nullable=False),
    Column("node", LargeBinary, nullable=False),
    Column("time", BigInteger, nullable=False),
)

stamps = Table(
    "stamps",
    metadata,
    Column("size", BigInteger, ForeignKey("checkpoints.size"), primary_key=True, autoincrement=False),
    Column("token", LargeBinary, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    Column("key_id", LargeBinary, primary_key=True),
    Column("domains", Text, nullable=False),
)

enrolment_tokens = Table(
    "enrolment_tokens",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("domains", Text, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("used_by", LargeBinary),
)

domains = Table(
    "domains",
    metadata,
    Column("domain", String(255), primary_key=True),
    Column("record", Text, nullable=False),
)

bindings = Table(
    "bindings",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("address", Text, nullable=False),
    Column("folded", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("receipt_key", LargeBinary, nullable=False),
    Column("index", BigInteger, nullable=False, unique=True),
    Index("bindings_by_address", "address", "index"),
    Index("bindings_by_folded", "folded"),
)

bound_keys = Table(
    "bound_keys",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("address", Text, primary_key=True),
)

revocations = Table(
    "revocations",
    metadata,
    # By address too: a domain can bind anybody's public key to an address of its own, and revoke that.
    Column("key", LargeBinary, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("index", BigInteger, nullable=False, unique=True),
    Column("time", BigInteger, nullable=False),
    Column("effective", BigInteger, nullable=False),
)

escrow_epochs = Table(
    "escrow_epochs",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(32), nullable=False),
    Column("public", LargeBinary, nullable=False),
    Column("open_until", BigInteger, nullable=False),
    Column("destroyed", BigInteger),
)
