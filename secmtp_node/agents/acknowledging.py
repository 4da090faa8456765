"""A direct exchange from the recipient's side: NRR, key, ACK (docs/protocols/offline.md R2 to R7).

s_T is durable before the message is opened, the ACK before it leaves. Whoever holds the exchange's lock is alone
with it: sessions, the trade by timer and the delivery.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from secmtp_node.agents import opening
from secmtp_node.agents.desk import Desk
from secmtp_node.agents.direct import peer_of
from secmtp_node.agents.opening import SHARE
from secmtp_node.ports.store import Unit
from secmtp_node.ports.values import Incoming, Job, KeyUse, Task
from shared.api.verbs import Answer, Kind, Verb
from shared.crypto import shares
from shared.crypto.signing import token_digest
from shared.encoding import base64url
from shared.errors import Malformed, NotFound, Unavailable
from shared.evidence.statements import sign_ack
from shared.exchange.machine import step
from shared.exchange.recipient import TABLES, Action, Event, State

GIVE_UP = 24 * 3600  # after `expires`: who hasn't taken the ACK by then has settled at the TTP


def nrr(desk: Desk, incoming: Incoming) -> Answer:
    """Answer with the stored NRR (V1); never with a second one."""
    with desk.store.transaction() as unit:
        current = get(unit, incoming.exchange)
        rule = step(TABLES["offline"], current.state, Event.ASKED)
        if Action.SETTLE in rule.actions:
            unit.jobs.add(Task.TRADE, current.exchange, desk.now())
    if Action.ANSWER_NRR in rule.actions:
        return Answer(Kind.GIVEN, incoming.exchange, current.nrr)
    return Answer(Kind.ENDED, incoming.exchange, f"it is {current.state.value} here")


def key(desk: Desk, incoming: Incoming, share: bytes) -> Answer:
    """Take s_T, open, deliver, and answer with the ACK (V2, R5, R6)."""
    with desk.locks.of(incoming.exchange):
        if not _is_key(incoming, share):
            with desk.store.transaction() as unit:
                unit.jobs.add(Task.TRADE, incoming.exchange, desk.now())
            return Answer(Kind.WRONG, incoming.exchange, "that isn't the share that the manifest commits to")
        current = _have(desk, incoming, share)
        if current.state is State.HAVE:
            current = open_now(desk, current, in_session=True)
    if current.state is State.DELIVERED:
        return Answer(Kind.GIVEN, incoming.exchange, current.ack)
    if current.state is State.FAULTY:
        return Answer(Kind.WRONG, incoming.exchange, "the message doesn't open under its key")
    return Answer(Kind.ENDED, incoming.exchange, f"it is {current.state.value} here")


def left(desk: Desk, exchanges: Sequence[bytes]) -> None:
    """The session ended without a key: what was signed in it is traded at once (R4)."""
    with desk.store.transaction() as unit:
        for exchange in exchanges:
            incoming = unit.incoming.find(exchange)
            if incoming is not None and incoming.state is State.SIGNED:
                unit.jobs.add(Task.TRADE, exchange, desk.now())


def open_now(desk: Desk, incoming: Incoming, *, in_session: bool) -> Incoming:
    """Open and deliver what HAS its key, and commit how it went, with the ACK where the mode has one (R6).

    A crash before the commit: done again, into the same file. A crash after it: the ACK is asked for again, or the
    sender's node completes.
    """
    event = opening.open_and_deliver(desk, incoming)
    acknowledgement = _ack(desk, incoming) if event is Event.OPENED and incoming.manifest.core.mode == "offline" else ""
    with desk.store.transaction() as unit:
        current = get(unit, incoming.exchange)
        rule = step(TABLES[incoming.manifest.core.mode], current.state, event)
        more = {"ack": current.ack or acknowledgement} if Action.ACKNOWLEDGE in rule.actions else {}
        unit.incoming.move(incoming.exchange, rule.next, **more)
        unit.jobs.finish(Task.DELIVER, incoming.exchange)
        if more:
            unit.mark()
            _follow(desk, unit, current, in_session=in_session)
        current = get(unit, incoming.exchange)
    desk.tell(event.value, exchange=incoming.exchange.hex())
    return current


def bring_nrr(desk: Desk, incoming: Incoming) -> bool:
    """Bring the NRR to the sender's node and take s_T for it (V3), while the TTP is away; return whether it came."""
    peer = peer_of(desk, incoming.manifest.core.sender.address, fresh=False)
    with desk.carrier.open(peer) as session:
        answer = session.bring(Verb.SIGNED, incoming.exchange, incoming.nrr) if session.direct else None
        if answer is None or answer.kind is not Kind.GIVEN:
            return False
        try:
            taken = key(desk, incoming, base64url.decode(answer.text))
        except Malformed:
            return False
        if taken.kind is Kind.GIVEN:
            session.bring(Verb.ACK, incoming.exchange, taken.text)
    return taken.kind is Kind.GIVEN


