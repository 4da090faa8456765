"""The direct exchange between two nodes: one session, no word to the TTP before the anchor, every cut recovered."""

from __future__ import annotations

import pytest

from secmtp_node.agents.modes import ModePolicy
from secmtp_node.ports.values import Task
from shared.api.verbs import Answer, Kind, Verb
from shared.errors import SecMTPError, Unavailable
from shared.evidence.bundle import DirectBundle
from shared.evidence.receipt import verify_bundle
from shared.exchange.recipient import State as RecipientState
from shared.exchange.sender import State as SenderState
from tests.doubles.nodes import TwoNodes, content_of, dying
from tests.doubles.parties import LETTER

ALICE, BOB = "alice@a.example", "bob@b.example"
DAY = 24 * 3600
AFTER = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
MOST = 60
CUTS = ["DATA<", "DATA>", "NRR<", "NRR>", "KEY<", "KEY>"]


@pytest.fixture(autouse=True)
def _offline(world: TwoNodes) -> None:
    """Node a sends in offline mode."""
    offline(world)


def offline(world: TwoNodes) -> None:
    """Have both nodes send in offline mode, now and after they are loaded again."""
    from dataclasses import replace

    for node in (world.a, world.b):
        node.policy = replace(node.policy, modes=ModePolicy("offline"))
        node.load()
        node.desk.book.ttp_record()  # as every node does that isn't new


def settle(world: TwoNodes, rounds: int = 12, step: int = 61) -> None:
    """Let both nodes work; nothing that the TTP or a peer can't do now stops them."""
    for _ in range(rounds):
        for node in (world.a, world.b):
            try:
                node.work()
            except Unavailable:  # the feed; jobs are postponed
                continue
        world.clock.time += step


def check_one(world: TwoNodes, *, outcome: str | None = None) -> DirectBundle | object:
    """One letter, one receipt that verifies, never two."""
    (exchange,) = world.a.exchanges()
    (delivered,) = world.b.mailbox(BOB).values()
    assert content_of(delivered) == LETTER
    assert list(world.a.mailbox(ALICE)) == [f"{exchange.hex()}.receipt"]
    assert world.a.outgoing(exchange).state is SenderState.RECEIPTED
    incoming = world.b.incoming(exchange)
    assert incoming is not None
    assert incoming.state is RecipientState.DELIVERED
    with world.a.store.transaction() as unit:
        evidence = unit.evidence.find(exchange)
    assert evidence is not None
    assert verify_bundle(evidence.bundle, world.root.trust).manifest.exchange == exchange
    if outcome is not None:
        assert evidence.outcome == outcome
    for node in (world.a, world.b):
        assert node.alarms() == []
        with node.store.transaction() as unit:
            assert unit.jobs.due(Task.ANCHOR, world.clock() + DAY, 9) == []
    return evidence.bundle


