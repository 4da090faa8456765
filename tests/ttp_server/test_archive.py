"""The second copy of entries and bodies (services.md section 1)."""

from __future__ import annotations

import shutil

import pytest

from shared.errors import ConfigurationError
from tests.doubles.ledger import Numbered, fill, stored_entries
from tests.doubles.served import NodeClient, Served
from ttp_server.store.archive import FileArchive


def trade(world: Served, b: NodeClient) -> None:
    """Trade three letters, one after the other."""
    for number in range(3):
        assert b.complete(world.exchange(b"letter %d" % number)).status_code == 200


class TestSecondCopy:
    def test_holds_what_was_answered(self, world: Served, b: NodeClient) -> None:
        """When a trade was answered, its entry and body are in the second copy, as they are in the database."""
        trade(world, b)
        archive = FileArchive(world.directory / "archive")
        assert list(archive.entries()) == stored_entries(world)

    def test_a_line_that_was_cut_off(self, world: Served, b: NodeClient) -> None:
        """A line that a crash cut off isn't counted, and is written again with the next commit."""
        trade(world, b)
        world.stop()
        file = world.directory / "archive" / "000"
        file.write_bytes(file.read_bytes()[:-9])
        assert FileArchive(file.parent).size() == 2
        world.clock.time += 1
        world.start()
        assert list(FileArchive(file.parent).entries()) == stored_entries(world)

    def test_a_lost_copy_is_made_again(self, world: Served, b: NodeClient) -> None:
        """A copy whose directory was lost is made again from the database at the next start."""
        trade(world, b)
        world.stop()
        shutil.rmtree(world.directory / "archive")
        world.start()
        assert list(FileArchive(world.directory / "archive").entries()) == stored_entries(world)

    def test_an_altered_copy(self, world: Served, b: NodeClient) -> None:
        """An altered line is refused when it is read: a copy that lies is worse than none."""
        trade(world, b)
        file = world.directory / "archive" / "000"
        file.write_bytes(file.read_bytes().replace(b'"body":"', b'"body":"AAAA', 1))
        with pytest.raises(ConfigurationError, match="entry 0 of the archive was changed"):
            list(FileArchive(file.parent).entries())

    def test_goes_on_over_many_files(self, world: Served) -> None:
        """Over several files the copy finds its end again after a start, and goes on there."""
        fill(world, 0, 520)
        world.restart()
        world.ttp.desk.sequencer.submit(Numbered(520))
        archive = FileArchive(world.directory / "archive")
        assert archive.size() == 521
        assert [entry.index for entry in archive.entries(250)] == list(range(250, 521))
