"""The directory: domain records, key bindings, revocations (docs/protocols/directory.md D9 to D13)."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from shared.api.messages import Listing
from shared.crypto import signing
from shared.crypto.certificates import TrustRoot
from shared.crypto.keys import decode_public
from shared.encoding.address import domain_of, normal_address
from shared.encoding.labels import H
from shared.errors import Conflict, Forbidden, NotFound
from shared.evidence.binding import Binding, verify_binding
from shared.evidence.records import verify_domain
from shared.evidence.revocation import Revocation, verify_revocation
from shared.evidence.tokens import LedgerPlace
from shared.ledger import entry as entries
from shared.ledger.entry import BindingEntry, RevocationEntry, body_digest
from ttp_server.ports.services import Clock
from ttp_server.ports.store import Reading, Store, Transaction
from ttp_server.ports.values import BoundKeys, Revoked
from ttp_server.services.sequencer import Answered, Appended, Sequencer

UNKNOWN = "no certified recipient with this address"


@dataclass(frozen=True)
class Directory:
    """What the use cases of the directory work with. `notice` is in seconds."""

    store: Store
    sequencer: Sequencer
    root: TrustRoot
    clock: Clock
    notice: int


def look_up(directory: Directory, address: str) -> Listing:
    """Return the binding and the domain record of an address. One answer for all that isn't there (D9)."""
    address = normal_address(address)
    with directory.store.reading() as stored:
        binding = stored.binding(address)
        record = stored.domain_record(domain_of(address))
        if binding is None or record is None or _is_revoked(stored, binding):
            raise NotFound(UNKNOWN)
    return Listing(binding.token, record)


def put_domain(directory: Directory, token: str, domains: Sequence[str]) -> None:
    """Publish a domain's record (D5, D10). Repeating it is harmless; an older one than the stored is refused."""
    record = verify_domain(token, directory.root, directory.clock.now())
    _require_own(record.domain, domains)
    with directory.store.writing() as transaction:
        current = transaction.domain_record(record.domain)
        if current == token:
            return
        if current is not None and _issued(current) > record.issued:
            raise Conflict(f"a newer record of {record.domain} is published; sign a new one")
        # Commit point: leaving this block. Before it the old record stands, after it the new one.
        transaction.put_domain(record.domain, token)


def put_binding(directory: Directory, token: str, domains: Sequence[str]) -> None:
    """Publish a key binding (D1 to D4, D10, D11); it becomes a ledger entry."""
    now = directory.clock.now()
    binding = verify_binding(token, directory.root, now)
    _require_own(domain_of(binding.address), domains)
    directory.sequencer.submit(_PutBinding(binding, directory.clock.random(32), directory.root, now))


def revoke(directory: Directory, token: str, domains: Sequence[str]) -> None:
    """Revoke a key that was bound to an address (D12, D13); it becomes a ledger entry with its notice."""
    now = directory.clock.now()
    revocation = verify_revocation(token, directory.root, now)
    _require_own(domain_of(revocation.address), domains)
    directory.sequencer.submit(
        _Revoke(revocation, token, directory.notice, directory.clock.random(32), directory.root, now)
    )


@dataclass(frozen=True)
class _PutBinding:
    """A verified binding. Whoever audits the ledger judges it at ledger time, so if that is another, so do we."""

    binding: Binding
    salt: bytes
    root: TrustRoot
    checked: int

    def decide(self, transaction: Transaction, place: LedgerPlace) -> Appended[None] | Answered[None]:
        """Accept the first binding of an address, or one that names the current one."""
        binding = self.binding
        current = transaction.binding(binding.address)
        if current is not None and current.digest == binding.digest:
            return Answered(None)
        expected = None if current is None else current.digest
        if binding.predecessor != expected:
            raise Conflict(f"the binding of {binding.address} doesn't name the current one as its predecessor")
        if transaction.same_person(binding.address, folded(binding.address)) is not None:
            raise Conflict(f"{binding.address} differs from a bound address only in its Unicode form")
        if place.time != self.checked:
            verify_binding(binding.compact, self.root, place.time)
        body = binding.compact.encode("ascii")
        entry = BindingEntry(H("binding", self.salt, binding.digest), body_digest(self.salt, body), place.time)
        transaction.put_binding(bound(binding, place.index), folded(binding.address))
        return Appended("binding", entries.encode(entry), self.salt, body, None)


@dataclass(frozen=True)
class _Revoke:
    """A verified revocation, judged at ledger time as a binding is."""

    revocation: Revocation
    token: str
    notice: int
    salt: bytes
    root: TrustRoot
    checked: int

    def decide(self, transaction: Transaction, place: LedgerPlace) -> Appended[None] | Answered[None]:
        """Write the first revocation of a key; a second one changes nothing."""
        revocation = self.revocation
        if not transaction.was_bound(revocation.address, revocation.key):
            raise NotFound(f"that key was never bound to {revocation.address}")
        if transaction.revocation(revocation.address, revocation.key) is not None:
            return Answered(None)
        if place.time != self.checked:
            verify_revocation(self.token, self.root, place.time)
        revoked = Revoked(place.time, place.time + self.notice)
        body = self.token.encode("ascii")
        entry = RevocationEntry(
            id=H("revocation", self.salt, revocation.key),
            key=revocation.key,
            effective=revoked.effective,
            body=body_digest(self.salt, body),
            time=place.time,
        )
        transaction.put_revocation(revocation.address, revocation.key, revoked, place.index)
        return Appended("revocation", entries.encode(entry), self.salt, body, None)


def folded(address: str) -> str:
    """Return the form in which addresses of one person are the same (D11)."""
    return unicodedata.normalize("NFC", address)


def bound(binding: Binding, index: int) -> BoundKeys:
    """Return the row of a binding whose entry has this index."""
    keys = (binding.origin.key_id, binding.receipt.key_id, binding.hpke.key_id)
    return BoundKeys(binding.address, binding.compact, binding.digest, keys, binding.receipt.key_id, index)


def _is_revoked(stored: Reading, binding: BoundKeys) -> bool:
    """Whether a new exchange must not be made with this binding. It was verified when it was published."""
    hpke = decode_public(signing.parse(binding.token, signing.BINDING).fields().take("hpke"))
    return any(stored.revocation(binding.address, key) for key in (binding.receipt_key, hpke.key_id))


def _issued(record: str) -> int:
    """Return when a stored record was issued. It was verified then; its CA's certificate may have ended since."""
    return signing.parse(record, signing.DOMAIN).fields().integer("issued")


def _require_own(domain: str, domains: Sequence[str]) -> None:
    if domain not in domains:
        raise Forbidden(f"this node is enrolled for {', '.join(domains)}, not for {domain}")
