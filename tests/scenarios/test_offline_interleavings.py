"""Offline mode under any interleaving: real tables of both sides, real TTP service, a wire that loses and repeats.

At most one side cheats. Time passes only so far that an honest node's timers have had their turn with the TTP in
reach, which is what the margins are for (docs/protocols/offline.md, Timers).
"""

from __future__ import annotations

import atexit
import shutil
from contextlib import ExitStack, suppress
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.crypto import shares
from shared.crypto.signing import token_digest
from shared.errors import EvidenceFault, SecMTPError, Unavailable
from shared.evidence.receipt import verify_bundle
from shared.evidence.statements import sign_ack
from shared.evidence.tokens import sign_nrr
from shared.exchange import recipient, sender, timers
from shared.exchange.machine import Rule
from tests.doubles.offline import DIRECT, EXPIRES, Message, RecipientNode, SenderNode, World, make_world
from tests.doubles.parties import NOW
from tests.doubles.served import Served, served

STEPS = st.sampled_from([1, 1, 60, 60, 300, 300, 900, 1800, DIRECT, EXPIRES + 100])
ENDED = {sender.State.RECEIPTED, sender.State.ABORTED, sender.State.EXPIRED, sender.State.INVALID}
TIMERS = (sender.Event.DUE, sender.Event.OVERDUE)
YOUNG = 100 * 24 * 3600
CLOSED = {recipient.State.DELIVERED, recipient.State.ABORTED, recipient.State.EXPIRED, recipient.State.INVALID}


@cache
def ttp(_number: int) -> Served:
    """A TTP for many examples: each has an exchange of its own, and ledger time never goes back."""
    place, stack = Path(mkdtemp()), ExitStack()
    atexit.register(shutil.rmtree, place)
    atexit.register(stack.close)
    return stack.enter_context(served(place))


def young_ttp() -> Served:
    """A TTP whose time is well before its first escrow epoch ends."""
    return next(one for one in map(ttp, count()) if one.clock.time < NOW + YOUNG)


