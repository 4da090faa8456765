"""A party's own node is the only witness: it cosigns what suits it, and withholds what doesn't.

The recipient's node could keep the sender's receipt below every quorum after reading, or, with a second node of
its own, make a quorum for a history that nobody else saw. So a party's organisation counts nowhere for its exchange:
not at the TTP, not in a verdict, and the sender is told before anything is sent.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import EvidenceFault, Forbidden
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle
from shared.ledger.policy import decode
from tests.doubles.crafted import ALICE, BOB
from tests.doubles.nodes import TwoNodes
from tests.doubles.parties import LETTER, parties
from tests.doubles.served import NodeClient
from tests.doubles.witness_servers import witnessed
from tests.doubles.witnesses import Cosigner, cosigned, policy_file

OWN = ("b.example/witness", "b.example/witness/2", "mail.b.example", "a.example/witness")


@pytest.mark.parametrize("quorum", ["1", "2", "all"])
def test_no_verdict_rests_on_it(quorum: str) -> None:
    """However many witnesses the parties run, and whatever they sign, no quorum is met by them."""
    world = parties()
    bundle = cosigned(world.ttp.trade(world.exchange()), *OWN)
    with pytest.raises(
        EvidenceFault, match=r"ledger\.quorum: .*a party's own: a\.example, b\.example, mail\.b\.example"
    ):
        verify_bundle(bundle, world.trust, decode(policy_file(quorum, *OWN)))
    with_one = cosigned(bundle, "independent.test")
    verify_bundle(with_one, world.trust, decode(policy_file("1", *OWN, "independent.test")))


def test_the_share_does_not_leave_under_it(tmp_path: Path) -> None:
    """A TTP whose only witness is the recipient's trades nothing for it, and for others it does."""
    with witnessed(tmp_path, "b.example/witness", quorum=1) as world:
        bob, exchange = NodeClient(world, "b.example"), world.exchange(b"letter")
        assert bob.enrol(world.parties.b).status_code == 201
        refused = bob.complete(exchange)
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:secmtp:problem:witness-parties")
        with world.ttp.desk.store.reading() as stored:
            assert stored.exchange(exchange.manifest.exchange) is None
            assert stored.size() == 0


def test_withholding_changes_nothing(tmp_path: Path) -> None:
    """A recipient that cosigns nothing more after reading doesn't keep the receipt from its quorum."""
    with witnessed(tmp_path, "b.example/witness", "w1.test", "w2.test") as world:
        bob = NodeClient(world, "b.example")
        assert bob.enrol(world.parties.b).status_code == 201
        assert bob.complete(world.exchange(b"letter")).status_code == 200
        world.witnesses[0].stop()
        alice = NodeClient(world, "a.example")
        assert alice.enrol(world.parties.a).status_code == 201
        (bundle,) = alice.feed().bundles
        receipt = verify_bundle(bundles.decode(bundles.encode(bundle)), world.trust, world.policy)
        assert receipt.inclusion.witnessing.counted == ("w1.test", "w2.test")
        world.witnesses[0].start()


def test_the_sender_is_told_before(tmp_path: Path) -> None:
    """A sender whose node wants a witness is told at sending that only the recipient's is there."""
    world = TwoNodes(tmp_path)
    world.ttp.witnesses, world.ttp.quorum = (Cosigner("b.example/witness").verifier,), 1
    world.a.desk = replace(world.a.desk, policy=replace(world.a.desk.policy, quorum=1))
    with pytest.raises(Forbidden, match="too few witnesses that are independent"):
        world.a.submit(ALICE, [BOB], LETTER)
    assert world.a.exchanges() == []
    world.close()
