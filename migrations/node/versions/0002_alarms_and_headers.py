"""Alarms for operators; and the head of a letter, so that a report can show what it is about."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "alarms",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("exchange", sa.LargeBinary),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    # Letters accepted before have no head: their reports go without it.
    # Added in place: a table that others refer to can't be copied and dropped.
    empty = "x''" if op.get_bind().dialect.name == "sqlite" else "''"
    op.add_column("letters", sa.Column("headers", sa.LargeBinary, nullable=False, server_default=sa.text(empty)))