class TestGoodCase:
    def test_one_session_and_no_word_to_the_ttp(self, world: TwoNodes) -> None:
        """Envelope, NRR, key and ACK go in one session; the TTP hears nothing before the batch of anchors."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work(1)
        assert world.wire.said == ["NRR", "KEY"]
        assert world.wire.sessions == 1
        (exchange,) = world.a.exchanges()
        assert world.a.outgoing(exchange).state is SenderState.ACKED
        assert len(world.b.mailbox(BOB)) == 1
        assert world.a.mailbox(ALICE) == {}  # not evidence yet
        assert (world.ttp.asked, world.ttp.anchored) == (0, {})
        settle(world)
        assert (world.ttp.asked, len(world.ttp.anchored)) == (0, 1)
        assert isinstance(check_one(world, outcome="ACKNOWLEDGED"), DirectBundle)
        assert world.wire.sessions == 1

    def test_many_in_one_anchor(self, world: TwoNodes) -> None:
        """Ten letters make two requests for anchors, one from each node, and ten receipts."""
        for number in range(10):
            world.a.submit(ALICE, [BOB], LETTER + f"{number}\r\n".encode())
        settle(world)
        assert len(world.a.mailbox(ALICE)) == len(world.b.mailbox(BOB)) == 10
        assert world.ttp.asked == 0
        assert len(world.ttp.anchored) <= 4


class TestCuts:
    @pytest.mark.parametrize("cut", CUTS)
    def test_each_word_lost(self, world: TwoNodes, cut: str) -> None:
        """Whichever word is lost, once, there and back: one letter, one receipt."""
        world.wire.cuts = [cut]
        world.a.submit(ALICE, [BOB], LETTER)
        settle(world)
        assert world.wire.cuts == []
        check_one(world)

    @pytest.mark.parametrize("cut", CUTS)
    def test_each_word_always_lost(self, world: TwoNodes, cut: str) -> None:
        """Whichever word is lost for ever: both sides come to the same end, at the TTP where there is no other way."""
        world.wire.cuts = [cut] * 100_000
        world.a.submit(ALICE, [BOB], LETTER)
        settle(world, rounds=30, step=4 * 3600)
        (exchange,) = world.a.exchanges()
        if cut == "DATA<":  # nobody ever had it: aborted, and said so
            assert world.a.outgoing(exchange).state is SenderState.ABORTED
            assert list(world.a.mailbox(ALICE)) == [f"{exchange.hex()}.failure"]
            assert world.b.mailbox(BOB) == {}
        else:
            check_one(world)

    @pytest.mark.parametrize("cut", CUTS)
    def test_each_word_lost_while_the_ttp_is_away(self, world: TwoNodes, cut: str) -> None:
        """Without the TTP the parties go on by hM between themselves, and the receipt waits for the anchor alone."""
        world.wire.cuts = [cut]
        world.a.submit(ALICE, [BOB], LETTER)
        world.ttp.faults.down = True
        settle(world, rounds=20)
        assert len(world.b.mailbox(BOB)) == 1
        assert world.a.mailbox(ALICE) == {}
        world.ttp.faults.down = False
        settle(world)
        check_one(world, outcome="ACKNOWLEDGED")
        assert world.ttp.asked == 0


class TestDeaths:
    @AFTER
    @pytest.mark.parametrize("name", ["a", "b"])
    def test_at_each_commit(self, world: TwoNodes, name: str, *, after: bool) -> None:
        """A node that dies at the nth commit of a fresh exchange, for every n: one letter and one receipt each."""
        node = getattr(world, name)
        for at in range(1, MOST):
            world.a.submit(ALICE, [BOB], LETTER + f"{at}\r\n".encode())

            def live() -> None:
                settle(world, rounds=3)

            died = dying(node, live, at, after=after)
            world.clock.time += 1000
            settle(world, rounds=5)
            assert len(world.b.mailbox(BOB)) == len(world.a.mailbox(ALICE)) == at, at
            if not died:
                break
        assert died is False
        assert at > 6


class TestTimers:
    def test_recipient_withholds_the_ack(self, world: TwoNodes) -> None:
        """Who takes the key and gives no ACK: the sender completes by timer, and has NRR + NRD."""

        def withheld(verb: Verb, answer: Answer) -> Answer:
            return Answer(Kind.LATER, answer.exchange, "not now") if verb is Verb.KEY else answer

        world.wire.bend = withheld
        world.a.submit(ALICE, [BOB], LETTER)
        settle(world, rounds=30, step=900)
        check_one(world, outcome="COMPLETED")

    def test_sender_keeps_the_key(self, world: TwoNodes) -> None:
        """Who takes the NRR and gives no key: the recipient completes as soon as the session has ended."""
        world.wire.cuts = ["KEY<"] * 1000
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work(1)
        assert world.b.mailbox(BOB) == {}
        world.b.work()
        assert len(world.b.mailbox(BOB)) == 1
        settle(world)
        check_one(world, outcome="COMPLETED")

    def test_recipient_silent(self, world: TwoNodes) -> None:
        """A recipient's node that isn't there until direct_until: aborted then, reported from the TTP's token."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.wire.down = True
        settle(world, rounds=10, step=6 * 3600)
        (exchange,) = world.a.exchanges()
        assert world.a.outgoing(exchange).state is SenderState.ABORTED
        (report,) = world.a.mailbox(ALICE).values()
        assert b"aborted" in report
        assert b"Action: failed" in report
        world.wire.down = False
        settle(world)
        assert world.b.mailbox(BOB) == {}
        assert len(world.a.mailbox(ALICE)) == 1

    def test_abort_that_comes_too_late(self, world: TwoNodes) -> None:
        """An abort after the recipient completed is answered with the receipt."""
        world.wire.cuts = ["NRR>"] * 1000
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work(1)
        world.b.work()
        assert len(world.ttp.outcomes) == 1
        (exchange,) = world.a.exchanges()
        world.clock.time += 3 * DAY
        while world.a.outgoing(exchange).state is SenderState.SENT:  # the feed isn't read: the abort is what learns
            from secmtp_node.agents import jobs

            assert jobs.run_one(world.a.desk)
        settle(world)
        check_one(world, outcome="COMPLETED")

    def test_refused_envelope(self, world: TwoNodes) -> None:
        """5yz to the envelope aborts at once, and the report says what the peer said."""
        from secmtp_node.ports.services import Rejected

        world.wire.reply = Rejected("550 5.7.1 not today")
        world.a.submit(ALICE, [BOB], LETTER)
        settle(world)
        (report,) = world.a.mailbox(ALICE).values()
        assert b"not today" in report
        (bundle,) = world.ttp.outcomes.values()
        assert bundle.abort is not None

    def test_ttp_down_all_the_time(self, world: TwoNodes) -> None:
        """With the TTP away an honest exchange ends directly; anchor and receipt follow when it is back."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.ttp.faults.down = True
        settle(world, rounds=10, step=3600)
        assert len(world.b.mailbox(BOB)) == 1
        assert world.a.mailbox(ALICE) == {}
        world.ttp.faults.down = False
        settle(world)
        check_one(world, outcome="ACKNOWLEDGED")


class TestOtherDirection:
    """The recipient's node comes to the sender's, when that can't come to it and the TTP is away."""

    @pytest.fixture(autouse=True)
    def _acquainted(self, world: TwoNodes, _offline: None) -> None:
        """Bob has written to Alice before: node b knows where node a is."""
        world.b.submit(BOB, [ALICE], LETTER)
        settle(world)
        assert len(world.b.mailbox(BOB)) == len(world.a.mailbox(ALICE)) == 1
        world.wire.said.clear()

    def test_brings_the_nrr(self, world: TwoNodes) -> None:
        """It brings its NRR, gets s_T for it, delivers, and leaves the ACK in the same session."""
        world.wire.cuts = ["NRR<"] * 1000
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work(1)
        world.ttp.faults.down = True
        sessions = world.wire.sessions
        with pytest.raises(Unavailable):
            world.b.work(1)
        assert world.wire.said[-2:] == ["SIGNED", "ACK"]
        assert world.wire.sessions == sessions + 1
        assert len(world.b.mailbox(BOB)) == 2
        (exchange,) = world.a.exchanges()
        assert world.a.outgoing(exchange).state is SenderState.ACKED
        world.ttp.faults.down = False
        settle(world)
        assert len(world.a.mailbox(ALICE)) == 2
        assert world.ttp.asked == 0

    def test_brings_the_ack(self, world: TwoNodes) -> None:
        """A node that died with the key and before its ACK delivers at start and brings the ACK."""
        world.wire.cuts = ["NRR<"]
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work(1)
        world.clock.time += 5

        def key() -> None:
            world.a.work(1)

        assert dying(world.b, key, 5, after=True)  # the commit of HAVE
        (exchange,) = world.a.exchanges()
        incoming = world.b.incoming(exchange)
        assert incoming is not None
        assert incoming.state is RecipientState.HAVE
        world.wire.cuts = ["NRR<", "KEY<"] * 1000
        world.ttp.faults.down = True
        settle(world, rounds=4)
        assert world.a.outgoing(exchange).state is SenderState.ACKED
        assert world.wire.said[-1] == "ACK"
        assert len(world.b.mailbox(BOB)) == 2
        world.ttp.faults.down = False
        settle(world)
        assert len(world.a.mailbox(ALICE)) == 2
        assert world.ttp.asked == 0


