"""Two nodes in offline mode reduced to their machines: real tables, tokens and TTP service; time and wire are pushed.

Each edge does what a node must: verify, step and commit in one go, act afterwards. What isn't committed is lost
in a crash; a row can be put back as from a backup.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from shared.api.messages import AbortRequest, CompleteRequest, RefuseRequest, StatusRequest
from shared.crypto import shares, stream
from shared.crypto.shares import Shares
from shared.crypto.signing import token_digest
from shared.encoding.labels import blob_digest
from shared.errors import EvidenceFault, NotFound, Unavailable
from shared.evidence import anchored
from shared.evidence.bundle import AnyBundle, Bundle, DirectBundle
from shared.evidence.composition import check_blob, content_key, open_recipient_share
from shared.evidence.manifest import Core
from shared.evidence.receipt import NoTrade, Receipt, verify_bundle, verify_no_trade
from shared.evidence.refusal import RefusalFile
from shared.evidence.statements import sign_ack, verify_ack
from shared.evidence.tokens import sign_nrr
from shared.evidence.verification import verify_nro, verify_nrr
from shared.exchange import recipient, sender, timers
from shared.exchange.machine import step
from shared.ledger import anchor as anchors
from tests.doubles.parties import Exchange
from tests.doubles.served import Served
from ttp_server.services import anchors as anchor_service
from ttp_server.services import exchanges, statements

LETTER = b"Subject: hello\r\n\r\nDear Bob\r\n"
DIRECT, EXPIRES = 3600, 2 * 3600
AGAIN = 600
Row = TypeVar("Row", "SenderRow", "RecipientRow")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Message:
    """Something on its way: to "S" or to "R"."""

    to: str
    kind: str
    body: Any = None


@dataclass(frozen=True)
class SenderRow:
    """What the sender's node has committed of an exchange."""

    state: sender.State = sender.State.QUEUED
    nrrs: tuple[str, ...] = ()
    ack: str | None = None
    receipt: AnyBundle | None = None


@dataclass(frozen=True)
class RecipientRow:
    """What the recipient's node has committed of an exchange: the envelope is there if a row is."""

    state: recipient.State
    nrr: str | None = None
    share: bytes | None = None
    ack: str | None = None
    nrd: bool = False


@dataclass
class World:
    """One exchange between two nodes and a real TTP. `sent` holds every share that ever left the sender's node."""

    served: Served
    exchange: Exchange
    wire: list[Message] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    outcomes: set[str] = field(default_factory=set)
    down: bool = False
    lose: bool = False

    @property
    def now(self) -> int:
        """The time of all clocks."""
        return self.served.clock.time

    @property
    def core(self) -> Core:
        """M's core."""
        return self.exchange.manifest.core

    def complete(self, nrr: str, escrow: bytes | None = None) -> Bundle:
        """Trade at the TTP."""
        request = CompleteRequest(self.exchange.manifest, self.exchange.nro, nrr, escrow or self.exchange.sealed.escrow)
        return self._asked(lambda: exchanges.complete(self.served.ttp.desk, request))

    def abort(self) -> Bundle:
        """Abort at the TTP with the statement that was signed at submission."""
        statement = self.served.parties.abort(self.exchange)
        request = AbortRequest(self.exchange.manifest, self.exchange.nro, statement)
        return self._asked(lambda: statements.abort(self.served.ttp.desk, request, ["a.example"]))

    def refuse(self) -> Bundle | RefusalFile:
        """Lodge a refusal at the TTP."""
        statement = self.served.parties.refuse(self.exchange)
        request = RefuseRequest(self.exchange.manifest, self.exchange.nro, statement)
        return self._asked(lambda: statements.refuse(self.served.ttp.desk, request, ["b.example"]))

    def status(self, domain: str) -> Bundle | RefusalFile | None:
        """Ask for the status; None when nothing is known."""
        request = StatusRequest(self.exchange.manifest, self.exchange.nro)
        try:
            return self._asked(lambda: exchanges.status(self.served.ttp.desk, request, [domain]))
        except NotFound:
            return None

    def anchor(self, bundle: DirectBundle) -> DirectBundle:
        """Anchor a direct exchange."""
        batch = anchors.batch(bundle.digests)
        lodged = self._asked(lambda: anchor_service.anchor(self.served.ttp.desk, batch))
        return replace(bundle, anchor=anchored.prove(batch, bundle.digests, lodged))

    def outcome(self) -> Bundle | None:
        """What the TTP has in its feeds about the exchange."""
        stored = self.served.ttp.desk.stored(self.exchange.manifest.exchange)
        return None if stored is None else self.served.ttp.desk.bundle(stored)

    def verified(self, bundle: Bundle) -> Receipt | NoTrade:
        """Verify an outcome as anybody would, and note which it was."""
        trust = self.served.trust
        verified = verify_bundle(bundle, trust) if bundle.nrr is not None else verify_no_trade(bundle, trust)
        self.outcomes.add(bundle.token)
        return verified

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        if self.down:
            raise Unavailable("the TTP is down")
        answer = ask()
        if self.lose:
            self.lose = False
            raise Unavailable("the answer was lost")
        return answer


