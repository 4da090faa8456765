"""A served TTP for each test that changes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.served import NodeClient, Served, served_on


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
