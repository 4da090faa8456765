"""HPKE seals (RFC 9180 base mode, single shot), bound to one exchange, slot and receiver through `info`.

The library's HPKE has no associated data; what a seal must not be moved away from stands in `info`,
which both ends compute and nobody sends. A seal moved into another manifest doesn't open.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke

from shared.crypto.keys import HpkePrivateKey, HpkePublicKey
from shared.crypto.suites import Suite
from shared.encoding.labels import frame
from shared.errors import EvidenceFault, Malformed

_KEMS = {"X25519": hpke.KEM.X25519, "MLKEM768_X25519": hpke.KEM.MLKEM768_X25519}


def seal_info(suite: Suite, context: bytes, slot: str, receiver: bytes) -> bytes:
    """Return info = frame("seal", suite, context, slot, key id of the receiver).

    `context` is hC for shares (slots "T", "R") and hM for an envelope's head (slot "node").
    """
    return frame("seal", suite.name.encode("ascii"), context, slot.encode("ascii"), receiver)


def seal(suite: Suite, context: bytes, slot: str, receiver: HpkePublicKey, plaintext: bytes) -> bytes:
    """Return enc ‖ ciphertext for the receiver. Raises Malformed if the key isn't of the suite's kind."""
    _check_kind(suite, receiver.kind)
    info = seal_info(suite, context, slot, receiver.key_id)
    try:
        return _hpke(suite).encrypt(plaintext, receiver.to_library(), info)
    except ValueError as error:  # a public key of low order, which no honest party has
        raise Malformed(f"nothing can be sealed to this {receiver.kind} key: {error}") from error


def open_seal(suite: Suite, context: bytes, slot: str, receiver: HpkePrivateKey, blob: bytes) -> bytes:
    """Open a seal. Raises EvidenceFault `seal.open` if any of the arguments isn't what it was made with."""
    _check_kind(suite, receiver.kind)
    info = seal_info(suite, context, slot, receiver.key_id)
    try:
        return _hpke(suite).decrypt(blob, receiver.to_library(), info)
    except (InvalidTag, ValueError) as error:
        raise EvidenceFault("seal.open", f"the seal in slot {slot} doesn't open with this key here") from error


def _hpke(suite: Suite) -> hpke.Suite:
    return hpke.Suite(_KEMS[suite.kem], hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def _check_kind(suite: Suite, kind: str) -> None:
    if kind != suite.kem:
        raise Malformed(f"HPKE key of kind {kind} doesn't fit the suite {suite.name}")
