"""Programs that are killed in the middle: once they are back, every letter and every receipt is there, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.commands.demo_world import World
from tests.doubles.restartable import Restartable

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def restartable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restartable]:
    """A running world in which one letter has gone through already."""
    place = tmp_path_factory.mktemp("recovery")
    with World(place / "world", lambda line: None) as world:
        world.set_up()
        made = Restartable(world, place)
        made.send("first")
        made.settled()
        yield made


def test_ttp_killed_and_away_for_a_while(restartable: Restartable) -> None:
    """While the TTP is away letters are taken and envelopes stored; when it is back they are traded."""
    restartable.kill("ttp")
    for number in range(3):
        restartable.send(f"while the TTP is away {number}")
    restartable.start("ttp")
    restartable.settled()


def test_recipients_node_killed_at_once(restartable: Restartable) -> None:
    """A recipient's node that is killed with letters on their way delivers each once when it is back."""
    for number in range(3):
        restartable.send(f"recipient killed {number}")
        restartable.kill("node-b.example")
        restartable.start("node-b.example")
    restartable.settled()


def test_senders_node_killed_after_its_answer(restartable: Restartable) -> None:
    """A sender's node that is killed right after 250 has lost nothing: letter and receipt come when it is back."""
    for number in range(3):
        restartable.send(f"sender killed {number}")
        restartable.kill("node-a.example")
        restartable.start("node-a.example")
    restartable.settled()


def test_senders_node_down_when_the_receipt_is_made(restartable: Restartable) -> None:
    """A receipt that is made while the sender's node is down waits in the feed."""
    restartable.kill("node-b.example")
    restartable.send("receipt while the sender is down")
    restartable.kill("node-a.example")
    restartable.start("node-b.example")
    restartable.start("node-a.example")
    restartable.settled()
    restartable.send("and once more")
    restartable.settled()
