"""What the ledger costs (`make bench`): not part of `make test`, for it takes minutes and wants a quiet machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from sqlalchemy import func, select, text

from shared.ledger import proof as proofs
from tests.doubles import synthetic
from tests.doubles.ledger import Numbered
from tests.doubles.parties import Exchange
from tests.doubles.postgres import Server
from tests.doubles.rounds import complete, letter, offered
from tests.doubles.served import Served, fill_database
from ttp_server.app import TTP, archive_directory, build
from ttp_server.settings import load
from ttp_server.store import tables

SMALL, LARGE = 10_048, 1_000_000  # the same modulo 256: both lowest tiles are equally wide
APPENDS = 256  # once through every width of the lowest tile
PROOFS = 500
SERIAL, CLIENTS, EACH = 300, 16, 50
SLOWER, PROOF = 1.2, 0.005

pytestmark = [pytest.mark.both_databases, pytest.mark.timeout(1800)]
Figure = Callable[[str], None]


@pytest.fixture
def figure(kind: str, record_property: Callable[[str, object], None]) -> Figure:
    """Print a figure at the end."""
    return lambda line: record_property("figure", f"{kind}: {line}")


@pytest.fixture
def make(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[int], Served]]:
    """Make a TTP with a log of some size, not started, on either database."""
    made: list[str] = []

    def world(size: int) -> Served:
        database = ""
        if kind != "sqlite":
            server: Server = request.getfixturevalue("postgres")
            database = server.create()
            made.append(database)
        served = Served(tmp_path / str(size), database)
        if database:
            fill_database(database)
        if size:
            synthetic.long_log(served, size)
        return served

    yield world
    for database in made:
        request.getfixturevalue("postgres").drop(database)


def start(world: Served) -> TTP:
    """Start it, without HTTP."""
    return build(world.directory, load(world.directory), world.clock)


def letters(world: Served, ttp: TTP, count: int) -> list[Exchange]:
    """Make exchanges."""
    named, escrow = offered(world.directory, ttp.engine, ttp.desk.identity)
    return [letter(world.parties, named, escrow) for _ in range(count)]


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def in_turn(work: Callable[[int, int], object]) -> list[list[float]]:
    """Time something at both logs in turn, so that whatever else the machine does falls upon both."""
    times: list[list[float]] = [[], []]
    for number in range(APPENDS):
        for which in (0, 1) if number % 2 else (1, 0):
            times[which].append(seconds(partial(work, which, number)))
    return times


def ratio(times: list[list[float]]) -> float:
    """How much slower the second is."""
    return median(times[1]) / median(times[0])


def milliseconds(times: list[float]) -> str:
    """The median, and where 99 of 100 are below."""
    return f"{median(times) * 1000:.2f} ms (99 %: {sorted(times)[len(times) * 99 // 100] * 1000:.2f} ms)"


def octets(ttp: TTP, archive: Path) -> tuple[int, int]:
    """Return the size of the database and of the second copy."""
    question = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    if ttp.engine.dialect.name == "postgresql":
        question = "SELECT pg_database_size(current_database())"
    with ttp.engine.connect() as connection:
        database = connection.scalar(text(question))
    return database, sum(path.stat().st_size for path in archive.rglob("*") if path.is_file())


def test_a_million_entries(make: Callable[[int], Served], figure: Figure) -> None:
    """Appends and trades cost hardly more at 1,000,000 entries than at 10,000; proofs and starts are quick."""
    worlds = [make(size) for size in (SMALL, LARGE)]
    starts = [seconds(lambda world=world: start(world).close()) for world in worlds]  # type: ignore[misc]
    figure(f"a start: {starts[0] * 1000:.0f} ms at {SMALL:,} entries, {starts[1] * 1000:.0f} ms at {LARGE:,}")
    ttps = [start(world) for world in worlds]
    exchanges = [letters(world, ttp, APPENDS) for world, ttp in zip(worlds, ttps, strict=True)]
    appends = in_turn(lambda which, number: ttps[which].desk.sequencer.submit(Numbered(number)))
    trades = in_turn(lambda which, number: complete(ttps[which], exchanges[which][number]))
    for what, times in (("an append", appends), ("a trade", trades)):
        figure(f"{what} at {SMALL:,} entries: {milliseconds(times[0])}, at {LARGE:,}: {milliseconds(times[1])}")
        figure(f"{what}, ratio of the medians: {ratio(times):.3f}")
    ledger = ttps[1].desk.ledger
    indices = [number * (LARGE // PROOFS) + number % 256 for number in range(PROOFS)]
    proving = [seconds(partial(ledger.proof, index)) for index in indices]
    figure(f"an inclusion proof at {LARGE:,} entries, from a cold cache: {milliseconds(proving)}")
    assert len(proofs.decode(ledger.proof(0)).path) >= 20
    for ttp in ttps:
        ttp.close()
    assert ratio(appends) < SLOWER
    assert ratio(trades) < SLOWER
    assert median(proving) < PROOF


def test_trades(make: Callable[[int], Served], figure: Figure) -> None:
    """Trades of many clients share commits; what a trade takes of the disk is told."""
    world = make(0)
    ttp = start(world)
    archive = archive_directory(world.directory, load(world.directory))
    alone, many = letters(world, ttp, SERIAL), letters(world, ttp, CLIENTS * EACH)
    empty = octets(ttp, archive)
    took = seconds(lambda: [complete(ttp, exchange) for exchange in alone])
    figure(f"one client: {SERIAL / took:.0f} trades a second")
    before = checkpoints(ttp)
    with ThreadPoolExecutor(CLIENTS) as pool:
        took = seconds(lambda: list(pool.map(lambda exchange: expected(ttp, exchange), many)))
    together = len(many) / (checkpoints(ttp) - before)
    figure(f"{CLIENTS} clients: {len(many) / took:.0f} trades a second, {together:.1f} in a commit")
    full = octets(ttp, archive)
    database, copy = ((after - first) / ttp.desk.ledger.size for first, after in zip(empty, full, strict=True))
    figure(f"octets a trade: {database:.0f} in the database, {copy:.0f} in the second copy")
    ttp.close()
    assert together > CLIENTS / 4
    assert database < 32 * 1024
    assert copy < 16 * 1024


def expected(ttp: TTP, exchange: Exchange) -> Any:
    """Trade as a request over HTTP does: announced to the writer."""
    with ttp.desk.sequencer.expecting():
        return complete(ttp, exchange)


def checkpoints(ttp: TTP) -> int:
    """How many checkpoints are stored."""
    with ttp.engine.connect() as connection:
        return int(connection.scalar(select(func.count()).select_from(tables.checkpoints)) or 0)
