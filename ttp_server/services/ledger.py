"""The ledger as the outside sees it: the tree, the newest signed checkpoint, and proofs from one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from shared.errors import ConfigurationError, Malformed, NotFound, Unavailable
from shared.ledger import checkpoint as checkpoints
from shared.ledger import entry as codec
from shared.ledger import note as notes
from shared.ledger.checkpoint import Checkpoint
from shared.ledger.merkle import Tree, leaf_hash
from shared.ledger.proof import Proof
from ttp_server.ports import Reading, Store, StoredEntry

CheckpointSigner = Callable[[Checkpoint], bytes]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tree size and the signed checkpoint over it: size, root and proofs of an answer come from one."""

    size: int
    note: bytes


class Ledger:
    """One writer changes it through `adopt` and `publish`; any number of threads read."""

    def __init__(self, origin: str, sign: CheckpointSigner) -> None:
        self.origin = origin
        self._sign = sign
        self.tree = Tree()
        self._snapshot: Snapshot | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The newest signed checkpoint. Raises Unavailable before the first one is signed."""
        if self._snapshot is None:
            raise Unavailable("the ledger isn't open yet: its first checkpoint isn't signed")
        return self._snapshot

    def load(self, stored: Reading, published: bytes | None) -> None:
        """Rebuild the tree from the stored entries and compare it with the newest checkpoints.

        `published` is the one that is kept outside the database. Raises ConfigurationError, and the TTP
        must not run, when an entry or its body isn't what was hashed, entries are missing, or a
        checkpoint isn't over this tree: someone edited the database or restored an old backup (ledger.md L8).
        """
        self.tree = Tree(_checked(stored.entries()))
        newest = stored.newest_checkpoint()
        for note in (None if newest is None else newest[1], published):
            if note is not None:
                self._check_own(note)

    def _check_own(self, note: bytes) -> None:
        try:
            size = checkpoints.decode(notes.parse(note).text).size
        except Malformed as error:
            raise ConfigurationError(f"a checkpoint that was kept can't be read: {error.message}") from error
        if size > self.tree.size:
            raise ConfigurationError(
                f"the ledger has {self.tree.size} entries, and a checkpoint over {size} was published: "
                "this database is older; restore a newer one"
            )
        if self._sign(Checkpoint(self.origin, size, self.tree.root_at(size))) != note:
            raise ConfigurationError(f"the checkpoint over {size} entries isn't of this ledger and key: don't run it")

    def sign(self) -> Snapshot:
        """Sign the tree as it is. Ed25519 is deterministic: the same tree gives the same note."""
        size = self.tree.size
        return Snapshot(size, self._sign(Checkpoint(self.origin, size, self.tree.root_at(size))))

    def publish(self, snapshot: Snapshot) -> None:
        """Make a stored checkpoint the newest."""
        self._snapshot = snapshot

    def proof(self, index: int, snapshot: Snapshot | None = None) -> bytes:
        """Return the proof of an entry under the newest checkpoint, or under one signed before.

        Raises NotFound ("not yet").
        """
        snapshot = snapshot or self.snapshot
        if index >= snapshot.size:
            raise NotFound(f"entry {index} isn't under a signed checkpoint yet: ask again later")
        return Proof(index, self.tree.inclusion(index, snapshot.size), snapshot.note).encode()

    def consistency(self, old: int, size: int | None = None) -> tuple[int, tuple[bytes, ...]]:
        """Return (size, hashes) that prove that the tree of `size` begins with that of `old`."""
        newest = self.snapshot.size
        size = newest if size is None else size
        if size > newest:
            raise NotFound(f"no checkpoint is over {size} entries yet, the newest over {newest}")
        return size, self.tree.consistency(old, size)


def proof_at(ledger: Ledger, store: Store, index: int, size: int) -> bytes:
    """Return the proof of an entry under the checkpoint over `size` entries. Raises NotFound if none was signed."""
    newest = ledger.snapshot
    if size == newest.size:
        return ledger.proof(index, newest)
    if size > newest.size:
        raise NotFound(f"no checkpoint is over {size} entries yet, the newest over {newest.size}")
    with store.reading() as stored:
        note = stored.checkpoint(size)
    if note is None:
        raise NotFound(f"no checkpoint was signed over exactly {size} entries")
    return ledger.proof(index, Snapshot(size, note))


def _checked(stored_entries: Iterable[StoredEntry]) -> Iterable[bytes]:
    for expected, stored in enumerate(stored_entries):
        if stored.index != expected:
            raise ConfigurationError(f"entry {expected} of the ledger is missing: restore it before running")
        if leaf_hash(stored.entry) != stored.leaf_hash:
            raise ConfigurationError(f"entry {expected} of the ledger was changed: its hash isn't the stored one")
        _check_body(stored)
        yield stored.leaf_hash


def _check_body(stored: StoredEntry) -> None:
    try:
        expected = codec.decode(stored.entry).body
    except Malformed as error:
        raise ConfigurationError(f"entry {stored.index} of the ledger can't be read: {error.message}") from error
    if codec.body_digest(stored.salt, stored.body) != expected:
        raise ConfigurationError(f"the body of entry {stored.index} was changed: restore it from a copy")
