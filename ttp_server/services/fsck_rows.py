"""The rows of `fsck`: every entry has its row and every row its entry, and what they say is verified.

Evidence is verified as a stranger would, from stored octets and the root alone, at ledger time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, Protocol, TypeVar

from shared.crypto.certificates import TrustRoot
from shared.crypto.signing import token_digest
from shared.encoding.labels import H
from shared.errors import EvidenceFault
from shared.evidence import manifest as manifests
from shared.evidence.binding import Binding, verify_binding
from shared.evidence.bundle import Bundle
from shared.evidence.receipt import verify_outcome
from shared.evidence.revocation import verify_revocation
from shared.evidence.statements import verify_refuse
from shared.evidence.verification import verify_nro
from shared.ledger import anchor as anchors
from shared.ledger import entry as entries
from shared.ledger.entry import AnchorEntry, BindingEntry, Entry, ExchangeEntry, RevocationEntry
from ttp_server.ports.store import Inspection
from ttp_server.ports.values import (
    AnchorRow,
    BindingRow,
    Identity,
    RefusalRow,
    RevocationRow,
    StoredEntry,
    StoredExchange,
)
from ttp_server.services.desk import parties
from ttp_server.services.directory import folded
from ttp_server.services.findings import Findings


class _Row(Protocol):
    @property
    def index(self) -> int:
        """Where its entry is."""


R = TypeVar("R", bound=_Row)


class InOrder(Generic[R]):
    """Rows in the order of their index, taken along with the entries; one that is passed over has no entry."""

    def __init__(self, rows: Iterable[R], what: str, findings: Findings) -> None:
        self._rows = iter(rows)
        self._what = what
        self._findings = findings
        self._next = next(self._rows, None)

    def at(self, index: int) -> R | None:
        """Return the row of this index if there is one."""
        while self._next is not None and self._next.index < index:
            self._pass_over(self._next)
        if self._next is None or self._next.index != index:
            return None
        found, self._next = self._next, next(self._rows, None)
        self._findings.counts[self._what] += 1
        return found

    def finish(self) -> None:
        """Pass over the rest."""
        while self._next is not None:
            self._pass_over(self._next)

    def _pass_over(self, row: R) -> None:
        self._findings.found(f"{self._what}.entry", f"entry {row.index}", f"a row of {self._what} has no entry there")
        self._next = next(self._rows, None)


@dataclass(frozen=True)
class Trust:
    """Against what is checked: the root certificate and who this TTP is."""

    root: TrustRoot
    identity: Identity


class RowCheck:
    """Takes the entries in order, decoded."""

    def __init__(self, stored: Inspection, trust: Trust, findings: Findings) -> None:
        self._stored = stored
        self._trust = trust
        self._findings = findings
        self._exchanges = InOrder(stored.exchanges(), "exchanges", findings)
        self._bindings = InOrder(stored.bindings(), "bindings", findings)
        self._revocations = InOrder(stored.revocations(), "revocations", findings)
        self._refusals = InOrder(stored.refusals(), "refusals", findings)
        self._anchors = InOrder(stored.anchors(), "anchors", findings)

    def add(self, found: StoredEntry, entry: Entry) -> None:
        """Take the next entry."""
        match entry:
            case ExchangeEntry():
                self._exchange(found, entry, self._exchanges.at(found.index))
            case BindingEntry():
                self._binding(found, entry, self._bindings.at(found.index))
            case RevocationEntry():
                self._revocation(found, entry, self._revocations.at(found.index))
            case AnchorEntry():
                self._anchor(found, entry, self._anchors.at(found.index), self._refusals.at(found.index))
            case _:
                self._findings.counts["keys"] += 1

    def finish(self) -> None:
        """Compare what only the end tells, and go through the addresses."""
        rows: Sequence[InOrder[StoredExchange] | InOrder[BindingRow] | InOrder[RevocationRow]]
        rows = (self._exchanges, self._bindings, self._revocations)
        for one in (*rows, self._refusals, self._anchors):
            one.finish()
        for address, history in groupby(self._stored.bindings_by_address(), lambda row: row.address):
            self._address(address, history)
        for address in self._stored.unbound():
            self._findings.found("bindings.keys", address, "keys are stored as bound to it, and no binding is")

    def _exchange(self, found: StoredEntry, entry: ExchangeEntry, row: StoredExchange | None) -> None:
        place, findings = f"entry {found.index}", self._findings
        if row is None or row.exchange != entry.exchange:
            other = self._stored.exchange(entry.exchange)
            if other is not None and other.index != found.index:
                findings.found("exchanges.outcomes", place, f"a second outcome of the exchange of entry {other.index}")
            else:
                findings.found("exchanges.row", place, f"the row of exchange {entry.exchange.hex()} isn't there")
            return
        findings.counts[entry.outcome] += 1
        same = (row.state, row.time, row.salt) == (entry.outcome, entry.time, found.salt)
        findings.require(same, "exchanges.row", place, "state, time or salt aren't those of its entry")
        with findings.judging("exchanges.evidence", place):
            self._outcome(found, row)

    def _outcome(self, found: StoredEntry, row: StoredExchange) -> None:
        """Verify an outcome and compare the leaf that follows from it with the stored one."""
        manifest, place = manifests.decode(row.manifest), f"entry {found.index}"
        ttp, own = manifest.core.ttp, self._trust.identity
        if (ttp.log, ttp.checkpoint_key) != (own.log, own.checkpoint_key):
            raise EvidenceFault("ttp.log", f"M names the log {ttp.log} or another key of it")
        domains = parties(manifest)
        told = sorted(row.domains) == sorted(domains)
        self._findings.require(told, "feed.places", place, f"the feed has places of {row.domains}, expected {domains}")
        bundle = Bundle(manifest, row.nro, row.nrr, row.token, row.salt, b"", b"", abort=row.abort)
        self._findings.require(bundle.body == found.body, "exchanges.body", place, "the row says else than the body")
        index, leaf = verify_outcome(bundle, self._trust.root)
        if index != row.index or entries.encode(leaf) != found.entry:
            raise EvidenceFault("ledger.leaf", "what the evidence says isn't what the entry says")

    def _binding(self, found: StoredEntry, entry: BindingEntry, row: BindingRow | None) -> None:
        place, findings = f"entry {found.index}", self._findings
        if row is None:
            findings.found("bindings.row", place, "the row of a binding isn't there")
            return
        findings.require(row.token.encode() == found.body, "bindings.body", place, "the row says else than the body")
        right = row.digest == token_digest(row.token)
        findings.require(right, "bindings.row", place, "the digest isn't that of the binding")
        named = entry.id == H("binding", found.salt, row.digest)
        findings.require(named, "bindings.id", place, "the entry names another binding")

    def _revocation(self, found: StoredEntry, entry: RevocationEntry, row: RevocationRow | None) -> None:
        place = f"entry {found.index}"
        if row is None:
            self._findings.found("revocations.row", place, "the row of a revocation isn't there")
            return
        same = (row.key, row.time, row.effective) == (entry.key, entry.time, entry.effective)
        self._findings.require(same, "revocations.row", place, "key or times aren't those of its entry")
        named = entry.id == H("revocation", found.salt, row.key)
        self._findings.require(named, "revocations.id", place, "the entry names another key")
        with self._findings.judging("revocations.evidence", place):
            said = verify_revocation(found.body.decode("ascii", "replace"), self._trust.root, entry.time)
            if (said.address, said.key) != (row.address, row.key):
                raise EvidenceFault("revocation.row", "the body is about another address or key")

    def _anchor(
        self, found: StoredEntry, entry: AnchorEntry, row: AnchorRow | None, refusal: RefusalRow | None
    ) -> None:
        place = f"entry {found.index}"
        if row is None and refusal is None and self._anchored_before(found):
            return
        if (row is None) == (refusal is None):
            self._findings.found("anchors.row", place, "it needs one row, of an anchor or of a refusal")
            return
        with self._findings.judging("anchors.body", place):
            root, _size = anchors.decode_body(found.body)
            if row is not None and row.root != root:
                raise EvidenceFault("anchor.row", "the row has another root than the body")
            if entry.id != anchors.anchor_id(found.salt, root):
                raise EvidenceFault("anchor.id", "the entry names another batch")
        if refusal is not None:
            with self._findings.judging("refusals.evidence", place):
                self._refusal(found, entry, refusal)

    def _anchored_before(self, found: StoredEntry) -> bool:
        """Whether an older entry has the same batch: what a recovery can't tell from it has no row of its own."""
        older: StoredEntry | None = None
        with self._findings.judging("anchors.body", f"entry {found.index}"):
            root, _size = anchors.decode_body(found.body)
            digest = entries.body_digest(found.salt, found.body)
            if entries.decode(found.entry) == AnchorEntry(anchors.anchor_id(found.salt, root), digest, found.time):
                older = self._stored.anchor(root)
        return older is not None and older.index < found.index

    def _refusal(self, found: StoredEntry, entry: AnchorEntry, row: RefusalRow) -> None:
        manifest = manifests.decode(row.manifest)
        if manifest.exchange != row.exchange:
            raise EvidenceFault("refuse.exchange", "the row is of another exchange than its M")
        nro = verify_nro(row.nro, manifest, self._trust.root, entry.time)
        refuse = verify_refuse(row.refuse, manifest, nro, self._trust.root, entry.time)
        if anchors.batch([refuse.digest]).body != found.body:
            raise EvidenceFault("refuse.anchor", "the anchor is of something else")

    def _address(self, address: str, history: Iterable[BindingRow]) -> None:
        """Verify the bindings of an address as a chain, and compare what they bound with what is stored as bound."""
        newest: bytes | None = None
        keys: set[bytes] = set()
        for row in history:
            place = f"entry {row.index} ({address})"
            with self._findings.judging("bindings.evidence", place):
                binding = self._verified(row)
                keys |= {binding.origin.key_id, binding.receipt.key_id, binding.hpke.key_id}
                if binding.predecessor != newest:
                    raise EvidenceFault("binding.predecessor", "it doesn't continue the one before")
            newest = row.digest
        right = self._stored.bound_keys(address) == keys
        self._findings.require(right, "bindings.keys", address, "other keys are stored as bound than were bound")

    def _verified(self, row: BindingRow) -> Binding:
        if row.time is None:
            raise EvidenceFault("binding.entry", "its entry isn't there")
        binding = verify_binding(row.token, self._trust.root, row.time)
        stored = (row.address, row.folded, row.receipt_key)
        if stored != (binding.address, folded(binding.address), binding.receipt.key_id):
            raise EvidenceFault("binding.row", "address or receipt key aren't those of the binding")
        return binding
