"""The operator's commands: what they make, print and refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shared.crypto.keys import HPKE_KINDS
from shared.errors import ConfigurationError, Malformed
from shared.ledger.note import KeyType, decode_vkey
from ttp_server.cli import app


def run(*arguments: str | Path) -> Result:
    """Run a command as an operator would."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A TTP's directory that was just made."""
    made = run("init", "--dir", tmp_path / "ttp", "--name", "ttp.example", "--host", "localhost")
    assert made.exit_code == 0, made.output
    assert "secmtp ttp certify" in made.output
    return tmp_path / "ttp"


def test_epochs(place: Path) -> None:
    """An operator sees each epoch with its kind, its state, and until when it is open."""
    lines = run("epochs", "--dir", place).output.splitlines()
    assert [line.split()[:3] for line in lines] == [[str(n), kind, "open"] for n, kind in enumerate(HPKE_KINDS, 1)]


def test_token(place: Path) -> None:
    """A token is printed alone on its line, and each is another."""
    made = [run("token", "--dir", place, "--domain", "a.example").output for _ in range(3)]
    assert len(set(made)) == 3
    assert {len(token.strip()) for token in made} == {43}


def test_vkey(place: Path) -> None:
    """The ledger's vkey is printed alone on its line, also before the CA has certified anything."""
    key = decode_vkey(run("vkey", "--dir", place).output.strip())
    assert (key.name, key.type) == ("ttp.example/ledger", KeyType.LOG)


@pytest.mark.parametrize("domain", ["", "a b.example", "alice@a.example", "a.example/../b"])
def test_token_for_no_domain(place: Path, domain: str) -> None:
    """A token for what isn't a mail domain is refused: it would never enrol anybody."""
    assert isinstance(run("token", "--dir", place, "--domain", domain).exception, Malformed)


@pytest.mark.parametrize(
    "command", [["epochs"], ["vkey"], ["token", "--domain", "a.example"], ["serve"]], ids=lambda command: command[0]
)
def test_before_init(tmp_path: Path, command: list[str]) -> None:
    """Before a directory is made every command says which one makes it."""
    error = run(*command, "--dir", tmp_path).exception
    assert isinstance(error, ConfigurationError)
    assert "secmtp ttp init" in error.message


def test_serve_before_certify(place: Path) -> None:
    """Without certificates nothing is served, and the message says what to do."""
    error = run("serve", "--dir", place).exception
    assert isinstance(error, ConfigurationError)
    assert "secmtp ttp certify" in error.message
