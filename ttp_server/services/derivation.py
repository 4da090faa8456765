"""From an entry and its body to the rows that the writer made of them, verified as `fsck` verifies what is stored.

Refused: an entry whose body says something else than its octets, or is of another ledger.
"""

from __future__ import annotations

from collections.abc import Callable

from shared.crypto.signing import MAX_TOKEN
from shared.encoding import canonical
from shared.encoding.fields import Fields
from shared.encoding.labels import H
from shared.errors import EvidenceFault, Malformed
from shared.evidence import manifest as manifests
from shared.evidence.binding import verify_binding
from shared.evidence.bundle import MAX_BUNDLE, Bundle
from shared.evidence.receipt import verify_outcome
from shared.evidence.revocation import verify_revocation
from shared.ledger import anchor as anchors
from shared.ledger import entry as codec
from shared.ledger.entry import AnchorEntry, BindingEntry, ExchangeEntry, RevocationEntry
from ttp_server.ports.store import Transaction
from ttp_server.ports.values import Revoked, StoredEntry, StoredExchange
from ttp_server.services.desk import parties
from ttp_server.services.directory import bound, folded
from ttp_server.services.fsck_rows import Trust

Write = Callable[[Transaction], None]


def rows_of(found: StoredEntry, trust: Trust) -> Write:
    """Return what writes the rows of an entry. Raises Malformed or EvidenceFault, before anything is written."""
    entry = codec.decode(found.entry)
    if entry.time != found.time:
        raise Malformed("its time isn't the one in its octets")
    match entry:
        case ExchangeEntry():
            row = _exchange(found, trust)
            return lambda transaction: transaction.put_exchange(row)
        case BindingEntry():
            return _binding(found, entry, trust)
        case RevocationEntry():
            return _revocation(found, entry, trust)
        case AnchorEntry():
            return _anchor(found, entry)
        case _:
            return lambda _transaction: None  # the TTP's own keys have no rows


def _exchange(found: StoredEntry, trust: Trust) -> StoredExchange:
    fields = Fields(canonical.decode(found.body, what="body", limit=MAX_BUNDLE), "body")
    fields.integer("v", least=1)
    manifest = manifests.decode(fields.octets("manifest", limit=manifests.MAX_MANIFEST))
    nro, token = (fields.text(name, limit=MAX_TOKEN) for name in ("nro", "token"))
    nrr, abort = (fields.text(name, limit=MAX_TOKEN) if name in fields else None for name in ("nrr", "abort"))
    fields.end()
    ttp, own = manifest.core.ttp, trust.identity
    if (ttp.log, ttp.checkpoint_key) != (own.log, own.checkpoint_key):
        raise EvidenceFault("ttp.log", f"M names the log {ttp.log} or another key of it: it is of another ledger")
    bundle = Bundle(manifest, nro, nrr, token, found.salt, b"", b"", abort=abort)
    index, leaf = verify_outcome(bundle, trust.root)
    if index != found.index or codec.encode(leaf) != found.entry or bundle.body != found.body:
        raise EvidenceFault("ledger.leaf", "what the evidence says isn't what the entry says")
    return StoredExchange(
        exchange=manifest.exchange,
        state=leaf.outcome,
        index=found.index,
        time=found.time,
        manifest=manifest.octets,
        nro=nro,
        nrr=nrr,
        token=token,
        salt=found.salt,
        domains=parties(manifest),
        abort=abort,
    )


def _binding(found: StoredEntry, entry: BindingEntry, trust: Trust) -> Write:
    binding = verify_binding(_text(found), trust.root, found.time)
    if entry.id != H("binding", found.salt, binding.digest):
        raise EvidenceFault("binding.id", "the entry names another binding")

    def write(transaction: Transaction) -> None:
        current = transaction.binding(binding.address)
        if binding.predecessor != (None if current is None else current.digest):
            raise EvidenceFault("binding.predecessor", "it doesn't continue the one before")
        transaction.put_binding(bound(binding, found.index), folded(binding.address))

    return write


def _revocation(found: StoredEntry, entry: RevocationEntry, trust: Trust) -> Write:
    said = verify_revocation(_text(found), trust.root, found.time)
    if (said.key, H("revocation", found.salt, said.key)) != (entry.key, entry.id):
        raise EvidenceFault("revocation.id", "the entry names another key")
    revoked = Revoked(entry.time, entry.effective)
    return lambda transaction: transaction.put_revocation(said.address, said.key, revoked, found.index)


def _anchor(found: StoredEntry, entry: AnchorEntry) -> Write:
    """Of a refusal the ledger has the digest only: its entry comes back as the anchor that it is."""
    root, _size = anchors.decode_body(found.body)
    if entry.id != anchors.anchor_id(found.salt, root):
        raise EvidenceFault("anchor.id", "the entry names another batch")

    def write(transaction: Transaction) -> None:
        if transaction.anchor(root) is None:  # whoever refuses may also anchor that digest: then two entries have it
            transaction.put_anchor(root, found.index)

    return write


def _text(found: StoredEntry) -> str:
    return found.body.decode("ascii", "replace")
