"""The table of escrow epochs: public halves only."""

from __future__ import annotations

from sqlalchemy import Engine, select

from ttp_server.ports.values import EpochRow
from ttp_server.store.sql import database_errors
from ttp_server.store.tables import escrow_epochs


class SqlEpochRows:
    """Escrow epochs in the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(writing=True)

    def all(self) -> list[EpochRow]:
        """Return all epochs in order, destroyed ones too."""
        with database_errors(), self._engine.connect() as connection:
            rows = connection.execute(select(escrow_epochs).order_by(escrow_epochs.c.epoch)).mappings()
            return [EpochRow(**row) for row in rows]

    def add(self, row: EpochRow) -> None:
        """Write a new epoch."""
        values = {name: getattr(row, name) for name in row.__slots__}
        with database_errors(), self._engine.begin() as connection:
            connection.execute(escrow_epochs.insert().values(values))

    def destroyed(self, epoch: int, now: int) -> None:
        """Note that an epoch's private key is gone."""
        change = escrow_epochs.update().where(escrow_epochs.c.epoch == epoch).values(destroyed=now)
        with database_errors(), self._engine.begin() as connection:
            connection.execute(change)
