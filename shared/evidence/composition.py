"""Makes the sealed half of an exchange, and opens it again: shares, seals, wrapped key, manifest.

Order of making (docs/protocols/envelope.md E1–E6): core → hC → commitments and seals → K → wrapped
key → M → hM. Nothing refers to what comes later, so no hash is circular.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from shared.crypto import sealing, shares
from shared.crypto.keys import HpkePrivateKey, HpkePublicKey
from shared.crypto.shares import Shares
from shared.encoding.labels import blob_digest
from shared.errors import EvidenceFault
from shared.evidence.manifest import Core, Manifest

MAX_SEAL = 2048


@dataclass(frozen=True, slots=True)
class Sealed:
    """The blobs whose digests stand in M: E_T, E_R and the wrapped content key."""

    escrow: bytes
    recipient_share: bytes
    wrapped_key: bytes


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the sender draws for one exchange. The content key may be shared by visible recipients."""

    shares: Shares
    content_key: bytes = field(repr=False)


def compose(
    core: Core, drawn: Secrets, ciphertext_digest: bytes, recipient: HpkePublicKey, escrow: HpkePublicKey
) -> tuple[Manifest, Sealed]:
    """Return M and its blobs for one recipient. The keys must be those that core names."""
    digest = core.digest
    sealed = Sealed(
        escrow=sealing.seal(core.suite, digest, "T", escrow, drawn.shares.ttp),
        recipient_share=sealing.seal(core.suite, digest, "R", recipient, drawn.shares.recipient),
        wrapped_key=shares.wrap(shares.message_key(core.suite, digest, drawn.shares), digest, drawn.content_key),
    )
    manifest = Manifest(
        core=core,
        com_T=shares.commit_ttp(digest, drawn.shares.ttp),
        com_R=shares.commit_recipient(digest, drawn.shares.recipient),
        h_ET=blob_digest(sealed.escrow),
        h_ER=blob_digest(sealed.recipient_share),
        h_key=blob_digest(sealed.wrapped_key),
        h_ct=ciphertext_digest,
    )
    return manifest, sealed


def check_blob(blob: bytes, digest: bytes, step: str, what: str) -> None:
    """Raise EvidenceFault(step) unless the blob is the one whose digest stands in M."""
    if not hmac.compare_digest(blob_digest(blob), digest):
        raise EvidenceFault(step, f"{what} isn't the blob whose digest stands in the manifest")


@dataclass(frozen=True, slots=True)
class Opened:
    """The escrow opened to the share that M commits to."""

    share: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DoesNotOpen:
    """The escrow is the one named in M, the key is the right one, and it doesn't open to com_T."""


def open_escrow(manifest: Manifest, escrow: bytes, key: HpkePrivateKey) -> Opened | DoesNotOpen:
    """Open E_T at the TTP (online.md T4, T5).

    A blob that isn't M's, or a key that isn't M's, is an error and must make no state: raises
    EvidenceFault `escrow.digest` or `escrow.key`. Only what M itself names can be the sender's fault.
    """
    check_blob(escrow, manifest.h_ET, "escrow.digest", "E_T")
    if key.key_id != manifest.core.ttp.escrow_key:
        raise EvidenceFault("escrow.key", "M names an escrow key that isn't the one of this epoch")
    share = _open_share(manifest, "T", escrow, key)
    if share is None or not hmac.compare_digest(manifest.com_T, shares.commit_ttp(manifest.core.digest, share)):
        return DoesNotOpen()
    return Opened(share)


def open_recipient_share(manifest: Manifest, blob: bytes, key: HpkePrivateKey) -> bytes:
    """Open E_R at the recipient and check com_R, before anything is signed (online.md R4)."""
    check_blob(blob, manifest.h_ER, "recipient-share.digest", "E_R")
    share = _open_share(manifest, "R", blob, key)
    if share is None:
        raise EvidenceFault("recipient-share.seal", "E_R doesn't open under the recipient's HPKE key")
    opened = shares.commit_recipient(manifest.core.digest, share)
    shares.check_opening(manifest.com_R, opened, "recipient-share.commitment", "s_R in E_R")
    return share


def content_key(manifest: Manifest, both: Shares, wrapped: bytes) -> bytes:
    """Return the content key that M's shares give. Both shares must have opened their commitments."""
    check_blob(wrapped, manifest.h_key, "content.wrapped", "the wrapped key")
    digest = manifest.core.digest
    return shares.unwrap(shares.message_key(manifest.core.suite, digest, both), digest, wrapped)


def _open_share(manifest: Manifest, slot: str, blob: bytes, key: HpkePrivateKey) -> bytes | None:
    try:
        share = sealing.open_seal(manifest.core.suite, manifest.core.digest, slot, key, blob)
    except EvidenceFault:
        return None
    return share if len(share) == shares.SHARE else None
