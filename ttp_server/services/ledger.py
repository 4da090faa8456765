"""The ledger as the outside sees it: the newest published checkpoint, and tiles and proofs from one snapshot.

It holds the right edge of the tree and reads full tiles from the store: a start or a proof costs O(log n).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice

from shared.errors import ConfigurationError, Malformed, NotFound, OurFault, Unavailable
from shared.ledger import checkpoint as checkpoints
from shared.ledger import entry as codec
from shared.ledger import note as notes
from shared.ledger import tiles
from shared.ledger.checkpoint import Checkpoint
from shared.ledger.merkle import HASH, leaf_hash
from shared.ledger.note import Note
from shared.ledger.policy import organisation
from shared.ledger.proof import Proof
from shared.ledger.tiles import ENTRIES, Edge, TileReader
from ttp_server.ports.store import Reading, Store, Transaction
from ttp_server.ports.values import StoredEntry

CheckpointSigner = Callable[[Checkpoint], bytes]
CACHED_TILES = 1024  # of 8 KiB


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tree and the signed checkpoint over it: size, root, tiles and proofs of an answer come from one."""

    edge: Edge
    note: bytes

    @property
    def size(self) -> int:
        """The number of entries."""
        return self.edge.size


class Ledger:
    """The publisher changes it through `publish`; any number of threads read."""

    def __init__(self, origin: str, sign: CheckpointSigner, store: Store) -> None:
        self.origin = origin
        self._sign = sign
        self._store = store
        self._snapshot: Snapshot | None = None
        self._lock = threading.Lock()
        # Full tiles never change, so what was read once stays true.
        self._full = lru_cache(CACHED_TILES)(self._stored_tile)

    @property
    def snapshot(self) -> Snapshot:
        """The newest published checkpoint. Raises Unavailable before the first one."""
        if self._snapshot is None:
            raise Unavailable("the ledger isn't open yet: its first checkpoint isn't published")
        return self._snapshot

    @property
    def size(self) -> int:
        """The number of entries under the newest published checkpoint, 0 before the first."""
        return 0 if self._snapshot is None else self._snapshot.size

    def publish(self, snapshot: Snapshot) -> None:
        """Make a stored checkpoint the newest. One over fewer entries changes nothing: another thread was faster."""
        with self._lock:
            if snapshot.size >= self.size:
                self._snapshot = snapshot

    def show_cosignatures(self, size: int) -> None:
        """Show what witnesses have brought meanwhile, if this checkpoint is still the newest."""
        snapshot = self.snapshot
        if snapshot.size != size:
            return
        with self._store.reading() as stored:
            note = merged(stored, size, snapshot.note)
        self.publish(Snapshot(snapshot.edge, note))

    def sign(self, edge: Edge) -> bytes:
        """Sign a tree. Ed25519 is deterministic: the same tree gives the same note."""
        return self._sign(Checkpoint(self.origin, edge.size, edge.root()))

    def check_own(self, note: bytes, edge: Edge) -> None:
        """Require that a kept checkpoint is this ledger's, over a beginning of this tree. Raises ConfigurationError."""
        try:
            kept = notes.parse(note)
            size = checkpoints.decode(kept.text).size
        except Malformed as error:
            raise ConfigurationError(f"a checkpoint that was kept can't be read: {error.message}") from error
        if size > edge.size:
            raise ConfigurationError(
                f"the ledger has {edge.size} entries, and a checkpoint over {size} was published: "
                "this database is older; restore a newer one"
            )
        root = tiles.root_at(size, self.reader(edge))
        ours = notes.parse(self._sign(Checkpoint(self.origin, size, root)))
        if kept.text != ours.text or ours.signatures[0] not in kept.signatures:  # beside it may stand witnesses
            raise ConfigurationError(f"the checkpoint over {size} entries isn't of this ledger and key: don't run it")

    def proof(self, index: int, snapshot: Snapshot | None = None) -> bytes:
        """Return the proof of an entry under the newest checkpoint, or under one signed before.

        Raises NotFound ("not yet").
        """
        snapshot = snapshot or self.snapshot
        if index >= snapshot.size:
            raise NotFound(f"entry {index} isn't under a signed checkpoint yet: ask again later")
        path = tiles.inclusion(index, snapshot.size, self.reader(snapshot.edge))
        return Proof(index, path, snapshot.note).encode()

    def proof_at(self, index: int, size: int) -> bytes:
        """Return the proof of an entry under the checkpoint over `size` entries. Raises NotFound if none was signed."""
        newest = self.snapshot
        if size == newest.size:
            return self.proof(index, newest)
        if size > newest.size:
            raise NotFound(f"no checkpoint is over {size} entries yet, the newest over {newest.size}")
        with self._store.reading() as stored:
            note = stored.checkpoint(size)
            if note is None:
                raise NotFound(f"no checkpoint was signed over exactly {size} entries")
            note = merged(stored, size, note)
        if index >= size:
            raise NotFound(f"entry {index} isn't under the checkpoint over {size} entries")
        return Proof(index, tiles.inclusion(index, size, self.reader(newest.edge)), note).encode()

    def consistency(self, old: int, size: int | None = None) -> tuple[int, tuple[bytes, ...]]:
        """Return (size, hashes) that prove that the tree of `size` begins with that of `old`."""
        newest = self.snapshot
        size = newest.size if size is None else size
        if size > newest.size:
            raise NotFound(f"no checkpoint is over {size} entries yet, the newest over {newest.size}")
        return size, tiles.consistency(old, size, self.reader(newest.edge))

    def tile(self, path: str) -> bytes:
        """Return a tile or an entry bundle by its path, of any published size (ledger.md L9). Raises NotFound."""
        try:
            level, number, width = tiles.parse_path(path)
        except Malformed as error:
            raise NotFound(error.message) from error
        edge = self.snapshot.edge
        if width > tiles.width_at(level, number, edge.size):
            raise NotFound(f"the ledger of {edge.size} entries has no {path} yet")
        return self._bundle(number, width) if level == ENTRIES else self._read(edge, level, number, width)

    def reader(self, edge: Edge) -> TileReader:
        """Return what reads the tiles of a tree, published or not."""
        return partial(self._read, edge)

    def _read(self, edge: Edge, level: int, number: int, width: int) -> bytes:
        partly = edge.read(level, number, width)
        return self._full(level, number)[: width * HASH] if partly is None else partly

    def _stored_tile(self, level: int, number: int) -> bytes:
        with self._store.immutable() as stored:
            hashes = stored.tile(level, number)
        if hashes is None:
            raise OurFault(f"tile {level}/{number} of the ledger is missing from the database")
        return hashes

    def _bundle(self, number: int, width: int) -> bytes:
        # Anybody may ask: what is read must be bounded by what is answered, and bodies are much larger.
        with self._store.reading() as stored:
            entries = stored.entry_octets(number * tiles.WIDTH, width)
        if len(entries) != width:
            raise OurFault(f"entries of bundle {number} are missing from the database")
        return tiles.encode_entries(entries)


