"""Ledger entries, exchanges, feed, checkpoints, nodes, directory, escrow epochs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "entries",
        sa.Column("index", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("entry", sa.LargeBinary, nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "exchanges",
        sa.Column("exchange", sa.LargeBinary, primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("index", sa.BigInteger, nullable=False, unique=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("manifest", sa.LargeBinary, nullable=False),
        sa.Column("nro", sa.Text, nullable=False),
        sa.Column("nrr", sa.Text),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "feed",
        sa.Column(
            "cursor", sa.Integer().with_variant(sa.BigInteger, "postgresql"), primary_key=True, autoincrement=True
        ),
        sa.Column("domain", sa.String(255), nullable=False),
        sa.Column("exchange", sa.LargeBinary, sa.ForeignKey("exchanges.exchange"), nullable=False),
        sa.UniqueConstraint("domain", "exchange"),
        sqlite_autoincrement=True,
    )
    op.create_index("feed_by_domain", "feed", ["domain", "cursor"])
    op.create_table(
        "checkpoints",
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("note", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "nodes",
        sa.Column("key_id", sa.LargeBinary, primary_key=True),
        sa.Column("domains", sa.Text, nullable=False),
    )
    op.create_table(
        "enrolment_tokens",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("domains", sa.Text, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("used_by", sa.LargeBinary),
    )
    op.create_table(
        "domains",
        sa.Column("domain", sa.String(255), primary_key=True),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_table(
        "bindings",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("receipt_key", sa.LargeBinary, nullable=False),
        sa.Column("index", sa.BigInteger, nullable=False, unique=True),
    )
    op.create_index("bindings_by_address", "bindings", ["address", "index"])
    op.create_table(
        "bound_keys",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("address", sa.Text, primary_key=True),
    )
    op.create_table(
        "escrow_epochs",
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("public", sa.LargeBinary, nullable=False),
        sa.Column("open_until", sa.BigInteger, nullable=False),
        sa.Column("destroyed", sa.BigInteger),
    )
