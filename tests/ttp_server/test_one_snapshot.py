"""Proof, size and root of an answer are of one snapshot, and one directory has one writer (ledger.md L5, L7)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.errors import ConfigurationError
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle
from shared.ledger import proof as proofs
from shared.ledger.note import KeyType, verifier_key
from tests.doubles.parties import NOW
from tests.doubles.served import NodeClient, Served
from ttp_server.app import HEAD, build
from ttp_server.settings import load
from ttp_server.store.head import BLOCK, HeadFile


def test_moving_head(world: Served, b: NodeClient) -> None:
    """While the ledger grows without pause, a thousand answers verify as units, over many tree sizes."""
    first = world.exchange(b"letter")
    assert b.complete(first).status_code == 200
    with world.ttp.desk.store.reading() as stored:
        entry = next(iter(stored.entries())).entry
    key = verifier_key("ttp.example/ledger", KeyType.LOG, world.ttp.keys.checkpoint.public_key())
    stop, sizes = threading.Event(), set()

    def grow() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            assert b.complete(world.exchange(b"letter %d" % number)).status_code == 200
            world.clock.time = NOW + number // 50

    with ThreadPoolExecutor(5) as pool:
        growing = pool.submit(grow)
        for answer in pool.map(lambda _: world.client.get("/ledger/inclusion/0").content, range(800)):
            sizes.add(proofs.verify(proofs.decode(answer), entry, key).checkpoint.size)
        for answer in pool.map(lambda _: b.complete(first).content, range(200)):
            sizes.add(verify_bundle(bundles.decode(answer), world.trust).inclusion.checkpoint.size)
        stop.set()
        growing.result(10)
    assert len(sizes) > 10


@pytest.mark.both_databases
def test_sizes_without_a_checkpoint(world: Served, b: NodeClient) -> None:
    """Inside a batch nothing was signed: for those sizes there is no proof, for all others there is."""
    exchanges = [world.exchange(b"letter %d" % number) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(b.complete, exchanges))
    with world.ttp.desk.store.reading() as stored:
        signed = {size for size in range(1, 13) if stored.checkpoint(size)}
    for size in range(1, 13):
        answer = world.client.get(f"/ledger/inclusion/0?size={size}")
        assert answer.status_code == (200 if size in signed else 404)


class TestHeadFile:
    def test_a_second_server(self, world: Served) -> None:
        """A second server on the same directory is refused while the first runs, and the first goes on."""
        with pytest.raises(ConfigurationError, match="another process serves"):
            build(world.directory, load(world.directory), world.clock)
        assert world.client.get("/readyz").status_code == 200

    def test_of_another_history(self, world: Served, b: NodeClient) -> None:
        """A published checkpoint of another history of the same size is refused: serving on would be a fork."""
        b.complete(world.exchange(b"letter"))
        world.stop()
        head = world.directory / HEAD
        note = head.read_bytes()
        head.write_bytes(note.replace(note.splitlines()[2], b"A" * 43 + b"="))
        with pytest.raises(ConfigurationError, match="isn't of this ledger"):
            world.start()
        head.write_bytes(note)
        world.start()  # a start that was refused let go of the directory
        assert world.ttp.desk.ledger.snapshot.size == 1

    def test_keeps_the_newest(self, tmp_path: Path) -> None:
        """The file holds the newest note alone, however much longer an older one was."""
        place = tmp_path / HEAD
        head = HeadFile(place)
        assert head.newest() is None
        for note in (b"a long note\n" * 50, b"a short one\n"):
            head.remember(note)
            assert head.newest() == note
        with pytest.raises(ConfigurationError):
            head.remember(bytes(BLOCK + 1))
        head.close()
        again = HeadFile(place)
        assert again.newest() == b"a short one\n"
        again.close()
