"""The node as a witness of its TTP's ledger (witness.md N1 to N8).

It believes a newer checkpoint only with the proof that it continues the one before, cosigns it and brings the
cosignature. Two histories, or an older one, stop new trades there; what is open is still lodged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from secmtp_node.agents.desk import Desk
from secmtp_node.ports.services import TTP
from secmtp_node.ports.store import Unit
from secmtp_node.ports.values import Alarm, SeenCheckpoint, ShownCheckpoint
from shared.api.messages import Cosignature
from shared.encoding.address import domain_of
from shared.errors import EvidenceFault, Forbidden, NotFound, PeerFault, Unavailable
from shared.evidence import bundle as bundles
from shared.evidence.bundle import AnyBundle, Bundle, DirectBundle
from shared.evidence.records import TTPRecord, VerifiedTTP
from shared.ledger import note as notes
from shared.ledger import policy as policies
from shared.ledger import proof as proofs
from shared.ledger import witness
from shared.ledger.checkpoint import Fork, VerifiedCheckpoint, check_extension, open_checkpoint
from shared.ledger.note import KeyType, VerifierKey, verifier_key
from shared.ledger.witness import AddCheckpoint, Cosigned, Refused, Signer

FORK, INCONSISTENT, ROLLBACK = "fork of the ledger", "ledger that doesn't continue", "rollback of the ledger"
LEDGER_ALARMS = frozenset({FORK, INCONSISTENT, ROLLBACK})
CHECKS = 50


@dataclass(frozen=True)
class Watch:
    """What a look needs: whose log, the keys that its record names, and this node's own."""

    desk: Desk
    ttp: TTP
    record: TTPRecord
    log: VerifierKey
    signer: Signer

    def open(self, note: bytes) -> VerifiedCheckpoint:
        """Verify a checkpoint of this log."""
        return open_checkpoint(note, self.log, self.record.witnesses)

    def found(self, checkpoint: VerifiedCheckpoint, note: bytes, *, brought: bool) -> SeenCheckpoint:
        """Return what is to be remembered of a checkpoint."""
        return SeenCheckpoint(self.ttp.name, checkpoint.origin, checkpoint.size, note, brought, self.desk.now())

    def remember(self, base: SeenCheckpoint | None, seen: SeenCheckpoint) -> SeenCheckpoint:
        """Store it in the place of the one that it was compared with: the commit point (N2)."""
        with self.desk.store.transaction() as unit:
            current = unit.checkpoints.newest(self.ttp.name)
            if base is not None and current != base:
                raise Unavailable("another look was faster")
            unit.checkpoints.put(seen)
        return seen


class Distrust(Exception):
    """The log shows what an honest one can't. `notes` are both signed checkpoints."""

    def __init__(self, kind: str, reason: str, *signed: bytes) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.notes = signed


def require_trust(desk: Desk, ttp: str) -> None:
    """Require that new trades may be made at a TTP (N7). Raises Unavailable."""
    with desk.store.transaction() as unit:
        seen = unit.checkpoints.newest(ttp)
    if seen is not None and seen.stopped:
        raise Unavailable(f"no new trades at {ttp}: {seen.stopped}; the operator must look")


def require_witnesses(desk: Desk, record: TTPRecord, sender: str, recipients: Iterable[str]) -> None:
    """Require that the TTP waits for as many independent witnesses as this node wants (N8). Raises Forbidden."""
    wanted = desk.policy.quorum
    if not wanted:
        return
    if record.quorum < wanted:
        raise Forbidden(f"this node wants {wanted} witnesses of the ledger, {record.name} waits for {record.quorum}")
    policy = policies.of_quorum(record.witnesses, record.quorum)
    for recipient in recipients:
        if not policies.can_meet(policy, {domain_of(sender), domain_of(recipient)}):
            raise Forbidden(f"{record.name} has too few witnesses that are independent of you and {recipient}")


