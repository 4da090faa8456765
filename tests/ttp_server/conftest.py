"""A served TTP for each test that changes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles import full_ledger
from tests.doubles.served import NodeClient, Served, served, served_on


@pytest.fixture
def world(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> Iterator[Served]:
    """A TTP over real HTTPS, nobody enrolled."""
    with served_on(kind, tmp_path, lambda: request.getfixturevalue("postgres")) as made:
        yield made


@pytest.fixture
def a(world: Served) -> NodeClient:
    """The enrolled node of a.example."""
    node = NodeClient(world, "a.example")
    assert node.enrol(world.parties.a).status_code == 201
    return node


@pytest.fixture
def b(world: Served) -> NodeClient:
    """The enrolled node of b.example."""
    node = NodeClient(world, "b.example")
    assert node.enrol(world.parties.b).status_code == 201
    return node


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a TTP that was asked for everything, stopped."""
    place = tmp_path_factory.mktemp("whole")
    with served(place) as world:
        a, b = NodeClient(world, "a.example"), NodeClient(world, "b.example")
        assert {a.enrol(world.parties.a).status_code, b.enrol(world.parties.b).status_code} == {201}
        full_ledger.fill(world, a, b)
    return world.directory
