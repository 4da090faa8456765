"""`secmtp ttp fsck`: a whole ledger holds, and each thing that can be wrong with one is found and named."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shared.crypto.signing import token_digest
from shared.encoding import base64url
from shared.errors import ConfigurationError
from shared.evidence.composition import Opened
from shared.evidence.tokens import NRR, LedgerPlace
from shared.ledger import entry as entries
from shared.ledger.checkpoint import Checkpoint, sign_checkpoint
from shared.ledger.entry import ExchangeEntry, body_digest
from tests.doubles.parties import NOW
from tests.doubles.served import NodeClient, Served
from ttp_server.app import HEAD
from ttp_server.cli import app
from ttp_server.custody.keys import load_keys
from ttp_server.maintenance import check
from ttp_server.ports.store import Transaction
from ttp_server.services import exchanges
from ttp_server.services.findings import Findings, Violation
from ttp_server.services.sequencer import Appended

BINDING, TRADE, INVALID, ABORTED, REFUSAL, ANCHOR = range(6)
REVOCATION, EXPIRED = 267, 268
Edit = Callable[[sqlite3.Connection, Path], object]


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoiled."""
    return Path(shutil.copytree(whole, tmp_path / "ttp"))


def found(place: Path) -> tuple[Findings, list[Violation]]:
    """Check."""
    violations: list[Violation] = []
    return check(place, violations.append, now=NOW), violations


def spoil(place: Path, edit: Edit) -> None:
    """Edit the database as its owner can who takes the triggers and foreign keys away."""
    with closing(sqlite3.connect(place / "data" / "ttp.sqlite")) as database, database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f'DROP TRIGGER "{name}"')
        edit(database, place)


def sql(statement: str, *values: Any) -> Edit:
    """Return an edit by one statement."""
    return lambda database, _place: database.execute(statement, values)


def update(table: str, column: str, value: object, where: str) -> Edit:
    """Return an edit of one column."""
    return sql(f'UPDATE {table} SET "{column}" = ? WHERE {where}', value)


def at(index: int) -> str:
    """The row of an entry."""
    return f'"index" = {index}'


def all_of(*edits: Edit) -> Edit:
    """Return several edits."""

    def edit(database: sqlite3.Connection, place: Path) -> None:
        for one in edits:
            one(database, place)

    return edit


def swapped(table: str, *columns: str) -> Edit:
    """Return an edit that exchanges columns of the trade and of another trade."""

    def edit(database: sqlite3.Connection, _place: Path) -> None:
        names = ", ".join(f'"{column}"' for column in columns)
        rows = [database.execute(f"SELECT {names} FROM {table} WHERE {at(index)}").fetchone() for index in (TRADE, 265)]
        for index, row in zip((265, TRADE), rows, strict=True):
            marks = ", ".join(f'"{column}" = ?' for column in columns)
            database.execute(f"UPDATE {table} SET {marks} WHERE {at(index)}", row)

    return edit


def whole_entry(index: int) -> Edit:
    """Return an edit that changes an entry with its leaf hash: only tiles and checkpoints can tell."""

    def edit(database: sqlite3.Connection, _place: Path) -> None:
        other = database.execute(f"SELECT entry, leaf_hash, salt, body, time FROM entries WHERE {at(20)}").fetchone()
        changed = "entry = ?, leaf_hash = ?, salt = ?, body = ?, time = ?"
        database.execute(f"UPDATE entries SET {changed} WHERE {at(index)}", other)
        root = database.execute(f"SELECT root FROM anchors WHERE {at(20)}").fetchone()
        database.execute(f"UPDATE anchors SET root = zeroblob(32) WHERE {at(20)}")
        database.execute(f"UPDATE anchors SET root = ? WHERE {at(index)}", root)

    return edit


def checkpoint(size: int, over: int, root: bytes = bytes(32), key: str = "checkpoint") -> Edit:
    """Return an edit that stores another checkpoint, over `over` entries, at a size."""

    def edit(database: sqlite3.Connection, place: Path) -> None:
        keys = load_keys(place, "ttp.example", "ttp.example/ledger", NOW)
        note = sign_checkpoint(Checkpoint("ttp.example/ledger", over, root), getattr(keys, key))
        database.execute("DELETE FROM checkpoints WHERE size = ?", (size,))
        database.execute("INSERT INTO checkpoints (size, note) VALUES (?, ?)", (size, note))

    return edit


def published(_database: sqlite3.Connection, place: Path) -> None:
    """Put a published checkpoint of another history beside the database."""
    keys = load_keys(place, "ttp.example", "ttp.example/ledger", NOW)
    (place / HEAD).write_bytes(sign_checkpoint(Checkpoint("ttp.example/ledger", 7, bytes(32)), keys.checkpoint))


