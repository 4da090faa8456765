"""A revocation that is held against a direct exchange: whether it counts against the anchor (evidence.md V11).

Whoever says that a key was revoked shows the entry. It counts from its ledger time plus the notice that
stands in the entry, never from the instant of the signature: who read yesterday can't unsign today.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.encoding.labels import H
from shared.evidence.inclusion import Judged, Shown, included
from shared.evidence.manifest import Manifest
from shared.evidence.revocation import Revocation, verify_revocation
from shared.evidence.verification import require
from shared.ledger.entry import RevocationEntry, body_digest


@dataclass(frozen=True, slots=True)
class ShownRevocation:
    """Unverified: the signed revocation, salt, ledger time and `effective` of its entry, and the ledger's proof."""

    token: str
    salt: bytes
    time: int
    effective: int
    shown: Shown


def verify_not_revoked(manifest: Manifest, revocation: ShownRevocation, judged: Judged, at: int) -> None:
    """Raise EvidenceFault `receipt.revoked` if this revocation of a key of M counted at ledger time `at`.

    One that isn't in the ledger of M, or of another key, is no ground to doubt: EvidenceFault `revocation.*`.
    """
    signed = verify_revocation(revocation.token, judged.root, revocation.time)
    require(_is_of(signed, manifest), "revocation.key", f"the revocation is of a key of {signed.address} that M lacks")
    entry = RevocationEntry(
        id=H("revocation", revocation.salt, signed.key),
        key=signed.key,
        effective=revocation.effective,
        body=body_digest(revocation.salt, revocation.token.encode("ascii")),
        time=revocation.time,
    )
    included(manifest, entry, revocation.shown, judged)
    counts = revocation.effective <= at
    require(not counts, "receipt.revoked", f"a key's revocation counts from {revocation.effective}, anchored at {at}")


def _is_of(revocation: Revocation, manifest: Manifest) -> bool:
    sender, recipient = manifest.core.sender, manifest.core.recipient
    return (revocation.address, revocation.key) in {
        (sender.address, sender.origin_key),
        (recipient.address, recipient.receipt_key),
    }
