"""A2: the recipient's domain revokes the receipt key after the letter was read; the sender's, after the ACK.

The recipient's node is the recipient's CA. If a revocation counted at once, an NRR that reaches the ledger only
on failure, or an ACK that never does, could be undone by whoever signed it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.crypto.keys import key_id
from shared.errors import EvidenceFault, Forbidden
from shared.evidence.bundle import DirectBundle
from shared.evidence.inclusion import Shown
from shared.evidence.receipt import verify_bundle
from shared.evidence.revoked import ShownRevocation
from shared.exchange import recipient, sender, timers
from shared.ledger import entry as entries
from shared.ledger.entry import RevocationEntry
from tests.doubles.ledger import stored_entries
from tests.doubles.offline import Message, RecipientNode, RecipientRow, SenderNode, World, make_world, until_released
from tests.doubles.parties import Domain, User
from tests.doubles.served import NodeClient, Served, served

NOTICE = 72 * 3600


@pytest.fixture
def ttp(tmp_path: Path) -> Iterator[Served]:
    """A TTP over real HTTPS."""
    with served(tmp_path) as made:
        yield made


@pytest.fixture
def world(ttp: Served) -> World:
    """An exchange between two nodes, made before anything is revoked."""
    made = make_world(ttp)
    ttp.clock.time += 60
    return made


def revoke(ttp: Served, user: User, key: bytes, domain: Domain) -> ShownRevocation:
    """Let a domain publish and revoke a key of its user; return what it would show to an arbiter."""
    node = NodeClient(ttp, domain.name)
    assert node.enrol(domain).status_code == 201
    assert node.publish(user, domain).status_code == 201
    assert node.revoke(user.address, key, domain).status_code == 201
    stored = stored_entries(ttp)[-1]
    entry = entries.decode(stored.entry)
    assert isinstance(entry, RevocationEntry)
    shown = Shown(ttp.ttp.desk.ledger.proof(stored.index), ttp.ttp.keys.identity.ledger_certificate)
    return ShownRevocation(stored.body.decode(), stored.salt, entry.time, entry.effective, shown)


def revoke_bob(world: World) -> ShownRevocation:
    """Bob's domain revokes his receipt key."""
    parties = world.served.parties
    return revoke(world.served, parties.bob, key_id(parties.bob.receipt.public_key()), parties.b)


def released(world: World) -> SenderNode:
    """Run until s_T has left, and nothing comes back."""
    alice, _ = until_released(world)
    world.wire.clear()
    return alice


def acknowledged(world: World) -> tuple[SenderNode, DirectBundle]:
    """Run until the sender has the ACK; nothing is anchored yet."""
    alice = released(world)
    row = RecipientRow(recipient.State.SIGNED, alice.row.nrrs[0])
    bob = RecipientNode(world, row=row)
    bob.receive(Message("R", "key", world.sent[0]))
    bob.act()  # opens and delivers
    bob.act()  # acknowledges; its own anchor is lost with the rest
    ack = next(message for message in world.wire if message.kind == "ack")
    alice.receive(ack)
    assert alice.row.state is sender.State.ACKED
    assert alice.row.ack is not None
    exchange = world.exchange
    return alice, DirectBundle(exchange.manifest, exchange.nro, alice.row.nrrs[0], alice.row.ack)


