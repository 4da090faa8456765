"""`complete`, `status` and evidence of exchanges (docs/protocols/online.md T1 to T9).

Pure checks come first; whatever depends on state or time is read again inside the writer's
transaction. Only what M itself commits to can end an exchange; everything else is an error without
state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.api.messages import CompleteRequest, StatusRequest
from shared.errors import NotFound, OurFault
from shared.evidence import tokens
from shared.evidence.bundle import Bundle
from shared.evidence.composition import DoesNotOpen, Opened
from shared.evidence.manifest import Manifest
from shared.evidence.refusal import RefusalFile
from shared.evidence.tokens import NRO, NRR, KeyState, LedgerPlace, Trade
from shared.evidence.verification import verify_nro, verify_nrr
from shared.exchange import ttp
from shared.exchange.machine import step
from shared.exchange.ttp import Action, State
from shared.ledger import entry as entries
from ttp_server.ports.store import Transaction
from ttp_server.ports.values import StoredExchange
from ttp_server.services.desk import Desk, check_names, parties, require_domain
from ttp_server.services.outcomes import Ended, append, end_without_trade, revocation_state, stop_new
from ttp_server.services.sequencer import Answered, Appended


def complete(desk: Desk, request: CompleteRequest) -> Bundle:
    """Trade s_T for the NRR, or return what was decided before. Raises SecMTPError; then nothing changed."""
    manifest = request.manifest
    decided = desk.stored(manifest.exchange)  # T1
    if decided is not None:
        return desk.bundle(decided)
    check_names(desk, manifest)  # T2
    desk.sequencer.check_parties(parties(manifest))
    now = desk.clock.now()
    nro, nrr = _verified(desk, request, now)  # T3
    try:
        escrow = desk.custody.open(manifest, request.escrow)  # T4, T5
    except OurFault:
        if now < manifest.core.expires:
            raise
        # The key may be destroyed by now; that the exchange has expired needs none.
        return _known(desk, StatusRequest(manifest, request.nro), nro, now)
    proposal = _Complete(desk, request, nro, nrr, now, escrow, desk.clock.random(32))
    return desk.bundle(desk.sequencer.submit(proposal))  # T6 to T9


def status(desk: Desk, request: StatusRequest, domains: Sequence[str]) -> Bundle | RefusalFile:
    """Return the outcome of an exchange to a node of one of its parties; write EXPIRED when it is due.

    While there is none, a stored refusal is the answer (offline.md T4). Raises NotFound when nothing is known.
    """
    manifest = request.manifest
    require_domain(parties(manifest), domains, "the sender's and the recipient's")
    decided = desk.stored(manifest.exchange)
    if decided is not None:
        return desk.bundle(decided)
    check_names(desk, manifest)
    now = desk.clock.now()
    nro = verify_nro(request.nro, manifest, desk.root, now)
    try:
        return _known(desk, request, nro, now)
    except NotFound:
        with desk.store.reading() as reading:
            refusal = reading.refusal(manifest.exchange)
        if refusal is None:
            raise
    return desk.refusal(refusal)


def evidence(desk: Desk, exchange: bytes, domains: Sequence[str]) -> Bundle:
    """Return the evidence of an exchange to a node of one of its parties. Raises NotFound to anybody else."""
    stored = desk.stored(exchange)
    if stored is None or not set(stored.domains) & set(domains):
        raise NotFound("no evidence of this exchange for this node; that is no evidence of anything")
    return desk.bundle(stored)


def _known(desk: Desk, request: StatusRequest, nro: NRO, now: int) -> Bundle:
    return desk.bundle(desk.sequencer.submit(_Status(desk, request, nro, now, desk.clock.random(32))))


def _verified(desk: Desk, request: CompleteRequest, at: int) -> tuple[NRO, NRR]:
    """Verify NRO and NRR at an instant.

    It is done at once with the clock's time, before anything waits, and again at ledger time if that is
    another: every verifier of the bundle judges the certificates at the time that the NRD states, and s_T
    must not leave for a receipt that nobody takes.
    """
    nro = verify_nro(request.nro, request.manifest, desk.root, at)
    return nro, verify_nrr(request.nrr, request.manifest, nro, desk.root, at)


@dataclass(frozen=True)
class _Complete:
    """A fully verified `complete`, to be decided inside the transaction."""

    desk: Desk
    request: CompleteRequest
    nro: NRO
    nrr: NRR
    checked: int
    escrow: Opened | DoesNotOpen
    salt: bytes

    @property
    def manifest(self) -> Manifest:
        """M."""
        return self.request.manifest

    def decide(
        self, transaction: Transaction, place: LedgerPlace
    ) -> Appended[StoredExchange] | Answered[StoredExchange]:
        """Step the exchange by the table, with time, state and key states as they are now (T6, T7)."""
        stored = transaction.exchange(self.manifest.exchange)
        event = ttp.completing(place.time, self.manifest.core.expires, self.escrow)
        rule = step(ttp.TABLE, State(stored.state) if stored else State.OPEN, event)
        if stored is not None:
            return Answered(stored)
        if place.time != self.checked:
            _verified(self.desk, self.request, place.time)
        self.desk.check_own_certificates(place.time)
        if rule.next is State.EXPIRED:
            return end_without_trade(
                self.desk, transaction, Ended(self.manifest, self.nro, rule.next, place, self.salt)
            )
        keys = self._key_states(transaction, place.time)
        if rule.next is State.INVALID or isinstance(self.escrow, DoesNotOpen):
            return end_without_trade(
                self.desk, transaction, Ended(self.manifest, self.nro, State.INVALID, place, self.salt)
            )
        return self._completed(transaction, place, self.escrow.share, keys)

    def _key_states(self, transaction: Transaction, time: int) -> tuple[KeyState, KeyState]:
        core = self.manifest.core
        sender, recipient = core.sender, core.recipient
        origin = revocation_state(transaction.revocation(sender.address, sender.origin_key), core, time)
        receipt = revocation_state(transaction.revocation(recipient.address, recipient.receipt_key), core, time)
        # No evidence rests on the HPKE key, so it only stops what was made after its revocation: whoever stole
        # it would read what the TTP trades.
        stop_new(transaction.revocation(recipient.address, recipient.hpke_key), core)
        return origin, receipt

    def _completed(
        self, transaction: Transaction, place: LedgerPlace, share: bytes, keys: tuple[KeyState, KeyState]
    ) -> Appended[StoredExchange]:
        exchange = self.manifest.exchange
        trade = Trade(exchange, self.nro.digest, self.nrr.digest, share, *keys)
        signer = self.desk.signer
        token = tokens.sign_nrd(trade, place, signer.key, signer.chain)
        masked = entries.mask(share, self.manifest.core.nonce, exchange)
        ended = Ended(self.manifest, self.nro, State.COMPLETED, place, self.salt, nrr=self.nrr.compact, masked=masked)
        return append(transaction, ended, token)


@dataclass(frozen=True)
class _Status:
    """A verified `status`: writes EXPIRED when it is due, and nothing otherwise."""

    desk: Desk
    request: StatusRequest
    nro: NRO
    checked: int
    salt: bytes

    def decide(
        self, transaction: Transaction, place: LedgerPlace
    ) -> Appended[StoredExchange] | Answered[StoredExchange]:
        """Step the exchange by the table."""
        manifest = self.request.manifest
        stored = transaction.exchange(manifest.exchange)
        event = ttp.asking(place.time, manifest.core.expires)
        rule = step(ttp.TABLE, State(stored.state) if stored else State.OPEN, event)
        if stored is not None:
            return Answered(stored)
        if Action.ANSWER_UNKNOWN in rule.actions:
            raise NotFound("nothing is known of this exchange yet, which is no evidence of anything")
        if place.time != self.checked:
            verify_nro(self.request.nro, manifest, self.desk.root, place.time)
        self.desk.check_own_certificates(place.time)
        return end_without_trade(self.desk, transaction, Ended(manifest, self.nro, rule.next, place, self.salt))
