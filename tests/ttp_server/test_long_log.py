"""A start of the TTP and a proof read the edge of the log, however long it is (ledger.md L8)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from shared.ledger import proof as proofs
from shared.ledger.tiles import WIDTH
from tests.doubles import synthetic
from tests.doubles.ledger import Numbered, log_key
from tests.doubles.served import Served
from ttp_server.app import build
from ttp_server.settings import load

SHORT, LONG = 600, 66_000


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A TTP, not started, with a long log."""
    world = Served(tmp_path_factory.mktemp("long"))
    synthetic.long_log(world, LONG)
    return world


@contextmanager
def counted_rows() -> Iterator[list[int]]:
    """Count every row that SQLite hands out meanwhile, in any connection that is opened meanwhile."""
    rows = [0]

    def count(cursor: Any, row: tuple[Any, ...]) -> tuple[Any, ...]:
        rows[0] += 1
        return row

    def connected(connection: Any, _record: Any) -> None:
        connection.row_factory = count

    event.listen(Engine, "connect", connected)
    yield rows
    event.remove(Engine, "connect", connected)


def read_at_start(world: Served) -> int:
    """How many rows a start reads, and one append after it."""
    with counted_rows() as rows:
        ttp = build(world.directory, load(world.directory), world.clock)
        ttp.desk.sequencer.submit(Numbered(1))
        ttp.close()
    return rows[0]


def test_start_reads_the_edge(long: Served, tmp_path: Path) -> None:
    """A start with 66,000 entries reads hardly more rows than one with 600: the edge, never the log."""
    short = Served(tmp_path)
    synthetic.long_log(short, SHORT)
    rows = read_at_start(short)
    assert rows > SHORT % WIDTH  # so rows are counted at all
    # A start and an append load the edge three times; the longer one has at most 255 hashes more in each.
    assert read_at_start(long) < rows + 3 * WIDTH


def test_proofs(long: Served) -> None:
    """Entries at both ends of a long log, and around its subtrees, have proofs that verify."""
    long.ttp = build(long.directory, load(long.directory), long.clock)
    ledger = long.ttp.desk.ledger
    for index in (0, 255, 256, 65_535, 65_536, LONG - 1):
        with long.ttp.desk.store.reading() as stored:
            entry = next(iter(stored.entries(index))).entry
        verified = proofs.verify(proofs.decode(ledger.proof(index)), entry, log_key(long))
        assert verified.checkpoint.size == ledger.size
    long.ttp.close()
