"""`secmtp node status`, `resume` and `new-witness-key`, as an operator runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from secmtp_node import settings, setup
from secmtp_node.app import database_url
from secmtp_node.cli import app
from secmtp_node.ports.values import Alarm, SeenCheckpoint
from secmtp_node.store.database import SqlStore, open_engine
from shared.ledger.note import KeyType, decode_vkey
from tests.doubles.parties import NOW


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A new node's directory."""
    setup.initialise(tmp_path / "node", domains=["b.example", "other.example"], hosts=["localhost"], now=NOW)
    return tmp_path / "node"


def run(directory: Path, *arguments: str) -> tuple[int, str]:
    """Run a command of the node as an operator would."""
    name, *options = arguments
    done = CliRunner().invoke(app, [name, "--dir", str(directory), *options])
    return done.exit_code, done.output


def stop(directory: Path) -> None:
    """Let the node have seen a fork."""
    engine = open_engine(database_url(directory, settings.load(directory)))
    with SqlStore(engine).transaction() as unit:
        unit.evidence.alarm(Alarm("fork of the ledger", None, "two roots", b"note\n\nnote", NOW))
        unit.checkpoints.put(SeenCheckpoint("ttp.example", "log", 5, b"note", True, NOW, 0, "fork of the ledger: two"))
    engine.dispose()


def test_status(directory: Path) -> None:
    """A new node has nothing to say; one that stopped trading says so in each form, and exits 1 until it resumes."""
    code, out = run(directory, "status")
    assert code == 0
    assert "queue    0 jobs" in out
    assert run(directory, "forks") == (0, "")
    stop(directory)
    code, out = run(directory, "status", "--json")
    assert code == 1
    value = json.loads(out)
    assert value["stopped"] is True
    assert value["ledgers"][0]["size"] == 5
    code, out = run(directory, "status", "--metrics")
    assert code == 1
    assert 'secmtp_node_trades_stopped{ttp="ttp.example",log="log"} 1\n' in out
    assert "New trades at ttp.example again" in run(directory, "resume")[1]
    code, out = run(directory, "status")
    assert code == 0
    assert "fork of the ledger: two roots" in out
    code, out = run(directory, "forks")
    assert (code, out) == (1, f"# fork of the ledger, seen at {NOW}: two roots\nnote\n\nnote\n")


def test_new_witness_key(directory: Path) -> None:
    """The key of `init` is there for its owner only; a new one has a new name and is printed as a vkey."""
    assert (directory / "keys" / "witness.pem").stat().st_mode & 0o777 == 0o600
    assert decode_vkey(run(directory, "vkey")[1].strip()).name == "b.example/witness"
    code, out = run(directory, "new-witness-key")
    key = decode_vkey(out.strip())
    assert (code, key.name, key.type) == (0, "b.example/witness/2", KeyType.COSIGNATURE)
    assert run(directory, "vkey")[1] == out
