"""A TTP that is started on an empty database, because its own was lost (docs/recovery.md)."""

from __future__ import annotations

import pytest

from shared.errors import ConfigurationError
from tests.doubles.served import NodeClient, Served
from ttp_server.app import HEAD


def test_refuses_and_destroys_no_key(world: Served, b: NodeClient) -> None:
    """It refuses to start and keeps its escrow keys, whether the published checkpoint is still there or not."""
    assert b.complete(world.exchange(b"letter")).status_code == 200
    world.stop()
    keys = {path.name: path.read_bytes() for path in (world.directory / "keys").glob("escrow-*.key")}
    for lost in ("data/ttp.sqlite", HEAD):
        for path in world.directory.glob(f"{lost}*"):
            path.unlink()
        with pytest.raises(ConfigurationError):
            world.start()
        assert {path.name: path.read_bytes() for path in (world.directory / "keys").glob("escrow-*.key")} == keys