class TestReceiptKey:
    """R -> S: NRR; S -> R: s_T; R reads, sends no ACK; R's node revokes R's key."""

    def test_within_the_notice_the_sender_completes(self, world: World) -> None:
        """A sender that sees the notice lodges at once, and its receipt holds for ever."""
        alice = released(world)
        revoke_bob(world)
        alice.take(sender.Event.NOTICE)
        alice.settle()
        assert alice.row.state is sender.State.RECEIPTED
        assert alice.row.receipt is not None
        assert verify_bundle(alice.row.receipt, world.served.trust).nrd.receipt_key.effective is not None

    def test_without_seeing_it_the_timer_is_in_time(self, world: World) -> None:
        """A sender that doesn't look still lodges well inside the notice: view and timer together are shorter."""
        alice = released(world)
        revoke_bob(world)
        assert alice.due_at is not None
        assert timers.VIEW + (alice.due_at - world.now) < NOTICE
        world.served.clock.time = alice.due_at
        alice.fire()
        assert alice.row.state is sender.State.RECEIPTED

    def test_a_notice_stops_the_release(self, world: World) -> None:
        """A sender that knows of the notice doesn't release to that key: it aborts, or lodges what it has."""
        alice = SenderNode(world)
        alice.take(sender.Event.NOTICE)
        alice.settle()
        assert (alice.row.state, world.sent) == (sender.State.ABORTED, [])
        event = timers.receiving(world.core, world.now, world.now, noticed=True)
        assert event is sender.Event.NRR_LATE

    def test_a_view_of_yesterday_stops_it_too(self, world: World) -> None:
        """A sender whose view of the ledger is a day old doesn't release: it might not know of a notice."""
        event = timers.receiving(world.core, world.now, world.now - timers.VIEW)
        assert sender.OFFLINE[sender.State.SENT, event].actions == (sender.Action.COMPLETE,)

    def test_after_the_notice_it_would_be_too_late(self, ttp: Served) -> None:
        """What isn't lodged within the notice is lost: the TTP trades for no revoked key. Hence the timers."""
        world = make_world(ttp, margin=2 * NOTICE)
        ttp.clock.time += 60
        alice = released(world)
        shown = revoke_bob(world)
        ttp.clock.time = shown.effective
        with pytest.raises(Forbidden, match="revoked"):
            world.complete(alice.row.nrrs[0])


class TestAckOnly:
    """The exchange is complete; the evidence isn't in the ledger; then a key is revoked, at any later date."""

    def test_anchored_within_the_notice(self, world: World) -> None:
        """A sender that anchors its ACK within the notice has a receipt that no later revocation undoes."""
        _, bundle = acknowledged(world)
        shown = revoke_bob(world)
        world.served.clock.time += NOTICE - 60
        proven = world.anchor(bundle)
        receipt = verify_bundle(proven, world.served.trust, revocations=[shown])
        assert receipt.carried_by == "NRR + ACK, anchored"

    def test_anchored_too_late(self, world: World) -> None:
        """Anchored when the notice has passed, it is undone by whoever shows the revocation."""
        _, bundle = acknowledged(world)
        shown = revoke_bob(world)
        world.served.clock.time = shown.effective
        with pytest.raises(EvidenceFault, match=r"receipt\.revoked"):
            verify_bundle(world.anchor(bundle), world.served.trust, revocations=[shown])

    def test_the_notice_makes_the_sender_anchor(self, world: World) -> None:
        """A sender that sees the notice anchors at once, and reports the receipt only then."""
        alice, _ = acknowledged(world)
        alice.actions.clear()  # as if the anchoring job had been lost
        alice.take(sender.Event.NOTICE)
        assert alice.reports == []
        alice.settle()
        assert (alice.row.state, alice.reports) == (sender.State.RECEIPTED, ["REPORT_RECEIPT"])


class TestOriginKey:
    """The mirror image: the sender reads the ACK, and revokes its own key, so that the NRO has no provable time."""

    def test_the_recipient_anchors_too(self, world: World) -> None:
        """The recipient's own anchor gives the NRO a time, so that the origin stands."""
        _, bundle = acknowledged(world)
        proven = world.anchor(bundle)
        parties = world.served.parties
        shown = revoke(world.served, parties.alice, key_id(parties.alice.origin.public_key()), parties.a)
        receipt = verify_bundle(proven, world.served.trust, revocations=[shown])
        assert receipt.nro.compact == world.exchange.nro

    def test_by_its_table(self) -> None:
        """Having delivered, and on a notice, the recipient's table anchors."""
        for state, event in (
            (recipient.State.HAVE, recipient.Event.OPENED),
            (recipient.State.DELIVERED, recipient.Event.NOTICE),
        ):
            assert recipient.Action.ANCHOR in recipient.OFFLINE[state, event].actions