def show(unit: Unit, bundle: AnyBundle, now: int) -> None:
    """Keep the checkpoint of a verified bundle, to be compared with what the log shows to everybody (N6)."""
    if isinstance(bundle, DirectBundle):
        if bundle.anchor is None:
            return
        shown = bundle.anchor.lodged.shown
    else:
        shown = bundle.shown
    octets = proofs.decode(shown.proof).checkpoint
    state = witness.decode_state(octets)
    seen = unit.checkpoints.newest(bundle.manifest.core.ttp.name)
    if seen is not None and notes.parse(seen.note).text == notes.parse(octets).text:
        return
    unit.checkpoints.show(ShownCheckpoint(state.checkpoint.origin, state.checkpoint.size, octets, now))


def below_quorum(desk: Desk, bundle: Bundle) -> Alarm | None:
    """Return an alarm for a verified bundle with fewer witnesses than its TTP promised, if this node wants any (N8)."""
    core = bundle.manifest.core
    if not desk.policy.quorum or core.ttp.name not in desk.ttps:
        return None
    record = desk.book.record_of(desk.ttps[core.ttp.name]).record
    policy = policies.of_quorum(record.witnesses, record.quorum)
    note = notes.parse(proofs.decode(bundle.proof).checkpoint)
    try:
        signed = notes.verify(note, policy.keys).signatures if policy.keys else ()
    except EvidenceFault:
        signed = ()
    parties = {domain_of(core.sender.address), domain_of(core.recipient.address)}
    witnessing = policies.evaluate(policy, signed, parties)
    if witnessing.met:
        return None
    reason = f"the TTP promised a quorum of {record.quorum}; witnessed: {witnessing}"
    return Alarm("evidence below the quorum", bundle.manifest.exchange, reason, bundles.encode(bundle), desk.now())


def look(desk: Desk, ttp: TTP, signer: Signer) -> None:
    """Look at the log once: take a newer checkpoint, check what bundles showed, bring the cosignature.

    Raises SecMTPError when the TTP can't be asked; then nothing changed.
    """
    verified = desk.book.record_of(ttp)
    watch = Watch(desk, ttp, verified.record, _log_key(verified), signer)
    with desk.store.transaction() as unit:
        seen = unit.checkpoints.newest(ttp.name)
    if seen is not None and seen.stopped:
        return
    if seen is not None and seen.origin != watch.log.name:
        seen = None  # the TTP has another ledger now
    try:
        seen = _advance(watch, seen, watch.open(ttp.checkpoint()))
        _check_shown(watch, seen)
    except Distrust as distrust:
        _stop(watch, distrust)
        return
    _bring(watch, seen)


def _advance(watch: Watch, seen: SeenCheckpoint | None, newest: VerifiedCheckpoint) -> SeenCheckpoint:
    """Make a newer checkpoint the one that is remembered (N2)."""
    path: tuple[bytes, ...] = ()
    if seen is not None:
        before = watch.open(seen.note)
        if newest.size < before.size:
            return _behind(watch, seen, before, newest)
        if newest.size > before.size:
            path = watch.ttp.consistency(before.size, newest.size)
        _require_extension(before, newest, path)
        if newest.size == before.size and _has_own_line(seen.note, watch.signer):
            return watch.remember(seen, replace(seen, behind=0)) if seen.behind else seen
    if not _may_cosign(watch, seen, newest):
        if seen is not None and seen.size == newest.size:
            return seen
        return watch.remember(seen, watch.found(newest, newest.signed, brought=True))
    # The same rule as an external witness's; the state is what is stored, whoever cosigned it.
    state = None if seen is None else witness.decode_state(seen.note)
    request = AddCheckpoint(0 if seen is None else seen.size, path, newest.signed)
    decision = witness.decide(state, request, [watch.log], watch.signer, watch.desk.now())
    if not isinstance(decision.answer, Cosigned) or decision.state is None:
        reason = decision.answer.reason if isinstance(decision.answer, Refused) else "another look was faster"
        raise Unavailable(f"nothing is cosigned: {reason}")
    return watch.remember(seen, watch.found(newest, decision.state.note, brought=False))


def _require_extension(before: VerifiedCheckpoint, newest: VerifiedCheckpoint, path: tuple[bytes, ...]) -> None:
    try:
        check_extension(before, newest, path)
    except Fork as fork:
        raise Distrust(FORK, fork.reason, before.signed, newest.signed) from fork
    except EvidenceFault as fault:
        raise Distrust(INCONSISTENT, fault.reason, before.signed, newest.signed) from fault


