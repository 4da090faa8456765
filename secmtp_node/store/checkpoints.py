"""The newest checkpoint of each TTP's log, and those in bundles that aren't checked yet."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from secmtp_node.ports.values import SeenCheckpoint, ShownCheckpoint
from secmtp_node.store import rows
from secmtp_node.store import tables as t

MAX_SHOWN = 1000


class SqlCheckpoints:
    """What was seen of ledgers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(self, ttp: str) -> SeenCheckpoint | None:
        """Return the newest verified checkpoint of a TTP's log."""
        query = select(t.seen_checkpoints).where(t.seen_checkpoints.c.ttp == ttp)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else SeenCheckpoint(**row)

    def all(self) -> Sequence[SeenCheckpoint]:
        """Return the newest checkpoint of every TTP's log."""
        query = select(t.seen_checkpoints).order_by(t.seen_checkpoints.c.ttp)
        return [SeenCheckpoint(**row) for row in self._connection.execute(query).mappings()]

    def put(self, seen: SeenCheckpoint) -> None:
        """Make a checkpoint the newest of a TTP's log."""
        values = {name: getattr(seen, name) for name in seen.__slots__}
        rows.upsert(self._connection, t.seen_checkpoints, values, ("ttp",))

    def show(self, shown: ShownCheckpoint) -> None:
        """Keep the checkpoint of a bundle until it is checked; 1000 at most, and each once."""
        if (self._connection.scalar(select(func.count()).select_from(t.shown_checkpoints)) or 0) >= MAX_SHOWN:
            return
        values = {"digest": _digest(shown), **{name: getattr(shown, name) for name in shown.__slots__}}
        rows.insert_once(self._connection, t.shown_checkpoints, values, ("digest",))

    def shown(self, origin: str, limit: int) -> Sequence[ShownCheckpoint]:
        """Return checkpoints of bundles that aren't checked yet, the smallest first."""
        column = t.shown_checkpoints.c
        query = (
            select(column.origin, column.size, column.note, column.time)
            .where(column.origin == origin)
            .order_by(column.size, column.digest)
            .limit(limit)
        )
        return [ShownCheckpoint(**row) for row in self._connection.execute(query).mappings()]

    def checked(self, shown: ShownCheckpoint) -> None:
        """Forget one that was checked."""
        change = t.shown_checkpoints.delete().where(t.shown_checkpoints.c.digest == _digest(shown))
        self._connection.execute(change)


def _digest(shown: ShownCheckpoint) -> bytes:
    """A name for the row, not a value of the protocol: by what the log signed, whoever cosigned it."""
    return hashlib.sha256(shown.note.partition(b"\n\n")[0]).digest()
