"""`complete`, `status` and evidence of exchanges (docs/protocols/online.md T1 to T9).

Pure checks come first; whatever depends on state or time is read again inside the writer's
transaction. Only what M itself commits to can end an exchange; everything else is an error without
state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.api.messages import CompleteRequest, StatusRequest
from shared.crypto.certificates import Purpose, TrustRoot, verify_chain
from shared.crypto.keys import SigningKey
from shared.encoding.address import domain_of
from shared.errors import ConfigurationError, EvidenceFault, Forbidden, NotFound, OurFault, Unavailable
from shared.evidence import bundle as bundles
from shared.evidence import manifest as manifests
from shared.evidence import tokens
from shared.evidence.bundle import Bundle
from shared.evidence.composition import DoesNotOpen, Opened
from shared.evidence.manifest import Core, Manifest
from shared.evidence.tokens import NRO, NRR, KeyState, LedgerPlace, Trade
from shared.evidence.verification import require, verify_nro, verify_nrr
from shared.exchange import ttp
from shared.exchange.machine import step
from shared.exchange.ttp import Action, State
from shared.ledger import entry as entries
from shared.ledger.entry import ExchangeEntry
from ttp_server.ports import Clock, EscrowCustody, Identity, Revoked, Store, StoredExchange, Transaction
from ttp_server.services.ledger import Ledger
from ttp_server.services.sequencer import Answered, Appended, Sequencer


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs the TTP's tokens with its NRD key."""

    key: SigningKey
    chain: Sequence[bytes]


@dataclass(frozen=True)
class Desk:
    """What every use case about exchanges works with."""

    identity: Identity
    root: TrustRoot
    signer: Signer
    custody: EscrowCustody
    store: Store
    ledger: Ledger
    sequencer: Sequencer
    clock: Clock

    def bundle(self, stored: StoredExchange) -> Bundle:
        """Return the bundle of a stored outcome: the stored tokens, a proof under the newest checkpoint."""
        if stored.index >= self.ledger.snapshot.size or not self.sequencer.suits(stored.domains):
            # Committed a moment ago, or by a batch whose checkpoint couldn't be stored, or witnessed only by who
            # doesn't count here. The writer signs the tree and asks witnesses before it answers whoever asks
            # next; a proof that isn't there would look like "unknown".
            self.sequencer.submit(_Known(stored))
        snapshot = self.ledger.snapshot
        if not self.sequencer.suits(stored.domains):
            raise Unavailable("too few witnesses that are independent of the parties have cosigned; ask again")
        return Bundle(
            manifest=manifests.decode(stored.manifest),
            nro=stored.nro,
            nrr=stored.nrr,
            token=stored.token,
            salt=stored.salt,
            proof=self.ledger.proof(stored.index, snapshot),
            ledger=self.identity.ledger_certificate,
        )

    def check_own_certificates(self, at: int) -> None:
        """Require that the TTP's own certificates hold at a ledger time: a token that no verifier takes isn't signed.

        Raises ConfigurationError.
        """
        own = {Purpose.NRD: self.identity.nrd_certificate, Purpose.LEDGER: self.identity.ledger_certificate}
        try:
            for purpose, certificate in own.items():
                verify_chain([certificate], self.root, {purpose}, at)
        except EvidenceFault as error:
            raise ConfigurationError(f"the TTP's own certificate: {error.message}; renew it and restart") from error

    def stored(self, exchange: bytes) -> StoredExchange | None:
        """Return the outcome of hM if there is one."""
        with self.store.reading() as reading:
            return reading.exchange(exchange)


@dataclass(frozen=True, slots=True)
class _Known:
    """Nothing new: waits in the writer's queue until the tree that holds this outcome is signed (T8, T9)."""

    stored: StoredExchange

    def decide(self, transaction: Transaction, place: LedgerPlace) -> Answered[StoredExchange]:
        """Answer what is stored."""
        return Answered(self.stored)