class Interleavings(RuleBasedStateMachine):
    """What both nodes, the wire, time and a cheat may do. `cheat` is "", "S" or "R"."""

    cheat = ""

    @initialize(delegated=st.booleans(), garbage=st.booleans(), returns=st.booleans(), depth=st.integers(0, 6))
    def begin(self, *, delegated: bool, garbage: bool, returns: bool, depth: int) -> None:
        """Make an exchange; a cheating sender may have committed to an escrow that doesn't open.

        `returns` says whether the wire works again in the end, `depth` how far a session had gone well.
        """
        self.returns = returns
        self.reachable = False
        bad = garbage and self.cheat == "S"
        self.world: World = make_world(young_ttp(), (lambda _: bytes(80)) if bad else None)
        self.sender = SenderNode(self.world)
        self.recipient = RecipientNode(self.world, delegated=delegated)
        self.backups: dict[str, Any] = {}
        self.known: set[bytes] = set()
        self.nrr: str | None = None
        self.acked: set[str] = set()
        if self.cheat == "S":
            self.sender.due_at = None
        self.world.wire.append(Message("R", "envelope"))
        self.go_on(depth)

    def go_on(self, depth: int) -> None:
        """Let a session go well to a depth."""
        self.session(depth)

    # The wire.

    @precondition(lambda self: self.world.wire)
    @rule(data=st.data(), again=st.booleans())
    def deliver(self, data: st.DataObject, *, again: bool) -> None:
        """Deliver any message, or a copy of it."""
        place = data.draw(st.integers(0, len(self.world.wire) - 1), label="message")
        message = self.world.wire[place] if again else self.world.wire.pop(place)
        self.hand_over(message)

    @precondition(lambda self: self.world.wire)
    @rule(messages=st.integers(1, 8))
    def session(self, messages: int) -> None:
        """A session goes well for a while: message after message arrives, and each side does what follows at once."""
        for _ in range(messages):
            if self.world.wire:
                message = self.world.wire.pop(0)
                self.hand_over(message)
                for node in self.honest():
                    node.settle()

    @precondition(lambda self: self.world.wire)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """Lose any message."""
        self.world.wire.pop(data.draw(st.integers(0, len(self.world.wire) - 1), label="message"))

    @precondition(lambda self: self.cheat != "S")
    @rule()
    def bring(self) -> None:
        """The sender's courier brings the envelope again."""
        self.sender.carry()

    # Nodes.

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        """A node does its next action."""
        data.draw(st.sampled_from(self.honest()), label="node").act()

    @rule(data=st.data())
    def work(self, data: st.DataObject) -> None:
        """A node does all that is to be done."""
        data.draw(st.sampled_from(self.honest()), label="node").settle()

    @rule(data=st.data())
    def feed(self, data: st.DataObject) -> None:
        """A node looks into its feed."""
        data.draw(st.sampled_from(self.honest()), label="node").feed()

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """A node dies between commit and action, and starts again."""
        data.draw(st.sampled_from(self.honest()), label="node").crash()

    @rule(accepts=st.booleans())
    def decide(self, *, accepts: bool) -> None:
        """The user signs or refuses."""
        if self.cheat != "R":
            self.recipient.user(accepts=accepts)

    @rule()
    def back_up(self) -> None:
        """Both nodes are backed up."""
        self.backups = {"S": self.sender.row, "R": self.recipient.row}

    @precondition(lambda self: self.backups.get("S") and self.cheat != "S")
    @rule()
    def restore_sender(self) -> None:
        """The sender's node is restored.

        Who loses the NRR of what it released has lost its receipt, unless the recipient is honest and can be
        reached: no protocol helps there, and offline.md says so.
        """
        if self.world.sent and not self.backups["S"].nrrs:
            if self.cheat:
                return
            self.returns = True
        self.sender.restore(self.backups["S"])

    @precondition(lambda self: self.backups.get("R") and self.cheat != "R")
    @rule()
    def restore_recipient(self) -> None:
        """The recipient's node is restored, to a time when it had the envelope."""
        self.recipient.restore(self.backups["R"])

    # Time and the TTP.

    @precondition(lambda self: self.world.now < self.world.core.expires + 3600)
    @rule(seconds=STEPS)
    def pass_time(self, seconds: int) -> None:
        """Time passes, and the timers of honest nodes run out in it."""
        self.advance(self.world.now + seconds)

    @rule()
    def lose_an_answer(self) -> None:
        """The TTP's next answer is lost after its work is done."""
        self.world.lose = True

    @precondition(lambda self: self.world.now < self.world.core.direct_until)
    @rule()
    def go_down(self) -> None:
        """The TTP can't be reached for a time, which ends before the margin begins."""
        self.world.down = True

    @rule()
    def come_up(self) -> None:
        """The TTP can be reached again."""
        self.world.down = False

    # What must hold.

    @invariant()
    def one_outcome(self) -> None:
        """Whatever anybody was ever given of the TTP is one and the same outcome."""
        if hasattr(self, "world"):
            assert len(self.world.outcomes) <= 1

    @invariant()
    def nothing_is_released_before_it_is_durable(self) -> None:
        """No share leaves an honest sender's node without an NRR that is stored."""
        if hasattr(self, "world") and self.cheat != "S" and self.world.sent and not self.backups:
            assert self.sender.row.nrrs

    def teardown(self) -> None:
        """Messages under way are lost, the TTP is there, all timers run out: then both have it, or neither.

        The wire may be dead for ever.
        """
        if not hasattr(self, "world"):
            return
        self.world.wire.clear()
        self.world.down = self.world.lose = False
        self.reachable = self.returns
        self.advance(max(self.world.now, self.world.core.expires) + 3600)
        for node in self.honest():
            node.settle()
            node.feed()
            node.settle()
        self.one_outcome()
        if self.cheat != "S":
            self.sender_has_what_it_needs()
        if self.cheat != "R":
            self.recipient_has_what_it_needs()

    def sender_has_what_it_needs(self) -> None:
        """It has ended; and it holds a receipt that verifies if the recipient can read."""
        state = self.sender.row.state
        assert state in ENDED
        readable = bool(self.world.sent) or self.traded() or bool(self.recipient.mailbox)
        assert (state is sender.State.RECEIPTED) == readable, (state, readable)
        if state is sender.State.RECEIPTED:
            assert self.sender.row.receipt is not None
            receipt = verify_bundle(self.sender.row.receipt, self.world.served.trust)
            assert receipt.share == self.world.exchange.secrets.shares.ttp

    def recipient_has_what_it_needs(self) -> None:
        """It has ended; it has the letter, once, if any receipt can be shown."""
        row = self.recipient.row
        assert row is None or row.state in CLOSED
        receipt = self.traded() or bool(self.acked) or (row is not None and row.ack is not None)
        assert len(self.recipient.mailbox) <= 1
        assert self.recipient.mailbox or not receipt

    # How it is done.

    def honest(self) -> list[SenderNode | RecipientNode]:
        """The nodes that keep to the protocol."""
        return [
            *([] if self.cheat == "S" else [self.sender]),
            *([] if self.cheat == "R" else [self.recipient]),
        ]

    def traded(self) -> bool:
        """Whether the TTP traded."""
        outcome = self.world.outcome()
        return outcome is not None and outcome.nrr is not None

    def advance(self, until: int) -> None:
        """Let time pass; honest nodes' timers run out at their time, and before the margin the TTP is back."""
        clock = self.world.served.clock
        assert self.world.core.direct_until is not None
        while True:
            due = [node for node in self.honest() if node.due_at is not None and node.due_at <= until]
            if not due:
                break
            node = min(due, key=lambda one: one.due_at or 0)
            clock.time = max(clock.time, node.due_at or 0)
            self.world.down = self.world.down and clock.time < self.world.core.direct_until
            node.fire()
            while self.reachable and self.world.wire:
                self.session(1)
        clock.time = max(clock.time, until)
        self.world.down = self.world.down and clock.time < self.world.core.direct_until
        if self.cheat != "S" and clock.time >= timers.sender_overdue(self.world.core):
            self.sender.due_at = self.sender.due_at or (None if self.sender.row.state in ENDED else clock.time)

    def hand_over(self, message: Message) -> None:
        """Hand a message to a node, which may refuse it, or to the cheat, who learns."""
        if message.to == self.cheat:
            if message.kind == "key":
                self.known.add(message.body)
            if message.kind == "ack":
                self.acked.add(message.body)
            return
        node = self.sender if message.to == "S" else self.recipient
        try:
            node.receive(message)
        except EvidenceFault:
            assert self.cheat, "an honest peer's message was refused"


