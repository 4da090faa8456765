"""A log of any size, made by inserting rows: every hash is right, the evidence in it is of nobody.

A million trades would take hours; what a start, an append and a proof read of a long log is the same here.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Table

from shared.ledger.checkpoint import Checkpoint, sign_checkpoint
from shared.ledger.entry import body_digest
from shared.ledger.merkle import leaf_hash
from shared.ledger.tiles import ENTRIES, WIDTH, Edge, path, tile_root
from tests.doubles.parties import NOW
from tests.doubles.served import Served
from ttp_server.app import archive_directory, database_url
from ttp_server.custody.keys import load_keys
from ttp_server.settings import load
from ttp_server.store import tables
from ttp_server.store.database import open_engine

CHUNK = 64 * WIDTH
BODY = b"of nobody"
DOMAINS = ("a.example", "b.example")
Row = tuple[Any, ...]
Sign = Callable[[Edge], bytes]


def fill(engine: Engine, archive: Path, size: int, time: int, sign: Sign) -> None:
    """Put a log of so many trades into an empty database and its second copy, under one checkpoint."""
    edge = Edge()
    connection: Any = engine.raw_connection()
    put = _copy
    if engine.dialect.name == "sqlite":
        put = _insert
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-400000")  # the index of a million random keys, in kilobytes
    for start in range(0, size, CHUNK):
        made = [_trade(index, time) for index in range(start, min(start + CHUNK, size))]
        put(connection, tables.entries, [entry for entry, _ in made])
        put(connection, tables.exchanges, [exchange for _, exchange in made])
        put(connection, tables.feed, chain.from_iterable(map(_places, (exchange for _, exchange in made))))
        extended = edge.extend(entry[4] for entry, _ in made)
        edge = extended.edge
        full = [(tile.level, tile.number, tile.hashes, tile_root(tile.hashes)) for tile in extended.tiles]
        put(connection, tables.tiles, full)
        for first in range(0, len(made), WIDTH):
            _archive(archive, start + first, [entry for entry, _ in made[first : first + WIDTH]])
        connection.commit()
    put(connection, tables.checkpoints, [(size, sign(edge))])
    connection.commit()
    connection.close()


def long_log(world: Served, size: int) -> None:
    """Put a log of so many entries into a TTP that isn't started."""
    settings = load(world.directory)
    keys = load_keys(world.directory, settings.name, settings.log, NOW)

    def sign(edge: Edge) -> bytes:
        return sign_checkpoint(Checkpoint(settings.log, edge.size, edge.root()), keys.checkpoint)

    engine = open_engine(database_url(world.directory, settings))
    fill(engine, archive_directory(world.directory, settings), size, NOW, sign)
    engine.dispose()


def _trade(index: int, time: int) -> tuple[Row, Row]:
    """Return the rows of an entry and of its exchange, in the order of their columns."""
    salt = index.to_bytes(32, "big")
    exchange, masked = sha256(b"exchange" + salt).digest(), sha256(b"masked" + salt).digest()
    entry = b'{"body":"%s","exchange":"%s","kind":"exchange","masked":"%s","outcome":"COMPLETED","time":%d,"v":1}' % (
        _text(body_digest(salt, BODY)),
        _text(exchange),
        _text(masked),
        time,
    )
    row = (index, time, "exchange", entry, leaf_hash(entry), salt, BODY)
    return row, (exchange, "COMPLETED", index, time, b"{}", "", "", "", salt, None)


def _places(exchange: Row) -> list[Row]:
    return [(domain, exchange[0]) for domain in DOMAINS]


def _text(octets: bytes) -> bytes:
    return urlsafe_b64encode(octets).rstrip(b"=")


def _archive(archive: Path, start: int, rows: list[Row]) -> None:
    file = archive / path(ENTRIES, start // WIDTH).removeprefix("tile/entries/")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    line = b'{"body":"%s","entry":"%s","index":%d,"kind":"exchange","salt":"%s","time":%d}\n'
    file.write_bytes(b"".join(line % (_text(row[6]), _text(row[3]), row[0], _text(row[5]), row[1]) for row in rows))
    file.chmod(0o600)


def _insert(connection: Any, table: Table, rows: Iterable[Row]) -> None:
    columns = _columns(table)
    marks = ", ".join("?" for _ in columns)
    cursor = connection.cursor()
    if not connection.in_transaction:
        cursor.execute("BEGIN")
    cursor.executemany(f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks})", rows)


def _copy(connection: Any, table: Table, rows: Iterable[Row]) -> None:
    columns = ", ".join(_columns(table))
    with connection.cursor() as cursor, cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _columns(table: Table) -> list[str]:
    """Return the columns that are given. A cursor is drawn, else the next to be drawn would exist already."""
    return [f'"{column.name}"' for column in table.columns if column.name != "cursor"]
