"""A refusal file: that a recipient said it didn't want to sign, and since when the ledger knows (evidence.md V9).

It is no outcome and carries no verdict: a valid NRR completes the exchange all the same, before and after.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.crypto import signing
from shared.crypto.certificates import TrustRoot
from shared.encoding import base64url, canonical
from shared.encoding.fields import Fields
from shared.evidence import anchored
from shared.evidence import manifest as manifests
from shared.evidence.anchored import AnchorProof, verify_anchored
from shared.evidence.inclusion import Inclusion, Judged
from shared.evidence.manifest import Manifest
from shared.evidence.statements import Refuse, verify_refuse
from shared.evidence.tokens import NRO
from shared.evidence.verification import verify_nro
from shared.ledger.policy import Policy

KIND = "secmtp-refusal"
MAX_REFUSAL = 192 * 1024


@dataclass(frozen=True, slots=True)
class RefusalFile:
    """Unverified: M, NRO, the recipient's REFUSE, and the anchor of its digest."""

    manifest: Manifest
    nro: str
    refuse: str
    anchor: AnchorProof


@dataclass(frozen=True, slots=True)
class Refused:
    """Verified: the recipient refused, known to the ledger since `inclusion.time`. It proves nothing else."""

    manifest: Manifest
    nro: NRO
    refusal: Refuse
    inclusion: Inclusion


def encode(file: RefusalFile) -> bytes:
    """Return the canonical octets of a refusal file."""
    return canonical.encode(
        {
            "v": 1,
            "kind": KIND,
            "manifest": base64url.encode(file.manifest.octets),
            "nro": file.nro,
            "refuse": file.refuse,
            "anchor": file.anchor.to_json(),
        }
    )


def decode(data: bytes) -> RefusalFile:
    """Parse the canonical octets of a refusal file. Raises Malformed."""
    fields = Fields(canonical.decode(data, what="refusal", limit=MAX_REFUSAL), "refusal")
    fields.version()
    fields.constant("kind", KIND)
    file = RefusalFile(
        manifest=manifests.decode(fields.octets("manifest", limit=manifests.MAX_MANIFEST)),
        nro=fields.text("nro", limit=signing.MAX_TOKEN),
        refuse=fields.text("refuse", limit=signing.MAX_TOKEN),
        anchor=anchored.decode(fields.nested("anchor"), 1),
    )
    fields.end()
    return file


def verify(file: RefusalFile, root: TrustRoot, policy: Policy | None = None) -> Refused:
    """Verify that the recipient refused, and that the ledger knows since the anchor's time. Raises EvidenceFault."""
    manifest, at = file.manifest, file.anchor.lodged.time
    nro = verify_nro(file.nro, manifest, root, at)
    refusal = verify_refuse(file.refuse, manifest, nro, root, at)
    inclusion = verify_anchored(manifest, file.anchor, (refusal.digest,), Judged(root, policy))
    return Refused(manifest, nro, refusal, inclusion)
