"""An auditor's code reads a served TTP's whole log: every tile, every entry, every checkpoint on the way."""

from __future__ import annotations

from shared.commands.ledger_source import Server, fetcher
from shared.commands.ledger_store import Memory
from shared.ledger import audit
from shared.ledger.audit import Finding, Replay, SignedTree
from shared.ledger.checkpoint import VerifiedCheckpoint, open_checkpoint
from tests.doubles.ledger import fill, log_key, stored_entries
from tests.doubles.served import NodeClient, Served


def newest(world: Served) -> VerifiedCheckpoint:
    """The newest checkpoint."""
    return open_checkpoint(world.client.get("/ledger/checkpoint").content, log_key(world))


def test_everything(world: Served, b: NodeClient) -> None:
    """Trades and other entries over two full tiles are read as they are stored, and every checkpoint agrees."""
    known = [newest(world)]
    for number in range(4):
        assert b.complete(world.exchange(b"letter %d" % number)).status_code == 200
        fill(world, 140 * number, 140 * (number + 1))
        known.append(newest(world))
    memory = Memory(None)
    server = Server(f"{world.client.base_url}/ledger", world.client)
    with fetcher(server, known[-1].size) as fetch:
        tree = SignedTree(known[-1], fetch)
        replay = Replay(memory.repeats)
        found: list[bytes] = []
        findings: list[Finding] = []
        for checked in audit.walk(tree, known=known):
            found += checked.entries
            findings += replay.read(checked)
    memory.close()
    assert findings == []
    assert found == [entry.entry for entry in stored_entries(world)]
    assert (replay.counts["COMPLETED"], len(found)) == (4, known[-1].size)
    assert known[-1].size > 512
