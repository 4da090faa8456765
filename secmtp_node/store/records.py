"""Bundles, proofs of faults and alarms; what was seen in the directory; named values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, func, select

from secmtp_node.ports.values import Alarm, CachedListing, Evidence, Pin, SenderFault
from secmtp_node.store import rows
from secmtp_node.store import tables as t
from shared.evidence import bundle as bundles


class SqlEvidence:
    """Verified bundles, proofs of faults, alarms."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, evidence: Evidence) -> None:
        """Keep a bundle. The first one of an exchange stands."""
        rows.insert_once(self._connection, t.evidence, _evidence_values(evidence), ("exchange",))

    def put(self, evidence: Evidence) -> None:
        """Keep a bundle in the place of the one that is there."""
        rows.upsert(self._connection, t.evidence, _evidence_values(evidence), ("exchange",))

    def find(self, exchange: bytes) -> Evidence | None:
        """Return the evidence of an exchange."""
        row = self._connection.execute(select(t.evidence).where(t.evidence.c.exchange == exchange)).mappings().first()
        return None if row is None else Evidence(bundles.decode_any(row["bundle"]), row["outcome"], row["time"])

    def add_fault(self, fault: SenderFault) -> None:
        """Keep the proof of a sender's fault. The first one of an exchange stands."""
        values = {name: getattr(fault, name) for name in fault.__slots__}
        rows.insert_once(self._connection, t.faults, values, ("exchange",))

    def find_fault(self, exchange: bytes) -> SenderFault | None:
        """Return the proof of a sender's fault."""
        row = self._connection.execute(select(t.faults).where(t.faults.c.exchange == exchange)).mappings().first()
        return None if row is None else SenderFault(**row)

    def alarm(self, alarm: Alarm) -> None:
        """Keep an alarm. The same one again changes nothing."""
        # A name for the row, not a value of the protocol.
        digest = hashlib.sha256(repr((alarm.kind, alarm.exchange, alarm.reason, alarm.data)).encode()).digest()
        values = {"digest": digest, **{name: getattr(alarm, name) for name in alarm.__slots__}}
        rows.insert_once(self._connection, t.alarms, values, ("digest",))

    def alarms(self, limit: int) -> Sequence[Alarm]:
        """Return the newest alarms."""
        query = select(t.alarms).order_by(t.alarms.c.time.desc()).limit(limit)
        found = self._connection.execute(query).mappings()
        return [Alarm(**{name: row[name] for name in Alarm.__slots__}) for row in found]

    def alarm_counts(self) -> Mapping[str, int]:
        """Return how many alarms of each kind there are."""
        query = select(t.alarms.c.kind, func.count()).group_by(t.alarms.c.kind)
        return {row[0]: row[1] for row in self._connection.execute(query)}


def _evidence_values(evidence: Evidence) -> dict[str, object]:
    bundle = evidence.bundle
    return {
        "exchange": bundle.manifest.exchange,
        "bundle": bundles.encode(bundle),
        "outcome": evidence.outcome,
        "time": evidence.time,
    }


class SqlDirectory:
    """Pins, listings, named values."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def pin(self, address: str) -> Pin | None:
        """Return the pin of an address."""
        row = self._connection.execute(select(t.pins).where(t.pins.c.address == address)).mappings().first()
        return None if row is None else Pin(row["digest"], row["keys"])

    def set_pin(self, address: str, pin: Pin) -> None:
        """Pin a binding."""
        values = {"address": address, "digest": pin.digest, "keys": pin.keys}
        rows.upsert(self._connection, t.pins, values, ("address",))

    def listing(self, address: str) -> CachedListing | None:
        """Return the newest answer for an address."""
        row = self._connection.execute(select(t.listings).where(t.listings.c.address == address)).mappings().first()
        return None if row is None else CachedListing(row["binding"], row["domain"], row["fetched"])

    def set_listing(self, address: str, listing: CachedListing) -> None:
        """Keep an answer."""
        values = {"address": address, **{name: getattr(listing, name) for name in listing.__slots__}}
        rows.upsert(self._connection, t.listings, values, ("address",))

    def value(self, name: str) -> str | None:
        """Return a named value of the node (feed cursor, a TTP's record)."""
        found: str | None = self._connection.scalar(select(t.named_values.c.value).where(t.named_values.c.name == name))
        return found

    def set_value(self, name: str, value: str) -> None:
        """Keep a named value."""
        rows.upsert(self._connection, t.named_values, {"name": name, "value": value}, ("name",))
