"""`secmtp ttp recover`: what a database lost comes back from the second copy."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from shared.crypto.signing import token_digest
from shared.errors import ConfigurationError, EvidenceFault
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle
from tests.doubles.ledger import stored_entries
from tests.doubles.parties import EXPIRES, NOW
from tests.doubles.postgres import Server
from tests.doubles.served import NodeClient, Served, served
from ttp_server.custody.keys import load_keys
from ttp_server.maintenance import recover
from ttp_server.services.derivation import rows_of
from ttp_server.services.findings import Findings
from ttp_server.services.fsck_rows import Trust
from ttp_server.store.archive import FileArchive


def quietly(_what: object, _count: int = 0) -> None:
    """Say nothing."""


def again(place: Path, archive: Path | None = None, told: Callable[[str, int], None] = quietly) -> tuple[int, Findings]:
    """Recover."""
    return recover(place, archive, told, print, now=NOW)


def lose(place: Path) -> None:
    """Lose the database."""
    shutil.rmtree(place / "data")


def count(place: Path, table: str) -> int:
    """Count rows."""
    with closing(sqlite3.connect(place / "data" / "ttp.sqlite")) as database:
        found: int = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Path:
    """The directory of a stopped TTP that was asked for everything."""
    return Path(shutil.copytree(whole, tmp_path / "whole"))


class TestComesBack:
    def test_every_kind_of_entry(self, place: Path) -> None:
        """A lost database comes back whole, and fsck finds nothing wrong with it."""
        before = {name: count(place, name) for name in ("entries", "tiles", "exchanges", "bindings", "revocations")}
        lose(place)
        added, findings = again(place)
        assert (added, findings.violations) == (before["entries"], 0)
        assert {name: count(place, name) for name in before} == before

    def test_trades_go_on(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """After recovery old exchanges have the same tokens, new ones trade, and nodes are told of them."""
        first, open_yet = world.exchange(b"first"), world.exchange(b"open yet")
        token = bundles.decode(b.complete(first).content).token
        cursor, before = a.feed().cursor, stored_entries(world)
        world.stop()
        lose(world.directory)
        again(world.directory)
        world.start()
        assert stored_entries(world) == before
        for node, party in ((a, world.parties.a), (b, world.parties.b)):
            assert node.enrol(party).status_code == 201
        assert bundles.decode(b.complete(first).content).token == token
        traded = bundles.decode(b.complete(open_yet).content)
        verify_bundle(traded, world.trust)
        assert traded.token in [one.token for one in a.feed(cursor).bundles]

    def test_from_an_old_backup(self, world: Served, a: NodeClient, b: NodeClient, tmp_path: Path) -> None:
        """An old backup gets what it lacks, and keeps what only the database holds."""
        b.complete(world.exchange(b"first"))
        world.stop()
        shutil.copytree(world.directory / "data", tmp_path / "backup")
        world.start()
        second = world.exchange(b"second")
        token = bundles.decode(b.complete(second).content).token
        world.stop()
        lose(world.directory)
        shutil.copytree(tmp_path / "backup", world.directory / "data", dirs_exist_ok=True)
        added, findings = again(world.directory)
        assert (added, findings.violations) == (1, 0)
        world.start()
        assert bundles.decode(b.complete(second).content).token == token

    def test_a_refusal_that_was_anchored_too(self, world: Served, b: NodeClient) -> None:
        """Two entries of one root don't keep the ledger from coming back, whoever made them."""
        refused = world.exchange(b"refused", mode="offline", direct_until=EXPIRES - 100)
        statement = world.parties.refuse(refused)
        assert b.refuse(refused, statement).status_code in {200, 201}
        assert b.anchor([token_digest(statement)]).status_code in {200, 201}
        world.stop()
        lose(world.directory)
        added, findings = again(world.directory)
        assert (added, findings.violations) == (2, 0)
        world.start()

    def test_into_postgresql(self, place: Path, postgres: Server) -> None:
        """It comes back into an empty database on PostgreSQL as well."""
        url = postgres.create()
        settings = place / "ttp.toml"
        settings.write_text(settings.read_text().replace('database = ""', f'database = "{url}"'))
        added, findings = again(place)
        assert (added, findings.violations) == (count(place, "entries"), 0)
        postgres.drop(url)

    def test_interrupted(self, place: Path) -> None:
        """Interrupted after a page, it goes on when it is run again; no escrow key is without its row meanwhile."""
        total, epochs = count(place, "entries"), count(place, "escrow_epochs")
        lose(place)

        def told(what: str, count: int) -> None:
            if (what, count) == ("recovered", 128):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            again(place, told=told)
        assert (count(place, "entries"), count(place, "escrow_epochs")) == (128, epochs)
        added, findings = again(place)
        assert (added, findings.violations) == (total - 128, 0)


class TestRefused:
    def test_a_damaged_body(self, place: Path) -> None:
        """A damaged body is named by its entry, and nothing is written."""
        lose(place)
        file = place / "archive" / "000"
        lines = file.read_bytes().splitlines(keepends=True)
        lines[3] = lines[3].replace(b'"body":"', b'"body":"AAAA', 1)
        file.write_bytes(b"".join(lines))
        with pytest.raises(ConfigurationError, match="entry 3 of the archive was changed"):
            again(place)
        assert count(place, "entries") == 0

    def test_shorter_than_the_database(self, place: Path) -> None:
        """A copy that lacks what the database holds isn't used."""
        (place / "archive" / "001").unlink()
        before = count(place, "entries")
        with pytest.raises(ConfigurationError, match="the archive holds 256 entries"):
            again(place)
        assert count(place, "entries") == before

    def test_shorter_than_what_was_published(self, place: Path) -> None:
        """A copy that lacks what was published isn't used, though no database is there."""
        lose(place)
        (place / "archive" / "001").unlink()
        with pytest.raises(ConfigurationError, match="nothing was changed"):
            again(place)
        assert count(place, "entries") == 0

    @pytest.mark.parametrize(
        ("kept", "match"), [("database", "isn't the one in"), ("checkpoint", "under the checkpoint")]
    )
    def test_of_another_ledger(self, tmp_path: Path, kept: str, match: str) -> None:
        """Other valid trades under the same keys are refused by the database or the published checkpoint."""
        made = []
        for name in ("own", "other"):
            with served(tmp_path / name) as world:
                node = NodeClient(world, "b.example")
                assert node.enrol(world.parties.b).status_code == 201
                assert node.complete(world.exchange(b"letter")).status_code == 200
            made.append(world.directory)
        own, other = made
        if kept == "checkpoint":
            lose(own)
        with pytest.raises(ConfigurationError, match=match):
            again(own, other / "archive")
        assert count(own, "entries") == (kept == "database")

    def test_evidence_of_another_ttp(self, place: Path) -> None:
        """Without database and checkpoint the evidence itself tells that it was made for another log."""
        keys = load_keys(place, "ttp.example", "ttp.example/ledger", NOW)
        trust = Trust(keys.root, replace(keys.identity, checkpoint_key=bytes(32)))
        trade = list(FileArchive(place / "archive").entries())[1]
        with pytest.raises(EvidenceFault, match="another ledger"):
            rows_of(trade, trust)

    def test_while_it_is_served(self, world: Served) -> None:
        """A TTP that runs is left alone."""
        with pytest.raises(ConfigurationError, match="another process serves"):
            again(world.directory)

    def test_no_archive(self, place: Path) -> None:
        """Where there is no second copy none is made."""
        with pytest.raises(ConfigurationError, match="there is no archive"):
            again(place, place / "nowhere")
        assert not (place / "nowhere").exists()
