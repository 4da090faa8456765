"""Faults of the disk, the signers and the writer: afterwards the ledger is one, whole, and says what it said."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event

from shared.encoding import base64url
from shared.errors import Unavailable
from shared.evidence import bundle as bundles
from shared.evidence import tokens
from shared.evidence.receipt import verify_bundle
from shared.ledger.checkpoint import VerifiedCheckpoint, check_extension, open_checkpoint
from shared.ledger.merkle import leaf_hash
from shared.ledger.note import KeyType, verifier_key
from tests.doubles.faults import FaultyStore, crash
from tests.doubles.parties import Exchange
from tests.doubles.served import NodeClient, Served
from tests.doubles.tree import Tree

BATCH, CHECKPOINT = 1, 2
Fault = Callable[[], None]


def lose() -> None:
    """Fail as a database does whose disk is full or whose connection is gone."""
    raise Unavailable("the disk is full")


def break_down() -> None:
    """Fail as only a mistake of ours does."""
    raise ZeroDivisionError


class Once:
    """A function in whose place a fault happens at its first call."""

    def __init__(self, function: Callable[..., Any], fault: Fault, *, after: bool = False) -> None:
        self._function = function
        self._fault: Fault | None = fault
        self._after = after

    def __call__(self, *arguments: object, **named: object) -> Any:
        """Fail before or after calling through, the first time."""
        fault, self._fault = self._fault, None
        if fault is not None and not self._after:
            fault()
        result = self._function(*arguments, **named)
        if fault is not None:
            fault()
        return result


def inject(world: Served, nth: int, **fault: Fault) -> None:
    """Put a fault around the commit of the writer's nth transaction from now on."""
    sequencer = world.ttp.desk.sequencer
    store = FaultyStore(sequencer._store)
    sequencer._store = sequencer._publisher._store = store
    store.inject(nth, **fault)


def in_token(world: Served, fault: Fault, patch: pytest.MonkeyPatch) -> None:
    """Let the signature of the next token fail."""
    patch.setattr(tokens, "sign_nrd", Once(tokens.sign_nrd, fault))


def in_checkpoint(world: Served, fault: Fault, patch: pytest.MonkeyPatch) -> None:
    """Let the signature of the next checkpoint fail."""
    ledger = world.ttp.desk.ledger
    patch.setattr(ledger, "_sign", Once(ledger._sign, fault))


def before_copying(world: Served, fault: Fault, patch: pytest.MonkeyPatch) -> None:
    """Fail before the second copy is written."""
    archive = world.ttp.desk.sequencer._publisher._archive
    patch.setattr(archive, "copy", Once(archive.copy, fault))


def after_copying(world: Served, fault: Fault, patch: pytest.MonkeyPatch) -> None:
    """Fail when the second copy is written, before the checkpoint is stored."""
    archive = world.ttp.desk.sequencer._publisher._archive
    patch.setattr(archive, "copy", Once(archive.copy, fault, after=True))


def before_publishing(world: Served, fault: Fault, patch: pytest.MonkeyPatch) -> None:
    """Fail after the checkpoint is stored, before the file outside the database is written."""
    patch.setattr(world.ttp.head, "remember", Once(world.ttp.head.remember, fault))


def after_publishing(world: Served, fault: Fault, patch: pytest.MonkeyPatch) -> None:
    """Fail when the checkpoint is published, before anybody is answered."""
    ledger = world.ttp.desk.ledger
    patch.setattr(ledger, "publish", Once(ledger.publish, fault, after=True))


def before_commit(world: Served, fault: Fault, patch: pytest.MonkeyPatch) -> None:
    """Fail when everything is written, before COMMIT."""
    inject(world, BATCH, before=fault)


def after_commit(world: Served, fault: Fault, patch: pytest.MonkeyPatch) -> None:
    """Fail after COMMIT, before the checkpoint is signed: a commit that "failed but was stored"."""
    inject(world, BATCH, after=fault)


def before_checkpoint(world: Served, fault: Fault, patch: pytest.MonkeyPatch) -> None:
    """Fail before the checkpoint is stored."""
    inject(world, CHECKPOINT, before=fault)


def after_checkpoint(world: Served, fault: Fault, patch: pytest.MonkeyPatch) -> None:
    """Fail when the checkpoint is stored, before it is published."""
    inject(world, CHECKPOINT, after=fault)


PLACES = [
    in_token,
    before_commit,
    after_commit,
    in_checkpoint,
    before_checkpoint,
    after_checkpoint,
    before_copying,
    after_copying,
    before_publishing,
    after_publishing,
]


def checkpoint(world: Served) -> VerifiedCheckpoint:
    """The newest checkpoint as anybody gets it."""
    key = verifier_key("ttp.example/ledger", KeyType.LOG, world.ttp.keys.checkpoint.public_key())
    return open_checkpoint(world.client.get("/ledger/checkpoint").content, key)


def check_whole(world: Served, seen: VerifiedCheckpoint, traded: list[Exchange]) -> None:
    """Assert that the ledger continues what was seen and holds exactly these exchanges, each once, without a gap."""
    newest = checkpoint(world)
    answer = world.client.get(f"/ledger/consistency/{seen.size}?size={newest.size}").json()
    check_extension(seen, newest, [base64url.decode(one) for one in answer["hashes"]])
    with world.ttp.desk.store.reading() as stored:
        entries = list(stored.entries())
        rows = [stored.exchange(exchange.manifest.exchange) for exchange in traded]
    assert [entry.index for entry in entries] == list(range(len(traded)))
    assert Tree(leaf_hash(entry.entry) for entry in entries).root() == newest.root
    assert sorted(row.index for row in rows if row) == list(range(len(traded)))


