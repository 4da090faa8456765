"""Carries envelopes to recipients' nodes, and asks the TTP what became of those that nothing was heard of.

Doing a task twice does no harm: the peer answers a known hM with 250 again (online.md S4, S6).
"""

from __future__ import annotations

from dataclasses import dataclass

from secmtp_node.agents.directory import Directory
from secmtp_node.agents.outcomes import learn, require_exchange, verify_outcome
from secmtp_node.ports.services import Carrier, Envelope, Events, Files, Peer, Rejected
from secmtp_node.ports.store import Store
from secmtp_node.ports.values import Outgoing, Task
from shared.api.messages import StatusRequest
from shared.crypto.certificates import TrustRoot
from shared.errors import NotFound, Unavailable
from shared.evidence import head as heads
from shared.evidence.head import Head
from shared.exchange.machine import step
from shared.exchange.sender import TABLE, Event, State

WAITING = frozenset({State.QUEUED, State.SENT})
MAX_REPLY = 1000


@dataclass(frozen=True)
class CourierAgent:
    """The sender's side after the submission. `domains` are this node's mail domains."""

    store: Store
    files: Files
    directory: Directory
    carrier: Carrier
    root: TrustRoot
    domains: frozenset[str]
    log: Events

    def carry(self, hm: bytes, now: int) -> None:
        """Bring one envelope to its peer. Raises Unavailable while it should be tried again."""
        exchange = self._load(hm)
        if exchange is None or exchange.state is not State.QUEUED or now >= exchange.manifest.core.expires:
            # The STATUS job, there since submission, finds out what became of an expired one.
            self._finish(Task.CARRY, hm)
            return
        known = self.directory.find(exchange.recipient, now)
        head = heads.seal(Head(exchange.manifest, exchange.nro, exchange.sealed), known.domain.hpke)
        envelope = Envelope(
            exchange=hm,
            sender=exchange.manifest.core.sender.address,
            recipient=exchange.recipient,
            head=head,
            ciphertext=lambda: self.files.read(exchange.ciphertext),
            octets=exchange.ciphertext.octets,
            date=exchange.manifest.core.created,
        )
        answer = self.carrier.carry(Peer(known.domain.domain, known.domain.host, known.domain.port), envelope)
        rejected = isinstance(answer, Rejected)
        self._answered(hm, Event.REFUSED_BY_PEER if rejected else Event.STORED_BY_PEER, answer.reply[:MAX_REPLY], now)

    def ask_status(self, hm: bytes, now: int) -> None:
        """Ask the TTP for the outcome of an overdue exchange. Raises Unavailable while there is none."""
        exchange = self._load(hm)
        if exchange is None or exchange.state not in WAITING:
            self._finish(Task.STATUS, hm)
            return
        ttp = self.directory.client(exchange.manifest.core.ttp.name)
        try:
            bundle = ttp.status(StatusRequest(exchange.manifest, exchange.nro))
        except NotFound as error:
            raise Unavailable(f"the TTP knows no outcome yet: {error.message}") from error
        outcome = verify_outcome(bundle, self.root)
        require_exchange(outcome, hm)
        with self.store.transaction() as unit:
            heard = learn(unit, outcome, self.domains, now)
        self.log("outcome", exchange=hm.hex(), outcome=outcome.word, source="status", heard=heard)

    def _answered(self, hm: bytes, event: Event, reply: str, now: int) -> None:
        with self.store.transaction() as unit:
            exchange = unit.outgoing.find(hm)
            if exchange is None:
                return
            # Read again inside: the receipt may have been in the feed before the peer's 250 was here.
            rule = step(TABLE, exchange.state, event)
            unit.outgoing.move(hm, rule.next, reply)
            unit.jobs.finish(Task.CARRY, hm)
            if rule.actions:
                unit.jobs.add(Task.REPORT_FAILURE, hm, now)
        # A crash before this commit carries the envelope again, which the peer answers alike.
        self.log("carried", exchange=hm.hex(), event=event.value, reply=reply)

    def _load(self, hm: bytes) -> Outgoing | None:
        with self.store.transaction() as unit:
            return unit.outgoing.find(hm)

    def _finish(self, task: Task, hm: bytes) -> None:
        with self.store.transaction() as unit:
            unit.jobs.finish(task, hm)