def archive(change: Callable[[bytes], bytes]) -> Edit:
    """Return an edit of the second copy's last file."""

    def edit(_database: sqlite3.Connection, place: Path) -> None:
        file = place / "archive" / "001"
        file.write_bytes(change(file.read_bytes()))

    return edit


def other_salt(data: bytes) -> bytes:
    """Change a salt in the second copy, so that a body isn't its entry's."""
    at = data.index(b'"salt":"') + 8
    return data[:at] + base64url.encode(bytes(32)).encode() + data[at + 43 :]


# What is done, and all the steps that must find something.
EDITS: dict[str, tuple[Edit, set[str]]] = {
    "an entry's octets": (
        update("entries", "entry", b"{}", at(ANCHOR)),
        {"entry.hash", "entry.syntax", "anchors.entry", "copy.entry"},
    ),
    "an entry's leaf hash": (
        update("entries", "leaf_hash", bytes(32), at(ANCHOR)),
        {"entry.hash", "tile.hashes", "tile.root", "checkpoint.root", "copy.entry"},
    ),
    "an entry and its hash": (
        whole_entry(ANCHOR),
        {"tile.hashes", "tile.root", "checkpoint.root", "anchors.body", "copy.entry"},
    ),
    "an entry's time": (update("entries", "time", 1, at(ANCHOR)), {"entry.time", "entry.row", "copy.entry"}),
    "an entry's kind": (update("entries", "kind", "binding", at(ANCHOR)), {"entry.row", "copy.entry"}),
    "an entry's body": (update("entries", "body", b"{}", at(ANCHOR)), {"entry.body", "anchors.body", "copy.entry"}),
    "an entry's salt": (update("entries", "salt", bytes(32), at(ANCHOR)), {"entry.body", "anchors.body", "copy.entry"}),
    "an entry of another type": (
        update("entries", "entry", "x", at(ANCHOR)),
        {"entry.row", "entry.missing", "tile.hashes", "tile.root", "checkpoint.root", "anchors.entry", "copy.entry"},
    ),
    "no entry": (
        sql(f"DELETE FROM entries WHERE {at(ANCHOR)}"),
        {"entry.missing", "tile.hashes", "tile.root", "checkpoint.root", "anchors.entry"},
    ),
    "entries far behind": (
        sql(f'UPDATE entries SET "index" = 999999999 WHERE {at(EXPIRED)}'),
        {"entry.missing", "exchanges.outcomes", "exchanges.entry"},
    ),
    "an entry before the first": (
        sql(f'UPDATE entries SET "index" = -1 WHERE {at(ANCHOR)}'),
        {"entry.index", "entry.missing", "tile.hashes", "tile.root", "checkpoint.root", "anchors.row", "anchors.entry"},
    ),
    "no last entry": (sql(f"DELETE FROM entries WHERE {at(EXPIRED)}"), {"checkpoint.size", "exchanges.entry"}),
    "no tile": (sql("DELETE FROM tiles"), {"tile.missing"}),
    "a tile's hashes": (sql("UPDATE tiles SET hashes = zeroblob(8192)"), {"tile.hashes"}),
    "a tile's root": (sql("UPDATE tiles SET root = zeroblob(32)"), {"tile.root"}),
    "a tile too many": (sql("INSERT INTO tiles VALUES (0, 1, zeroblob(8192), zeroblob(32))"), {"tile.extra"}),
    "a checkpoint of another tree": (checkpoint(7, 7), {"checkpoint.root"}),
    "a checkpoint of another size": (checkpoint(7, 6), {"checkpoint.row"}),
    "a checkpoint of another key": (checkpoint(7, 7, key="nrd"), {"checkpoint.signature"}),
    "a checkpoint over more": (checkpoint(999, 999), {"checkpoint.size"}),
    "a checkpoint that is none": (sql("UPDATE checkpoints SET note = X'78' WHERE size = 7"), {"checkpoint.signature"}),
    "a checkpoint of another type": (sql("UPDATE checkpoints SET note = 'x' WHERE size = 7"), {"checkpoint.signature"}),
    "another published checkpoint": (published, {"checkpoint.published"}),
    "no row of an exchange": (sql(f"DELETE FROM exchanges WHERE {at(TRADE)}"), {"exchanges.row"}),
    "a row of an exchange elsewhere": (
        sql(f'UPDATE exchanges SET "index" = 5 WHERE {at(TRADE)}'),
        {"exchanges.outcomes", "exchanges.entry"},
    ),
    "another state": (update("exchanges", "state", "EXPIRED", at(TRADE)), {"exchanges.row"}),
    "another salt": (update("exchanges", "salt", bytes(32), at(TRADE)), {"exchanges.row", "exchanges.evidence"}),
    "another M": (update("exchanges", "manifest", b"{}", at(TRADE)), {"exchanges.evidence"}),
    "another NRO": (swapped("exchanges", "nro"), {"exchanges.body", "exchanges.evidence"}),
    "another NRR": (swapped("exchanges", "nrr"), {"exchanges.body", "exchanges.evidence"}),
    "another NRD": (swapped("exchanges", "token"), {"exchanges.body", "exchanges.evidence"}),
    "no NRR": (update("exchanges", "nrr", None, at(TRADE)), {"exchanges.body", "exchanges.evidence"}),
    "an NRR without a trade": (update("exchanges", "nrr", "x", at(INVALID)), {"exchanges.body", "exchanges.evidence"}),
    "no ABORT": (update("exchanges", "abort", None, at(ABORTED)), {"exchanges.body", "exchanges.evidence"}),
    "no place in a feed": (sql("DELETE FROM feed WHERE cursor = 1"), {"feed.places"}),
    "a stranger's place in a feed": (sql("UPDATE feed SET domain = 'c.example' WHERE cursor = 2"), {"feed.places"}),
    "no row of a binding": (sql(f"DELETE FROM bindings WHERE {at(6)}"), {"bindings.row"}),
    "no first binding": (sql(f"DELETE FROM bindings WHERE {at(BINDING)}"), {"bindings.row", "bindings.evidence"}),
    "another binding": (
        update("bindings", "token", "x", at(6)),
        {"bindings.body", "bindings.row", "bindings.evidence"},
    ),
    "another address": (update("bindings", "address", "x@b.example", at(6)), {"bindings.evidence"}),
    "another folded address": (update("bindings", "folded", "x", at(6)), {"bindings.evidence"}),
    "another receipt key": (update("bindings", "receipt_key", bytes(32), at(6)), {"bindings.evidence"}),
    "another digest": (update("bindings", "digest", bytes(32), at(6)), {"bindings.row", "bindings.id"}),
    "a key too many": (sql("INSERT INTO bound_keys VALUES (zeroblob(32), 'bob@b.example')"), {"bindings.keys"}),
    "a key of nobody": (sql("INSERT INTO bound_keys VALUES (zeroblob(32), 'x@b.example')"), {"bindings.keys"}),
    "no bound keys": (sql("DELETE FROM bound_keys"), {"bindings.keys"}),
    "no revocation": (sql("DELETE FROM revocations"), {"revocations.row"}),
    "a revocation's time": (sql("UPDATE revocations SET effective = 1"), {"revocations.row"}),
    "a revocation's key": (
        sql("UPDATE revocations SET key = zeroblob(32)"),
        {"revocations.row", "revocations.id", "revocations.evidence"},
    ),
    "a revocation's address": (sql("UPDATE revocations SET address = 'x@b.example'"), {"revocations.evidence"}),
    "no refusal": (sql("DELETE FROM refusals"), {"anchors.row"}),
    "another refusal": (sql("UPDATE refusals SET refuse = nro"), {"refusals.evidence"}),
    "a refusal of another exchange": (sql("UPDATE refusals SET exchange = zeroblob(32)"), {"refusals.evidence"}),
    "no anchor": (sql(f"DELETE FROM anchors WHERE {at(ANCHOR)}"), {"anchors.row"}),
    "another anchor": (update("anchors", "root", bytes(32), at(ANCHOR)), {"anchors.body"}),
    "a row without an entry": (sql("INSERT INTO anchors VALUES (zeroblob(32), 999)"), {"anchors.entry"}),
    "another cosignature": (sql("UPDATE cosignatures SET line = replace(line, 'A', 'B')"), {"cosignature"}),
    "a cosignature's time": (sql("UPDATE cosignatures SET time = 1"), {"cosignature"}),
    "a cosignature's name": (sql("UPDATE cosignatures SET name = 'c.example/witness'"), {"cosignature"}),
    "a body of the second copy": (archive(other_salt), {"copy.entry", "copy.missing"}),
    "a shorter second copy": (archive(lambda data: b"".join(data.splitlines(keepends=True)[:-1])), {"copy.missing"}),
}