class TestOneFault:
    @pytest.mark.parametrize("place", PLACES)
    def test_crash(self, world: Served, b: NodeClient, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wherever the writer dies, readiness says so; served anew, asking again gives one outcome for ever."""
        first, second = world.exchange(b"first"), world.exchange(b"second")
        assert b.complete(first).status_code == 200
        seen = checkpoint(world)
        place(world, crash, monkeypatch)
        assert b.complete(second).status_code == 500
        assert world.client.get("/readyz").status_code == 503
        assert world.client.get("/healthz").status_code == 200
        assert b.complete(second).status_code in {200, 503}
        kept = world.ttp.desk.stored(second.manifest.exchange)
        world.restart()
        world.clock.time += 1
        answer = bundles.decode(b.complete(second).content)
        verify_bundle(answer, world.trust)
        assert kept is None or answer.token == kept.token
        assert bundles.decode(b.complete(second).content).token == answer.token
        check_whole(world, seen, [first, second])

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("fault", [lose, break_down])
    def test_error(
        self, world: Served, b: NodeClient, place: Any, fault: Fault, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After an error at any place, the disk's or our own, the writer goes on; asking again gives the outcome."""
        first, second, third = (world.exchange(name) for name in (b"first", b"second", b"third"))
        assert b.complete(first).status_code == 200
        seen = checkpoint(world)
        place(world, fault, monkeypatch)
        assert b.complete(second).status_code in {500, 503}
        kept = world.ttp.desk.stored(second.manifest.exchange)
        assert world.client.get("/readyz").status_code == 200
        verify_bundle(bundles.decode(b.complete(third).content), world.trust)
        answer = bundles.decode(b.complete(second).content)
        verify_bundle(answer, world.trust)
        assert kept is None or answer.token == kept.token
        check_whole(world, seen, [first, second, third])


@pytest.mark.both_databases
def test_many_crashes(world: Served, a: NodeClient, b: NodeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash at every place, one after the other, the ledger is one, and the feed tells each outcome once."""
    traded: list[Exchange] = []
    given: dict[bytes, str] = {}
    seen = checkpoint(world)
    for place in PLACES:
        exchange = world.exchange(b"letter %d" % len(traded))
        place(world, crash, monkeypatch)
        assert b.complete(exchange).status_code == 500
        world.restart()
        world.clock.time += 1
        for asked in (exchange, world.exchange(b"between %d" % len(traded))):
            answer = bundles.decode(b.complete(asked).content)
            given[answer.manifest.exchange] = answer.token
            traded.append(asked)
    check_whole(world, seen, traded)
    told = {bundle.manifest.exchange: bundle.token for bundle in a.feed().bundles}
    assert len(a.feed().bundles) == len(traded)
    assert told == given


class FullDisk:
    """A database that can't grow: SQLite itself says that the disk is full."""

    def __init__(self, world: Served) -> None:
        self._engine = world.ttp.engine
        self._spare: int | None = None
        event.listen(self._engine, "checkout", self._limit)

    def leave(self, pages: int | None) -> None:
        """Leave this many pages of 4 KiB, or, with None, as many as are wanted."""
        self._spare = pages

    def _limit(self, connection: Any, _record: Any, _proxy: Any) -> None:
        most = 2**30
        if self._spare is not None:
            most = connection.execute("PRAGMA page_count").fetchone()[0] + self._spare
        connection.execute(f"PRAGMA max_page_count = {most}")


class TestFullDisk:
    def test_one_at_a_time(self, world: Served, b: NodeClient) -> None:
        """While the disk is full trades are answered 503 and leave nothing; when there is room again they are made."""
        exchanges = [world.exchange(b"letter %d" % number) for number in range(6)]
        seen, disk = checkpoint(world), FullDisk(world)
        for exchange in exchanges[:2]:
            assert b.complete(exchange).status_code == 200
        disk.leave(0)
        refused = [exchange for exchange in exchanges[2:] if b.complete(exchange).status_code == 503]
        assert refused
        assert [world.ttp.desk.stored(one.manifest.exchange) for one in refused] == [None] * len(refused)
        disk.leave(None)
        for exchange in exchanges:
            verify_bundle(bundles.decode(b.complete(exchange).content), world.trust)
        check_whole(world, seen, exchanges)

    @pytest.mark.parametrize("pages", [0, 2, 5])
    def test_in_a_batch(self, world: Served, b: NodeClient, pages: int) -> None:
        """When the disk becomes full in the middle of a batch, who was told of an outcome has it, nobody has half."""
        exchanges = [world.exchange(b"letter %d" % number) for number in range(12)]
        seen, disk = checkpoint(world), FullDisk(world)
        disk.leave(pages)
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(b.complete, exchanges))
        disk.leave(None)
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert 503 in {answer.status_code for answer in answers}
        for exchange, answer in zip(exchanges, answers, strict=True):
            again = bundles.decode(b.complete(exchange).content)
            verify_bundle(again, world.trust)
            assert answer.status_code == 503 or bundles.decode(answer.content).token == again.token
        check_whole(world, seen, exchanges)
