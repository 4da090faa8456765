"""Escrow keys: made in time, offered while they can be needed, gone for ever afterwards, whatever crashes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from shared.crypto.keys import HPKE_KINDS, decode_private
from shared.errors import ConfigurationError, OurFault
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle, verify_no_trade
from shared.programs.files import private_directory
from tests.doubles.parties import NOW
from tests.doubles.served import NodeClient, Served
from ttp_server.custody.escrow import DAY, GRACE, OPEN_FOR, RENEW_BEFORE, Escrow
from ttp_server.ports.values import EpochRow
from ttp_server.store.database import open_engine, upgrade
from ttp_server.store.epochs import SqlEpochRows

RENEWAL = NOW + OPEN_FOR - RENEW_BEFORE + 1
END = NOW + OPEN_FOR + GRACE


class Lost(Exception):
    """The process is gone in the middle of upkeep."""


class FaultyRows(SqlEpochRows):
    """Epoch rows that fail once, just before a change."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.fail = False

    def _maybe_fail(self) -> None:
        if self.fail:
            self.fail = False
            raise Lost

    def add(self, row: EpochRow) -> None:
        """Write a new epoch, or fail before."""
        self._maybe_fail()
        super().add(row)

    def destroyed(self, epoch: int, now: int) -> None:
        """Note that a key is gone, or fail before."""
        self._maybe_fail()
        super().destroyed(epoch, now)


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[FaultyRows]:
    """The table of epochs in a fresh database, with a directory for keys beside it."""
    private_directory(tmp_path / "keys")
    engine = open_engine(f"sqlite:///{tmp_path / 'ttp.sqlite'}")
    upgrade(engine)
    yield FaultyRows(engine)
    engine.dispose()


@pytest.fixture
def escrow(tmp_path: Path, rows: FaultyRows) -> Escrow:
    """A keeper that has done its first upkeep."""
    made = Escrow(tmp_path, rows)
    made.upkeep(NOW)
    return made


def key_path(place: Path, epoch: int) -> Path:
    """Where an epoch's private key lies."""
    return place / "keys" / f"escrow-{epoch}.key"


def fits(place: Path, row: EpochRow) -> bool:
    """Whether the private key in an epoch's file is that of its row."""
    public = decode_private(key_path(place, row.epoch).read_bytes()).public
    return (public.kind, public.raw) == (row.kind, row.public)


