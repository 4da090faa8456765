"""Tiles of the ledger, cosignatures of witnesses, time stamps of checkpoints (docs/protocols/ledger.md).

Full tiles are made from the entries that are there, so that a start needs to read only the right edge.
"""

from collections.abc import Sequence
from hashlib import sha256

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

WIDTH = 256


def upgrade() -> None:
    tiles = op.create_table(
        "tiles",
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "cosignatures",
        sa.Column("size", sa.BigInteger, sa.ForeignKey("checkpoints.size"), primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("line", sa.Text, nullable=False),
    )
    op.create_table(
        "stamps",
        sa.Column("size", sa.BigInteger, sa.ForeignKey("checkpoints.size"), primary_key=True, autoincrement=False),
        sa.Column("token", sa.LargeBinary, nullable=False),
    )
    connection = op.get_bind()
    entries = sa.table("entries", sa.column("index"), sa.column("leaf_hash", sa.LargeBinary))
    hashes = list(connection.scalars(sa.select(entries.c.leaf_hash).order_by(entries.c.index)))
    level = 0
    while len(hashes) >= WIDTH:
        roots = []
        for number in range(len(hashes) // WIDTH):
            tile = hashes[number * WIDTH : (number + 1) * WIDTH]
            roots.append(_root(tile))
            values = {"level": level, "number": number, "hashes": b"".join(tile), "root": roots[-1]}
            connection.execute(tiles.insert().values(values))
        hashes, level = roots, level + 1


def _root(hashes: Sequence[bytes]) -> bytes:
    """The RFC 6962 root over a full tile. Literally here: a migration must not change later."""
    row = list(hashes)
    while len(row) > 1:
        row = [sha256(b"\x01" + row[at] + row[at + 1]).digest() for at in range(0, len(row), 2)]
    return row[0]
