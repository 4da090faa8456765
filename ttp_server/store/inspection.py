"""Everything that is stored, row by row, for `fsck`: streamed from one snapshot, a page in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Engine, Select, exists, select

from ttp_server.ports.values import (
    AnchorRow,
    BindingRow,
    CosignatureRow,
    RefusalRow,
    RevocationRow,
    StoredExchange,
    TileRow,
)
from ttp_server.store import tables as t
from ttp_server.store.sql import SqlReading, database_errors

ROWS = 100
R = TypeVar("R")

_BINDINGS = select(t.bindings, t.entries.c.time).join(t.entries, t.entries.c.index == t.bindings.c.index, isouter=True)


@contextmanager
def inspecting(engine: Engine) -> Iterator[SqlInspection]:
    """Read everything, in one consistent state."""
    with database_errors(), engine.connect() as connection, connection.begin():
        yield SqlInspection(connection)


class SqlInspection(SqlReading):
    """Reads all rows on one connection."""

    def checkpoints(self) -> Iterable[tuple[int, bytes]]:
        """Yield size and note of all checkpoints by size."""
        for row in self._stream(select(t.checkpoints).order_by(t.checkpoints.c.size)):
            yield row["size"], row["note"]

    def tiles(self) -> Iterable[TileRow]:
        """Yield all tiles by level and number."""
        return self._rows(TileRow, select(t.tiles).order_by(t.tiles.c.level, t.tiles.c.number))

    def tile_row(self, level: int, number: int) -> TileRow | None:
        """Return one tile."""
        row = self._first(select(t.tiles).where(t.tiles.c.level == level, t.tiles.c.number == number))
        return None if row is None else TileRow(**row)

    def exchanges(self) -> Iterable[StoredExchange]:
        """Yield all exchanges by index."""
        for page in _pages(self._stream(select(t.exchanges).order_by(t.exchanges.c.index))):
            places: dict[bytes, list[str]] = {row["exchange"]: [] for row in page}
            query = select(t.feed.c.exchange, t.feed.c.domain).where(t.feed.c.exchange.in_(places))
            for exchange, domain in self._connection.execute(query.order_by(t.feed.c.cursor)):
                places[exchange].append(domain)
            for row in page:
                yield StoredExchange(**row, domains=tuple(places[row["exchange"]]))

    def bindings(self) -> Iterable[BindingRow]:
        """Yield all bindings by index."""
        return self._rows(BindingRow, _BINDINGS.order_by(t.bindings.c.index))

    def bindings_by_address(self) -> Iterable[BindingRow]:
        """Yield all bindings by address, then index."""
        return self._rows(BindingRow, _BINDINGS.order_by(t.bindings.c.address, t.bindings.c.index))

    def bound_keys(self, address: str) -> Collection[bytes]:
        """Return all keys that are stored as bound to an address."""
        query = select(t.bound_keys.c.key).where(t.bound_keys.c.address == address)
        return set(self._connection.scalars(query))

    def unbound(self) -> Iterable[str]:
        """Yield addresses with a bound key and without a binding."""
        bound = exists().where(t.bindings.c.address == t.bound_keys.c.address)
        query = select(t.bound_keys.c.address).where(~bound).distinct().order_by(t.bound_keys.c.address)
        for row in self._stream(query):
            yield row["address"]

    def revocations(self) -> Iterable[RevocationRow]:
        """Yield all revocations by index."""
        return self._rows(RevocationRow, select(t.revocations).order_by(t.revocations.c.index))

    def refusals(self) -> Iterable[RefusalRow]:
        """Yield all refusals by index."""
        return self._rows(RefusalRow, select(t.refusals).order_by(t.refusals.c.index))

    def anchors(self) -> Iterable[AnchorRow]:
        """Yield all anchors by index."""
        return self._rows(AnchorRow, select(t.anchors).order_by(t.anchors.c.index))

    def cosignatures_of_all(self) -> Iterable[CosignatureRow]:
        """Yield all cosignatures by size and name."""
        query = (
            select(t.cosignatures, t.witness_keys.c.vkey, t.checkpoints.c.note)
            .join(t.witness_keys, t.witness_keys.c.name == t.cosignatures.c.name, isouter=True)
            .join(t.checkpoints, t.checkpoints.c.size == t.cosignatures.c.size, isouter=True)
            .order_by(t.cosignatures.c.size, t.cosignatures.c.name)
        )
        return self._rows(CosignatureRow, query)

    def _rows(self, kind: type[R], query: Select[Any]) -> Iterator[R]:
        names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
        for row in self._stream(query):
            yield kind(**{name: row[name] for name in names})

    def _stream(self, query: Select[Any]) -> Iterator[dict[str, Any]]:
        """Yield rows from a cursor of the server: without it the driver would fetch them all at once."""
        for row in self._connection.execute(query, execution_options={"yield_per": ROWS}).mappings():
            yield dict(row)


def _pages(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    page: list[dict[str, Any]] = []
    for row in rows:
        page.append(row)
        if len(page) == ROWS:
            yield page
            page = []
    if page:
        yield page
