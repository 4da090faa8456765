"""When tokens that never passed the TTP were there: their digests in one anchor of the ledger (evidence.md V10).

Without it a token has no time that anybody but its signer saw, and whoever signed it could revoke the key
afterwards. So what isn't anchored is not evidence yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.crypto import signing
from shared.encoding import base64url, canonical
from shared.encoding.fields import Fields
from shared.errors import Malformed
from shared.evidence.inclusion import MAX_PROOF, Inclusion, Judged, Shown, included
from shared.evidence.manifest import Manifest
from shared.evidence.verification import require
from shared.ledger import anchor, merkle
from shared.ledger.anchor import MAX_BODY, Batch

MAX_PATH = (anchor.MAX_BATCH - 1).bit_length()


@dataclass(frozen=True, slots=True)
class Lodged:
    """The TTP's answer to a batch, unverified: salt and ledger time of its entry, and what is shown of the ledger."""

    salt: bytes
    time: int
    shown: Shown


@dataclass(frozen=True, slots=True)
class Place:
    """Where a digest stands in the batch, and the path to the batch's root."""

    index: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AnchorProof:
    """Unverified: the anchor's body, and the places in its batch of certain digests, in an order that is agreed."""

    body: bytes
    places: tuple[Place, ...]
    lodged: Lodged

    def to_json(self) -> canonical.JSON:
        """Return the nested object as it stands in a bundle."""
        places = [{"index": one.index, "path": [base64url.encode(node) for node in one.path]} for one in self.places]
        return {"body": base64url.encode(self.body), "places": places, **lodged_json(self.lodged)}


def lodged_json(lodged: Lodged) -> canonical.JSON:
    """Return the members of a TTP's answer."""
    return {
        "salt": base64url.encode(lodged.salt),
        "time": lodged.time,
        "proof": base64url.encode(lodged.shown.proof),
        "ledger": base64url.encode(lodged.shown.ledger),
    }


def take_lodged(fields: Fields) -> Lodged:
    """Take the members of a TTP's answer. Raises Malformed."""
    return Lodged(
        salt=fields.octets("salt", 32),
        time=fields.integer("time"),
        shown=Shown(fields.octets("proof", limit=MAX_PROOF), fields.octets("ledger", limit=signing.MAX_CERTIFICATE)),
    )


def prove(batch: Batch, digests: Sequence[bytes], lodged: Lodged) -> AnchorProof:
    """Return the proof that these digests are in a batch that was lodged. Raises NotFound."""
    found = [batch.prove(digest, lodged.salt) for digest in digests]
    return AnchorProof(batch.body, tuple(Place(one.index, one.path) for one in found), lodged)


def decode(fields: Fields, expected: int) -> AnchorProof:
    """Parse the nested object of a proof for `expected` digests. Raises Malformed."""
    body = fields.octets("body", limit=MAX_BODY)
    places = tuple(_place(item) for item in fields.items("places", limit=expected))
    proof = AnchorProof(body, places, take_lodged(fields))
    fields.end()
    if len(places) != expected:
        raise Malformed(f"anchor: {len(places)} places, expected {expected}")
    return proof


def verify_anchored(manifest: Manifest, proof: AnchorProof, digests: Sequence[bytes], judged: Judged) -> Inclusion:
    """Verify that the log of M holds an anchor with all these digests. Raises EvidenceFault."""
    require(len(digests) == len(proof.places), "anchor.syntax", "the anchor proves another number of digests")
    lodged = proof.lodged
    entries = {
        anchor.verify(anchor.Anchored(proof.body, lodged.salt, place.index, place.path), digest, lodged.time)
        for place, digest in zip(proof.places, digests, strict=True)
    }
    (entry,) = entries  # one body, salt and time make one entry
    return included(manifest, entry, lodged.shown, judged)


def _place(item: object) -> Place:
    fields = Fields(item, "anchor.places")
    index = fields.integer("index")
    path = tuple(_node(node) for node in fields.items("path", limit=MAX_PATH))
    fields.end()
    return Place(index, path)


def _node(item: object) -> bytes:
    return Fields({"node": item}, "anchor.places.path").octets("node", merkle.HASH)
