"""What the TTP's use cases need from the outside, as small promises that fakes can keep too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from shared.errors import Unavailable
from shared.evidence.composition import DoesNotOpen, Opened
from shared.evidence.manifest import Manifest
from shared.evidence.records import EscrowEpoch
from shared.evidence.tokens import LedgerPlace
from shared.ledger.merkle import leaf_hash
from shared.ledger.tiles import Tile


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


class TransactionLost(Unavailable):
    """The database failed inside a transaction: nothing of the whole transaction may be kept."""


class Overtaken(Unavailable):
    """Witnesses have cosigned a tree of `size` entries, larger than the one they were shown: look again."""

    def __init__(self, size: int) -> None:
        super().__init__(f"witnesses have cosigned a checkpoint over {size} entries already")
        self.size = size


class Reading(Protocol):
    """What can be read in a transaction: one consistent state."""

    def exchange(self, exchange: bytes) -> StoredExchange | None:
        """Return the row of hM, None while it has no outcome."""

    def refusal(self, exchange: bytes) -> StoredRefusal | None:
        """Return the refusal of hM, which is no outcome."""

    def anchor(self, root: bytes) -> StoredEntry | None:
        """Return the entry of the batch with this root."""

    def revocation(self, address: str, key: bytes) -> Revoked | None:
        """Return the first revocation of an address's key."""

    def binding(self, address: str) -> BoundKeys | None:
        """Return the newest binding of an address."""

    def same_person(self, address: str, folded: str) -> str | None:
        """Return another bound address with the same folded form."""

    def was_bound(self, address: str, key: bytes) -> bool:
        """Whether a key was ever bound to an address."""

    def domain_record(self, domain: str) -> str | None:
        """Return a domain's record."""

    def node(self, key_id: bytes) -> Node | None:
        """Return an enrolled node."""

    def feed(self, domains: Sequence[str], after: int, below: int, limit: int) -> list[FeedItem]:
        """Return feed items of these domains after a cursor whose entries are below a tree size, in order.

        An exchange comes once, at its first place, also when several of its domains are asked for.
        """

    def last_time(self) -> int:
        """Return the ledger time of the newest entry, 0 in an empty ledger."""

    def size(self) -> int:
        """Return the number of entries."""

    def leaf_hashes(self, start: int) -> Iterable[bytes]:
        """Yield leaf hashes in order from an index on."""

    def entries(self, start: int = 0) -> Iterable[StoredEntry]:
        """Yield entries in order from an index on, a page at a time."""

    def witness_key(self, name: str) -> str | None:
        """Return the vkey with which a node cosigns under a name."""

    def tile(self, level: int, number: int) -> bytes | None:
        """Return the 256 hashes of a full tile, None while it isn't full."""

    def tile_roots(self, level: int, start: int) -> Iterable[bytes]:
        """Yield the roots of a level's full tiles in order from a number on."""

    def newest_checkpoint(self) -> tuple[int, bytes] | None:
        """Return size and note of the newest stored checkpoint."""

    def checkpoint(self, size: int) -> bytes | None:
        """Return the note of the checkpoint over `size` entries."""

    def cosignatures(self, size: int) -> Sequence[str]:
        """Return the cosignature lines of the checkpoint over `size` entries, sorted by name."""

    def newest_cosignature(self, name: str) -> tuple[int, str] | None:
        """Return size and line of the newest checkpoint that somebody cosigned under this name."""


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


class Inspection(Reading, Protocol):
    """Everything that is stored, for `fsck`: each method yields rows without holding more than a page of them."""

    def checkpoints(self) -> Iterable[tuple[int, bytes]]:
        """Yield size and note of all checkpoints by size."""

    def tiles(self) -> Iterable[TileRow]:
        """Yield all tiles by level and number."""

    def tile_row(self, level: int, number: int) -> TileRow | None:
        """Return one tile."""

    def exchanges(self) -> Iterable[StoredExchange]:
        """Yield all exchanges by index."""

    def bindings(self) -> Iterable[BindingRow]:
        """Yield all bindings by index."""

    def bindings_by_address(self) -> Iterable[BindingRow]:
        """Yield all bindings by address, then index."""

    def bound_keys(self, address: str) -> Collection[bytes]:
        """Return all keys that are stored as bound to an address."""

    def unbound(self) -> Iterable[str]:
        """Yield addresses with a bound key and without a binding."""

    def revocations(self) -> Iterable[RevocationRow]:
        """Yield all revocations by index."""

    def refusals(self) -> Iterable[RefusalRow]:
        """Yield all refusals by index."""

    def anchors(self) -> Iterable[AnchorRow]:
        """Yield all anchors by index."""

    def cosignatures_of_all(self) -> Iterable[CosignatureRow]:
        """Yield all cosignatures by size and name."""