def complete(desk: Desk, request: CompleteRequest) -> Bundle:
    """Trade s_T for the NRR, or return what was decided before. Raises SecMTPError; then nothing changed."""
    manifest = request.manifest
    decided = desk.stored(manifest.exchange)  # T1
    if decided is not None:
        return desk.bundle(decided)
    _check_names(desk, manifest)  # T2
    desk.sequencer.check_parties(_domains(manifest))
    now = desk.clock.now()
    nro, nrr = _verified(desk, request, now)  # T3
    try:
        escrow = desk.custody.open(manifest, request.escrow)  # T4, T5
    except OurFault:
        if now < manifest.core.expires:
            raise
        # The key may be destroyed by now; that the exchange has expired needs none.
        expired = _Status(desk, StatusRequest(manifest, request.nro), nro, now, desk.clock.random(32))
        return desk.bundle(desk.sequencer.submit(expired))
    proposal = _Complete(desk, request, nro, nrr, now, escrow, desk.clock.random(32))
    return desk.bundle(desk.sequencer.submit(proposal))  # T6 to T9


def status(desk: Desk, request: StatusRequest, domains: Sequence[str]) -> Bundle:
    """Return the outcome of an exchange to a node of one of its parties; write EXPIRED when it is due."""
    manifest = request.manifest
    _require_party(_domains(manifest), domains)
    decided = desk.stored(manifest.exchange)
    if decided is not None:
        return desk.bundle(decided)
    _check_names(desk, manifest)
    now = desk.clock.now()
    nro = verify_nro(request.nro, manifest, desk.root, now)
    return desk.bundle(desk.sequencer.submit(_Status(desk, request, nro, now, desk.clock.random(32))))


def evidence(desk: Desk, exchange: bytes, domains: Sequence[str]) -> Bundle:
    """Return the evidence of an exchange to a node of one of its parties. Raises NotFound to anybody else."""
    stored = desk.stored(exchange)
    if stored is None or not set(stored.domains) & set(domains):
        raise NotFound("no evidence of this exchange for this node; that is no evidence of anything")
    return desk.bundle(stored)


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
            return _refused(self.desk, transaction, _Ended(self.manifest, self.nro, rule.next, place, self.salt))
        keys = self._key_states(transaction, place.time)
        if rule.next is State.INVALID or isinstance(self.escrow, DoesNotOpen):
            return _refused(self.desk, transaction, _Ended(self.manifest, self.nro, State.INVALID, place, self.salt))
        return self._completed(transaction, place, self.escrow.share, keys)

    def _key_states(self, transaction: Transaction, time: int) -> tuple[KeyState, KeyState]:
        core = self.manifest.core
        sender, recipient = core.sender, core.recipient
        origin = _revocation_state(transaction.revocation(sender.address, sender.origin_key), core, time)
        receipt = _revocation_state(transaction.revocation(recipient.address, recipient.receipt_key), core, time)
        # No evidence rests on the HPKE key, so it only stops what was made after its revocation: whoever stole
        # it would read what the TTP trades.
        _stop_new(transaction.revocation(recipient.address, recipient.hpke_key), core)
        return origin, receipt

    def _completed(
        self, transaction: Transaction, place: LedgerPlace, share: bytes, keys: tuple[KeyState, KeyState]
    ) -> Appended[StoredExchange]:
        exchange = self.manifest.exchange
        trade = Trade(exchange, self.nro.digest, self.nrr.digest, share, *keys)
        signer = self.desk.signer
        token = tokens.sign_nrd(trade, place, signer.key, signer.chain)
        masked = entries.mask(share, self.manifest.core.nonce, exchange)
        ended = _Ended(self.manifest, self.nro, State.COMPLETED, place, self.salt)
        return _append(transaction, ended, token, self.nrr.compact, masked)


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
        return _refused(self.desk, transaction, _Ended(manifest, self.nro, rule.next, place, self.salt))


