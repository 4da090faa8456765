"""The recipient's side: everything is checked, then signed, then traded, then opened (online.md R1 to R8)."""

from __future__ import annotations

from dataclasses import dataclass, field

from secmtp_node.agents import acknowledging, checks, opening, witnessing
from secmtp_node.agents.desk import Desk
from secmtp_node.agents.opening import SECRET
from secmtp_node.ports.values import Incoming, Job, KeyUse, StoredFile, Task
from shared.errors import NotFound, SecMTPError, Unavailable
from shared.evidence import composition
from shared.evidence import head as heads
from shared.evidence.head import Head
from shared.evidence.tokens import NRO, sign_nrr
from shared.exchange.machine import step
from shared.exchange.recipient import TABLES, Action, Event, State
from shared.exchange.timers import recipient_due

_TRADING = {Action.TRADE, Action.SETTLE}


@dataclass(frozen=True, slots=True)
class Arrived:
    """An envelope as it came: which exchange it says it is of, the sealed head, the ciphertext's file, from whom."""

    exchange: bytes
    head: bytes
    ciphertext: StoredFile
    sender: str
    recipient: str
    peer: str


@dataclass(frozen=True, slots=True)
class _Checked:
    """An envelope of which everything that can be checked before signing was checked."""

    head: Head
    nro: NRO
    share: bytes = field(repr=False)


def accept(desk: Desk, arrived: Arrived) -> str:
    """Check an envelope, sign the NRR, commit both; return the text of the 250.

    Raises SecMTPError; then nothing is stored. An exchange that is known is answered again, and its
    stored NRR stands: there never is a second one. Only to who has its head, though: hM alone stands in
    the public ledger, and must not tell whose exchange it is.
    """
    incoming = None
    with desk.locks.of(arrived.exchange):
        try:
            head = heads.open_head(arrived.head, arrived.exchange, desk.node_key)  # R1
            if _find(desk, arrived.exchange) is None:
                witnessing.require_trust(desk, head.manifest.core.ttp.name)
                incoming = _signed(desk, arrived, _check(desk, arrived, head))
        except BaseException:
            desk.files.discard(arrived.ciphertext)
            raise
        stored = incoming is not None and _is_stored(desk, incoming)
    if not stored:
        desk.files.discard(arrived.ciphertext)
    desk.tell("envelope stored", exchange=arrived.exchange.hex(), peer=arrived.peer, again=not stored)
    return f"{arrived.exchange.hex()} stored"


def trade(desk: Desk, job: Job) -> None:
    """Complete at the TTP, for as long as it takes (R7, offline.md R4), or at the sender's node while it is away."""
    with desk.locks.of(job.exchange):
        incoming = _get(desk, job.exchange)
        rule = step(TABLES[incoming.manifest.core.mode], incoming.state, Event.DUE)
        if _TRADING & set(rule.actions):
            _trade(desk, incoming)
    with desk.store.transaction() as unit:
        unit.jobs.finish(Task.TRADE, job.exchange)


def deliver(desk: Desk, job: Job) -> None:
    """Open the message and deliver it, once (R8). Its file name is the exchange's, so a repetition is seen."""
    with desk.locks.of(job.exchange):
        incoming = _get(desk, job.exchange)
        if incoming.state is State.HAVE:
            acknowledging.open_now(desk, incoming, in_session=False)
    with desk.store.transaction() as unit:
        unit.jobs.finish(Task.DELIVER, job.exchange)


def _trade(desk: Desk, incoming: Incoming) -> None:
    try:
        opening.complete(desk, incoming)
    except Unavailable as error:
        if incoming.manifest.core.mode != "offline" or incoming.state is not State.SIGNED:
            raise
        desk.tell("the TTP is away: asking the sender's node", exchange=incoming.exchange.hex(), reason=error.message)
        if not acknowledging.bring_nrr(desk, incoming):
            raise


def _check(desk: Desk, arrived: Arrived, head: Head) -> _Checked:
    """R2 to R4, in this order: cheap and structural first, and nothing is signed before all of it held."""
    keys = checks.check_names(desk, head.manifest, arrived.sender, arrived.recipient)  # R2
    checks.check_ttp(desk, head.manifest)
    nro = checks.check_origin(desk, head)  # R3
    checks.check_blobs(head, arrived.ciphertext)
    private = desk.vault.hpke(keys[KeyUse.HPKE])
    share = composition.open_recipient_share(head.manifest, head.sealed.recipient_share, private)  # R4
    return _Checked(head, nro, share)


def _signed(desk: Desk, arrived: Arrived, checked: _Checked) -> Incoming:
    """Sign the NRR with the delegated receipt key (R5, R6). Raises Forbidden where the user didn't delegate."""
    manifest = checked.head.manifest
    pair = desk.vault.receipt(desk.user_key(manifest.core.recipient.address, KeyUse.RECEIPT))
    nrr = sign_nrr(manifest.exchange, checked.nro.digest, desk.now(), pair.key, pair.chain)
    return Incoming(
        exchange=manifest.exchange,
        state=State.SIGNED,
        manifest=manifest,
        nro=checked.head.nro,
        nrr=nrr,
        sealed=checked.head.sealed,
        sealed_secret=desk.at_rest.seal(checked.share, SECRET, manifest.exchange),
        ciphertext=arrived.ciphertext,
        accepted=desk.now(),
        peer=arrived.peer,
    )


def _is_stored(desk: Desk, incoming: Incoming) -> bool:
    """Store; when that fails, look before the ciphertext goes.

    A commit may be durable although the database's answer was lost: then a row names the file.
    """
    try:
        return _store(desk, incoming)
    except SecMTPError:
        found = _find(desk, incoming.exchange)
        if found is not None and found.ciphertext == incoming.ciphertext:
            return True
        desk.files.discard(incoming.ciphertext)
        raise


def _store(desk: Desk, incoming: Incoming) -> bool:
    """Commit envelope and NRR together, before the NRR can leave: the commit point of R6.

    A crash before it: the sender's node heard no 250 and brings the same envelope again. A crash after
    it: the job trades; the envelope, if brought again, is answered 250. False: another session was first.
    """
    with desk.store.transaction() as unit:
        if unit.incoming.find(incoming.exchange) is not None:
            return False
        unit.incoming.add(incoming)
        # A direct exchange has the session's time first, and no more: SIGNED never waits for anybody (offline.md R4).
        direct = incoming.manifest.core.mode == "offline"
        if direct:
            unit.mark()
        due = recipient_due(State.SIGNED, incoming.manifest.core, desk.now(), in_session=direct)
        unit.jobs.add(Task.TRADE, incoming.exchange, due or desk.now())
    return True


def _find(desk: Desk, exchange: bytes) -> Incoming | None:
    with desk.store.transaction() as unit:
        return unit.incoming.find(exchange)


def _get(desk: Desk, exchange: bytes) -> Incoming:
    incoming = _find(desk, exchange)
    if incoming is None:
        raise NotFound("no such incoming exchange")
    return incoming