class TestWhole:
    def test_everything_holds(self, place: Path) -> None:
        """In the ledger of a TTP that was asked for everything every invariant holds, and it says what it counted."""
        findings, violations = found(place)
        assert violations == []
        assert findings.counts == {
            "entries": 269, "bindings": 2, "exchanges": 8, "revocations": 1, "refusals": 1, "anchors": 257,
            "COMPLETED": 5, "INVALID": 1, "ABORTED": 1, "EXPIRED": 1, "tiles": 1, "cosignatures": 1,
            "checkpoints": findings.counts["checkpoints"],
        }  # fmt: skip

    def test_while_it_is_served(self, world: Served, b: NodeClient) -> None:
        """A TTP that goes on serving is checked beside, and nothing is held up."""
        for number in range(3):
            assert b.complete(world.exchange(b"%d" % number)).status_code == 200
            findings, violations = found(world.directory)
            assert violations == []
            assert findings.counts["COMPLETED"] == number + 1


@pytest.mark.parametrize("name", EDITS)
def test_edited(place: Path, name: str) -> None:
    """Whatever somebody edits is found by the steps that are there for it, and by no others."""
    edit, expected = EDITS[name]
    spoil(place, edit)
    _, violations = found(place)
    assert {violation.step for violation in violations} == expected, [str(violation) for violation in violations]
    assert len(violations) <= len(expected) + 3, "one edit makes no flood"


