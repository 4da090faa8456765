"""Tiles, entry bundles and the ledger's certificate over HTTPS (ledger.md L9, section 7)."""

from __future__ import annotations

import pytest

from shared.ledger import proof as proofs
from shared.ledger import tiles
from shared.ledger.checkpoint import open_checkpoint
from tests.doubles.ledger import fill, log_key, stored_entries
from tests.doubles.served import NodeClient, Served


def trade(world: Served, b: NodeClient) -> None:
    """Trade three letters, one after the other."""
    for number in range(3):
        assert b.complete(world.exchange(b"letter %d" % number)).status_code == 200


class TestTiles:
    def test_tiles_of_every_size(self, world: Served, b: NodeClient) -> None:
        """A partial tile of any width up to the newest is served, for ever the same, and holds the leaf hashes."""
        trade(world, b)
        entries = stored_entries(world)
        for width in (1, 2, 3):
            answer = world.client.get(f"/ledger/tile/0/000.p/{width}")
            assert answer.content == b"".join(entry.leaf_hash for entry in entries[:width])
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert answer.headers["content-type"] == "application/octet-stream"
            bundle = world.client.get(f"/ledger/tile/entries/000.p/{width}").content
            assert tiles.decode_entries(bundle, width) == tuple(entry.entry for entry in entries[:width])

    @pytest.mark.parametrize(
        "path", ["0/000", "0/000.p/4", "0/001.p/1", "1/000.p/1", "entries/000.p/4", "0/0.p/1", "x"]
    )
    def test_not_there(self, world: Served, b: NodeClient, path: str) -> None:
        """What the tree hasn't, and a path in another form, is 404, which nobody may keep."""
        trade(world, b)
        answer = world.client.get(f"/ledger/tile/{path}")
        assert answer.status_code == 404
        assert "immutable" not in answer.headers.get("cache-control", "")

    def test_certificate(self, world: Served) -> None:
        """The certificate of the checkpoint key comes with the log."""
        answer = world.client.get("/ledger/certificate")
        assert answer.content == world.ttp.keys.identity.ledger_certificate

    @pytest.mark.both_databases
    def test_full_tiles(self, world: Served) -> None:
        """Over two full tiles the log still proves every entry, and it starts anew from its edge alone."""
        fill(world, 0, 600)
        world.restart()
        newest = open_checkpoint(world.client.get("/ledger/checkpoint").content, log_key(world))
        assert newest.size == 600
        entries = stored_entries(world)
        for index in (0, 255, 256, 511, 512, 599):
            proof = proofs.decode(world.client.get(f"/ledger/inclusion/{index}").content)
            assert proofs.verify(proof, entries[index].entry, log_key(world)).checkpoint == newest
        full = world.client.get("/ledger/tile/0/001").content
        assert full == b"".join(entry.leaf_hash for entry in entries[256:512])
        assert world.client.get("/ledger/tile/1/000.p/1").content == tiles.tile_root(
            b"".join(entry.leaf_hash for entry in entries[:256])
        )