class TestRestored:
    def test_sender_restored_after_an_abort(self, world: TwoNodes) -> None:
        """A node whose backup is from before its abort is RECOVERED, and releases no key to who brings an NRR (A5)."""
        import shutil

        world.a.submit(ALICE, [BOB], LETTER)
        world.wire.cuts = ["DATA>"]
        world.a.work(1)
        (exchange,) = world.a.exchanges()
        backup = world.a.place / "backup"
        world.a.close()
        shutil.copytree(world.a.place / "data", backup)
        world.a.load()
        world.wire.down = True
        world.ttp.faults.down = True
        settle(world, rounds=10, step=6 * 3600)
        assert world.a.outgoing(exchange).state is SenderState.ABORTING
        world.a.close()
        shutil.rmtree(world.a.place / "data")
        shutil.copytree(backup, world.a.place / "data")
        world.a.load()
        assert world.a.restored
        assert world.a.outgoing(exchange).state is SenderState.RECOVERED
        world.wire.down = False
        settle(world, rounds=4)
        assert world.b.mailbox(BOB) == {}
        world.ttp.faults.down = False
        settle(world, rounds=6, step=2000)
        (bundle,) = world.ttp.outcomes.values()
        assert len(world.a.mailbox(ALICE)) == 1
        assert len(world.b.mailbox(BOB)) == (1 if bundle.nrr is not None else 0)

    def test_not_restored(self, world: TwoNodes) -> None:
        """A node that is just started again isn't taken for a restored one."""
        world.a.submit(ALICE, [BOB], LETTER)
        settle(world)
        for node in (world.a, world.b):
            node.load()
            assert not node.restored
        check_one(world)

    def test_recipient_restored(self, world: TwoNodes) -> None:
        """A recipient's node that forgot what it signed hears of it from the feed, and has no key to give away."""
        import shutil

        backup = world.b.place / "backup"
        world.b.close()
        shutil.copytree(world.b.place / "data", backup)
        world.b.load()
        world.wire.cuts = ["KEY<"]
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work(1)
        world.b.close()
        shutil.rmtree(world.b.place / "data")
        shutil.copytree(backup, world.b.place / "data")
        world.b.load()
        assert world.b.restored
        settle(world, rounds=20, step=600)
        assert len(world.a.mailbox(ALICE)) == 1
        assert len(world.b.mailbox(BOB)) == 1


