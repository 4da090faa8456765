"""What came with the offline mode: the sender's ABORT, refusals, anchors (docs/protocols/services.md)."""

import sqlalchemy as sa
from alembic import op

from migrations.append_only import protect

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # A nullable column needs no new table, so the triggers on this one stay.
    op.add_column("exchanges", sa.Column("abort", sa.Text))
    op.create_table(
        "refusals",
        sa.Column("exchange", sa.LargeBinary, primary_key=True),
        sa.Column("manifest", sa.LargeBinary, nullable=False),
        sa.Column("nro", sa.Text, nullable=False),
        sa.Column("refuse", sa.Text, nullable=False),
        sa.Column("index", sa.BigInteger, nullable=False, unique=True),
    )
    op.create_table(
        "anchors",
        sa.Column("root", sa.LargeBinary, primary_key=True),
        sa.Column("index", sa.BigInteger, nullable=False, unique=True),
    )
    protect(("refusals", "anchors"))
