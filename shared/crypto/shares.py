"""The two shares that together give the message key, their commitments, and the wrap of the content key.

`s_T` reaches the recipient through the TTP, `s_R` directly; either alone says nothing about the key.
Everything is bound to the core of one manifest by its digest hC (docs/protocols/envelope.md).
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.crypto.suites import Suite
from shared.encoding.labels import H, frame
from shared.errors import EvidenceFault

SHARE = 32
KEY = 32
WRAPPED = KEY + 16
_ZERO_NONCE = bytes(12)  # K encrypts one content key and nothing else, ever


@dataclass(frozen=True, slots=True)
class Shares:
    """Both shares of one exchange: 32 secret octets each."""

    ttp: bytes = field(repr=False)
    recipient: bytes = field(repr=False)

    @staticmethod
    def draw() -> Shares:
        """Draw fresh shares."""
        return Shares(secrets.token_bytes(SHARE), secrets.token_bytes(SHARE))


def commit_ttp(core_digest: bytes, share: bytes) -> bytes:
    """Return com_T = H("sT", hC, s_T)."""
    return H("sT", core_digest, share)


def commit_recipient(core_digest: bytes, share: bytes) -> bytes:
    """Return com_R = H("sR", hC, s_R)."""
    return H("sR", core_digest, share)


def check_opening(commitment: bytes, recomputed: bytes, step: str, what: str) -> None:
    """Raise EvidenceFault(step) unless the recomputed commitment is the one in the manifest."""
    if not hmac.compare_digest(commitment, recomputed):
        raise EvidenceFault(step, f"{what} doesn't open its commitment in the manifest")


def message_key(suite: Suite, core_digest: bytes, shares: Shares) -> bytes:
    """Return K = HKDF-SHA256(salt hC, s_T ‖ s_R, "content" ‖ suite): 32 octets."""
    info = frame("content", suite.name.encode("ascii"))
    return HKDF(hashes.SHA256(), KEY, core_digest, info).derive(shares.ttp + shares.recipient)


def wrap(key: bytes, core_digest: bytes, content_key: bytes) -> bytes:
    """Wrap the content key under K: 48 octets, deterministic."""
    return AESGCM(key).encrypt(_ZERO_NONCE, content_key, core_digest)


def unwrap(key: bytes, core_digest: bytes, wrapped: bytes) -> bytes:
    """Return the content key. Raises EvidenceFault step `content.key`: with good shares, the sender's fault."""
    try:
        return AESGCM(key).decrypt(_ZERO_NONCE, wrapped, core_digest)
    except (InvalidTag, ValueError) as error:
        raise EvidenceFault("content.key", "the wrapped key doesn't open under the shares of this manifest") from error