def _may_cosign(watch: Watch, seen: SeenCheckpoint | None, newest: VerifiedCheckpoint) -> bool:
    """A key that hasn't cosigned yet waits for the quorum of others, where there is one (N3)."""
    if not watch.record.quorum or (seen is not None and _has_own_line(seen.note, watch.signer)):
        return True
    policy = policies.of_quorum(watch.record.witnesses, watch.record.quorum)
    return policies.evaluate(policy, newest.cosignatures).met


def _check_shown(watch: Watch, seen: SeenCheckpoint) -> None:
    """Compare what bundles showed with the log that everybody is shown (N6)."""
    desk, newest = watch.desk, watch.open(seen.note)
    with desk.store.transaction() as unit:
        shown = unit.checkpoints.shown(watch.log.name, CHECKS)
    for one in shown:
        checkpoint = watch.open(one.note)
        if checkpoint.size > newest.size:
            if desk.now() - one.time >= desk.policy.behind:
                raise _rollback(checkpoint, newest, desk.now() - one.time)
            return  # the log may be a moment behind its answers
        path = watch.ttp.consistency(checkpoint.size, newest.size) if checkpoint.size < newest.size else ()
        _require_extension(checkpoint, newest, path)
        with desk.store.transaction() as unit:
            unit.checkpoints.checked(one)


def _bring(watch: Watch, seen: SeenCheckpoint) -> None:
    """Bring the stored cosignature, until it is there. What the TTP doesn't take for good isn't brought again."""
    own = watch.signer.verifier
    lines = [line for line in notes.parse(seen.note).signatures if (line.name, line.key_id) == (own.name, own.key_id)]
    if seen.brought or not lines:
        return
    try:
        watch.ttp.put_cosignature(Cosignature(own, seen.size, lines[0]))
    except NotFound:
        return  # another process of the TTP has it: the next look brings it, or a newer one
    except (EvidenceFault, PeerFault) as error:
        watch.desk.tell("the TTP doesn't take our cosignature", reason=error.message)
    watch.remember(seen, replace(seen, brought=True))


def _behind(
    watch: Watch, seen: SeenCheckpoint, before: VerifiedCheckpoint, newest: VerifiedCheckpoint
) -> SeenCheckpoint:
    """A log may lag for a moment, when several processes serve it. After that it was set back (N6)."""
    now = watch.desk.now()
    if not seen.behind:
        seen = watch.remember(seen, replace(seen, behind=now))
    if now - seen.behind >= watch.desk.policy.behind:
        raise _rollback(before, newest, now - seen.behind)
    return seen


def _rollback(before: VerifiedCheckpoint, newest: VerifiedCheckpoint, seconds: int) -> Distrust:
    reason = f"{before.size} entries were signed, and for {seconds} s only {newest.size} are shown"
    return Distrust(ROLLBACK, reason, before.signed, newest.signed)


def _stop(watch: Watch, distrust: Distrust) -> None:
    """Keep both signed checkpoints, and make no new trades there (N7)."""
    desk, reason = watch.desk, f"{distrust.kind}: {distrust.reason}"
    with desk.store.transaction() as unit:
        unit.evidence.alarm(Alarm(distrust.kind, None, distrust.reason, b"\n".join(distrust.notes), desk.now()))
        seen = unit.checkpoints.newest(watch.ttp.name)
        if seen is not None:
            unit.checkpoints.put(replace(seen, stopped=reason))
    desk.tell(distrust.kind, ttp=watch.ttp.name, reason=distrust.reason, trades="stopped")


def _has_own_line(note: bytes, signer: Signer) -> bool:
    own = signer.verifier
    return any((line.name, line.key_id) == (own.name, own.key_id) for line in notes.parse(note).signatures)


def _log_key(verified: VerifiedTTP) -> VerifierKey:
    key = verified.ledger.public_key
    if not isinstance(key, Ed25519PublicKey):
        raise EvidenceFault("ledger.key", "the checkpoint key isn't Ed25519")
    return verifier_key(verified.record.log, KeyType.LOG, key)
