"""`abort` and `refuse`: what one party alone may say about an exchange (docs/protocols/offline.md T1 to T4).

An abort ends an exchange that is still open; a refusal never does. Anything that isn't wholly right is an
error without state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.api.messages import AbortRequest, RefuseRequest
from shared.encoding.address import domain_of
from shared.evidence import tokens
from shared.evidence.bundle import Bundle
from shared.evidence.refusal import RefusalFile
from shared.evidence.statements import Abort, Refuse, verify_abort, verify_refuse
from shared.evidence.tokens import NRO, LedgerPlace
from shared.evidence.verification import verify_nro
from shared.exchange import ttp
from shared.exchange.machine import step
from shared.exchange.ttp import State
from shared.ledger import anchor as anchors
from shared.ledger import entry as entries
from ttp_server.ports.store import Transaction
from ttp_server.ports.values import StoredEntry, StoredExchange, StoredRefusal
from ttp_server.services.desk import Desk, check_names, parties, require_domain
from ttp_server.services.outcomes import Ended, append, end_without_trade, revocation_state
from ttp_server.services.sequencer import Answered, Appended


def abort(desk: Desk, request: AbortRequest, domains: Sequence[str]) -> Bundle:
    """End an open exchange at its sender's word, or return what was decided before. Raises SecMTPError."""
    manifest = request.manifest
    # A thief of the statement, and the recipient above all, must not be able to use it after reading (S2).
    require_domain([domain_of(manifest.core.sender.address)], domains, "the sender's")
    decided = desk.stored(manifest.exchange)  # T1
    if decided is not None:
        return desk.bundle(decided)
    check_names(desk, manifest)  # T2
    desk.sequencer.check_parties(parties(manifest))
    now = desk.clock.now()
    nro, statement = _verified_abort(desk, request, now)
    return desk.bundle(desk.sequencer.submit(_Abort(desk, request, nro, statement, now, desk.clock.random(32))))


def refuse(desk: Desk, request: RefuseRequest, domains: Sequence[str]) -> Bundle | RefusalFile:
    """Record that the recipient refuses, or return the outcome, or the refusal that is stored. Raises SecMTPError."""
    manifest = request.manifest
    require_domain([domain_of(manifest.core.recipient.address)], domains, "the recipient's")
    decided = desk.stored(manifest.exchange)  # T1
    if decided is not None:
        return desk.bundle(decided)
    check_names(desk, manifest)  # T2
    now = desk.clock.now()
    nro, statement = _verified_refuse(desk, request, now)
    stored = desk.sequencer.submit(_Refuse(desk, request, nro, statement, now, desk.clock.random(32)))
    return desk.bundle(stored) if isinstance(stored, StoredExchange) else desk.refusal(stored)


def _verified_abort(desk: Desk, request: AbortRequest, at: int) -> tuple[NRO, Abort]:
    nro = verify_nro(request.nro, request.manifest, desk.root, at)
    return nro, verify_abort(request.abort, request.manifest, nro, desk.root, at)


def _verified_refuse(desk: Desk, request: RefuseRequest, at: int) -> tuple[NRO, Refuse]:
    nro = verify_nro(request.nro, request.manifest, desk.root, at)
    return nro, verify_refuse(request.refuse, request.manifest, nro, desk.root, at)


@dataclass(frozen=True)
class _Abort:
    """A fully verified `abort`, to be decided inside the transaction."""

    desk: Desk
    request: AbortRequest
    nro: NRO
    statement: Abort
    checked: int
    salt: bytes

    def decide(
        self, transaction: Transaction, place: LedgerPlace
    ) -> Appended[StoredExchange] | Answered[StoredExchange]:
        """Step the exchange by the table, with time, state and the origin key's state as they are now (T3)."""
        manifest, desk = self.request.manifest, self.desk
        stored = transaction.exchange(manifest.exchange)
        event = ttp.aborting(place.time, manifest.core.expires)
        rule = step(ttp.TABLE, State(stored.state) if stored else State.OPEN, event)
        if stored is not None:
            return Answered(stored)
        if place.time != self.checked:
            _verified_abort(desk, self.request, place.time)
        desk.check_own_certificates(place.time)
        if rule.next is State.EXPIRED:
            return end_without_trade(desk, transaction, Ended(manifest, self.nro, rule.next, place, self.salt))
        sender = manifest.core.sender
        revocation_state(transaction.revocation(sender.address, sender.origin_key), manifest.core, place.time)
        named = (self.nro.digest, self.statement.digest)
        token = tokens.sign_aborted(manifest.exchange, named, place, desk.signer.key, desk.signer.chain)
        ended = Ended(manifest, self.nro, rule.next, place, self.salt, abort=self.statement.compact)
        return append(transaction, ended, token)


@dataclass(frozen=True)
class _Refuse:
    """A fully verified `refuse`, to be decided inside the transaction."""

    desk: Desk
    request: RefuseRequest
    nro: NRO
    statement: Refuse
    checked: int
    salt: bytes

    def decide(
        self, transaction: Transaction, place: LedgerPlace
    ) -> Appended[StoredExchange | StoredRefusal] | Answered[StoredExchange | StoredRefusal]:
        """Step the exchange by the table; while it stays open, store and anchor the first refusal (T4)."""
        manifest, desk = self.request.manifest, self.desk
        stored = transaction.exchange(manifest.exchange)
        event = ttp.refusing(place.time, manifest.core.expires)
        rule = step(ttp.TABLE, State(stored.state) if stored else State.OPEN, event)
        if stored is not None:
            return Answered(stored)
        if place.time != self.checked:
            _verified_refuse(desk, self.request, place.time)
        desk.check_own_certificates(place.time)
        if rule.next is State.EXPIRED:
            ended = end_without_trade(desk, transaction, Ended(manifest, self.nro, rule.next, place, self.salt))
            return Appended(ended.kind, ended.entry, ended.salt, ended.body, ended.answer)
        first = transaction.refusal(manifest.exchange)
        return self._record(transaction, place) if first is None else Answered(first)

    def _record(self, transaction: Transaction, place: LedgerPlace) -> Appended[StoredExchange | StoredRefusal]:
        manifest = self.request.manifest
        recipient = manifest.core.recipient
        revocation_state(transaction.revocation(recipient.address, recipient.receipt_key), manifest.core, place.time)
        batch = anchors.batch([self.statement.digest])
        octets = entries.encode(batch.entry(self.salt, place.time))
        entry = StoredEntry.of("anchor", octets, place, self.salt, batch.body)
        row = StoredRefusal(manifest.exchange, manifest.octets, self.nro.compact, self.statement.compact, entry)
        transaction.put_refusal(row)
        return Appended("anchor", octets, self.salt, batch.body, row)
