"""The head of an envelope: M, the NRO and the small blobs, sealed to the recipient's node.

A foreign mail server on the way sees addresses, hM and a length, nothing of M: whoever holds M could
follow the outcome in the ledger (docs/protocols/envelope.md E8).
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.crypto import sealing, suites
from shared.crypto.keys import HpkePrivateKey, HpkePublicKey
from shared.encoding import base64url, canonical
from shared.encoding.fields import Fields
from shared.errors import EvidenceFault
from shared.evidence import manifest as manifests
from shared.evidence.composition import MAX_SEAL, Sealed
from shared.evidence.manifest import Manifest

MAX_HEAD = 64 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """An unverified head: the manifest parsed, the NRO and the blobs as they came."""

    manifest: Manifest
    nro: str
    sealed: Sealed


def encode(head: Head) -> bytes:
    """Return the canonical octets of a head."""
    return canonical.encode(
        {
            "v": 1,
            "manifest": base64url.encode(head.manifest.octets),
            "nro": head.nro,
            "escrow": base64url.encode(head.sealed.escrow),
            "recipient_share": base64url.encode(head.sealed.recipient_share),
            "wrapped_key": base64url.encode(head.sealed.wrapped_key),
        }
    )


def decode(data: bytes) -> Head:
    """Parse the canonical octets of a head. Raises Malformed."""
    fields = Fields(canonical.decode(data, what="envelope head", limit=MAX_HEAD), "envelope head")
    fields.version()
    head = Head(
        manifest=manifests.decode(fields.octets("manifest", limit=manifests.MAX_MANIFEST)),
        nro=fields.text("nro", limit=MAX_HEAD),
        sealed=Sealed(
            escrow=fields.octets("escrow", limit=MAX_SEAL),
            recipient_share=fields.octets("recipient_share", limit=MAX_SEAL),
            wrapped_key=fields.octets("wrapped_key", limit=MAX_SEAL),
        ),
    )
    fields.end()
    return head


def seal(head: Head, node: HpkePublicKey) -> bytes:
    """Seal a head to the HPKE key of the recipient's node."""
    suite = suites.of_kind(node.kind)
    return sealing.seal(suite, head.manifest.exchange, "node", node, encode(head))


def open_head(blob: bytes, exchange: bytes, node: HpkePrivateKey) -> Head:
    """Open and parse the head that an envelope says is of `exchange` (hM, 32 octets).

    Raises EvidenceFault `head.seal` when it wasn't sealed to this node for this exchange,
    `head.exchange` when its manifest is another's, or Malformed.
    """
    suite = suites.of_kind(node.kind)
    try:
        data = sealing.open_seal(suite, exchange, "node", node, blob)
    except EvidenceFault as error:
        raise EvidenceFault("head.seal", "the envelope's head isn't sealed to this node for this exchange") from error
    head = decode(data)
    if head.manifest.exchange != exchange:
        raise EvidenceFault("head.exchange", "the manifest in the envelope isn't of the exchange in its header")
    return head
