"""kill -9 of a TTP at every operation on its database and its files (tests/doubles/points.py finds them).

Then: no share left without stored evidence, no evidence that was shown is lost, the log is consistent with every
checkpoint that was ever served, the second copy is whole, asking again gives every outcome once. At the end fsck
finds nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.postgres import Server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sweep(tmp_path: Path, record_property: Callable[[str, object], None]) -> Callable[..., dict[str, Any]]:
    """Run a series of deaths in a program of its own, because it forks, and report its points."""

    def run(mode: str, database: str = "") -> dict[str, Any]:
        command = [sys.executable, "-W", "error", "-m", "tests.doubles.killed", str(tmp_path), mode, database]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        points = " + ".join(f"{count} ({what})" for what, count in report["points"].items())
        what = f"killed at every operation, {'PostgreSQL' if database else 'SQLite'}: {points}"
        record_property("figure", f"{what}; {report['deaths']} deaths, {report['entries']} entries whole")
        return report

    return run


@pytest.fixture
def database(kind: str, url: str) -> str:
    """The URL of an empty database on PostgreSQL, nothing for SQLite."""
    return "" if kind == "sqlite" else url


@pytest.mark.both_databases
@pytest.mark.timeout(600)
class TestEveryOperation:
    def test_of_a_trade(self, sweep: Callable[..., dict[str, Any]], database: str) -> None:
        """A TTP killed at any operation of a trade, and started again, has lost nothing and doubled nothing."""
        report = sweep("trade", database)
        assert report["points"]["batch"] > 60
        assert report["points"]["alone"] > 30
        assert report["deaths"] == sum(report["points"].values())

    def test_of_a_start(self, sweep: Callable[..., dict[str, Any]], database: str) -> None:
        """A TTP killed at any operation of its start, behind one that died unpublished, starts well the next time."""
        report = sweep("start", database)
        assert report["points"]["start"] > 30
        assert report["deaths"] > report["points"]["start"]


@pytest.mark.timeout(600)
def test_another_process_goes_on(sweep: Callable[..., dict[str, Any]], postgres: Server) -> None:
    """When one of two processes on a PostgreSQL is killed, the other publishes what it left and goes on."""
    database = postgres.create()
    report = sweep("survivor", database)
    assert report["deaths"] > 20
    postgres.drop(database)
