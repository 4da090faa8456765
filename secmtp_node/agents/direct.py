"""A direct exchange from the sender's side: in the session that carries the envelope, or by timer at the TTP.

Both go on from what is durable, so that each may be cut at any word (docs/protocols/offline.md S3 to S9). What is
reported comes from evidence only, never from what a session said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from secmtp_node.agents import learning, releasing, witnessing
from secmtp_node.agents.desk import Desk
from secmtp_node.agents.releasing import CARRIED, OVER
from secmtp_node.agents.sender import ABORT
from secmtp_node.ports.services import Envelope, Peer, PeerSession, Rejected
from secmtp_node.ports.values import Job, Outgoing, Task
from shared.api.messages import AbortRequest, CompleteRequest, StatusRequest
from shared.api.verbs import Answer, Kind, Verb
from shared.encoding import base64url
from shared.errors import Conflict, EvidenceFault, NotFound, Unavailable
from shared.evidence import head as heads
from shared.evidence.head import Head
from shared.evidence.refusal import RefusalFile
from shared.exchange import timers
from shared.exchange.sender import Action, Event, State


def go_on(desk: Desk, job: Job) -> None:
    """Bring the envelope, get the NRR, give the key, get the ACK, in one session, from wherever it stands."""
    exchange = releasing.load(desk, job.exchange)
    core = exchange.manifest.core
    late = core.direct_until is None or desk.now() >= core.direct_until
    if exchange.state not in CARRIED or late:
        with desk.store.transaction() as unit:  # the timers do the rest
            unit.jobs.finish(Task.CARRY, job.exchange)
        return
    if exchange.state is State.QUEUED:
        witnessing.require_trust(desk, core.ttp.name)
    with desk.carrier.open(peer_of(desk, core.recipient.address, fresh=job.attempts > 0)) as session:
        if not session.direct:
            raise Unavailable("the recipient's node doesn't offer the direct exchange any more")
        if exchange.state is not State.QUEUED or _carried(desk, session, exchange):
            _ask(desk, session, exchange)


def settle(desk: Desk, job: Job) -> None:
    """Do what is due by timer (S6, S7): ask for a stored NRR, complete, abort or ask the TTP. Again until it ends."""
    exchange = releasing.load(desk, job.exchange)
    overdue = desk.now() >= timers.sender_overdue(exchange.manifest.core)
    rule = releasing.happened(desk, job.exchange, Event.OVERDUE if overdue else Event.DUE)
    for action in rule.actions:
        current = releasing.load(desk, job.exchange)
        if current.state not in OVER:
            _SETTLING[action](desk, current)
    with desk.store.transaction() as unit:
        current = releasing.get(unit, job.exchange)
        if current.state in (State.ACKED, *OVER):
            unit.jobs.finish(Task.SETTLE, job.exchange)
        else:
            unit.jobs.postpone(job, _again(desk, exchange, current, job.attempts), "not at its end yet")


def signed(desk: Desk, exchange: Outgoing, token: str) -> Answer:
    """Take an NRR that the recipient's node brings, and answer with s_T if it may leave (V3)."""
    rule = releasing.take_nrr(desk, exchange, token)
    share = releasing.share(desk, exchange.exchange) if Action.SEND_SHARE in rule.actions else None
    if share is not None:
        return Answer(Kind.GIVEN, exchange.exchange, base64url.encode(share))
    return Answer(Kind.ENDED, exchange.exchange, "it is settled at the TTP")


def acknowledged(desk: Desk, exchange: Outgoing, token: str) -> Answer:
    """Take an ACK that the recipient's node brings (V4)."""
    releasing.take_ack(desk, exchange, token)
    return Answer(Kind.GIVEN, exchange.exchange, "stored")


def peer_of(desk: Desk, address: str, *, fresh: bool) -> Peer:
    """Return the node of an address. After a failure it may have moved: then it is asked for anew."""
    domain = desk.book.where(address, fresh=fresh)
    return Peer(domain.domain, domain.host, domain.port)


def envelope_of(desk: Desk, exchange: Outgoing) -> Envelope:
    """Return the envelope, the same one however often: sealed to the recipient's node."""
    core = exchange.manifest.core
    domain = desk.book.where(core.recipient.address)
    return Envelope(
        exchange=exchange.exchange,
        sender=core.sender.address,
        recipient=core.recipient.address,
        head=heads.seal(Head(exchange.manifest, exchange.nro, exchange.sealed), domain.hpke),
        ciphertext=lambda: desk.files.read(exchange.ciphertext),
        octets=exchange.ciphertext.octets,
        date=core.created,
    )


def _carried(desk: Desk, session: PeerSession, exchange: Outgoing) -> bool:
    """Bring the envelope and commit what the peer said; return whether it was stored."""
    answer = session.carry(envelope_of(desk, exchange))
    refused = isinstance(answer, Rejected)
    event = Event.REFUSED_BY_PEER if refused else Event.STORED_BY_PEER
    rule = releasing.happened(desk, exchange.exchange, event, reply=answer.reply)
    desk.tell("envelope carried", exchange=exchange.exchange.hex(), state=rule.next.value)
    return not refused


