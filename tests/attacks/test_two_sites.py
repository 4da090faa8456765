"""One TTP runs twice on two databases with the same keys: a failover to a replica that was behind, a copied machine.

Each would decide the same exchange on its own: COMPLETED here, EXPIRED there. Both ask the same witnesses, so only
one of the two histories is ever cosigned, and the site that is behind answers nobody.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle
from tests.doubles.parties import EXPIRES
from tests.doubles.served import NodeClient
from tests.doubles.witness_servers import witnessed


@pytest.mark.parametrize(
    ("trades", "reason", "forks"), [(1, "two roots for size 1", 1), (2, "older than what was published", 0)]
)
def test_only_one_of_them_answers(tmp_path: Path, trades: int, reason: str, forks: int) -> None:
    """After one site has traded, the other can neither trade nor expire anything, and says why."""
    with witnessed(tmp_path, seconds=2) as world:
        bob = NodeClient(world, "b.example")
        assert bob.enrol(world.parties.b).status_code == 201
        exchange = world.exchange(b"letter")
        world.stop()
        copied = world.second(tmp_path / "copy")  # its state is that of before the trade
        world.start()
        for number in range(trades - 1):
            assert bob.complete(world.exchange(b"before %d" % number)).status_code == 200
        answer = bob.complete(exchange)
        assert answer.status_code == 200
        verify_bundle(bundles.decode(answer.content), world.trust, world.policy)
        there = NodeClient(copied, "b.example")
        there.key, there.certificate = bob.key, bob.certificate
        world.push(EXPIRES - world.clock.time)
        refused = there.status(exchange)
        assert refused.status_code == 503
        assert reason in refused.text
        assert there.feed().bundles == ()
        assert there.complete(copied.exchange(b"another")).status_code == 503
        copied.stop()
        kept = [one.forks() for one in world.witnesses]
        assert max(map(len, kept)) == forks
