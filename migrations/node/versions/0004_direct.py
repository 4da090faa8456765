"""Offline mode: the key and the ABORT that a sender keeps, and what both sides signed directly."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    empty = "x''" if op.get_bind().dialect.name == "sqlite" else "''"
    for table, sealed, tokens in (
        ("outgoing", ("sealed_share", "sealed_abort"), ("nrr", "ack")),
        ("incoming", ("sealed_share",), ("ack",)),
    ):
        for name in sealed:
            op.add_column(table, sa.Column(name, sa.LargeBinary, nullable=False, server_default=sa.text(empty)))
        for name in tokens:
            op.add_column(table, sa.Column(name, sa.Text, nullable=False, server_default=""))