@dataclass(frozen=True, slots=True)
class _Ended:
    """An exchange that ends now, in a state, at a place in the ledger."""

    manifest: Manifest
    nro: NRO
    state: State
    place: LedgerPlace
    salt: bytes


def _refused(desk: Desk, transaction: Transaction, ended: _Ended) -> Appended[StoredExchange]:
    """End an exchange without a trade. An NRR that came with it is neither stored nor handed out."""
    token = tokens.sign_refusal(
        ended.state.value,
        ended.manifest.exchange,
        ended.nro.digest,
        ended.place,
        desk.signer.key,
        desk.signer.chain,
    )
    return _append(transaction, ended, token, None, None)


def _append(
    transaction: Transaction, ended: _Ended, token: str, nrr: str | None, masked: bytes | None
) -> Appended[StoredExchange]:
    manifest, nro = ended.manifest, ended.nro.compact
    body = bundles.body(manifest, nro, nrr, token)
    digest = entries.body_digest(ended.salt, body)
    entry = ExchangeEntry(manifest.exchange, ended.state.value, masked, digest, ended.place.time)
    row = StoredExchange(
        exchange=manifest.exchange,
        state=ended.state.value,
        index=ended.place.index,
        time=ended.place.time,
        manifest=manifest.octets,
        nro=nro,
        nrr=nrr,
        token=token,
        salt=ended.salt,
        domains=_domains(manifest),
    )
    transaction.put_exchange(row)
    return Appended("exchange", entries.encode(entry), ended.salt, body, row)


def _revocation_state(revoked: Revoked | None, core: Core, time: int) -> KeyState:
    """Return the state of a key at a ledger time. Raises Forbidden when its revocation counts (directory.md D13)."""
    if revoked is None:
        return KeyState()
    if time >= revoked.effective:
        raise Forbidden("a key of this exchange is revoked, and the notice has passed", code="key-revoked")
    _stop_new(revoked, core)
    return KeyState(revoked.effective)


def _stop_new(revoked: Revoked | None, core: Core) -> None:
    if revoked is not None and core.created >= revoked.time:
        raise Forbidden("a key of this exchange was revoked before M was created", code="key-revoked")


def _check_names(desk: Desk, manifest: Manifest) -> None:
    """Require that M names this TTP and an epoch that is open until it expires (T2)."""
    ttp_named, own = manifest.core.ttp, desk.identity
    for name, found, expected in (
        ("ttp.name", ttp_named.name, own.name),
        ("ttp.log", ttp_named.log, own.log),
        ("ttp.nrd-key", ttp_named.nrd_key, own.nrd_key),
        ("ttp.checkpoint-key", ttp_named.checkpoint_key, own.checkpoint_key),
    ):
        require(found == expected, name, f"M names {_shown(found)}, this TTP is {_shown(expected)}")
    # Also one whose key is destroyed: `status` needs no key, and to `complete` its loss is our fault, not M's.
    epoch = desk.custody.epoch(ttp_named.epoch)
    known = epoch is not None and epoch.key.key_id == ttp_named.escrow_key
    require(known, "ttp.epoch", f"M names an escrow key of epoch {ttp_named.epoch} that this TTP never offered")
    fits = epoch is not None and epoch.key.kind == manifest.core.suite.kem
    require(fits, "ttp.epoch", f"M's suite {manifest.core.suite.name} doesn't fit the escrow key that it names")
    late = epoch is not None and manifest.core.expires > epoch.open_until
    require(not late, "ttp.epoch", "M expires after its epoch has closed")


def _shown(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.hex()[:16]


def _domains(manifest: Manifest) -> tuple[str, ...]:
    core = manifest.core
    return tuple(dict.fromkeys((domain_of(core.sender.address), domain_of(core.recipient.address))))


def _require_party(parties: Sequence[str], domains: Sequence[str]) -> None:
    if not set(parties) & set(domains):
        raise Forbidden("only nodes of the sender's and the recipient's domain may ask about an exchange")
