"""A node dies at any commit, before or after it, and is started again: nothing is lost, nothing comes twice."""

from __future__ import annotations

import pytest

from shared.errors import Unavailable
from shared.exchange.recipient import State as RecipientState
from shared.exchange.sender import State as SenderState
from tests.doubles.nodes import DoubleNode, TwoNodes, content_of, dying
from tests.doubles.parties import LETTER

ALICE, BOB = "alice@a.example", "bob@b.example"
AFTER = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
MOST = 40


def check_whole(world: TwoNodes) -> None:
    """Everything happened, once, and every file is named by a row."""
    world.settle(8)
    (bundle,) = world.ttp.outcomes.values()
    exchange = bundle.manifest.exchange
    (delivered,) = world.b.mailbox(BOB).values()
    assert content_of(delivered) == LETTER
    assert len(world.a.mailbox(ALICE)) == 1
    assert world.a.outgoing(exchange).state is SenderState.RECEIPTED
    incoming = world.b.incoming(exchange)
    assert incoming is not None
    assert incoming.state is RecipientState.DELIVERED
    assert incoming.nrr == bundle.nrr
    for node in (world.a, world.b):
        node.load()
        assert len(node.cipher_files()) == 1
        assert node.alarms() == []


def live(world: TwoNodes, node: DoubleNode) -> None:
    """One node's part of an exchange that Alice's program has submitted."""
    other = world.b if node is world.a else world.a
    for _ in range(4):
        node.work()
        other.work()
        world.clock.time += 61


class TestEveryCommit:
    """Each transaction of the whole exchange is one where the node may die."""

    @AFTER
    def test_submission(self, world: TwoNodes, *, after: bool) -> None:
        """A program that heard no 250 submits again, and there is one letter, wherever the node died."""
        at, died = 1, True
        while died:
            assert at < MOST
            died = dying(world.a, lambda: world.a.submit(ALICE, [BOB], LETTER), at, after=after)
            world.a.submit(ALICE, [BOB], LETTER)
            at += 1
        check_whole(world)

    @AFTER
    @pytest.mark.parametrize("name", ["a", "b"])
    def test_after_submission(self, world: TwoNodes, name: str, *, after: bool) -> None:
        """Whichever node dies, at whichever of its commits: the exchange comes to its end."""
        node: DoubleNode = getattr(world, name)
        world.a.submit(ALICE, [BOB], LETTER)
        at, deaths = 1, 0
        while dying(node, lambda: live(world, node), at, after=after):
            assert at < MOST
            at, deaths = at + 1, deaths + 1
            world.clock.time += 1000  # past the lease of the job that it died in
        assert deaths >= 3
        check_whole(world)

    @AFTER
    def test_each_alone(self, world: TwoNodes, *, after: bool) -> None:
        """A node b that dies once, at the nth commit of a fresh exchange, for every n."""
        for at in range(1, MOST):
            letter = LETTER + f"{at}\r\n".encode()
            world.a.submit(ALICE, [BOB], letter)
            died = dying(world.b, lambda: live(world, world.b), at, after=after)
            world.clock.time += 1000
            world.settle(8)
            assert len(world.b.mailbox(BOB)) == len(world.a.mailbox(ALICE)) == at
            assert len(world.ttp.outcomes) == at
            if not died:
                break
        assert died is False


class TestLostAnswers:
    """Answers that are lost after the work was done, and partners that are away."""

    def test_reply_to_the_envelope(self, world: TwoNodes) -> None:
        """The peer stored it and its 250 was lost: the same envelope again, one NRR, one delivery."""
        world.wire.lost = 3
        world.a.submit(ALICE, [BOB], LETTER)
        world.settle(8)
        assert len(world.wire.carried) >= 2
        check_whole(world)

    def test_answer_to_the_trade(self, world: TwoNodes) -> None:
        """The TTP traded and its answer was lost: asked again, it gives the same token."""
        world.ttp.faults.lost = 2
        world.a.submit(ALICE, [BOB], LETTER)
        check_whole(world)

    def test_feed_brings_the_key(self, world: TwoNodes) -> None:
        """The answer to `complete` is always lost, and the feed alone brings the recipient its key."""
        world.ttp.faults.lost = 10_000
        world.a.submit(ALICE, [BOB], LETTER)
        check_whole(world)

    def test_ttp_down_at_submission(self, world: TwoNodes) -> None:
        """Without a directory a submission is put off with nothing stored, and taken when it is there again."""
        world.ttp.faults.down = True
        with pytest.raises(Unavailable):
            world.a.submit(ALICE, [BOB], LETTER)
        assert world.a.cipher_files() == []
        world.ttp.faults.down = False
        world.a.submit(ALICE, [BOB], LETTER)
        check_whole(world)

    def test_ttp_down_at_the_trade(self, world: TwoNodes) -> None:
        """The recipient has signed and can't trade: it goes on asking, delivers nothing, and delivers at last."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work()
        world.ttp.faults.down = True
        for _ in range(20):
            with pytest.raises(Unavailable):
                world.b.work()
            world.clock.time += 600
        assert world.b.mailbox(BOB) == {}
        world.ttp.faults.down = False
        check_whole(world)

    def test_peer_down(self, world: TwoNodes) -> None:
        """No route to the peer: the envelope waits, with growing pauses that are bounded, and goes at last."""
        world.wire.down = True
        world.a.submit(ALICE, [BOB], LETTER)
        for _ in range(20):
            world.a.work()
            world.clock.time += 600
        assert 5 <= len(world.wire.visited) <= 20
        world.wire.down = False
        check_whole(world)

    def test_peer_moved(self, world: TwoNodes) -> None:
        """A node that listens elsewhere since the look-up is found at the next attempt."""
        world.wire.down = True
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work()
        world.clock.time += 1
        world.b.publish(port=2525)
        world.wire.down = False
        check_whole(world)
        assert [port for _, port in world.wire.visited][-1] == 2525

    def test_sender_away_for_a_week(self, world: TwoNodes) -> None:
        """A sender's node that was off for a week gets the receipt from the feed, where its cursor stands."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work()
        world.b.work()
        world.clock.time += 6 * 24 * 3600
        world.a.load()
        check_whole(world)

    def test_commit_that_only_seemed_to_fail(self, world: TwoNodes, monkeypatch: pytest.MonkeyPatch) -> None:
        """A commit whose answer was lost between program and database stands, and no file of it is removed."""
        from collections.abc import Iterator
        from contextlib import contextmanager

        from secmtp_node.store.unit import SqlUnit

        real = world.b.store.transaction
        seen = {"adds": 0}

        @contextmanager
        def flaky() -> Iterator[SqlUnit]:
            with real() as unit:
                added = unit.incoming.add

                def add(exchange: object) -> None:
                    seen["adds"] += 1
                    added(exchange)  # type: ignore[arg-type]

                unit.incoming.add = add  # type: ignore[method-assign]
                before = seen["adds"]
                yield unit
            if seen["adds"] != before:
                raise Unavailable("the database's answer was lost")

        monkeypatch.setattr(world.b.store, "transaction", flaky)
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work()
        assert seen["adds"] == 1
        monkeypatch.undo()
        check_whole(world)
