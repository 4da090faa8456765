"""What the TTPs' directories say, verified and remembered: recipients, peers, and the TTPs themselves.

A record counts only as long as it verifies now. A sender's node pins the binding that it used, so that
a directory can't slip in other keys for an address (directory.md D4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from secmtp_node.ports.services import TTP
from secmtp_node.ports.store import Store, Unit
from secmtp_node.ports.values import CachedListing, Pin
from shared.crypto.certificates import TrustRoot
from shared.encoding.labels import H
from shared.errors import EvidenceFault, Forbidden, Unavailable
from shared.evidence.binding import Binding, check_pin, verify_binding
from shared.evidence.manifest import NamedTTP
from shared.evidence.records import DomainRecord, EscrowEpoch, VerifiedTTP, verify_domain, verify_ttp

LISTING_AGE = 300
RECORD_AGE = 3600


@dataclass(frozen=True, slots=True)
class Known:
    """A recipient as the directory lists it, verified: keys, and the node of its domain."""

    address: str
    binding: Binding
    domain: DomainRecord


class Directory:
    """Looks addresses and TTPs up. `ttps` are the allowed ones by name; the first is the one that senders use."""

    def __init__(self, store: Store, ttps: Mapping[str, TTP], root: TrustRoot) -> None:
        self._store = store
        self._ttps = ttps
        self._root = root

    def client(self, name: str) -> TTP:
        """Return the client of an allowed TTP. Raises Forbidden."""
        if name not in self._ttps:
            raise Forbidden(f"the TTP {name} isn't on this node's list", code="ttp-not-allowed")
        return self._ttps[name]

    def own_ttp(self) -> TTP:
        """Return the TTP that this node sends through. Raises Unavailable before enrolment."""
        for ttp in self._ttps.values():
            return ttp
        raise Unavailable("this node is enrolled with no TTP: run `secmtp node enrol`")

    def find(self, address: str, now: int, *, fresh: bool = False) -> Known:
        """Look a recipient up. Raises NotFound, Unavailable, or EvidenceFault for what doesn't verify."""
        listing = None if fresh else self._remembered(address, now)
        if listing is None:
            answer = self.own_ttp().look_up(address)
            listing = CachedListing(answer.binding, answer.domain, now)
            known = self._verify(address, listing, now)
            with self._store.transaction() as unit:
                unit.directory.set_listing(address, listing)
            return known
        return self._verify(address, listing, now)

    def pin(self, unit: Unit, known: Known) -> None:
        """Pin the binding that is about to be used, in the transaction that uses it. Raises EvidenceFault."""
        pinned = unit.directory.pin(known.address)
        pin = Pin(known.binding.digest, keys_digest(known.binding))
        check_continuity(pinned, pin, known.binding)
        if pin != pinned:
            unit.directory.set_pin(known.address, pin)

    def ttp(self, name: str, now: int) -> VerifiedTTP:
        """Return an allowed TTP's verified record. Raises Forbidden, Unavailable, EvidenceFault."""
        client, stored = self.client(name), self._stored_record(name)
        if stored is not None and now - stored[1] <= RECORD_AGE:
            return self._named(verify_ttp(stored[0], self._root, now), name)
        try:
            record = client.record()
        except Unavailable:
            if stored is None:
                raise
            # Its epochs say themselves how long they are open; an older record is better than none.
            return self._named(verify_ttp(stored[0], self._root, now), name)
        verified = self._named(verify_ttp(record, self._root, now), name)
        with self._store.transaction() as unit:
            unit.directory.set_value(f"ttp {name}", f"{now} {record}")
        return verified

    def named(self, name: str, now: int, expires: int, kem: str) -> tuple[NamedTTP, EscrowEpoch]:
        """Return a TTP as a manifest that expires then names it, and the epoch of its escrow key."""
        verified = self.ttp(name, now)
        epoch = verified.epoch_for(expires, kem)
        return named_ttp(verified, epoch), epoch

    def _remembered(self, address: str, now: int) -> CachedListing | None:
        with self._store.transaction() as unit:
            listing = unit.directory.listing(address)
        return listing if listing is not None and 0 <= now - listing.fetched <= LISTING_AGE else None

    def _verify(self, address: str, listing: CachedListing, now: int) -> Known:
        binding = verify_binding(listing.binding, self._root, now)
        domain = verify_domain(listing.domain, self._root, now)
        if binding.address != address or domain.domain != address.rpartition("@")[2]:
            raise EvidenceFault("binding.address", f"the directory answered for {binding.address}, asked for {address}")
        known = Known(address, binding, domain)
        with self._store.transaction() as unit:
            pinned = unit.directory.pin(address)
        check_continuity(pinned, Pin(binding.digest, keys_digest(binding)), binding)
        return known

    def _stored_record(self, name: str) -> tuple[str, int] | None:
        with self._store.transaction() as unit:
            value = unit.directory.value(f"ttp {name}")
        if value is None:
            return None
        fetched, _, record = value.partition(" ")
        return record, int(fetched)

    def _named(self, verified: VerifiedTTP, name: str) -> VerifiedTTP:
        if verified.record.name != name:
            raise EvidenceFault("ttp.name", f"the TTP says that it is {verified.record.name}, expected {name}")
        return verified


def named_ttp(verified: VerifiedTTP, epoch: EscrowEpoch) -> NamedTTP:
    """Return a TTP and one of its epochs as a manifest names them."""
    return NamedTTP(
        name=verified.record.name,
        log=verified.record.log,
        nrd_key=verified.nrd.key_id,
        checkpoint_key=verified.ledger.key_id,
        escrow_key=epoch.key.key_id,
        epoch=epoch.epoch,
    )


def keys_digest(binding: Binding) -> bytes:
    """Return a digest of the keys that a binding binds, which a mere re-signing doesn't change."""
    return H("pin", binding.address.encode(), binding.origin.key_id, binding.receipt.key_id, binding.hpke.key_id)


def check_continuity(pinned: Pin | None, seen: Pin, binding: Binding) -> None:
    """Raise EvidenceFault `binding.predecessor` when an address suddenly has other keys (directory.md D4).

    Bindings are re-signed every few days: whoever writes seldom misses links of the chain, so the same
    keys under a newer signature are no change.
    """
    if pinned is not None and pinned.keys == seen.keys:
        return
    check_pin(None if pinned is None else pinned.digest, binding)
