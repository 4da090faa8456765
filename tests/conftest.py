"""What every test gets: property tests that repeat, and on request a real PostgreSQL, or a test on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.doubles.postgres import Server, running

# A test run says something about the code, never about luck or the machine's load. To look further:
# make test ARGS="--hypothesis-profile=search"
settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("search", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile("repeatable")

KINDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server. Where there is none the test fails, saying what to install."""
    try:
        with running() as server:
            yield server
    except LookupError as error:
        pytest.fail(str(error))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked `both_databases` on SQLite and on PostgreSQL."""
    if "kind" in metafunc.fixturenames and metafunc.definition.get_closest_marker("both_databases"):
        metafunc.parametrize("kind", KINDS, indirect=True)


@pytest.fixture
def kind(request: Any) -> str:
    """Which database the test is to use: SQLite, unless it is marked `both_databases`."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def url(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database without tables."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.sqlite'}"
        return
    server: Server = request.getfixturevalue("postgres")
    made = server.create()
    yield made
    server.drop(made)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what tests measured: how many points they killed a process at, how long something took."""
    reports = [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]
    figures = [str(value) for report in reports for name, value in report.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
    for figure in figures:
        terminalreporter.line(figure)
