"""The second copy of entries and bodies (services.md section 1)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from shared.errors import ConfigurationError
from shared.evidence import bundle as bundles
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

    def test_cut_off_anywhere(self, world: Served, b: NodeClient, tmp_path: Path) -> None:
        """Wherever a crash cut a file off, the same process or another goes on behind the last whole line."""
        trade(world, b)
        whole = (world.directory / "archive" / "000").read_bytes()
        lines = whole.splitlines(keepends=True)
        ends = [sum(map(len, lines[:count])) for count in range(len(lines) + 1)]
        living = FileArchive(tmp_path / "copy")
        with world.ttp.desk.store.reading() as stored:
            living.copy(stored, len(lines))
            for cut in sorted({*ends, *(end - 1 for end in ends[1:]), *range(0, len(whole), 2_503)}):
                for archive in (living, FileArchive(tmp_path / "copy")):
                    os.truncate(tmp_path / "copy" / "000", cut)
                    assert archive.size() == sum(end <= cut for end in ends) - 1
                    archive.copy(stored, len(lines))
                    assert (tmp_path / "copy" / "000").read_bytes() == whole

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

    def test_that_cannot_be_written(self, world: Served, b: NodeClient) -> None:
        """While the second copy can't be written, nobody is answered or shown anything; then all is made good."""
        exchanges = [world.exchange(b"letter %d" % number) for number in range(4)]
        assert b.complete(exchanges[0]).status_code == 200
        shown = world.client.get("/ledger/checkpoint").content
        file = world.directory / "archive" / "000"
        kept = file.rename(file.with_name("away"))
        file.mkdir()  # nothing can be written to it
        for exchange in (exchanges[1], exchanges[2], exchanges[1]):
            answer = b.complete(exchange)
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        assert world.client.get("/ledger/checkpoint").content == shown
        # The first was committed before its copy failed, the second was never decided.
        rows = [world.ttp.desk.stored(exchange.manifest.exchange) for exchange in exchanges[1:3]]
        assert [row is None for row in rows] == [False, True]
        file.rmdir()
        kept.rename(file)
        answers = [bundles.decode(b.complete(exchange).content) for exchange in exchanges[1:]]
        assert rows[0] is not None
        assert answers[0].token == rows[0].token
        assert list(FileArchive(file.parent).entries()) == stored_entries(world)

    def test_goes_on_over_many_files(self, world: Served) -> None:
        """Over several files the copy finds its end again after a start, and goes on there."""
        fill(world, 0, 520)
        world.restart()
        world.ttp.desk.sequencer.submit(Numbered(520))
        archive = FileArchive(world.directory / "archive")
        assert archive.size() == 521
        assert [entry.index for entry in archive.entries(250)] == list(range(250, 521))