@dataclass
class Node(ABC, Generic[Row]):
    """What both sides have in common. Their tables may be exchanged for others that are wrong on purpose."""

    world: World
    actions: list[Any] = field(default_factory=list)
    due_at: int | None = None

    def crash(self) -> None:
        """Lose everything that isn't committed; the timers of what is committed start anew."""
        self.actions.clear()
        self.due_at = self.world.now

    def act(self) -> None:
        """Do the next action; what can't be done now is left to the timer."""
        if self.actions:
            try:
                self._perform(self.actions.pop(0))
            except Unavailable:
                self.due_at = min(self.due_at or self.world.now + AGAIN, self.world.now + AGAIN)

    def settle(self) -> None:
        """Do everything that is to be done now."""
        while self.actions:
            self.act()

    def fire(self) -> None:
        """Let the timer that is due run out, do what follows, and set the next."""
        self.due_at = self.world.now + AGAIN if self.time_out() else None
        self.settle()

    @abstractmethod
    def time_out(self) -> bool:
        """Step by the timer; whether there is another one."""

    @abstractmethod
    def _perform(self, action: Any) -> None:
        """Do one action."""


@dataclass
class SenderNode(Node[SenderRow]):
    """The honest sender's node."""

    table: Mapping[Any, Any] = field(default_factory=lambda: sender.OFFLINE)
    row: SenderRow = field(default_factory=SenderRow)
    reports: list[str] = field(default_factory=list)
    asked: bool = False
    guarded: bool = True

    def __post_init__(self) -> None:
        self.due_at = timers.sender_due(self.row.state, self.world.core, self.world.now)

    def take(self, event: sender.Event, **evidence: Any) -> None:
        """Step and commit."""
        rule = step(self.table, self.row.state, event)
        if rule.next is not self.row.state:
            self.due_at = timers.sender_due(rule.next, self.world.core, self.world.now)
        self.row = replace(self.row, state=rule.next, **evidence)
        self.actions += rule.actions

    def carry(self) -> None:
        """Bring the envelope."""
        if self.row.state in {sender.State.QUEUED, sender.State.SENT}:
            self.world.wire.append(Message("R", "envelope"))

    def restore(self, backup: SenderRow) -> None:
        """Put a row back as from a backup, and tell the machine so."""
        self.row = backup
        self.actions.clear()
        self.take(sender.Event.RESTORED)
        self.due_at = self.world.now

    def receive(self, message: Message) -> None:
        """Take a message of the recipient's node."""
        match message.kind:
            case "stored":
                self.take(sender.Event.STORED_BY_PEER)
                self.world.wire.append(Message("R", "ask"))
            case "nrr":
                self._nrr(message.body)
            case "ack":
                self._ack(message.body)
            case "none":
                self.no_nrr()
            case "refusal":
                self.take(sender.Event.REFUSAL)

    def no_nrr(self) -> None:
        """The peer has no NRR, or doesn't answer."""
        event = timers.without_nrr(self.world.core, self.world.now)
        if event is not None:
            self.take(event)

    def feed(self) -> None:
        """Look into the feed."""
        outcome = self.world.outcome()
        if outcome is not None:
            self._learn(outcome)

    def time_out(self) -> bool:
        """Step by the timers."""
        late = self.world.now >= timers.sender_overdue(self.world.core)
        waiting = self.row.state in {sender.State.QUEUED, sender.State.SENT}
        if waiting and self.asked:
            self.no_nrr()  # nobody has answered since the last timer
        else:
            self.asked = waiting
            self.take(sender.Event.OVERDUE if late else sender.Event.DUE)
        self.settle()
        return timers.sender_due(self.row.state, self.world.core, self.world.now) is not None

    def _nrr(self, compact: str) -> None:
        exchange, trust = self.world.exchange, self.world.served.trust
        nro = verify_nro(exchange.nro, exchange.manifest, trust, self.world.now)
        nrr = verify_nrr(compact, exchange.manifest, nro, trust, self.world.now)
        known = self.row.nrrs if compact in self.row.nrrs else (*self.row.nrrs, compact)
        now, ends = self.world.now, nrr.certificate.not_after
        self.take(timers.receiving(self.world.core, now, now, not_after=ends), nrrs=known)

    def _ack(self, compact: str) -> None:
        exchange, trust = self.world.exchange, self.world.served.trust
        nro = verify_nro(exchange.nro, exchange.manifest, trust, self.world.now)
        for known in self.row.nrrs:
            nrr = verify_nrr(known, exchange.manifest, nro, trust, self.world.now)
            try:
                verify_ack(compact, exchange.manifest, nrr, trust, self.world.now)
            except EvidenceFault as fault:
                if fault.step != "ack.nrr":
                    raise
                continue
            ordered = (known, *(other for other in self.row.nrrs if other != known))
            self.take(sender.Event.ACK, ack=compact, nrrs=ordered)
            return
        self.world.wire.append(Message("R", "ask"))  # it names an NRR that isn't here

    def _perform(self, action: Any) -> None:
        world, row = self.world, self.row
        match action:
            case sender.Action.SEND_SHARE:
                if not self.guarded or timers.may_send(row.state, world.core, world.now):
                    world.sent.append(world.exchange.secrets.shares.ttp)
                    world.wire.append(Message("R", "key", world.exchange.secrets.shares.ttp))
            case sender.Action.ASK_NRR:
                world.wire.append(Message("R", "ask"))
            case sender.Action.ABORT:
                if row.state is sender.State.ABORTING or not self.guarded:
                    self._learn(world.abort())
            case sender.Action.COMPLETE | sender.Action.SETTLE if row.nrrs:
                self._learn(world.complete(row.nrrs[0]))
            case sender.Action.SETTLE | sender.Action.ASK_STATUS:
                self._answer(world.status("a.example"))
            case sender.Action.ANCHOR:
                self._anchor()
            case sender.Action.REPORT_RECEIPT | sender.Action.REPORT_FAILURE:
                self.reports.append(action.name)

    def _anchor(self) -> None:
        exchange, row = self.world.exchange, self.row
        if row.ack is not None:
            bundle = self.world.anchor(DirectBundle(exchange.manifest, exchange.nro, row.nrrs[0], row.ack))
            verify_bundle(bundle, self.world.served.trust)
            self.take(sender.Event.ANCHORED, receipt=row.receipt or bundle)

    def _answer(self, answer: Bundle | RefusalFile | None) -> None:
        if isinstance(answer, RefusalFile):
            self.take(sender.Event.REFUSAL)
        elif answer is not None:
            self._learn(answer)

    def _learn(self, bundle: Bundle) -> None:
        verified = self.world.verified(bundle)
        if isinstance(verified, Receipt):
            self.take(sender.Event.RECEIPT, receipt=self.row.receipt or bundle)
        else:
            self.take(sender.Event[verified.refusal.outcome])


