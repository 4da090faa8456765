"""The address book: bindings and nodes of recipients, verified, pinned, and remembered for a while."""

from __future__ import annotations

from dataclasses import dataclass

from secmtp_node.ports.services import TTP, Clock
from secmtp_node.ports.store import Store
from secmtp_node.ports.values import CachedListing, Pin
from shared.crypto.certificates import TrustRoot
from shared.encoding.address import domain_of
from shared.encoding.labels import H
from shared.errors import EvidenceFault, Unavailable
from shared.evidence.binding import Binding, check_pin, verify_binding
from shared.evidence.records import DomainRecord, VerifiedTTP, verify_domain, verify_ttp
from shared.evidence.verification import require

LISTING_SECONDS = 3600
RECORD_SECONDS = 3600
RECORD = "ttp record "


@dataclass(frozen=True, slots=True)
class Addressee:
    """A recipient outside or inside: the verified binding and where its node is."""

    binding: Binding
    domain: DomainRecord


@dataclass(frozen=True, slots=True)
class Seen:
    """When an address was last looked up with success, and which receipt and HPKE keys (ids) it had then."""

    fetched: int
    keys: tuple[bytes, bytes]


class AddressBook:
    """Looks recipients up at one TTP."""

    def __init__(self, ttp: TTP, store: Store, root: TrustRoot, now: Clock) -> None:
        self._ttp = ttp
        self._store = store
        self._root = root
        self._now = now

    def find(self, address: str, *, fresh: bool = False) -> Addressee:
        """Return an addressee. Raises NotFound, Unavailable, or EvidenceFault for what can't be believed.

        What is remembered serves for an hour. `fresh`: ask again first, since a node may have moved; what
        is remembered then serves only while the TTP is away.
        """
        now = self._now()
        remembered = self._remembered(address, now)
        if remembered is not None and not fresh:
            return remembered
        try:
            return self._asked(address, now)
        except Unavailable:
            if remembered is None:
                raise
            return remembered

    def where(self, address: str, *, fresh: bool = False) -> DomainRecord:
        """Return the node of an address. While the TTP is away the newest record serves, however old it is."""
        try:
            return self.find(address, fresh=fresh).domain
        except Unavailable:
            with self._store.transaction() as unit:
                cached = unit.directory.listing(address)
            if cached is None:
                raise
        return verify_domain(cached.domain, self._root, self._now())

    def seen(self, address: str) -> Seen | None:
        """Return what the newest look-up said, however old it is; None if there was none that can be believed."""
        with self._store.transaction() as unit:
            cached = unit.directory.listing(address)
        if cached is None:
            return None
        try:
            binding = self._verified(address, cached, self._now()).binding
        except EvidenceFault:
            return None
        return Seen(cached.fetched, (binding.receipt.key_id, binding.hpke.key_id))

    def _remembered(self, address: str, now: int) -> Addressee | None:
        with self._store.transaction() as unit:
            cached = unit.directory.listing(address)
        if cached is None or now - cached.fetched >= LISTING_SECONDS:
            return None
        try:
            return self._verified(address, cached, now)
        except EvidenceFault:  # it has grown too old meanwhile: ask again
            return None

    def _asked(self, address: str, now: int) -> Addressee:
        listing = self._ttp.look_up(address)
        answer = CachedListing(listing.binding, listing.domain, now)
        addressee = self._verified(address, answer, now)
        with self._store.transaction() as unit:
            unit.directory.set_listing(address, answer)
        return addressee

    def ttp_record(self) -> VerifiedTTP:
        """Return the TTP's verified record; a remembered one serves for an hour, and while the TTP is away."""
        return self._record(self._ttp)

    def record_of(self, ttp: TTP, *, fresh: bool = False) -> VerifiedTTP:
        """Return the verified record of any allowed TTP. `fresh`: ask again first, there may be a new epoch."""
        return self._record(ttp, fresh=fresh)

    def _record(self, ttp: TTP, *, fresh: bool = False) -> VerifiedTTP:
        now = self._now()
        remembered = self._remembered_record(ttp.name, now)
        if remembered is not None and not fresh and now - remembered.record.issued < RECORD_SECONDS:
            return remembered
        try:
            token = ttp.record()
        except Unavailable:
            if remembered is None:
                raise
            return remembered
        verified = verify_ttp(token, self._root, now)
        require(verified.record.name == ttp.name, "ttp.name", f"asked {ttp.name}, {verified.record.name} answered")
        with self._store.transaction() as unit:
            unit.directory.set_value(RECORD + ttp.name, token)
        return verified

    def _remembered_record(self, name: str, now: int) -> VerifiedTTP | None:
        with self._store.transaction() as unit:
            token = unit.directory.value(RECORD + name)
        if token is None:
            return None
        try:
            return verify_ttp(token, self._root, now)
        except EvidenceFault:  # its certificates have ended: ask again
            return None

    def _verified(self, address: str, listing: CachedListing, now: int) -> Addressee:
        binding = verify_binding(listing.binding, self._root, now)
        require(binding.address == address, "binding.address", f"asked for {address}, got {binding.address}")
        domain = verify_domain(listing.domain, self._root, now)
        require(domain.domain == domain_of(address), "domain.name", f"got the record of {domain.domain}")
        self._check_pin(binding)
        return Addressee(binding, domain)

    def _check_pin(self, binding: Binding) -> None:
        """Pin what was seen. The same keys signed anew are no change; other keys must name what was pinned (D4)."""
        keys = H("pinned keys", binding.origin.key_id, binding.receipt.key_id, binding.hpke.key_id)
        with self._store.transaction() as unit:
            pin = unit.directory.pin(binding.address)
            if pin is not None and pin.keys != keys:
                check_pin(pin.digest, binding)
            if pin is None or pin.digest != binding.digest:
                unit.directory.set_pin(binding.address, Pin(binding.digest, keys))
