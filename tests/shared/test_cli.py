"""The command `secmtp`: groups found and loaded lazily, errors in one line."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from shared import cli
from shared.cli import GROUPS, GroupAt

ROOT = Path(__file__).parents[2]
HEAVY = (
    "sqlalchemy",
    "alembic",
    "httpx",
    "starlette",
    "uvicorn",
    "pydantic_settings",
    "structlog",
    "aiosmtpd",
    "scramp",
)
OTHERS = ("ttp_server", "secmtp_node", "shared.commands.ca", "shared.commands.demo")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "shared.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def imported_by(*arguments: str) -> set[str]:
    """Return the modules that are loaded when the command has run with these arguments."""
    program = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: sys.stderr.write('\\n' + json.dumps(sorted(sys.modules))))\n"
        "from shared.cli import main\n"
        f"main({list(arguments)!r})\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    return set(json.loads(done.stderr.splitlines()[-1]))


def within(modules: set[str], packages: tuple[str, ...]) -> list[str]:
    """List which of the packages are among the modules."""
    return [name for name in packages if any(f"{module}.".startswith(f"{name}.") for module in modules)]


class TestImports:
    """What is loaded."""

    @pytest.mark.parametrize("arguments", [("--help",), ("--version",), ()])
    def test_top(self, arguments: tuple[str, ...]) -> None:
        """Listing the groups imports none of them, nor cryptography."""
        loaded = imported_by(*arguments)
        assert within(loaded, (*HEAVY, *OTHERS, "shared.commands.evidence", "cryptography", "rich")) == []

    def test_evidence(self, tmp_path: Path) -> None:
        """Verifying evidence imports nothing of the other groups, of settings, databases and HTTP."""
        (tmp_path / "bundle").write_bytes(b"{}")
        loaded = imported_by("evidence", "verify", str(tmp_path / "bundle"), "--trust", str(tmp_path / "bundle"))
        assert "shared.evidence.receipt" in loaded
        assert within(loaded, (*HEAVY, *OTHERS)) == []

    def test_ledger(self) -> None:
        """Help on the ledger's tools imports no client and no progress bar."""
        assert within(imported_by("ledger", "--help"), (*HEAVY, *OTHERS, "sqlite3")) == []

    def test_ca(self) -> None:
        """The authority imports nothing of the two programs either."""
        assert within(imported_by("ca", "show", "/nowhere"), (*HEAVY, "ttp_server", "secmtp_node")) == []


class TestGroups:
    """Where groups come from."""

    def test_table(self) -> None:
        """The table of groups for a plain checkout is what pyproject.toml declares."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        declared = project["entry-points"][cli.ENTRY_POINTS]
        assert {name: group.target for name, group in GROUPS.items()} == declared
        assert project["scripts"]["secmtp"] == "shared.cli:main"

    def test_help(self) -> None:
        """Help lists every group with what it is for."""
        done = run("--help")
        assert done.returncode == 0
        for name, group in GROUPS.items():
            assert f"{name} " in done.stdout
            assert group.summary[:30] in done.stdout

    def test_version(self) -> None:
        """--version prints one line."""
        assert run("--version").stdout.startswith("secmtp ")

    def test_entry_point_of_another_package(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Another package's group is listed and loaded, and can't take the place of one of ours."""

        class Point:
            def __init__(self, name: str) -> None:
                self.name = name
                self.value = "shared.commands.ca:app"
                self.dist = None

        monkeypatch.setattr(cli, "_points", lambda: [Point("extra"), Point("evidence")])
        assert list(cli._others()) == ["extra"]
        with pytest.raises(SystemExit) as stopped:
            cli.main(["extra", "show", "/nowhere"])
        assert stopped.value.code == cli.UNUSABLE
        assert "/nowhere can't be read" in capsys.readouterr().err

    def test_group_that_isnt_installed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A group whose module is missing says so in a line."""
        monkeypatch.setitem(GROUPS, "ttp", GroupAt("ttp_server_that_is_missing.cli:app", ""))
        with pytest.raises(SystemExit) as stopped:
            cli.main(["ttp", "serve"])
        assert stopped.value.code == cli.UNUSABLE
        assert "isn't installed here" in capsys.readouterr().err

    def test_broken_dependency_is_not_hidden(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A module that is there and lacks something else fails as what it is: a bug."""
        (tmp_path / "broken_group.py").write_text("import module_that_is_missing\n", encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(GROUPS, "broken", GroupAt("broken_group:app", ""))
        with pytest.raises(ModuleNotFoundError, match="module_that_is_missing"):
            cli.main(["broken"])


class TestErrors:
    """How the command ends."""

    def test_ours(self, tmp_path: Path) -> None:
        """An error of ours is one line on stderr, exit code 2, no traceback."""
        done = run("ca", "show", str(tmp_path / "missing"))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"secmtp: {tmp_path / 'missing'} can't be read: No such file or directory\n"

    def test_operating_system(self, tmp_path: Path) -> None:
        """So is an error of the operating system."""
        (tmp_path / "file").write_bytes(b"")
        done = run("ca", "init", "--dir", str(tmp_path / "file" / "ca"), "--name", "x", "--no-passphrase")
        assert done.returncode == 2
        assert done.stderr.startswith("secmtp: Not a directory: ")
        assert done.stderr.count("\n") == 1

    @pytest.mark.parametrize("arguments", [("nonsense",), ("ca", "nonsense"), ("ca", "init"), ("--nonsense",)])
    def test_usage(self, arguments: tuple[str, ...]) -> None:
        """A wrong command line says how it is used, with exit code 2."""
        done = run(*arguments)
        assert done.returncode == 2
        assert "Usage: secmtp" in done.stderr
        assert "Traceback" not in done.stderr
