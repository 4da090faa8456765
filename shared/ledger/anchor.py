"""Anchors (ledger.md L10 to L12): many digests under one entry, so that each of them has a time in the ledger.

A batch is an RFC 6962 tree whose entries are the digests, sorted and each once. The entry commits to its
root; whoever must show the time of one digest shows the entry's body, its salt and the path, and nothing
of the other digests. Refused: a digest of another length than 32, an empty batch, more than 4,096.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.encoding import base64url, canonical
from shared.encoding.fields import Fields
from shared.encoding.labels import DIGEST_OCTETS, H
from shared.errors import EvidenceFault, Malformed, NotFound, TooLarge
from shared.ledger import merkle, tiles
from shared.ledger.entry import AnchorEntry, body_digest

MAX_BATCH = 4096
MAX_BODY = 256


@dataclass(frozen=True, slots=True)
class Anchored:
    """That a digest is in a batch: `body` are the anchor's octets, `salt` its salt, `path` leads to its root."""

    body: bytes
    salt: bytes
    index: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Digests that are anchored together: sorted, each once. `root` and `body` are what the entry commits to."""

    digests: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not {DIGEST_OCTETS}.issuperset(map(len, self.digests)):
            raise Malformed(f"a digest to anchor hasn't {DIGEST_OCTETS} octets")
        if len(self.digests) > MAX_BATCH:
            raise TooLarge(f"{len(self.digests)} digests are too many for one anchor, at most {MAX_BATCH}")
        if not self.digests or list(self.digests) != sorted(set(self.digests)):
            raise Malformed("an anchor holds at least one digest; they are sorted and each stands there once")

    @property
    def root(self) -> bytes:
        """The root over the digests as entries of a tree."""
        return tiles.Edge().extend(map(merkle.leaf_hash, self.digests)).edge.root()

    @property
    def body(self) -> bytes:
        """The body's octets: canonical JSON with root and size."""
        return canonical.encode({"v": 1, "root": base64url.encode(self.root), "size": len(self.digests)})

    def entry(self, salt: bytes, time: int) -> AnchorEntry:
        """Return the ledger entry. `salt` is 32 fresh random octets."""
        return AnchorEntry(anchor_id(salt, self.root), body_digest(salt, self.body), time)

    def prove(self, digest: bytes, salt: bytes) -> Anchored:
        """Return what shows that `digest` is in this batch. Raises NotFound."""
        if digest not in self.digests:
            raise NotFound("that digest isn't in this batch")
        index = self.digests.index(digest)
        extended = tiles.Edge().extend(map(merkle.leaf_hash, self.digests))
        full = {(tile.level, tile.number): tile.hashes for tile in extended.tiles}

        def read(level: int, number: int, width: int) -> bytes:
            hashes = extended.edge.read(level, number, width)
            return full[level, number] if hashes is None else hashes

        return Anchored(self.body, salt, index, tiles.inclusion(index, len(self.digests), read))


def batch(digests: Iterable[bytes]) -> Batch:
    """Return the batch of these digests, in whatever order and however often they come."""
    return Batch(tuple(sorted(set(digests))))


def anchor_id(salt: bytes, root: bytes) -> bytes:
    """Return H("anchor", salt, root): the entry's id, by which nobody without the salt finds it."""
    return H("anchor", salt, root)


def verify(anchored: Anchored, digest: bytes, time: int) -> AnchorEntry:
    """Verify that `digest` is in the batch, and return the entry that commits to it.

    The caller proves that the log holds exactly this entry; `time` is the one that it claims. Raises
    EvidenceFault `anchor.syntax` or `anchor.inclusion`.
    """
    try:
        root, size = decode_body(anchored.body)
        entry = AnchorEntry(anchor_id(anchored.salt, root), body_digest(anchored.salt, anchored.body), time)
    except Malformed as error:
        raise EvidenceFault("anchor.syntax", error.message) from error
    _verify_path(digest, anchored.index, size, anchored.path, root)
    return entry


def decode_body(data: bytes) -> tuple[bytes, int]:
    """Parse an anchor's body into root and size. Raises Malformed or TooLarge."""
    fields = Fields(canonical.decode(data, what="anchor", limit=MAX_BODY), "anchor")
    fields.version()
    root, size = fields.octets("root", DIGEST_OCTETS), fields.integer("size", least=1)
    fields.end()
    if size > MAX_BATCH:
        raise TooLarge(f"an anchor of {size} digests is too large, at most {MAX_BATCH}")
    return root, size


def _verify_path(digest: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    step = "anchor.inclusion"
    if len(digest) != DIGEST_OCTETS:
        raise EvidenceFault(step, f"the digest has {len(digest)} octets, expected {DIGEST_OCTETS}")
    try:
        merkle.verify_inclusion(merkle.leaf_hash(digest), index, size, path, root)
    except EvidenceFault as fault:
        raise EvidenceFault(step, f"the digest isn't in the batch: {fault.reason}") from fault
