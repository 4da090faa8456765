"""`anchor`: digests get a time in the ledger; what they are of stays with whoever lodged them (offline.md T5)."""

from __future__ import annotations

from dataclasses import dataclass

from shared.evidence.anchored import Lodged
from shared.evidence.tokens import LedgerPlace
from shared.ledger import entry as entries
from shared.ledger.anchor import Batch
from ttp_server.ports.store import Transaction
from ttp_server.ports.values import StoredEntry
from ttp_server.services.desk import Desk
from ttp_server.services.sequencer import Answered, Appended


def anchor(desk: Desk, batch: Batch) -> Lodged:
    """Append an anchor for a batch, or return the one that is stored for the same batch. Raises SecMTPError."""
    root = batch.root
    with desk.store.reading() as reading:
        stored = reading.anchor(root)
    if stored is None:
        stored = desk.sequencer.submit(_Anchor(desk, batch, root, desk.clock.random(32)))
    return desk.lodged(stored)


@dataclass(frozen=True)
class _Anchor:
    """A well-formed batch, to be appended unless somebody was first."""

    desk: Desk
    batch: Batch
    root: bytes
    salt: bytes

    def decide(self, transaction: Transaction, place: LedgerPlace) -> Appended[StoredEntry] | Answered[StoredEntry]:
        """Append the entry, unless the same batch has one."""
        stored = transaction.anchor(self.root)
        if stored is not None:
            return Answered(stored)
        self.desk.check_own_certificates(place.time)
        octets = entries.encode(self.batch.entry(self.salt, place.time))
        entry = StoredEntry.of("anchor", octets, place, self.salt, self.batch.body)
        transaction.put_anchor(self.root, place.index)
        return Appended("anchor", octets, self.salt, self.batch.body, entry)
