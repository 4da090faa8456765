"""The database as the use cases see it: what one transaction can read and write. No word of SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from shared.errors import Unavailable
from shared.ledger.tiles import Tile
from ttp_server.ports.values import (
    AnchorRow,
    BindingRow,
    BoundKeys,
    CosignatureRow,
    FeedItem,
    Node,
    RefusalRow,
    RevocationRow,
    Revoked,
    StoredEntry,
    StoredExchange,
    StoredRefusal,
    TileRow,
)


class TransactionLost(Unavailable):
    """The database failed inside a transaction: nothing of the whole transaction may be kept."""


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

    def entry_octets(self, start: int, count: int) -> Sequence[bytes]:
        """Return the octets of up to `count` entries in order from an index on, without their bodies."""

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