class CheatingSender(Interleavings):
    """The sender has all keys of its own and does what it likes."""

    cheat = "S"

    @rule(good=st.booleans())
    def release(self, *, good: bool) -> None:
        """Send s_T at any time, or something else in its place."""
        share = self.world.exchange.secrets.shares.ttp if good else bytes(32)
        self.world.wire.append(Message("R", "key", share))

    @rule()
    def ask(self) -> None:
        """Ask for the NRR."""
        self.world.wire.append(Message("R", "ask"))

    @rule()
    def bring_again(self) -> None:
        """Bring the envelope again."""
        self.world.wire.append(Message("R", "envelope"))

    @rule()
    def abort(self) -> None:
        """Abort at any time."""
        self.at_ttp(lambda: self.world.verified(self.world.abort()))

    @precondition(lambda self: self.recipient.row is not None and self.recipient.row.nrr is not None)
    @rule()
    def lodge(self) -> None:
        """Lodge the NRR, which it has from the wire, at any time."""
        row = self.recipient.row
        if row is not None and row.nrr is not None:
            nrr = row.nrr
            self.at_ttp(lambda: self.world.verified(self.world.complete(nrr)))

    def at_ttp(self, ask: Any) -> None:
        """Ask the TTP, whatever comes of it."""
        with suppress(Unavailable):
            ask()


