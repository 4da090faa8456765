"""The Promela models of docs/protocols/models, run by SPIN: what must hold holds, what must break breaks."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MODELS = Path(__file__).parent.parent.parent / "docs" / "protocols" / "models"
LIST = tomllib.loads((MODELS / "runs.toml").read_text(encoding="utf-8"))
LTL = re.compile(r"^ltl (\w+)", re.MULTILINE)
MUTANT = re.compile(r"\bM_[A-Z_]+")
INCOMPLETE = re.compile("max search depth too small|Search not completed|reached -DMEMLIM|out of memory")
# Rendezvous, `unless` and fairness together: SPIN's reduction isn't sound for them, so it is off.
COMPILER = ("-w", "-DNOREDUCE", "-DNFAIR=5", "-DMEMLIM=4096")


@dataclass(frozen=True, slots=True)
class Run:
    """One compiled model and what is to come out."""

    model: str
    shows: str
    defines: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    large: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What a complete search said about one property."""

    holds: bool
    states: int


def read(entry: dict[str, Any]) -> Run:
    """Return an entry of the list. A member that isn't known, or is missing, is a TypeError."""
    members: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return Run(**members)


RUNS = [read(entry) for entry in LIST["run"]]


def command(name: str) -> str:
    """Return the path of a program that the models need."""
    found = shutil.which(name)
    assert found, f"{name} is missing (Debian: apt-get install spin gcc libc6-dev); .ci/setup installs it"
    return found


def call(folder: Path, *arguments: str) -> str:
    """Run a command in a folder and return what it printed. Its failure is the test's."""
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder: Path, run: Run) -> None:
    """Make the verifier `pan` of a model with its defines.

    Formulas that the entry doesn't name are left out: compiling costs more than most searches.
    """
    wanted = {*run.holds, *run.reached, *run.breaks}
    lines = (MODELS / f"{run.model}.pml").read_text(encoding="utf-8").splitlines(keepends=True)
    named = [(line, LTL.match(line)) for line in lines]
    model = folder / f"{run.model}.pml"
    model.write_text("".join(line for line, name in named if not name or name[1] in wanted), encoding="utf-8")
    shutil.copy(MODELS / "ttp.pml", folder)
    call(folder, command("spin"), "-a", *(f"-D{define}" for define in run.defines), model.name)
    call(folder, command("gcc"), "-O1" if run.large else "-O0", *COMPILER, "-o", "pan", "pan.c")


def verify(folder: Path, name: str) -> Result:
    """Search all states for a violation of one property."""
    liveness = ("-a", "-f") if name in LIST["liveness"] else ()
    printed = call(folder, "./pan", "-m100000", "-w20", *liveness, "-N", name)
    errors, states = re.search(r"errors: (\d+)", printed), re.search(r"(\d+) states, stored", printed)
    assert errors, printed
    assert states, printed
    holds = errors[1] == "0"
    # A violation is one, however small the search; that there is none counts only after a complete search.
    assert not holds or not INCOMPLETE.search(printed), printed
    return Result(holds, int(states[1]))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.model} {' '.join(run.defines) or 'honest'}")
def test_run(run: Run, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Each property of an entry comes out as the list says, after a complete search."""
    build(tmp_path, run)
    wrong = []
    for expected in ("holds", "reached", "breaks"):
        for name in getattr(run, expected):
            result = verify(tmp_path, name)
            line = f"{run.model:8} {run.shows:70.70} {name:18} {said(expected, result):9} {result.states:9,} states"
            record_property("figure", line)
            wrong += [line] if result.holds is not (expected == "holds") else []
    assert not wrong, "\n".join(wrong)


def said(expected: str, result: Result) -> str:
    """Return the word for a result."""
    if expected == "reached":
        return "VACUOUS" if result.holds else "reached"
    return "holds" if result.holds else "violated"


class TestList:
    """runs.toml."""

    def test_nothing_passes_emptily(self) -> None:
        """Every entry in which something must hold also names states that must be reached."""
        assert [run.shows for run in RUNS if bool(run.holds) != bool(run.reached)] == []

    def test_every_mutant_runs(self) -> None:
        """Every mutant in the models is in an entry that expects it to break something, and nothing to hold."""
        written = {name for path in MODELS.glob("*.pml") for name in MUTANT.findall(path.read_text(encoding="utf-8"))}
        mutants = [(run, set(filter(MUTANT.match, run.defines))) for run in RUNS]
        assert set().union(*(names for _, names in mutants)) == written
        assert [run.shows for run, names in mutants if names and (run.holds or not run.breaks)] == []

    def test_one_mutant_at_a_time(self) -> None:
        """A mutant breaks what holds without it: an entry without the mutant expects the same properties to hold."""
        for run in RUNS:
            mutants = {define for define in run.defines if MUTANT.match(define)}
            if mutants:
                rest = set(run.defines) - mutants - {"CRASHES=0", "AT_ONCE"}
                sound = [
                    other.holds
                    for other in RUNS
                    if other.model == run.model and set(other.defines) - {"CRASHES=0", "AT_ONCE"} == rest
                ]
                kept = {name for names in sound for name in names}
                kept |= {"one_outcome", "log_first"} if "safe" in kept else set()
                assert len(mutants) == 1, run.shows
                assert set(run.breaks) <= kept, run.shows

    def test_every_property_runs(self) -> None:
        """Every formula in the models is used, and every property in the list is explained once."""
        written = {name for path in MODELS.glob("*.pml") for name in LTL.findall(path.read_text(encoding="utf-8"))}
        used = {name for run in RUNS for name in (*run.holds, *run.reached, *run.breaks)}
        explained = [*LIST["safety"], *LIST["liveness"], *LIST["reach"]]
        assert used == written == set(explained)
        assert len(explained) == len(set(explained))

    def test_readme(self) -> None:
        """README.md holds the list as a table, exactly."""
        text = (MODELS / "README.md").read_text(encoding="utf-8")
        assert f"<!-- table: runs -->\n{table()}\n<!-- end -->" in text, f"README.md must hold:\n{table()}"


def table() -> str:
    """Return the list as Markdown."""
    rows = ["| model | what it shows | defines | holds | violated |", "|---|---|---|---|---|"]
    rows += [
        f"| {run.model} | {run.shows} | {' '.join(run.defines)} | {', '.join(run.holds)} | {', '.join(run.breaks)} |"
        for run in RUNS
    ]
    return "\n".join(rows)
