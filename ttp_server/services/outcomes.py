"""How an exchange comes to its one outcome inside the writer's transaction (docs/protocols/online.md T6, T7)."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import Forbidden
from shared.evidence import bundle as bundles
from shared.evidence import tokens
from shared.evidence.manifest import Core, Manifest
from shared.evidence.tokens import NRO, KeyState, LedgerPlace
from shared.exchange.ttp import State
from shared.ledger import entry as entries
from shared.ledger.entry import ExchangeEntry
from ttp_server.ports.store import Transaction
from ttp_server.ports.values import Revoked, StoredExchange
from ttp_server.services.desk import Desk, parties
from ttp_server.services.sequencer import Appended


@dataclass(frozen=True, slots=True)
class Ended:
    """An exchange that ends now, in a state, at a place in the ledger. Each outcome has its own further parts."""

    manifest: Manifest
    nro: NRO
    state: State
    place: LedgerPlace
    salt: bytes
    nrr: str | None = None
    abort: str | None = None
    masked: bytes | None = None


def end_without_trade(desk: Desk, transaction: Transaction, ended: Ended) -> Appended[StoredExchange]:
    """End an exchange as EXPIRED or INVALID. An NRR that came with it is neither stored nor handed out."""
    token = tokens.sign_refusal(
        ended.state.value,
        ended.manifest.exchange,
        ended.nro.digest,
        ended.place,
        desk.signer.key,
        desk.signer.chain,
    )
    return append(transaction, ended, token)


def append(transaction: Transaction, ended: Ended, token: str) -> Appended[StoredExchange]:
    """Write the row, and return the entry that is to be appended with it."""
    manifest, nro = ended.manifest, ended.nro.compact
    body = bundles.body(manifest, nro, ended.nrr, token, ended.abort)
    digest = entries.body_digest(ended.salt, body)
    entry = ExchangeEntry(manifest.exchange, ended.state.value, ended.masked, digest, ended.place.time)
    row = StoredExchange(
        exchange=manifest.exchange,
        state=ended.state.value,
        index=ended.place.index,
        time=ended.place.time,
        manifest=manifest.octets,
        nro=nro,
        nrr=ended.nrr,
        token=token,
        salt=ended.salt,
        domains=parties(manifest),
        abort=ended.abort,
    )
    transaction.put_exchange(row)
    return Appended("exchange", entries.encode(entry), ended.salt, body, row)


def revocation_state(revoked: Revoked | None, core: Core, time: int) -> KeyState:
    """Return the state of a key at a ledger time. Raises Forbidden when its revocation counts (directory.md D13)."""
    if revoked is None:
        return KeyState()
    if time >= revoked.effective:
        raise Forbidden("a key of this exchange is revoked, and the notice has passed", code="key-revoked")
    stop_new(revoked, core)
    return KeyState(revoked.effective)


def stop_new(revoked: Revoked | None, core: Core) -> None:
    """Raise Forbidden if a key was revoked before M was created: that stops at once, notice or not."""
    if revoked is not None and core.created >= revoked.time:
        raise Forbidden("a key of this exchange was revoked before M was created", code="key-revoked")
