"""Rules for the repository itself: the lock file, citations of the specification, import contracts."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGES = ("shared", "ttp_server", "secmtp_node", "migrations")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
# "online.md T4", "online.md T4, T5", "directory.md D5–D8", "evidence.md, V0 to V6"
CITATION = re.compile(r"(\w+\.md),? ([A-Z]+\d+(?:(?:–|-|, | and | to )[A-Z]+\d+)*)")
STEP = re.compile(r"^\W*\*\*([A-Z]+\d+)\*\*", re.MULTILINE)


def our_files(*folders: str, suffix: str | tuple[str, ...] = "") -> list[Path]:
    """List the repository's files in these folders, without what tools leave behind."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.name.endswith(suffix)]
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def steps(page: str) -> list[str]:
    """List the labels of the steps on a page of the specification, in order."""
    path = ROOT / "docs" / "protocols" / page
    return STEP.findall(path.read_text()) if path.is_file() else []


def functions_of_tests(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Walk through the test functions and methods of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield node


class TestLockFile:
    """requirements.lock."""

    def test_hashes(self) -> None:
        """Every package is pinned to one version and to the digests of its files."""
        blocks = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", LOCK, flags=re.MULTILINE).strip())
        bare = [block for block in blocks if not re.match(r"[a-z0-9.-]+==\S+ (?:;.* )?\\\n +--hash=sha256:", block)]
        assert bare == []

    def test_no_addresses(self) -> None:
        """The lock file names no registry, so it works with whichever pip is set up for."""
        assert re.search(r"://|@|--(?:extra-)?index-url|--find-links|\.(?:org|com|net|io)\b", LOCK) is None

    def test_dependencies(self) -> None:
        """Every dependency in pyproject.toml is locked at a version that it allows."""
        locked = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", LOCK, re.MULTILINE))
        project = PROJECT["project"]
        wanted = [
            *project["dependencies"],
            *project["optional-dependencies"]["dev"],
            *PROJECT["build-system"]["requires"],
        ]
        for requirement in map(Requirement, wanted):
            version = locked.get(canonicalize_name(requirement.name))
            assert version is not None, requirement
            assert requirement.specifier.contains(version), requirement


class TestTexts:
    """All files of the repository."""

    def test_nothing_left_to_do(self) -> None:
        """No file marks unfinished work: what is missing is an issue, not a comment."""
        marks = re.compile("|".join(("TO" + "DO", "FIX" + "ME")).encode())
        files = [*our_files(*PACKAGES, "tests", "docs", ".ci"), *filter(Path.is_file, ROOT.iterdir())]
        assert [str(path) for path in files if marks.search(path.read_bytes())] == []

    def test_docstrings_of_tests(self) -> None:
        """Every test says in a docstring which behaviour it shows."""
        silent = [
            f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
            for path in our_files("tests", suffix=".py")
            for function in functions_of_tests(path)
            if path.name.startswith("test_") and not ast.get_docstring(function)
        ]
        assert silent == []


class TestSpecification:
    """docs/protocols and the code that cites it."""

    def test_labels_are_unique(self) -> None:
        """No two steps of a page have the same label."""
        for path in our_files("docs/protocols", suffix=".md"):
            labels = steps(path.name)
            assert len(labels) == len(set(labels)), path.name

    def test_cited_steps_exist(self) -> None:
        """Every step that code or a page cites stands in the specification."""
        lost = [
            f"{path.relative_to(ROOT)}: {page} {label}"
            for path in [*our_files(*PACKAGES, "tests", suffix=".py"), *our_files("docs", suffix=(".md", ".pml"))]
            for page, labels in CITATION.findall(path.read_text())
            for label in re.findall(r"[A-Z]+\d+", labels)
            if label not in steps(page)
        ]
        assert lost == []


# File, what it imports, and a word from the name of the contract that must break.
BREACHES = [
    ("secmtp_node/agents/breach.py", "import ttp_server", "never import each other"),
    ("shared/evidence/breach.py", "import ttp_server", "neither program"),
    ("shared/commands/breach.py", "import migrations", "Nobody imports migrations"),
    ("shared/ledger/breach.py", "import shared.exchange", "Layers of shared"),
    ("shared/breach.py", "", "Layers of shared"),
    ("shared/exchange/breach.py", "import time", "The core is pure"),
    ("shared/crypto/breach.py", "import secrets", "The core is pure"),
    ("shared/api/breach.py", "import starlette", "The core is pure"),
    ("ttp_server/services/breach.py", "import sqlalchemy", "Use cases"),
    ("secmtp_node/agents/breach.py", "import pathlib", "Use cases"),
    ("ttp_server/routes/breach.py", "import ttp_server.store", "Layers of ttp_server"),
    ("secmtp_node/agents/breach.py", "import secmtp_node.smtp", "Layers of secmtp_node"),
]


class TestImportContracts:
    """The contracts in pyproject.toml."""

    def test_kept(self) -> None:
        """The tree keeps every import contract."""
        result = lint_imports(ROOT)
        assert result.returncode == 0, result.stdout

    @pytest.mark.parametrize(("name", "line", "contract"), BREACHES)
    def test_breach_is_seen(self, tmp_path: Path, name: str, line: str, contract: str) -> None:
        """A planted breach breaks the contract that is there for it."""
        shutil.copy(ROOT / "pyproject.toml", tmp_path)
        for package in PACKAGES:
            shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
        rooms = {name.rpartition("/")[0], *(f"{p}/{r}" for p, r in re.findall(r"import (\w+)\.(\w+)", line))}
        for room in rooms:
            if not (tmp_path / f"{room}.py").exists():
                (tmp_path / room).mkdir(exist_ok=True)
                (tmp_path / room / "__init__.py").touch()
        (tmp_path / name).write_text(line + "\n")
        result = lint_imports(tmp_path)
        assert result.returncode != 0
        assert re.search(rf"{contract}.* BROKEN|{contract}.*\n.*missing", result.stdout), result.stdout

    def test_every_room_of_the_core_is_pure(self) -> None:
        """The purity contract names all of shared except the command line and what runs programs."""
        contracts = {contract["id"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]}
        rooms = {f"shared.{path.stem}" for path in (ROOT / "shared").glob("*.py")}
        rooms |= {f"shared.{path.parent.name}" for path in (ROOT / "shared").glob("*/__init__.py")}
        edge = {"shared.__init__", "shared.cli", "shared.commands", "shared.programs"}
        assert rooms - edge == set(contracts["pure-core"]["source_modules"])


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts on the tree in this folder."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
