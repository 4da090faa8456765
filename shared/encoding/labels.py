"""The only maker of bytes that are hashed, derived from or sealed under. Nobody else calls sha256.

Every value carries a purpose label and the version, every part its length: two purposes or two
splits of the same octets never give the same input (DESIGN: H(label, parts…)).
"""

from __future__ import annotations

import hashlib

DIGEST_OCTETS = 32
_PREFIX = b"SecMTP v1 "


def frame(label: str, *parts: bytes) -> bytes:
    """Return `"SecMTP v1 " ‖ label ‖ 00` followed by each part behind its 8-byte big-endian length."""
    framed = [_PREFIX, label.encode("ascii"), b"\x00"]
    for part in parts:
        framed += (len(part).to_bytes(8, "big"), part)
    return b"".join(framed)


def H(label: str, *parts: bytes) -> bytes:  # noqa: N802  (the name that docs/protocols uses)
    """Return SHA-256 of `frame(label, *parts)`: 32 octets."""
    return hashlib.sha256(frame(label, *parts)).digest()


def blob_digest(blob: bytes) -> bytes:
    """Return the plain SHA-256 of a whole blob (sealed share, wrapped key, ciphertext): 32 octets.

    Blobs are named in M by member, so their digests need no label, and a ciphertext of any size can
    be digested with `BlobDigest` as it streams by.
    """
    return hashlib.sha256(blob).digest()


class BlobDigest:
    """`blob_digest` of octets that come in pieces."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()
        self.octets = 0

    def update(self, piece: bytes) -> None:
        """Add the next octets."""
        self._state.update(piece)
        self.octets += len(piece)

    def digest(self) -> bytes:
        """Return the digest of all octets so far."""
        return self._state.digest()