class CheatingRecipient(Interleavings):
    """The recipient has all keys of its own and does what it likes."""

    cheat = "R"

    @rule(seconds=st.sampled_from([0, 1]))
    def sign(self, seconds: int) -> None:
        """Sign an NRR, or another one, and send it at any time."""
        exchange, bob = self.world.exchange, self.world.served.parties.bob
        named = (exchange.manifest.exchange, token_digest(exchange.nro))
        self.nrr = sign_nrr(*named, self.world.core.created + seconds, bob.receipt, bob.receipt_chain)
        self.world.wire.append(Message("S", "nrr", self.nrr))

    @rule(kind=st.sampled_from(["stored", "none", "refusal"]))
    def say(self, kind: str) -> None:
        """Say whatever may be said on the wire."""
        self.world.wire.append(Message("S", kind))

    @precondition(lambda self: self.nrr is not None)
    @rule(good=st.booleans())
    def acknowledge(self, *, good: bool) -> None:
        """Acknowledge with s_T as far as it knows it, or with something else."""
        share = next(iter(self.known), bytes(32)) if good else bytes(32)
        bob, exchange = self.world.served.parties.bob, self.world.exchange
        named = (token_digest(self.nrr or ""), share)
        ack = sign_ack(exchange.manifest.exchange, named, self.world.now, bob.receipt, bob.receipt_chain)
        self.world.wire.append(Message("S", "ack", ack))

    def go_on(self, depth: int) -> None:
        """Sign, take the key, and acknowledge it, as far as `depth` says."""
        if depth > 1:
            self.play_along(acknowledging=depth > 5)

    @rule(acknowledging=st.booleans())
    def play_along(self, *, acknowledging: bool) -> None:
        """Keep to the protocol for a while, and perhaps acknowledge what came."""
        self.sign(0)
        self.session(8)
        if self.known and acknowledging:
            self.acknowledge(good=True)

    @precondition(lambda self: self.nrr is not None)
    @rule(garbage=st.booleans())
    def trade(self, *, garbage: bool) -> None:
        """Complete at any time, with E_T or with garbage in its place."""
        try:
            bundle = self.world.complete(self.nrr or "", b"garbage" if garbage else None)
        except SecMTPError:
            return
        verified = self.world.verified(bundle)
        self.known |= {verified.share} if hasattr(verified, "share") else set()

    @rule()
    def refuse(self) -> None:
        """Refuse at any time."""
        try:
            self.world.refuse()
        except Unavailable:
            return

    @invariant()
    def knows_only_what_was_traded(self) -> None:
        """It knows s_T only from who let it out: the sender after an NRR, or the TTP."""
        if hasattr(self, "world"):
            opened = [
                share
                for share in self.known
                if shares.commit_ttp(self.world.core.digest, share) == self.world.exchange.manifest.com_T
            ]
            assert not opened or self.world.sent or self.traded()


@pytest.mark.parametrize("machine", [Interleavings, CheatingSender, CheatingRecipient])
def test_any_interleaving(machine: type[Interleavings]) -> None:
    """Honest runs end, with letter and receipt or with neither; a cheat gets nothing without giving its own."""
    examples = settings.default.max_examples if settings.default else 100
    quick = settings(max_examples=examples // 2, stateful_step_count=40, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=quick)


S, R = sender.State, recipient.State
MISTAKES: list[tuple[type[Interleavings], dict[Any, Any], dict[Any, Any]]] = [
    # The sender keeps the NRR, and waits for an ACK that never comes.
    (CheatingRecipient, {(S.RELEASED, event): Rule(S.RELEASED) for event in TIMERS}, {}),
    # The sender aborts what it has released.
    (Interleavings, {(S.RELEASED, sender.Event.DUE): Rule(S.ABORTING, (sender.Action.ABORT,))}, {}),
    # The recipient signs, and waits for a key that never comes.
    (CheatingSender, {}, {(R.SIGNED, recipient.Event.DUE): Rule(R.SIGNED)}),
    # The recipient acknowledges before it has read.
    (Interleavings, {}, {(R.SIGNED, recipient.Event.KEY): Rule(R.DELIVERED, (recipient.Action.ACKNOWLEDGE,))}),
]


@pytest.mark.parametrize(("machine", "senders", "recipients"), MISTAKES)
def test_a_wrong_table_is_found(
    machine: type[Interleavings], senders: dict[Any, Any], recipients: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same search finds a violation in each of these wrong tables, so its passes say something."""
    monkeypatch.setattr(sender, "OFFLINE", {**sender.OFFLINE, **senders})
    monkeypatch.setattr(recipient, "OFFLINE", {**recipient.OFFLINE, **recipients})
    search = settings(
        max_examples=100,
        stateful_step_count=40,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=search)