def test_all_are_told(place: Path) -> None:
    """Several edits are all told, not only the first."""
    several = ("a tile's root", "another state", "no bound keys", "a revocation's time", "no anchor")
    spoil(place, all_of(*(EDITS[name][0] for name in several)))
    _, violations = found(place)
    expected = {"tile.root", "exchanges.row", "bindings.keys", "revocations.row", "anchors.row"}
    assert {violation.step for violation in violations} == expected


class Second:
    """A proposal of a TTP that cheats: another outcome of an exchange that has one."""

    def __init__(self, exchange: bytes) -> None:
        self._exchange = exchange

    def decide(self, transaction: Transaction, place: LedgerPlace) -> Appended[None]:
        """Append an entry alone, for the database keeps one row of an exchange."""
        entry = ExchangeEntry(self._exchange, "EXPIRED", None, body_digest(bytes(32), b"body"), place.time)
        return Appended("exchange", entries.encode(entry), bytes(32), b"body", None)


class TestForged:
    """What the TTP itself signs wrongly: the tree is whole, and only verification can tell."""

    @pytest.fixture(autouse=True)
    def first(self, world: Served, b: NodeClient) -> None:
        """Something that is right stands before it."""
        assert b.complete(world.exchange(b"right")).status_code == 200

    def only(self, world: Served, step: str, reason: str) -> None:
        """Assert that one violation is found."""
        _, violations = found(world.directory)
        assert [(one.step, one.place) for one in violations] == [(step, "entry 1")], violations
        assert reason in violations[0].message

    def test_a_second_outcome(self, world: Served, b: NodeClient) -> None:
        """A second outcome of an exchange is found, whatever it is."""
        exchange = b.feed().bundles[0].manifest.exchange
        world.ttp.desk.sequencer.submit(Second(exchange))
        self.only(world, "exchanges.outcomes", "entry 0")

    def test_a_share_without_a_receipt(self, world: Served, b: NodeClient, monkeypatch: pytest.MonkeyPatch) -> None:
        """A share that was given for an NRR that isn't the recipient's is found."""

        def believed(compact: str, manifest: Any, nro: Any, root: Any, at: int) -> NRR:
            return NRR(compact, token_digest(compact), at, nro.certificate)

        monkeypatch.setattr(exchanges, "verify_nrr", believed)
        exchange = world.exchange(b"letter")
        assert b.complete(exchange, nrr=exchange.nro).status_code == 200
        self.only(world, "exchanges.evidence", "nrr.syntax")

    def test_another_share(self, world: Served, b: NodeClient, monkeypatch: pytest.MonkeyPatch) -> None:
        """A share that doesn't open M's commitment is found."""
        monkeypatch.setattr(type(world.ttp.desk.custody), "open", lambda *_: Opened(bytes(32)))
        assert b.complete(world.exchange(b"letter")).status_code == 200
        self.only(world, "exchanges.evidence", "nrd.share")


class TestCommand:
    def run(self, place: Path) -> tuple[int, str]:
        """Run it as an operator would."""
        result = CliRunner().invoke(app, ["fsck", "--dir", str(place)])
        return result.exit_code, result.output

    def test_whole(self, place: Path) -> None:
        """Where everything holds it says so with what it counted, and exits 0."""
        code, output = self.run(place)
        assert code == 0
        assert "269  entries" in output
        assert output.endswith("Everything holds.\n")

    def test_spoiled(self, place: Path) -> None:
        """Where something is wrong it names that and exits 1."""
        spoil(place, EDITS["another state"][0])
        code, output = self.run(place)
        assert code == 1
        assert "exchanges.row: entry 1: state, time or salt aren't those of its entry" in output
        assert output.endswith("1 violations.\n")

    @pytest.mark.parametrize("edit", [lambda file: file.unlink(), lambda file: file.write_bytes(b"")])
    def test_nothing_to_check(self, place: Path, edit: Callable[[Path], None]) -> None:
        """Where there is no database of this version it refuses, and makes none."""
        edit(place / "data" / "ttp.sqlite")
        result = CliRunner().invoke(app, ["fsck", "--dir", str(place)])
        assert isinstance(result.exception, ConfigurationError)