def merged(stored: Reading, size: int, note: bytes) -> bytes:
    """Put the stored cosignatures under what has signed a checkpoint, as many as a note may hold.

    What stands there comes first: the log's own, and those of the quorum that was waited for. An organisation
    comes once: it counts once, and could otherwise take the places of all others.
    """
    parsed = notes.parse(note)
    lines = list(parsed.signatures)
    there = {organisation(line.name) for line in lines[1:]}
    for line in map(notes.parse_line, stored.cosignatures(size)):
        if organisation(line.name) not in there and len(lines) < notes.MAX_SIGNATURES:
            there.add(organisation(line.name))
            lines.append(line)
    return Note(parsed.text, tuple(lines)).encode()


def load_edge(stored: Reading, size: int) -> Edge:
    """Return the right edge that the stored tree had at a size, from at most 255 hashes a level (ledger.md L8).

    Raises ConfigurationError when hashes are missing.
    """
    rows = []
    for level, needed in enumerate(tiles.edge_ranges(size)):
        hashes = stored.leaf_hashes(needed.start) if level == 0 else stored.tile_roots(level - 1, needed.start)
        rows.append(b"".join(islice(hashes, len(needed))))
    try:
        return Edge(size, tuple(rows))
    except Malformed as error:
        message = f"entries or tiles of the ledger are missing; run `secmtp ttp fsck`: {error.message}"
        raise ConfigurationError(message) from error


def put_tiles(transaction: Transaction, size: int, leaves: Sequence[bytes]) -> None:
    """Write the tiles that become full when these leaf hashes follow a tree of `size` entries."""
    if (size + len(leaves)) // tiles.WIDTH > size // tiles.WIDTH:
        for tile in load_edge(transaction, size).extend(leaves).tiles:
            transaction.put_tile(tile)


def check_tail(stored: Reading, edge: Edge) -> None:
    """Require that the entries of the incomplete tile are what their hashes say (L8); `fsck` looks at all others.

    Raises ConfigurationError: someone edited the database.
    """
    if edge.size:
        start = edge.size - edge.size % tiles.WIDTH
        for expected, found in enumerate(_checked(stored.entries(start)), start):
            if found.index != expected:
                raise ConfigurationError(f"entry {expected} of the ledger is missing: restore it before running")


def _checked(entries: Iterable[StoredEntry]) -> Iterator[StoredEntry]:
    for stored in entries:
        if leaf_hash(stored.entry) != stored.leaf_hash:
            raise ConfigurationError(f"entry {stored.index} of the ledger was changed: its hash isn't the stored one")
        try:
            expected = codec.decode(stored.entry).body
        except Malformed as error:
            raise ConfigurationError(f"entry {stored.index} of the ledger can't be read: {error.message}") from error
        if codec.body_digest(stored.salt, stored.body) != expected:
            raise ConfigurationError(f"the body of entry {stored.index} was changed: restore it from a copy")
        yield stored