class TestMaking:
    def test_one_of_each_kind(self, tmp_path: Path, escrow: Escrow, rows: FaultyRows) -> None:
        """The first upkeep makes an epoch for each kind of key; the private halves lie in files of the owner's."""
        assert [epoch.key.kind for epoch in escrow.epochs()] == list(HPKE_KINDS)
        assert {epoch.open_until for epoch in escrow.epochs()} == {NOW + OPEN_FOR}
        for row in rows.all():
            assert fits(tmp_path, row)
            assert key_path(tmp_path, row.epoch).stat().st_mode & 0o777 == 0o600

    def test_repeated(self, escrow: Escrow, rows: FaultyRows) -> None:
        """Upkeep that has nothing to do changes nothing."""
        before, offered = rows.all(), escrow.epochs()
        for now in (NOW, NOW + DAY, RENEWAL - 1):
            escrow.upkeep(now)
        assert (rows.all(), escrow.epochs()) == (before, offered)

    def test_in_time(self, escrow: Escrow) -> None:
        """New epochs are made while the old ones are open for long: there is always one for a message made now."""
        first = escrow.epochs()
        escrow.upkeep(RENEWAL)
        assert escrow.epochs()[:2] == first
        assert {epoch.key.kind for epoch in escrow.epochs()[2:]} == set(HPKE_KINDS)
        assert {epoch.open_until for epoch in escrow.epochs()[2:]} == {RENEWAL + OPEN_FOR}

    def test_for_years(self, tmp_path: Path, escrow: Escrow, rows: FaultyRows) -> None:
        """Kept up daily for three years each kind is always open for two months, and no more than three are kept."""
        for day in range(3 * 365):
            now = NOW + day * DAY
            escrow.upkeep(now)
            for kind in HPKE_KINDS:
                until = [epoch.open_until for epoch in escrow.epochs() if epoch.key.kind == kind]
                assert max(until) - now >= RENEW_BEFORE
                assert len(until) <= 3
        files = {path.name for path in (tmp_path / "keys").iterdir()}
        assert files == {f"escrow-{row.epoch}.key" for row in rows.all() if row.destroyed is None}

    def test_crash_between_file_and_row(self, tmp_path: Path, escrow: Escrow, rows: FaultyRows) -> None:
        """A key file without a row may be of a lost database: it stays, and the next upkeep takes another number."""
        rows.fail = True
        with pytest.raises(Lost):
            escrow.upkeep(RENEWAL)
        orphan = key_path(tmp_path, 3).read_bytes()
        assert [row.epoch for row in rows.all()] == [1, 2]
        again = Escrow(tmp_path, rows)
        again.upkeep(RENEWAL)
        assert [row.epoch for row in rows.all()] == [1, 2, 4, 5]
        assert key_path(tmp_path, 3).read_bytes() == orphan
        assert all(fits(tmp_path, row) for row in rows.all())

    def test_crash_while_the_file_was_written(self, tmp_path: Path, rows: FaultyRows) -> None:
        """A key file that a crash left empty or half is passed over, also when rows are restored from files."""
        key_path(tmp_path, 1).touch(0o600)
        escrow = Escrow(tmp_path, rows)
        escrow.upkeep(NOW)
        assert [row.epoch for row in rows.all()] == [2, 3]
        assert all(fits(tmp_path, row) for row in rows.all())
        assert escrow.restore_rows(NOW) == 0


class TestDestroying:
    def test_after_the_grace(self, tmp_path: Path, escrow: Escrow, rows: FaultyRows) -> None:
        """An epoch's key lives until its grace is over, to the second; then file and offer are gone, the row stays."""
        escrow.upkeep(RENEWAL)
        escrow.upkeep(END - 1)
        assert [epoch.epoch for epoch in escrow.epochs()][:2] == [1, 2]
        escrow.upkeep(END)
        assert {1, 2}.isdisjoint(epoch.epoch for epoch in escrow.epochs())
        assert not key_path(tmp_path, 1).exists()
        assert [row.destroyed for row in rows.all()][:2] == [END, END]

    def test_file_is_overwritten(self, tmp_path: Path, escrow: Escrow) -> None:
        """The octets of a destroyed key are overwritten before its name goes."""
        kept = tmp_path / "kept"
        kept.hardlink_to(key_path(tmp_path, 1))
        size = kept.stat().st_size
        escrow.upkeep(END)
        assert kept.read_bytes() == bytes(size)

    def test_crash_between_file_and_row(self, tmp_path: Path, escrow: Escrow, rows: FaultyRows) -> None:
        """When the file went and the row didn't know yet, the next upkeep finishes, and nothing of it is offered."""
        escrow.upkeep(RENEWAL)
        rows.fail = True
        with pytest.raises(Lost):
            escrow.upkeep(END)
        again = Escrow(tmp_path, rows)
        again.upkeep(END + 1)
        assert [row.destroyed for row in rows.all()][:2] == [END + 1, END + 1]
        assert {1, 2}.isdisjoint(epoch.epoch for epoch in again.epochs())

    def test_number_is_never_used_again(self, escrow: Escrow, rows: FaultyRows) -> None:
        """An epoch's number stays its own after its key is destroyed: manifests name it."""
        escrow.upkeep(END)
        assert [row.epoch for row in rows.all()] == [1, 2, 3, 4]

    def test_clock_that_goes_back(self, escrow: Escrow, rows: FaultyRows) -> None:
        """A clock that jumps back brings nothing back and makes nothing more."""
        escrow.upkeep(END)
        after = rows.all()
        escrow.upkeep(NOW)
        assert rows.all() == after


