"""Anchoring what was exchanged directly (offline.md S8, R9): many exchanges in one request, off the mail's path.

Only then is it evidence, and only then is the receipt reported. Asking twice for the same digests does no harm: the
TTP answers with the entry that it has, or makes another one, and each is a time in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from secmtp_node.agents import releasing, witnessing
from secmtp_node.agents.desk import Desk
from secmtp_node.ports.store import Unit
from secmtp_node.ports.values import Evidence, Job, Task
from shared.errors import EvidenceFault, SecMTPError
from shared.evidence import anchored
from shared.evidence.bundle import DirectBundle
from shared.evidence.receipt import verify_bundle
from shared.exchange.sender import Event, State
from shared.ledger import anchor

MOST = 256  # exchanges in one request, of three digests each
OUTCOME = "ACKNOWLEDGED"


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An exchange that waits for its anchor; `bundle` is None where there is nothing to anchor any more."""

    job: Job
    bundle: DirectBundle | None


def anchor_batch(desk: Desk) -> bool:
    """Anchor everything that is due, in one request to each TTP; return whether there was anything.

    Commit point: the transaction that stores the anchored bundles. A crash before it: asked again at the next start.
    """
    with desk.store.transaction() as unit:
        waiting = [_Waiting(job, _bundle(unit, job.exchange)) for job in unit.jobs.due(Task.ANCHOR, desk.now(), MOST)]
        for one in waiting:
            if one.bundle is None:
                _finish(desk, unit, one.job.exchange)
    open_ones = [one for one in waiting if one.bundle is not None]
    for name in sorted({one.bundle.manifest.core.ttp.name for one in open_ones if one.bundle}):
        _anchor(desk, name, [one for one in open_ones if one.bundle and one.bundle.manifest.core.ttp.name == name])
    return bool(waiting)


def _anchor(desk: Desk, ttp: str, waiting: Sequence[_Waiting]) -> None:
    bundles = [one.bundle for one in waiting if one.bundle is not None]
    batch = anchor.batch(digest for bundle in bundles for digest in bundle.digests)
    try:
        lodged = desk.ttp(ttp).anchor(batch)
        proven = [_proven(desk, bundle, batch, lodged) for bundle in bundles]
    except SecMTPError as error:
        _postpone(desk, waiting, error)
        return
    with desk.store.transaction() as unit:
        for evidence in proven:
            _keep(desk, unit, evidence)
    desk.tell("anchored", exchanges=len(proven), digests=len(batch.digests))


def _proven(desk: Desk, bundle: DirectBundle, batch: anchor.Batch, lodged: anchored.Lodged) -> Evidence:
    """Make the bundle and verify it as a stranger would. Raises EvidenceFault."""
    whole = replace(bundle, anchor=anchored.prove(batch, bundle.digests, lodged))
    return Evidence(whole, OUTCOME, verify_bundle(whole, desk.root).time)


def _keep(desk: Desk, unit: Unit, evidence: Evidence) -> None:
    """Commit an anchored exchange. It takes the place of a token of no trade: positive evidence stands."""
    exchange = evidence.bundle.manifest.exchange
    unit.evidence.put(evidence)
    witnessing.show(unit, evidence.bundle, desk.now())
    _finish(desk, unit, exchange)


def _finish(desk: Desk, unit: Unit, exchange: bytes) -> None:
    """End the job. Where both parties are of this node the other side may have had it anchored already."""
    unit.jobs.finish(Task.ANCHOR, exchange)
    outgoing, evidence = unit.outgoing.find(exchange), unit.evidence.find(exchange)
    if outgoing is not None and outgoing.state is State.ACKED and evidence is not None:
        releasing.advance(desk, unit, outgoing, Event.ANCHORED)


def _bundle(unit: Unit, exchange: bytes) -> DirectBundle | None:
    """Return what is to be anchored of an exchange: what each side holds of it is the same."""
    found = unit.evidence.find(exchange)
    if found is not None and found.outcome in {"COMPLETED", OUTCOME}:
        return None
    for side in _sides(unit, exchange):
        if side.ack:
            return side
    return None


def _sides(unit: Unit, exchange: bytes) -> Iterable[DirectBundle]:
    for side in (unit.outgoing.find(exchange), unit.incoming.find(exchange)):
        if side is not None:
            yield DirectBundle(side.manifest, side.nro, side.nrr, side.ack)


def _postpone(desk: Desk, waiting: Sequence[_Waiting], error: SecMTPError) -> None:
    pause = min(desk.policy.longest_pause, max(desk.policy.first_pause, desk.policy.anchor_pause))
    with desk.store.transaction() as unit:
        for one in waiting:
            unit.jobs.postpone(one.job, desk.now() + pause, str(error))
    loud = isinstance(error, EvidenceFault)
    desk.tell("anchoring failed" if loud else "anchoring postponed", exchanges=len(waiting), reason=error.message)
