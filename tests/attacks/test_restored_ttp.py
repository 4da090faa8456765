"""A TTP is restored from a backup of before a trade whose s_T it gave out, and would let the exchange end otherwise.

The recipient has read; the sender would be told that the exchange expired. Nothing in the restored files can show
it, not even the published checkpoint that is kept beside the database: only those who cosigned it know.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shared.errors import ConfigurationError
from tests.doubles.parties import EXPIRES
from tests.doubles.served import NodeClient, served
from tests.doubles.witness_servers import witnessed
from ttp_server.app import build
from ttp_server.settings import load


def test_refused_by_what_witnesses_saw(tmp_path: Path) -> None:
    """The whole directory is set back; the TTP doesn't start, whichever quorum had cosigned, and names the reason."""
    with witnessed(tmp_path / "w", "w1.test", "w2.test", "w3.test") as world:
        bob = NodeClient(world, "b.example")
        assert bob.enrol(world.parties.b).status_code == 201
        world.stop()
        shutil.copytree(world.directory, tmp_path / "backup")
        world.start()
        world.witnesses[0].let.clear()  # the smallest quorum: one witness hears of the trade too late
        exchange = world.exchange(b"letter")
        assert bob.complete(exchange).status_code == 200
        world.stop()
        shutil.rmtree(world.directory)
        shutil.copytree(tmp_path / "backup", world.directory)
        world.witnesses[0].let.set()
        world.witnesses[1].stop()  # of those who cosigned only one answers, which is enough
        with pytest.raises(ConfigurationError, match="older than what was published"):
            build(world.directory, load(world.directory), world.clock)
        world.witnesses[1].start()
        with pytest.raises(ConfigurationError, match="older than what was published"):
            build(world.directory, load(world.directory), world.clock)


def test_without_witnesses_nothing_shows_it(tmp_path: Path) -> None:
    """The attack itself: a TTP without witnesses runs from the older state, and the exchange ends twice."""
    with served(tmp_path / "t") as world:
        bob = NodeClient(world, "b.example")
        assert bob.enrol(world.parties.b).status_code == 201
        world.stop()
        shutil.copytree(world.directory, tmp_path / "backup")
        world.start()
        exchange = world.exchange(b"letter")
        first = bob.complete(exchange)
        world.stop()
        shutil.rmtree(world.directory)
        shutil.copytree(tmp_path / "backup", world.directory)
        world.start()
        world.clock.time = EXPIRES
        second = bob.status(exchange)
        assert (first.status_code, second.status_code) == (200, 200)
        assert first.content != second.content


def test_refused_by_its_own_checkpoint(tmp_path: Path) -> None:
    """If only the database is set back, each of published checkpoint, second copy and witnesses is enough."""
    with witnessed(tmp_path) as world:
        bob = NodeClient(world, "b.example")
        assert bob.enrol(world.parties.b).status_code == 201
        world.stop()
        shutil.copytree(world.directory / "data", tmp_path / "backup")
        world.start()
        assert bob.complete(world.exchange(b"letter")).status_code == 200
        world.stop()
        shutil.rmtree(world.directory / "data")
        shutil.copytree(tmp_path / "backup", world.directory / "data")
        with pytest.raises(ConfigurationError, match="this database is older"):
            build(world.directory, load(world.directory), world.clock)
        (world.directory / "published-checkpoint").unlink()
        with pytest.raises(ConfigurationError, match="the second copy holds 1 entries and the database 0"):
            build(world.directory, load(world.directory), world.clock)
        shutil.rmtree(world.directory / "archive")
        with pytest.raises(ConfigurationError, match="older than what was published"):
            build(world.directory, load(world.directory), world.clock)