def _ask(desk: Desk, session: PeerSession, exchange: Outgoing, *, again: bool = True) -> None:
    """Ask for the NRR and go on with it (V1)."""
    answer = session.ask(Verb.NRR, exchange.exchange)
    match answer.kind:
        case Kind.GIVEN:
            rule = releasing.take_nrr(desk, exchange, answer.text)
            if Action.SEND_SHARE in rule.actions:
                _release(desk, session, exchange.exchange)
        case Kind.DECLINED:
            releasing.take_refusal(desk, exchange, answer.text)
            _soon(desk, exchange.exchange)
        case Kind.UNKNOWN if again and exchange.state is not State.QUEUED:
            # It said 250 once and has forgotten: its database came from a backup.
            if _carried(desk, session, exchange):
                _ask(desk, session, exchange, again=False)
        case Kind.ENDED:
            _soon(desk, exchange.exchange)
        case _:
            raise Unavailable(f"the recipient's node gave no NRR: {answer.text}")


def _release(desk: Desk, session: PeerSession, name: bytes) -> None:
    """Give s_T, alone in its flight, and take the ACK (V2). RELEASED is durable."""
    share = releasing.share(desk, name)
    if share is None:
        _soon(desk, name)
        return
    answer = session.ask(Verb.KEY, name, share)
    match answer.kind:
        case Kind.GIVEN:
            rule = releasing.take_ack(desk, releasing.load(desk, name), answer.text)
            desk.tell("acknowledged", exchange=name.hex(), state=rule.next.value)
        case Kind.LATER:
            raise Unavailable("the recipient's node has the key, and no ACK yet")
        case _:
            _soon(desk, name)


def _soon(desk: Desk, exchange: bytes) -> None:
    """The recipient's node settles at the TTP, or should: nothing more is to be had directly."""
    with desk.store.transaction() as unit:
        current = releasing.get(unit, exchange)
        unit.jobs.finish(Task.CARRY, exchange)
        if current.state is State.RELEASED:
            unit.jobs.add(Task.SETTLE, exchange, desk.now())


def _again(desk: Desk, before: Outgoing, current: Outgoing, attempts: int) -> int:
    """Return when to settle next: as the timer says for what is new, with growing pauses for what isn't."""
    now, policy = desk.now(), desk.policy
    due = timers.sender_due(current.state, current.manifest.core, now) or now
    if due > now or (before.state, before.nrr) != (current.state, current.nrr):
        return due
    return now + min(policy.longest_pause, policy.first_pause << min(attempts, 20))


def _last_chance(desk: Desk, exchange: Outgoing) -> None:
    """Ask the peer for a stored NRR before anything is given up; without one, or an answer, abort (S6)."""
    core = exchange.manifest.core
    try:
        with desk.carrier.open(peer_of(desk, core.recipient.address, fresh=True)) as session:
            _ask(desk, session, exchange, again=False)
    except (Unavailable, NotFound, EvidenceFault, Conflict) as error:
        desk.tell("no NRR", exchange=exchange.exchange.hex(), reason=error.message)
    event = timers.without_nrr(core, desk.now())
    if event is None or releasing.load(desk, exchange.exchange).state not in {State.QUEUED, State.SENT}:
        return
    rule = releasing.happened(desk, exchange.exchange, event)  # ABORTING is durable before the ABORT leaves
    if Action.ABORT in rule.actions:
        _abort(desk, releasing.load(desk, exchange.exchange))


def _complete(desk: Desk, exchange: Outgoing) -> None:
    request = CompleteRequest(exchange.manifest, exchange.nro, exchange.nrr, exchange.sealed.escrow)
    learning.learn(desk, desk.ttp(exchange.manifest.core.ttp.name).complete(request), exchange.exchange)


def _abort(desk: Desk, exchange: Outgoing) -> None:
    statement = desk.at_rest.open(exchange.sealed_abort, ABORT, exchange.exchange).decode("ascii")
    request = AbortRequest(exchange.manifest, exchange.nro, statement)
    learning.learn(desk, desk.ttp(exchange.manifest.core.ttp.name).abort(request), exchange.exchange)


def _status(desk: Desk, exchange: Outgoing) -> None:
    """Ask for the outcome. Nothing known is no evidence, and no reason to do anything."""
    ttp = desk.ttp(exchange.manifest.core.ttp.name)
    try:
        answer = ttp.status(StatusRequest(exchange.manifest, exchange.nro))
    except NotFound:
        return
    if not isinstance(answer, RefusalFile):  # which is no outcome
        learning.learn(desk, answer, exchange.exchange)


def _settle(desk: Desk, exchange: Outgoing) -> None:
    (_complete if exchange.nrr else _status)(desk, exchange)


def _anchor(desk: Desk, exchange: Outgoing) -> None:
    with desk.store.transaction() as unit:
        unit.jobs.add(Task.ANCHOR, exchange.exchange, desk.now())


_SETTLING: Mapping[Action, Callable[[Desk, Outgoing], None]] = {
    Action.ASK_NRR: _last_chance,
    Action.COMPLETE: _complete,
    Action.ABORT: _abort,
    Action.ASK_STATUS: _status,
    Action.SETTLE: _settle,
    Action.ANCHOR: _anchor,
}