class TestModes:
    def test_peer_without_offline(self, world: TwoNodes) -> None:
        """A recipient's node that offers online mode only is reached in the fallback mode."""
        from shared.evidence.records import DomainRecord, sign_domain

        record = DomainRecord("b.example", "localhost", 25, world.b.hpke.public, ("online",), world.clock())
        world.ttp.put_domain(sign_domain(record, world.b.domain.key, world.b.domain.certificate))
        world.a.submit(ALICE, [BOB], LETTER)
        settle(world)
        check_one(world, outcome="COMPLETED")
        (exchange,) = world.a.exchanges()
        assert world.a.outgoing(exchange).manifest.core.mode == "online"

    def test_refused(self, world: TwoNodes) -> None:
        """Where no fallback is wanted the submission is refused and says which mode is missing at which node."""
        from dataclasses import replace

        from shared.evidence.records import DomainRecord, sign_domain

        world.a.policy = replace(world.a.policy, modes=ModePolicy("offline", fallback="refuse"))
        world.a.load()
        record = DomainRecord("b.example", "localhost", 25, world.b.hpke.public, ("online",), world.clock())
        world.ttp.put_domain(sign_domain(record, world.b.domain.key, world.b.domain.certificate))
        with pytest.raises(SecMTPError, match=r"bob@b\.example: mode offline was asked for.* offers online"):
            world.a.submit(ALICE, [BOB], LETTER)
        with pytest.raises(SecMTPError, match="no mode 'hybrid'"):
            world.a.submit(ALICE, [BOB], b"X-SecMTP-Mode: hybrid\r\n" + LETTER)
        assert world.a.cipher_files() == []

    def test_order_of_wishes(self) -> None:
        """The message's wish goes before the user's, that before the domain's, that before the node's."""
        policy = ModePolicy("online", {"a.example": "offline", "alice@a.example": "online"})
        assert policy.wanted("carol@a.example", "") == "offline"
        assert policy.wanted("alice@a.example", "") == "online"
        assert policy.wanted("alice@a.example", "offline") == "offline"
        assert policy.wanted("x@other.example", "") == "online"

    def test_wish_of_one_message(self, world: TwoNodes) -> None:
        """X-SecMTP-Mode decides for one message, and isn't part of what is hashed and delivered."""
        world.a.submit(ALICE, [BOB], b"X-SecMTP-Mode: Online\r\n" + LETTER)
        settle(world)
        check_one(world, outcome="COMPLETED")

    def test_within_one_node(self, world: TwoNodes) -> None:
        """A direct exchange between two users of one node has one letter and one receipt too."""
        world.a.submit(ALICE, ["carol@a.example"], LETTER)
        settle(world)
        assert len(world.a.mailbox("carol@a.example")) == 1
        assert [name.partition(".")[2] for name in world.a.mailbox(ALICE)] == ["receipt"]
        assert world.ttp.asked == 0