@dataclass
class RecipientNode(Node[RecipientRow]):
    """The honest recipient's node. `delegated` says that it signs on delivery."""

    table: Mapping[Any, Any] = field(default_factory=lambda: recipient.OFFLINE)
    row: RecipientRow | None = None
    delegated: bool = True
    mailbox: list[bytes] = field(default_factory=list)

    def take(self, event: recipient.Event, **evidence: Any) -> None:
        """Step and commit; without a row nothing is known of the exchange."""
        if self.row is None:
            return
        rule = step(self.table, self.row.state, event)
        if rule.next is not self.row.state:
            self._schedule(rule.next)
        self.row = replace(self.row, state=rule.next, **evidence)
        self.actions += rule.actions

    def restore(self, backup: RecipientRow) -> None:
        """Put a row back as from a backup, and tell the machine so."""
        self.row = backup
        self.actions.clear()
        self.take(recipient.Event.RESTORED)
        self.due_at = self.world.now

    def receive(self, message: Message) -> None:
        """Take a message of the sender's node. What the state doesn't know is refused."""
        match message.kind:
            case "envelope":
                self._envelope()
            case "ask" if self.row is None:
                self.world.wire.append(Message("S", "none"))
            case "ask":
                self.take(recipient.Event.ASKED)
            case "key":
                self._key(message.body)

    def user(self, *, accepts: bool) -> None:
        """The user signs, or refuses, what wasn't signed on delivery."""
        if self.row is None or self.row.state not in {recipient.State.OFFERED, recipient.State.REFUSED}:
            return
        if accepts:
            self.take(recipient.Event.ACCEPTED, nrr=self._signed())
        else:
            self.take(recipient.Event.REFUSED)

    def feed(self) -> None:
        """Look into the feed."""
        outcome = self.world.outcome()
        if outcome is not None and self.row is not None:
            self._learn(outcome)

    def time_out(self) -> bool:
        """Step by the timer."""
        if self.row is None:
            return False
        self.take(recipient.Event.DUE)
        self.settle()
        due = timers.recipient_due(self.row.state, self.world.core, self.world.now, in_session=False)
        return due is not None

    def _schedule(self, state: recipient.State) -> None:
        self.due_at = timers.recipient_due(state, self.world.core, self.world.now, in_session=True)

    def _envelope(self) -> None:
        exchange, world = self.world.exchange, self.world
        if self.row is None:
            core = world.core
            if core.direct_until is None or world.now >= core.direct_until:
                return
            check_blob(exchange.sealed.escrow, exchange.manifest.h_ET, "escrow.digest", "E_T")
            open_recipient_share(exchange.manifest, exchange.sealed.recipient_share, world.served.parties.bob.hpke)
            if self.delegated:
                self.row = RecipientRow(recipient.State.SIGNED, self._signed())
            else:
                self.row = RecipientRow(recipient.State.OFFERED)
            self._schedule(self.row.state)
        world.wire.append(Message("S", "stored"))

    def _signed(self) -> str:
        exchange, bob = self.world.exchange, self.world.served.parties.bob
        named = (exchange.manifest.exchange, token_digest(exchange.nro))
        return sign_nrr(*named, self.world.now, bob.receipt, bob.receipt_chain)

    def _key(self, share: bytes) -> None:
        manifest = self.world.exchange.manifest
        if self.row is None or self.row.nrr is None:
            return  # nothing was signed for it
        if shares.commit_ttp(manifest.core.digest, share) != manifest.com_T:
            self.take(recipient.Event.DUE)
            return
        kept = {} if self.row.state is recipient.State.RECOVERED else {"share": share}
        self.take(recipient.Event.KEY, **kept)

    def _perform(self, action: Any) -> None:
        world, row = self.world, self.row
        assert row is not None
        match action:
            case recipient.Action.ANSWER_NRR:
                world.wire.append(Message("S", "nrr", row.nrr))
            case recipient.Action.ANSWER_PENDING:
                world.wire.append(Message("S", "none"))
            case recipient.Action.ANSWER_REFUSAL:
                world.wire.append(Message("S", "refusal"))
            case recipient.Action.REFUSE:
                self._answer(world.refuse())
            case recipient.Action.TRADE | recipient.Action.SETTLE if row.nrr is not None:
                self._learn(world.complete(row.nrr))
            case recipient.Action.SETTLE | recipient.Action.ASK_STATUS:
                self._answer(world.status("b.example"))
            case recipient.Action.DELIVER:
                self._deliver(row)
            case recipient.Action.ACKNOWLEDGE:
                world.wire.append(Message("S", "ack", row.ack))
            case recipient.Action.ANCHOR if not row.nrd and row.nrr and row.ack:
                exchange = world.exchange
                world.anchor(DirectBundle(exchange.manifest, exchange.nro, row.nrr, row.ack))

    def _answer(self, answer: Bundle | RefusalFile | None) -> None:
        if isinstance(answer, Bundle):
            self._learn(answer)

    def _learn(self, bundle: Bundle) -> None:
        assert self.row is not None
        verified = self.world.verified(bundle)
        if isinstance(verified, Receipt):
            self.take(recipient.Event.NRD, share=verified.share, nrd=True, nrr=bundle.nrr)
        else:
            self.take(recipient.Event[verified.refusal.outcome])

    def _deliver(self, row: RecipientRow) -> None:
        if row.state is not recipient.State.HAVE or row.share is None or row.nrr is None:
            return
        exchange, bob = self.world.exchange, self.world.served.parties.bob
        own = open_recipient_share(exchange.manifest, exchange.sealed.recipient_share, bob.hpke)
        key = content_key(exchange.manifest, Shares(row.share, own), exchange.sealed.wrapped_key)
        content = b"".join(stream.decrypt(key, [exchange.ciphertext]))
        if content not in self.mailbox:  # its file is named after hM, so that a repetition is seen
            self.mailbox.append(content)
        named = (token_digest(row.nrr), row.share)
        ack = row.ack or sign_ack(exchange.manifest.exchange, named, self.world.now, bob.receipt, bob.receipt_chain)
        self.take(recipient.Event.OPENED, ack=ack)


