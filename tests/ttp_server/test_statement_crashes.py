"""The writer dies around an abort, a refusal or an anchor: asked again there is one answer, and it is the first."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from shared.api import messages
from shared.encoding.labels import H
from shared.evidence import bundle as bundles
from shared.evidence import refusal as refusals
from tests.doubles.faults import FaultyStore, crash
from tests.doubles.ledger import stored_entries
from tests.doubles.parties import DIRECT, Exchange
from tests.doubles.served import NodeClient, Served

Ask = Callable[[NodeClient, NodeClient, Exchange], httpx.Response]
DIGESTS = [H("token", bytes([number])) for number in range(3)]
ASKS: dict[str, tuple[Ask, Callable[[bytes], object]]] = {
    "abort": (lambda a, _b, exchange: a.abort(exchange), lambda octets: bundles.decode(octets).token),
    "refuse": (lambda _a, b, exchange: b.refuse(exchange), lambda octets: refusals.decode(octets).refuse),
    "anchor": (lambda a, _b, _exchange: a.anchor(DIGESTS), lambda octets: messages.decode_lodged(octets).salt),
}


def die(world: Served, nth: int, *, after: bool) -> None:
    """Let the writer die before or after the commit of its nth transaction from now on."""
    sequencer = world.ttp.desk.sequencer
    store = FaultyStore(sequencer._store)
    sequencer._store = sequencer._publisher._store = store
    store.inject(nth, **{"after" if after else "before": crash})


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", [1, 2], ids=["commit", "checkpoint"])
@pytest.mark.parametrize("name", ASKS)
def test_crash(world: Served, a: NodeClient, b: NodeClient, name: str, nth: int, *, after: bool) -> None:
    """Wherever the writer dies there is one entry in the end, and what was committed is what is answered."""
    ask, told = ASKS[name]
    exchange = world.exchange(b"letter", mode="offline", direct_until=DIRECT)
    die(world, nth, after=after)
    assert ask(a, b, exchange).status_code == 500
    committed = stored_entries(world)
    assert len(committed) == (0 if (nth, after) == (1, False) else 1)
    world.restart()
    world.clock.time += 1
    first = told(ask(a, b, exchange).content)
    assert told(ask(a, b, exchange).content) == first
    entries = stored_entries(world)
    assert len(entries) == 1
    assert entries[: len(committed)] == committed
