"""Makes keys.json with the library's primitives and hashlib alone, so nothing of the code under test.

Run: python tests/vectors/make_keys.py > tests/vectors/keys.json (tests/shared/crypto/test_keys.py compares).
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SEEDS = [bytes(range(32)), bytes(range(255, 223, -1)), hashlib.sha256(b"SecMTP key vector").digest()]
# RFC 7748 §6.1 and the curve's points of small order: a shared secret with them is zero.
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def key_id(kind: str, public: bytes) -> str:
    """H("key", kind, public octets) as envelope.md section 1 spells it out."""
    framed = b"SecMTP v1 key\x00"
    for part in (kind.encode(), public):
        framed += len(part).to_bytes(8, "big") + part
    return b64(hashlib.sha256(framed).digest())


def ed25519_public(private: bytes) -> bytes:
    """The 32 octets of the public key."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def p256_public(private: bytes) -> bytes:
    """The 65 octets of the uncompressed point."""
    key = ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def x25519_public(private: bytes) -> bytes:
    """The 32 octets of the u-coordinate."""
    return x25519.X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def hybrid_public(private: bytes) -> bytes:
    """ML-KEM encapsulation key (1184) and X25519 key (32) from ML-KEM seed (64) and X25519 key (32)."""
    encapsulation = mlkem.MLKEM768PrivateKey.from_seed_bytes(private[:64]).public_key().public_bytes_raw()
    return encapsulation + x25519_public(private[64:])


def hybrid_private(seed: bytes) -> bytes:
    """96 octets stretched from 32, so that the vector shows which part is which."""
    return hashlib.shake_256(seed).digest(96)


def vectors() -> dict[str, Any]:
    """Return all vectors."""
    makers = {
        "Ed25519": ed25519_public,
        "P-256": p256_public,
        "X25519": x25519_public,
        "MLKEM768_X25519": hybrid_public,
    }
    good = [
        {"kind": kind, "private": b64(private), "public": b64(make(private)), "key_id": key_id(kind, make(private))}
        for kind, make in makers.items()
        for private in (map(hybrid_private, SEEDS) if kind == "MLKEM768_X25519" else SEEDS)
    ]
    hybrid = hybrid_public(hybrid_private(SEEDS[0]))
    refused = [
        *({"why": "point of low order", "kind": "X25519", "public": b64(point)} for point in LOW_ORDER),
        {"why": "an octet too few", "kind": "X25519", "public": b64(SEEDS[0][:-1])},
        {"why": "an octet too many", "kind": "X25519", "public": b64(SEEDS[0] + b"\x00")},
        {"why": "point of low order", "kind": "MLKEM768_X25519", "public": b64(hybrid[:-32] + LOW_ORDER[3])},
        {"why": "halves swapped", "kind": "MLKEM768_X25519", "public": b64(hybrid[-32:] + hybrid[:-32])},
        {"why": "an ML-KEM coefficient over 3328", "kind": "MLKEM768_X25519", "public": b64(b"\xff" * 3 + hybrid[3:])},
        {"why": "X25519 half missing", "kind": "MLKEM768_X25519", "public": b64(hybrid[:-32])},
        {"why": "a signing key's kind", "kind": "Ed25519", "public": b64(ed25519_public(SEEDS[0]))},
        {"why": "unknown kind", "kind": "MLKEM1024", "public": b64(hybrid)},
    ]
    return {"about": "Key ids and the octet form of keys (envelope.md section 1)", "good": good, "refused": refused}


def text() -> str:
    """Return the file's content."""
    return json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