class TestLoading:
    def test_lost_file(self, tmp_path: Path, escrow: Escrow, rows: FaultyRows) -> None:
        """A live epoch whose key file is gone is told at the start, by its name; nothing is made in its place."""
        key_path(tmp_path, 2).unlink()
        with pytest.raises(ConfigurationError, match=r"escrow-2\.key"):
            Escrow(tmp_path, rows).upkeep(NOW)

    def test_mode(self, tmp_path: Path, escrow: Escrow, rows: FaultyRows) -> None:
        """A key file that others may read is refused with what to do."""
        key_path(tmp_path, 1).chmod(0o640)
        with pytest.raises(ConfigurationError, match=r"chmod go= .*escrow-1\.key"):
            Escrow(tmp_path, rows).upkeep(NOW)

    def test_another_key(self, tmp_path: Path, escrow: Escrow, rows: FaultyRows) -> None:
        """A key file that isn't the row's is refused: what is sealed to the offered key couldn't be opened."""
        key_path(tmp_path, 1).write_bytes(key_path(tmp_path, 2).read_bytes())
        with pytest.raises(ConfigurationError, match="epoch 1"):
            Escrow(tmp_path, rows).upkeep(NOW)


class TestServed:
    def test_a_new_epoch_is_in_the_record(self, world: Served) -> None:
        """What upkeep makes is offered in the TTP's signed record at once."""
        before = world.named()
        world.ttp.desk.custody.upkeep(RENEWAL)  # type: ignore[attr-defined]
        assert [epoch.epoch for epoch in world.ttp.desk.custody.epochs()] == [1, 2, 3, 4]
        assert world.named().epoch in {3, 4}
        assert replace(world.named(), epoch=before.epoch, escrow_key=before.escrow_key) == before

    def test_an_older_epoch_still_trades(self, world: Served, b: NodeClient) -> None:
        """What was sealed to an epoch is traded after newer ones have come, also after a restart."""
        exchange = world.exchange(b"letter")
        world.ttp.desk.custody.upkeep(RENEWAL)  # type: ignore[attr-defined]
        world.restart()
        world.clock.time = NOW + 1
        verify_bundle(bundles.decode(b.complete(exchange).content), world.trust)

    def test_a_destroyed_epoch_is_the_ttps_fault(self, world: Served, b: NodeClient) -> None:
        """A manifest of an epoch whose key is destroyed makes no state and isn't INVALID: nobody cheated."""
        exchange = world.exchange(b"letter")
        custody = world.ttp.desk.custody
        custody.upkeep(END)  # type: ignore[attr-defined]
        with pytest.raises(OurFault, match="the TTP's"):
            custody.open(exchange.manifest, exchange.sealed.escrow)
        answer = b.complete(exchange)
        assert (answer.status_code, answer.json()["type"]) == (500, "urn:secmtp:problem:internal")
        assert world.ttp.desk.stored(exchange.manifest.exchange) is None
        assert world.ttp.desk.ledger.size == 0

    @pytest.mark.parametrize("asks", ["sender", "recipient"])
    def test_what_expired_needs_no_key(self, world: Served, a: NodeClient, b: NodeClient, asks: str) -> None:
        """Whoever was away until the key was destroyed still gets the outcome EXPIRED."""
        exchange = world.exchange(b"letter")
        world.ttp.desk.custody.upkeep(END)  # type: ignore[attr-defined]
        world.clock.time = END
        answer = a.status(exchange) if asks == "sender" else b.complete(exchange)
        assert answer.status_code == 200, answer.text
        assert verify_no_trade(bundles.decode(answer.content), world.trust).refusal.outcome == "EXPIRED"
