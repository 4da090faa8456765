"""Values that use cases and what stands around them hand each other: rows as they are stored, answers, identity."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.evidence.tokens import LedgerPlace
from shared.ledger.merkle import leaf_hash


@dataclass(frozen=True, slots=True)
class StoredExchange:
    """The one row of an exchange that has an outcome. `nrr` is there with COMPLETED, `abort` with ABORTED."""

    exchange: bytes
    state: str
    index: int
    time: int
    manifest: bytes
    nro: str
    nrr: str | None
    token: str
    salt: bytes
    domains: tuple[str, ...]
    abort: str | None = None


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One ledger entry with its body. Times are ledger time."""

    index: int
    time: int
    kind: str
    entry: bytes
    leaf_hash: bytes
    salt: bytes
    body: bytes

    @classmethod
    def of(cls, kind: str, entry: bytes, place: LedgerPlace, salt: bytes, body: bytes) -> StoredEntry:
        """Return an entry at its place."""
        return cls(place.index, place.time, kind, entry, leaf_hash(entry), salt, body)


@dataclass(frozen=True, slots=True)
class StoredRefusal:
    """The recipient's first REFUSE about an exchange, and the anchor of its digest."""

    exchange: bytes
    manifest: bytes
    nro: str
    refuse: str
    entry: StoredEntry


@dataclass(frozen=True, slots=True)
class Revoked:
    """A revocation in the ledger: from when it was known, and from when it counts against evidence."""

    time: int
    effective: int


@dataclass(frozen=True, slots=True)
class BoundKeys:
    """A binding that a domain published. `keys` are the ids of its origin, receipt and HPKE keys."""

    address: str
    token: str
    digest: bytes
    keys: tuple[bytes, ...]
    receipt_key: bytes
    index: int


@dataclass(frozen=True, slots=True)
class Node:
    """An enrolled node: the id of its request key and the mail domains it answers for."""

    key_id: bytes
    domains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One place in the feed."""

    cursor: int
    exchange: StoredExchange


@dataclass(frozen=True, slots=True)
class TileRow:
    """A tile as it is stored."""

    level: int
    number: int
    hashes: bytes
    root: bytes


@dataclass(frozen=True, slots=True)
class BindingRow:
    """A binding as it is stored, with the ledger time of its entry (None if that is missing)."""

    index: int
    address: str
    folded: str
    token: str
    digest: bytes
    receipt_key: bytes
    time: int | None


@dataclass(frozen=True, slots=True)
class RevocationRow:
    """A revocation as it is stored."""

    index: int
    address: str
    key: bytes
    time: int
    effective: int


@dataclass(frozen=True, slots=True)
class RefusalRow:
    """A refusal as it is stored."""

    index: int
    exchange: bytes
    manifest: bytes
    nro: str
    refuse: str


@dataclass(frozen=True, slots=True)
class AnchorRow:
    """An anchor as it is stored."""

    index: int
    root: bytes


@dataclass(frozen=True, slots=True)
class CosignatureRow:
    """A cosignature as it is stored, with the vkey of its name if a node's, and the note that it is of."""

    size: int
    name: str
    time: int
    line: str
    vkey: str | None
    note: bytes | None


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One escrow epoch as it is stored: kind and octets of its public key, and when the private one was destroyed."""

    epoch: int
    kind: str
    public: bytes
    open_until: int
    destroyed: int | None = None


@dataclass(frozen=True, slots=True)
class WitnessReply:
    """What a witness answered."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """A few words of the body, for people."""
        return self.body[:200].decode("utf-8", "replace").strip()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this TTP is: names, key ids, certificates (DER). Private keys stay behind `Signer`."""

    name: str
    log: str
    nrd_key: bytes
    checkpoint_key: bytes
    nrd_certificate: bytes = field(repr=False)
    ledger_certificate: bytes = field(repr=False)
