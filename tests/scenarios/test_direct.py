"""Offline mode between real processes: counted in the good case, cut and killed between any two words of a session."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from shared.commands.demo_mail import take_bundle
from shared.commands.demo_world import World
from shared.evidence import bundle as bundles
from shared.evidence.bundle import DirectBundle
from tests.doubles.proxy import Proxy
from tests.doubles.restartable import ALICE, Restartable

pytestmark = pytest.mark.timeout(600)
# Turns of a session from the envelope's content on.
TURNS = {0: "content", 1: "250", 2: "NRR", 3: "the NRR", 4: "KEY", 5: "the ACK", 6: "QUIT"}
BYE = 7


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """What other nodes connect to when they look for the node of b.example."""
    with Proxy() as made:
        yield made


@pytest.fixture(scope="module")
def restartable(tmp_path_factory: pytest.TempPathFactory, proxy: Proxy) -> Iterator[Restartable]:
    """A running world in offline mode."""
    place = tmp_path_factory.mktemp("direct")
    settings = {"b.example": {"SECMTP_NODE_PEER_PORT": str(proxy.port)}}
    with World(place / "world", lambda line: None, mode="offline", settings=settings) as world:
        world.set_up()
        proxy.target = world.ports["b.example"]["peer"]
        yield Restartable(world, place)


def ttp_requests(world: World) -> Counter[tuple[str, bool]]:
    """Count what the TTP was asked, by endpoint and whether it was about an exchange."""
    lines = (world.place / "ttp.log").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return Counter(
        (str(event.get("endpoint")), bool(event.get("exchange"))) for event in events if event["event"] == "request"
    )


def test_good_case_is_counted(restartable: Restartable, proxy: Proxy) -> None:
    """One TCP connection, no request about the exchange to the TTP, and a receipt that the ACK carries."""
    restartable.send("counted")
    restartable.settled()
    assert proxy.connections == 1
    assert proxy.turns[0] in {BYE - 1, BYE}  # the last word of the session, whoever closed first
    requests = ttp_requests(restartable.world)
    assert sum(count for (_, about), count in requests.items() if about) == 0
    anchors = sum(count for (name, _), count in requests.items() if name == "anchor")
    assert 1 <= anchors <= 2  # one from each node, for whatever it had gathered
    (receipt,) = restartable.world.mailbox(ALICE)
    assert isinstance(bundles.decode_any(take_bundle(receipt)), DirectBundle)


def test_cut_between_any_two_words(restartable: Restartable, proxy: Proxy) -> None:
    """Whichever word the connection is lost at: one letter, one receipt, after all of them."""
    for turn, word in TURNS.items():
        proxy.stop_at(turn)
        restartable.send(f"cut at {word}")
        proxy.wait()
        proxy.cut()
    restartable.settled()


@pytest.mark.parametrize("name", ["node-a.example", "node-b.example"])
def test_killed_between_any_two_words(restartable: Restartable, proxy: Proxy, name: str) -> None:
    """A node that is killed at any word of the session goes on after its restart: one letter, one receipt."""
    for turn, word in TURNS.items():
        proxy.stop_at(turn)
        restartable.send(f"{name} killed at {word}")
        proxy.wait()
        restartable.kill(name)
        proxy.cut()
        restartable.start(name)
    restartable.settled()
