"""Letters, exchanges of both directions, jobs, evidence, directory, users."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "evidence",
        sa.Column("exchange", sa.LargeBinary, primary_key=True),
        sa.Column("bundle", sa.LargeBinary, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "faults",
        sa.Column("exchange", sa.LargeBinary, primary_key=True),
        sa.Column("step", sa.String(64), nullable=False),
        sa.Column("proof", sa.LargeBinary, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "incoming",
        sa.Column("exchange", sa.LargeBinary, primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("nrr", sa.Text, nullable=False),
        sa.Column("accepted", sa.BigInteger, nullable=False),
        sa.Column("peer", sa.Text, nullable=False),
        sa.Column("manifest", sa.LargeBinary, nullable=False),
        sa.Column("nro", sa.Text, nullable=False),
        sa.Column("escrow", sa.LargeBinary, nullable=False),
        sa.Column("recipient_share", sa.LargeBinary, nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary, nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary, nullable=False),
        sa.Column("file", sa.String(64), nullable=False),
        sa.Column("file_digest", sa.LargeBinary, nullable=False),
        sa.Column("file_octets", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
    )
    op.create_index("incoming_open", "incoming", ["state"])
    op.create_table(
        "jobs",
        sa.Column("task", sa.String(64), primary_key=True),
        sa.Column("exchange", sa.LargeBinary, primary_key=True),
        sa.Column("due", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("jobs_by_due", "jobs", ["due"])
    op.create_table(
        "letters",
        sa.Column("id", sa.LargeBinary, primary_key=True),
        sa.Column("login", sa.Text, nullable=False),
        sa.Column("reports", sa.Text),
        sa.Column("accepted", sa.BigInteger, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    )
    op.create_index("letters_by_fingerprint", "letters", ["fingerprint"])
    op.create_table(
        "listings",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("binding", sa.Text, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("fetched", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "named_values",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "pins",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("keys", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "users",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("iterations", sa.Integer, nullable=False),
        sa.Column("stored_key", sa.LargeBinary, nullable=False),
        sa.Column("server_key", sa.LargeBinary, nullable=False),
        sa.Column("delegated", sa.Boolean, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "bindings",
        sa.Column("address", sa.Text, sa.ForeignKey("users.address"), primary_key=True),
        sa.Column("compact", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("issued", sa.BigInteger, nullable=False),
        sa.Column("published", sa.Boolean, nullable=False),
    )
    op.create_table(
        "outgoing",
        sa.Column("exchange", sa.LargeBinary, primary_key=True),
        sa.Column("letter", sa.LargeBinary, sa.ForeignKey("letters.id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reply", sa.Text, nullable=False),
        sa.Column("manifest", sa.LargeBinary, nullable=False),
        sa.Column("nro", sa.Text, nullable=False),
        sa.Column("escrow", sa.LargeBinary, nullable=False),
        sa.Column("recipient_share", sa.LargeBinary, nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary, nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary, nullable=False),
        sa.Column("file", sa.String(64), nullable=False),
        sa.Column("file_digest", sa.LargeBinary, nullable=False),
        sa.Column("file_octets", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
    )
    op.create_index("outgoing_by_letter", "outgoing", ["letter", "position"])
    op.create_index("outgoing_waiting", "outgoing", ["state", "expires"])
    op.create_table(
        "user_keys",
        sa.Column("address", sa.Text, sa.ForeignKey("users.address"), primary_key=True),
        sa.Column("use", sa.String(16), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("key_id", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.String(32)),
        sa.Column("public", sa.LargeBinary),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("by_login", sa.LargeBinary, nullable=False),
        sa.Column("by_node", sa.LargeBinary),
    )