def make_world(
    served: Served, escrow: Callable[[bytes], bytes] | None = None, *, margin: int = EXPIRES - DIRECT
) -> World:
    """Make an exchange from now on; `escrow` bends what the sender commits to as E_T."""
    now = served.clock.time
    exchange = served.exchange(
        LETTER + secrets.token_bytes(8),
        mode="offline",
        created=now,
        direct_until=now + DIRECT,
        expires=now + DIRECT + margin,
    )
    if escrow is not None:
        exchange = bent(served, exchange, escrow(exchange.sealed.escrow))
    return World(served, exchange)


def bent(served: Served, exchange: Exchange, escrow: bytes) -> Exchange:
    """Let the sender commit to another E_T."""
    made = served.parties.resigned(exchange, h_ET=blob_digest(escrow))
    return replace(made, sealed=replace(made.sealed, escrow=escrow))


def until_signed(world: World, alice: SenderNode | None = None) -> tuple[SenderNode, RecipientNode, Message]:
    """Run until the recipient has signed: both nodes, and the NRR that is on its way."""
    alice, bob = alice or SenderNode(world), RecipientNode(world)
    bob.receive(Message("R", "envelope"))
    alice.receive(world.wire.pop())
    bob.receive(world.wire.pop())
    bob.settle()
    return alice, bob, world.wire.pop()


def until_released(world: World) -> tuple[SenderNode, RecipientNode]:
    """Run until s_T has left the sender's node; it is on the wire."""
    alice, bob, nrr = until_signed(world)
    alice.receive(nrr)
    alice.settle()
    assert alice.row.state is sender.State.RELEASED
    assert world.wire == [Message("R", "key", world.exchange.secrets.shares.ttp)]
    return alice, bob
