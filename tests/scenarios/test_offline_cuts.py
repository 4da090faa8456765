"""The table "Where a session can be cut" of docs/protocols/offline.md, row by row, on the machines of both sides.

After each cut the wire is dead: what happens then happens by timers and at the TTP, as the row says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.exchange import recipient, sender
from tests.doubles.offline import (
    EXPIRES,
    Message,
    RecipientNode,
    SenderNode,
    World,
    make_world,
    until_released,
    until_signed,
)
from tests.doubles.served import served

PAGE = Path(__file__).parent.parent.parent / "docs" / "protocols" / "offline.md"
RECEIPTED, ABORTED, EXPIRED = sender.State.RECEIPTED, sender.State.ABORTED, sender.State.EXPIRED


@dataclass
class After:
    """Both nodes after a cut. `honest` are those whose timers go on, `ends` is how the sender's exchange must end."""

    world: World
    alice: SenderNode
    bob: RecipientNode
    ends: sender.State = RECEIPTED
    letters: int = 1
    honest: tuple[str, ...] = ("S", "R")

    def finish(self) -> None:
        """Let the timers run until everything has ended."""
        clock = self.world.served.clock
        both: dict[str, SenderNode | RecipientNode] = {"S": self.alice, "R": self.bob}
        nodes = [both[name] for name in self.honest]
        for node in nodes:
            node.crash()  # what wasn't committed is gone; timers start anew
        end = self.world.core.expires + 1800
        while due := [node for node in nodes if node.due_at is not None and node.due_at <= end]:
            first = min(due, key=lambda one: one.due_at or 0)
            clock.time = max(clock.time, first.due_at or 0)
            first.fire()
            self.world.wire.clear()
            for node in nodes:
                node.feed()
                node.settle()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An exchange between two nodes and a real TTP."""
    with served(tmp_path) as made:
        yield make_world(made)


def before_the_dot(world: World) -> After:
    """The envelope never came whole: nothing is known to R; without a second try S aborts."""
    return After(world, SenderNode(world), RecipientNode(world), ABORTED, 0)


def slow_hashing(world: World) -> After:
    """R has signed when S has gone already."""
    alice, bob = SenderNode(world), RecipientNode(world)
    bob.receive(Message("R", "envelope"))
    return After(world, alice, bob)


def nrr_lost(world: World) -> After:
    """S knows that the envelope is stored, and no more."""
    alice, bob, _ = until_signed(world)
    assert alice.row.state is sender.State.SENT
    return After(world, alice, bob)


def before_the_key_left(world: World) -> After:
    """RELEASED is committed; the process dies before it sends."""
    alice, bob, nrr = until_signed(world)
    alice.receive(nrr)
    alice.crash()
    assert world.sent == []
    return After(world, alice, bob)


def key_lost(world: World) -> After:
    """S_T left, and R didn't commit it."""
    return After(world, *until_released(world))


def ack_not_committed(world: World) -> After:
    """R has committed s_T and dies before it has opened the letter."""
    alice, bob = until_released(world)
    bob.receive(world.wire.pop())
    assert bob.row is not None
    assert bob.row.state is recipient.State.HAVE
    return After(world, alice, bob)


def ack_lost(world: World) -> After:
    """R has delivered; its ACK doesn't arrive."""
    alice, bob = until_released(world)
    bob.receive(world.wire.pop())
    bob.settle()
    assert bob.row is not None
    assert bob.row.ack is not None
    return After(world, alice, bob)


def two_sessions(world: World) -> After:
    """The envelope comes twice; there is one NRR."""
    alice, bob, nrr = until_signed(world)
    world.served.clock.time += 10
    bob.receive(Message("R", "envelope"))
    bob.receive(Message("R", "ask"))
    bob.settle()
    assert world.wire[-1] == nrr
    return After(world, alice, bob)


def ack_withheld(world: World) -> After:
    """R reads and says nothing."""
    return After(world, *until_released(world), letters=0, honest=("S",))


def refused_after_reading(world: World) -> After:
    """R reads, and lodges a refusal."""
    alice, bob = until_released(world)
    world.refuse()
    return After(world, alice, bob, letters=0, honest=("S",))


def key_withheld(world: World) -> After:
    """S has the NRR and does nothing more."""
    alice, bob, _ = until_signed(world)
    return After(world, alice, bob, sender.State.SENT, honest=("R",))


