"""The ledger as the outside sees it: the tree, the newest signed checkpoint, and proofs from one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from shared.errors import ConfigurationError, NotFound, Unavailable
from shared.ledger.checkpoint import Checkpoint
from shared.ledger.merkle import Tree, leaf_hash
from shared.ledger.proof import Proof
from ttp_server.ports import Reading, StoredEntry

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

    def load(self, stored: Reading) -> None:
        """Rebuild the tree from the stored entries and compare it with the newest stored checkpoint.

        Raises ConfigurationError, and the TTP must not run, when an entry's hash isn't its own, entries
        are missing, or the checkpoint isn't over this tree: someone edited the database or restored an
        old backup (ledger.md L8).
        """
        self.tree = Tree(_checked(stored.entries()))
        newest = stored.newest_checkpoint()
        if newest is None:
            return
        size, note = newest
        if size > self.tree.size:
            raise ConfigurationError(f"the ledger has {self.tree.size} entries, a checkpoint was signed over {size}")
        if self._sign(Checkpoint(self.origin, size, self.tree.root_at(size))) != note:
            raise ConfigurationError(f"the checkpoint over {size} entries isn't of this ledger and key: don't run it")

    def sign(self) -> Snapshot:
        """Sign the tree as it is. Ed25519 is deterministic: the same tree gives the same note."""
        size = self.tree.size
        return Snapshot(size, self._sign(Checkpoint(self.origin, size, self.tree.root_at(size))))

    def publish(self, snapshot: Snapshot) -> None:
        """Make a stored checkpoint the newest."""
        self._snapshot = snapshot

    def proof(self, index: int, size: int | None = None) -> bytes:
        """Return the proof of an entry under the newest checkpoint. Raises NotFound ("not yet").

        A proof for an older `size` would need that size's checkpoint, which isn't kept in memory.
        """
        snapshot = self.snapshot
        if size is not None and size != snapshot.size:
            raise NotFound(f"the newest checkpoint is over {snapshot.size} entries; ask for that size")
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


def _checked(entries: Iterable[StoredEntry]) -> Iterable[bytes]:
    for expected, stored in enumerate(entries):
        if stored.index != expected:
            raise ConfigurationError(f"entry {expected} of the ledger is missing: restore it before running")
        if leaf_hash(stored.entry) != stored.leaf_hash:
            raise ConfigurationError(f"entry {expected} of the ledger was changed: its hash isn't the stored one")
        yield stored.leaf_hash