class Transaction(Reading, Protocol):
    """A write transaction. It holds the writer's lock from its begin to its end; all or nothing is kept."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Undo what happens inside when it raises, and nothing else. Raises TransactionLost if it can't."""

    def put_entry(self, entry: StoredEntry) -> None:
        """Append a ledger entry."""

    def put_tile(self, tile: Tile) -> None:
        """Write a tile that has become full."""

    def put_exchange(self, exchange: StoredExchange) -> None:
        """Write the row of hM and its places in the feeds. Fails if there is one."""

    def skip_places(self) -> None:
        """Leave a gap in the feed, wider than all that was ever given out: what comes now is news to everybody."""

    def put_refusal(self, refusal: StoredRefusal) -> None:
        """Write the refusal of hM, whose entry is appended by the same transaction. Fails if there is one."""

    def put_anchor(self, root: bytes, index: int) -> None:
        """Write that the batch with this root is entry `index`. Fails if there is one."""

    def put_binding(self, binding: BoundKeys, folded: str) -> None:
        """Write a binding and its keys."""

    def put_revocation(self, address: str, key: bytes, revoked: Revoked, index: int) -> None:
        """Write the revocation of an address's key."""

    def put_domain(self, domain: str, record: str) -> None:
        """Write or replace a domain's record."""

    def put_node(self, node: Node) -> None:
        """Write or replace an enrolled node."""

    def put_enrolment_token(self, digest: bytes, domains: Sequence[str], expires: int) -> None:
        """Write an enrolment token by its digest."""

    def take_enrolment_token(self, digest: bytes, key_id: bytes, now: int) -> tuple[str, ...] | None:
        """Use an enrolment token: return its domains, or None if there is none that this key may still use."""

    def put_checkpoint(self, size: int, note: bytes) -> None:
        """Store a signed checkpoint. Raises Conflict if another one over this size is stored."""

    def put_cosignature(self, size: int, name: str, time: int, line: str) -> None:
        """Store a verified cosignature of a stored checkpoint. The first one of a name stays."""

    def put_witness_key(self, name: str, vkey: str, node: bytes, time: int) -> None:
        """Write the key of a node's witness. Fails if the name has one."""


class Store(Protocol):
    """The database. A transaction that was left without an exception is durable."""

    def reading(self) -> AbstractContextManager[Reading]:
        """Read one consistent state."""

    def immutable(self) -> AbstractContextManager[Reading]:
        """Read rows that never change, each for itself: cheaper, for there is no transaction and no one state."""

    def writing(self) -> AbstractContextManager[Transaction]:
        """Write under the writer's lock; commit at the end, roll back on an exception."""


class Head(Protocol):
    """Where the newest published checkpoint is kept outside the database."""

    def newest(self) -> bytes | None:
        """Return the note that was published last, None before the first."""

    def remember(self, note: bytes) -> None:
        """Keep a note that is about to be published."""


class Archive(Protocol):
    """The second copy of entries and their bodies, outside the database."""

    def size(self) -> int:
        """Return how many entries are in it."""

    def copy(self, stored: Reading, size: int) -> None:
        """Copy the entries below a tree size that aren't in it yet. Durable when it returns."""


class Witnesses(Protocol):
    """Those who must have seen a checkpoint before anybody is answered under it (witness.md T1 to T6)."""

    def check_start(self, size: int) -> None:
        """Require that no witness has seen more than the `size` entries that are here.

        Raises ConfigurationError, or Unavailable when too few answer.
        """

    def check_clock(self) -> None:
        """Require that our clock is that of the witnesses. Raises Unavailable."""

    def check_parties(self, domains: Collection[str]) -> None:
        """Require that a quorum can be had without the parties' own witnesses. Raises Unavailable."""

    def cosign(
        self,
        size: int,
        note: bytes,
        prove: Callable[[int], tuple[bytes, ...]],
        parties: Collection[Sequence[str]] = (),
    ) -> bytes:
        """Return the note with a quorum's cosignatures. Raises Unavailable when there is none, or Overtaken.

        `prove` gives the consistency proof from an older size; `parties` are the mail domains of each exchange
        that waits for this.
        """

    def cosigned(self, size: int, note: bytes) -> bytes | None:
        """Return the note with the cosignatures that are stored, None below the quorum."""

    def enough(self, note: bytes, domains: Collection[str]) -> bool:
        """Whether a note has the quorum's cosignatures for an exchange between these domains."""


@dataclass(frozen=True, slots=True)
class WitnessReply:
    """What a witness answered."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """A few words of the body, for people."""
        return self.body[:200].decode("utf-8", "replace").strip()


class WitnessClient(Protocol):
    """The way to witnesses."""

    def close(self) -> None:
        """Let go of connections."""

    def add_checkpoint(self, url: str, body: bytes) -> WitnessReply:
        """Ask the witness of this submission prefix. Raises Unavailable when there is no answer in time."""


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One escrow epoch as it is stored: kind and octets of its public key, and when the private one was destroyed."""

    epoch: int
    kind: str
    public: bytes
    open_until: int
    destroyed: int | None = None


class EpochRows(Protocol):
    """The table of escrow epochs. Each change is durable when it returns."""

    def all(self) -> list[EpochRow]:
        """Return all epochs in order, destroyed ones too."""

    def add(self, row: EpochRow) -> None:
        """Write a new epoch."""

    def destroyed(self, epoch: int, now: int) -> None:
        """Note that an epoch's private key is gone."""


class EscrowCustody(Protocol):
    """Keeper of the escrow keys. Their octets never leave it."""

    def epochs(self) -> tuple[EscrowEpoch, ...]:
        """Return the epochs that are offered."""

    def epoch(self, number: int) -> EscrowEpoch | None:
        """Return an epoch that was ever offered, also when its private key is destroyed."""

    def open(self, manifest: Manifest, escrow: bytes) -> Opened | DoesNotOpen:
        """Open E_T with the key that M names. Raises EvidenceFault, or OurFault if that key is gone."""


class Clock(Protocol):
    """Where time and randomness come from."""

    def now(self) -> int:
        """Return UTC seconds."""

    def random(self, octets: int) -> bytes:
        """Return fresh random octets."""

    def monotonic(self) -> float:
        """Return seconds that never jump, from any beginning."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this TTP is: names, key ids, certificates (DER). Private keys stay behind `Signer`."""

    name: str
    log: str
    nrd_key: bytes
    checkpoint_key: bytes
    nrd_certificate: bytes = field(repr=False)
    ledger_certificate: bytes = field(repr=False)