def aborted_then_released(world: World) -> After:
    """S aborts at T, then sends s_T: R reads, and its ACK is a receipt all the same."""
    alice, bob, _ = until_signed(world)
    world.abort()
    bob.receive(Message("R", "key", world.exchange.secrets.shares.ttp))
    bob.settle()
    assert bob.row is not None
    assert bob.row.ack is not None
    return After(world, alice, bob, sender.State.SENT, honest=("R",))


def ttp_down(world: World) -> After:
    """The TTP is down during the whole session: the exchange ends without it, the anchor comes later."""
    world.down = True
    alice, bob = until_released(world)
    bob.receive(world.wire.pop())
    bob.settle()
    alice.receive(world.wire.pop())
    alice.settle()
    assert (alice.row.state, alice.reports, len(bob.mailbox)) == (sender.State.ACKED, [], 1)
    world.down = False
    return After(world, alice, bob)


def ttp_down_until_expires(world: World) -> After:
    """The ACK is lost and the TTP can't be reached for the whole margin: KEY and ACK are still taken afterwards."""
    alice, bob = until_released(world)
    bob.receive(world.wire.pop())
    bob.settle()
    world.wire.clear()
    world.served.clock.time += EXPIRES
    alice.fire()
    assert alice.row.state is EXPIRED
    world.wire.append(Message("S", "ack", bob.row and bob.row.ack))  # R sends it in a later session
    alice.receive(world.wire.pop())
    alice.settle()
    return After(world, alice, bob)


def sender_restored(world: World) -> After:
    """S is restored to before the NRR: it asks, completes with what it gets, releases and aborts nothing."""
    backup = SenderNode(world).row
    alice, bob = until_released(world)
    world.wire.clear()
    alice.restore(backup)
    return After(world, alice, bob)


def recipient_restored(world: World) -> After:
    """R is restored to SIGNED: it settles at the TTP."""
    alice, bob, _ = until_signed(world)
    assert bob.row is not None
    bob.restore(bob.row)
    return After(world, alice, bob)


def notice(world: World) -> After:
    """Both see the notice at once: S lodges, R completes."""
    alice, bob = until_released(world)
    alice.take(sender.Event.NOTICE)
    bob.take(recipient.Event.NOTICE)
    alice.settle()
    return After(world, alice, bob)


CUTS: dict[str, Callable[[World], After]] = {
    "before the final dot": before_the_dot,
    "R hashes longer than S waits after the dot": slow_hashing,
    "250 is lost": slow_hashing,
    "NRR is lost": nrr_lost,
    "after RELEASED, before s_T left": before_the_key_left,
    "after s_T, before R's commit": key_lost,
    "after HAVE, before the ACK is committed": ack_not_committed,
    "ACK is lost": ack_lost,
    "QUIT, RSET, MAIL after the NRR": nrr_lost,
    "two sessions about one hM": two_sessions,
    "R signs, takes s_T, withholds the ACK": ack_withheld,
    "R signs, takes s_T, refuses": refused_after_reading,
    "S takes the NRR, withholds s_T": key_withheld,
    "S aborts, then releases": aborted_then_released,
    "T down, both honest": ttp_down,
    "T down from a cut until `expires`": ttp_down_until_expires,
    "S restored": sender_restored,
    "R restored": recipient_restored,
    "revocation announced meanwhile": notice,
}


def rows() -> list[str]:
    """The first column of the table on the page."""
    table = PAGE.read_text().partition("## Where a session can be cut")[2].partition("\n## ")[0]
    lines = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    return lines[1:]


def test_every_row_has_a_test() -> None:
    """The rows of the page and those of this file are the same."""
    assert rows() == list(CUTS)


@pytest.mark.parametrize("row", CUTS)
def test_row(world: World, row: str) -> None:
    """After the cut the exchange ends as its row says: one letter and one receipt, or neither."""
    after = CUTS[row](world)
    after.finish()
    assert after.alice.row.state is after.ends
    assert len(after.bob.mailbox) == after.letters
    if "S" in after.honest:
        receipts = after.alice.reports.count("REPORT_RECEIPT")
        assert receipts == (1 if after.ends is RECEIPTED else 0)
    if "R" in after.honest and after.bob.row is not None:
        assert after.bob.row.state is recipient.State.DELIVERED