def bring_ack(desk: Desk, job: Job) -> None:
    """Bring an ACK that was made when no session was there to answer (V4)."""
    with desk.store.transaction() as unit:
        incoming = get(unit, job.exchange)
    if incoming.ack and desk.now() < incoming.manifest.core.expires + GIVE_UP:
        peer = peer_of(desk, incoming.manifest.core.sender.address, fresh=job.attempts > 0)
        with desk.carrier.open(peer) as session:
            answer = session.bring(Verb.ACK, incoming.exchange, incoming.ack) if session.direct else None
        if answer is not None and answer.kind is Kind.LATER:
            raise Unavailable("the sender's node can't take the ACK now")
    with desk.store.transaction() as unit:
        unit.jobs.finish(Task.BRING, job.exchange)


def get(unit: Unit, exchange: bytes) -> Incoming:
    """Return an incoming exchange. Raises NotFound."""
    found = unit.incoming.find(exchange)
    if found is None:
        raise NotFound("no such incoming exchange")
    return found


def _is_key(incoming: Incoming, share: bytes) -> bool:
    manifest = incoming.manifest
    return hmac.compare_digest(manifest.com_T, shares.commit_ttp(manifest.core.digest, share))


def _have(desk: Desk, incoming: Incoming, share: bytes) -> Incoming:
    """Commit s_T with HAVE before anything is opened: the commit point of R5."""
    with desk.store.transaction() as unit:
        current = get(unit, incoming.exchange)
        rule = step(TABLES["offline"], current.state, Event.KEY)
        if rule.next is State.HAVE and current.state is not State.HAVE:
            sealed = desk.at_rest.seal(share, SHARE, incoming.exchange)
            unit.incoming.move(incoming.exchange, rule.next, sealed_share=sealed)
            unit.mark()
            unit.jobs.finish(Task.TRADE, incoming.exchange)
            # The session opens it at once; if it dies, the job does.
            unit.jobs.add(Task.DELIVER, incoming.exchange, desk.now() + desk.policy.first_pause)
        if Action.SETTLE in rule.actions:
            unit.jobs.add(Task.TRADE, incoming.exchange, desk.now())
        return get(unit, incoming.exchange)


def _ack(desk: Desk, incoming: Incoming) -> str:
    pair = desk.vault.receipt(desk.user_key(incoming.recipient, KeyUse.RECEIPT))
    answered = (token_digest(incoming.nrr), opening.share(desk, incoming))
    return sign_ack(incoming.exchange, answered, desk.now(), pair.key, pair.chain)


def _follow(desk: Desk, unit: Unit, incoming: Incoming, *, in_session: bool) -> None:
    """Anchor what only the parties have seen, and bring the ACK to who isn't there to hear it."""
    evidence = unit.evidence.find(incoming.exchange)
    if evidence is None or evidence.outcome != "COMPLETED":
        unit.jobs.add(Task.ANCHOR, incoming.exchange, desk.now() + desk.policy.anchor_pause)
        if not in_session:
            unit.jobs.add(Task.BRING, incoming.exchange, desk.now())
