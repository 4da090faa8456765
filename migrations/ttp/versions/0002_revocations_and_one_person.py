"""Revocations; and the folded form of addresses, so that one person can't get two keys (directory.md D11)."""

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "revocations",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("index", sa.BigInteger, nullable=False, unique=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("effective", sa.BigInteger, nullable=False),
    )
    op.add_column("bindings", sa.Column("folded", sa.Text, nullable=False, server_default=""))
    bindings = sa.table("bindings", sa.column("digest", sa.LargeBinary), sa.column("address"), sa.column("folded"))
    connection = op.get_bind()
    for digest, address in connection.execute(sa.select(bindings.c.digest, bindings.c.address)).all():
        # Literally what services/directory.py folded when this was written: a migration must not change later.
        folded = unicodedata.normalize("NFC", address)
        connection.execute(bindings.update().where(bindings.c.digest == digest).values(folded=folded))
    op.create_index("bindings_by_folded", "bindings", ["folded"])
