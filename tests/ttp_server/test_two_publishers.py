"""Two processes' writers on one PostgreSQL, in turn and at once: one log without forks or gaps, whichever fails."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from shared.errors import Unavailable
from shared.ledger.checkpoint import open_checkpoint
from shared.ledger.note import KeyType, verifier_key
from tests.doubles import synthetic
from tests.doubles.faults import FaultyStore
from tests.doubles.ledger import Numbered
from tests.doubles.postgres import Server
from tests.doubles.served import PushedClock, Served, fill_database
from tests.doubles.tree import Tree
from ttp_server.app import TTP, build
from ttp_server.settings import load
from ttp_server.store import tables

BEGUN = 250
BATCH, CHECKPOINT = 1, 2
Pair = tuple[TTP, TTP]


@pytest.fixture
def pair(tmp_path: Path, postgres: Server) -> Iterator[Pair]:
    """Two TTPs in this process that share directory and database as two processes do."""
    database = postgres.create()
    world = Served(tmp_path, database)
    fill_database(database)
    synthetic.long_log(world, BEGUN)
    first, second = (build(world.directory, load(world.directory), PushedClock()) for _ in range(2))
    yield first, second
    first.close()
    second.close()
    postgres.drop(database)


def append(ttp: TTP, number: int) -> None:
    """Append an entry, and require that it is published where it was appended."""
    before = ttp.desk.ledger.size
    assert ttp.desk.sequencer.submit(Numbered(number)) == number
    assert ttp.desk.ledger.size > before


def faulty(ttp: TTP) -> FaultyStore:
    """Put a store that can fail under a writer."""
    sequencer = ttp.desk.sequencer
    store = FaultyStore(sequencer._store)
    sequencer._store = sequencer._publisher._store = store
    return store


def lose() -> None:
    """Fail as a database does whose connection is gone."""
    raise Unavailable("the connection is gone")


def check(pair: Pair, *expected: int) -> None:
    """Require one log that has these entries, each once, and continues every checkpoint that was ever stored."""
    ledger, key = pair[0].desk.ledger, pair[0].keys.checkpoint.public_key()
    with pair[0].desk.store.reading() as stored:
        entries = list(stored.entries())
    size = BEGUN + len(expected)
    assert [entry.index for entry in entries] == list(range(size))
    assert sorted(int.from_bytes(entry.salt, "big") for entry in entries[BEGUN:]) == sorted(expected)
    tree = Tree(entry.leaf_hash for entry in entries)
    log = verifier_key(ledger.origin, KeyType.LOG, key)
    with pair[0].engine.connect() as connection:
        notes = list(connection.scalars(select(tables.checkpoints.c.note)))
    shown = [open_checkpoint(note, log) for note in [*notes, *(ttp.desk.ledger.snapshot.note for ttp in pair)]]
    assert [one.root for one in shown] == [tree.root_at(one.size) for one in shown]
    assert max(one.size for one in shown) == size


class TestTwo:
    def test_in_turn(self, pair: Pair) -> None:
        """Each goes on where the other stopped, over the end of a tile."""
        for number in range(12):
            append(pair[number % 2], number)
        check(pair, *range(12))

    def test_at_once(self, pair: Pair) -> None:
        """However their transactions fall between each other, each entry has one place."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: pair[number % 2].desk.sequencer.submit(Numbered(number)), range(64)))
        check(pair, *range(64))

    @pytest.mark.parametrize(
        ("nth", "where", "stands"),
        [(BATCH, "before", False), (BATCH, "after", True), (CHECKPOINT, "before", True), (CHECKPOINT, "after", True)],
    )
    def test_one_fails(self, pair: Pair, nth: int, where: str, *, stands: bool) -> None:
        """What one committed and couldn't publish is published by the other, which goes on; then by both again."""
        first, second = pair
        append(first, 1)
        append(second, 2)
        first.desk.sequencer._publisher.follow()
        faulty(first).inject(nth, **{where: lose})
        with pytest.raises(Unavailable):
            first.desk.sequencer.submit(Numbered(3))
        append(second, 4)
        append(first, 5)
        check(pair, 1, 2, *([3] if stands else []), 4, 5)
