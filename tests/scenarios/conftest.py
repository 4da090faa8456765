"""One world of three processes for the scenarios: real sockets, real TLS, real Maildirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.commands.demo_world import World

USERS = {
    "a.example": ["alice@a.example", "carol@a.example"],
    "b.example": ["bob@b.example", "dave@b.example", "erin@b.example"],
}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running TTP and two running nodes with five users."""
    with World(tmp_path_factory.mktemp("world"), lambda line: None, USERS) as made:
        made.set_up()
        yield made
