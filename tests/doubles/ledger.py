"""Filling a served TTP's ledger fast, and reading what is stored in it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shared.encoding.labels import H
from shared.evidence.tokens import LedgerPlace
from shared.ledger.entry import BindingEntry, body_digest
from shared.ledger.entry import encode as encode_entry
from shared.ledger.note import KeyType, VerifierKey, verifier_key
from tests.doubles.served import Served
from ttp_server.ports.store import Transaction
from ttp_server.ports.values import StoredEntry
from ttp_server.services.sequencer import Appended


@dataclass(frozen=True)
class Numbered:
    """Appends an entry that is well formed and about nobody."""

    number: int

    def decide(self, transaction: Transaction, place: LedgerPlace) -> Appended[int]:
        """Append."""
        salt, body = self.number.to_bytes(32, "big"), b"body"
        entry = BindingEntry(H("binding", salt), body_digest(salt, body), place.time)
        return Appended("binding", encode_entry(entry), salt, body, self.number)


def fill(world: Served, start: int, end: int) -> None:
    """Append entries, many at a time."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: world.ttp.desk.sequencer.submit(Numbered(number)), range(start, end)))


def stored_entries(world: Served) -> list[StoredEntry]:
    """All entries of the database."""
    with world.ttp.desk.store.reading() as stored:
        return list(stored.entries())


def log_key(world: Served) -> VerifierKey:
    """The key with which the ledger's checkpoints are verified."""
    return verifier_key("ttp.example/ledger", KeyType.LOG, world.ttp.keys.checkpoint.public_key())
