"""The keys with which nodes cosign: the first one of a name stays (docs/protocols/witness.md)."""

import sqlalchemy as sa
from alembic import op

from migrations.append_only import protect

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "witness_keys",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("vkey", sa.Text, nullable=False),
        sa.Column("node", sa.LargeBinary, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    protect(("witness_keys",))
