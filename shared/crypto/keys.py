"""Kinds of keys, their one octet form, and the key ids by which manifests name them.

The library has no serialisation of the hybrid HPKE pair, so the form is ours (envelope.md section 1):
public = ML-KEM-768 encapsulation key ‖ X25519, private = ML-KEM seed ‖ X25519. No key has two uses,
and nothing here shows private octets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from shared.encoding import base64url, canonical
from shared.encoding.fields import Fields
from shared.encoding.labels import H
from shared.errors import Malformed

ED25519 = "Ed25519"
P256 = "P-256"
X25519 = "X25519"
HYBRID = "MLKEM768_X25519"
HPKE_KINDS = (HYBRID, X25519)

SEED = 32
_MLKEM_PUBLIC = 1184
_MLKEM_SEED = 64
_PUBLIC_OCTETS = {X25519: 32, HYBRID: _MLKEM_PUBLIC + 32}
_PRIVATE_OCTETS = {X25519: 32, HYBRID: _MLKEM_SEED + 32}
_LOW_ORDER_PROBE = x25519.X25519PrivateKey.from_private_bytes(b"\x01" * SEED)

SigningKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
VerifyingKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
_T = TypeVar("_T")
_LibraryPublic = x25519.X25519PublicKey | hpke.MLKEM768X25519PublicKey
_LibraryPrivate = x25519.X25519PrivateKey | hpke.MLKEM768X25519PrivateKey


@dataclass(frozen=True, slots=True)
class HpkePublicKey:
    """A public key that seals are made to. `raw` has 32 octets (X25519) or 1,216 (hybrid).

    Raises Malformed when constructed from octets that aren't a usable key of this kind.
    """

    kind: str
    raw: bytes = field(repr=False)
    key_id: bytes = field(init=False, compare=False)
    _library: _LibraryPublic = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_length("public", self.kind, self.raw, _PUBLIC_OCTETS)
        object.__setattr__(self, "_library", _load("public", self.kind, self.raw, _load_public))
        object.__setattr__(self, "key_id", H("key", self.kind.encode("ascii"), self.raw))

    def to_library(self) -> _LibraryPublic:
        """Return the library's object for this key."""
        return self._library


@dataclass(frozen=True, slots=True)
class HpkePrivateKey:
    """A private key that opens seals. `raw` has 32 octets (X25519) or 96 (hybrid).

    Raises Malformed when constructed from octets that aren't a key of this kind.
    """

    kind: str
    raw: bytes = field(repr=False)
    public: HpkePublicKey = field(init=False, compare=False)
    _library: _LibraryPrivate = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_length("private", self.kind, self.raw, _PRIVATE_OCTETS)
        object.__setattr__(self, "_library", _load("private", self.kind, self.raw, _load_private))
        object.__setattr__(self, "public", HpkePublicKey(self.kind, _public_octets(self.kind, self.raw)))

    @property
    def key_id(self) -> bytes:
        """The key id of the public half: 32 octets."""
        return self.public.key_id

    def to_library(self) -> _LibraryPrivate:
        """Return the library's object for this key."""
        return self._library


def key_id(public: VerifyingKey | HpkePublicKey) -> bytes:
    """Return H("key", kind, raw public octets): 32 octets. Raises Malformed for a kind that we don't use."""
    if isinstance(public, HpkePublicKey):
        return public.key_id
    return H("key", kind_of(public).encode("ascii"), public_octets(public))


def kind_of(public: object) -> str:
    """Return the kind of a public key that signs. Raises Malformed for anything but Ed25519 and P-256."""
    if isinstance(public, ed25519.Ed25519PublicKey):
        return ED25519
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        return P256
    raise Malformed(f"a key of type {type(public).__name__} is neither {ED25519} nor {P256}")


def public_octets(public: VerifyingKey) -> bytes:
    """Return 32 octets of an Ed25519 key, or the 65 of a P-256 key's uncompressed point."""
    if isinstance(public, ed25519.Ed25519PublicKey):
        return public.public_bytes_raw()
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def encode_public(key: HpkePublicKey) -> canonical.JSON:
    """Return the JSON object that records carry: `{"kind", "key"}`."""
    return {"kind": key.kind, "key": base64url.encode(key.raw)}


def decode_public(value: object) -> HpkePublicKey:
    """Parse what `encode_public` gives. Raises Malformed, also for points that no seal can be made to."""
    fields = Fields(value, "HPKE key")
    kind = fields.choice("kind", HPKE_KINDS)
    raw = fields.octets("key", _PUBLIC_OCTETS[kind])
    fields.end()
    return HpkePublicKey(kind, raw)


def encode_private(key: HpkePrivateKey) -> bytes:
    """Return kind ‖ 00 ‖ raw octets: secret, for key files and wrapping."""
    return key.kind.encode("ascii") + b"\x00" + key.raw


def decode_private(data: bytes) -> HpkePrivateKey:
    """Parse what `encode_private` gives. Raises Malformed without repeating the octets."""
    kind, zero, raw = data.partition(b"\x00")
    if not zero or kind not in {name.encode("ascii") for name in HPKE_KINDS}:
        raise Malformed(f"private HPKE key isn't of a known kind, expected one of {', '.join(HPKE_KINDS)}")
    return HpkePrivateKey(kind.decode("ascii"), raw)


def generate_hpke(kind: str) -> HpkePrivateKey:
    """Make a fresh HPKE key of this kind."""
    raw = x25519.X25519PrivateKey.generate().private_bytes_raw()
    if kind == HYBRID:
        raw = mlkem.MLKEM768PrivateKey.generate().private_bytes_raw() + raw
    return HpkePrivateKey(kind, raw)


def generate_ed25519() -> ed25519.Ed25519PrivateKey:
    """Make a fresh Ed25519 signing key."""
    return ed25519.Ed25519PrivateKey.generate()


def generate_p256() -> ec.EllipticCurvePrivateKey:
    """Make a fresh P-256 signing key."""
    return ec.generate_private_key(ec.SECP256R1())


def ed25519_from_seed(seed: bytes) -> ed25519.Ed25519PrivateKey:
    """Return the Ed25519 key of a 32-octet seed (RFC 8032 §5.1.5). Raises Malformed."""
    if len(seed) != SEED:
        raise Malformed(f"an Ed25519 seed has {SEED} octets, not {len(seed)}")
    return ed25519.Ed25519PrivateKey.from_private_bytes(seed)


def p256_from_scalar(scalar: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key of a 32-octet big-endian scalar. Raises Malformed when it is out of range."""
    if len(scalar) != SEED:
        raise Malformed(f"a P-256 scalar has {SEED} octets, not {len(scalar)}")
    try:
        return ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
    except ValueError as error:
        raise Malformed("the P-256 scalar is zero or not below the group order") from error


def encode_signing(key: SigningKey) -> bytes:
    """Return an unencrypted PKCS #8 PEM of a signing key: secret, for key files (RFC 8410, RFC 5915)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def decode_signing(pem: bytes, kind: str) -> SigningKey:
    """Parse an unencrypted PEM of a signing key of exactly this kind. Raises Malformed."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Malformed("this isn't the PEM of an unencrypted private key") from error
    if not isinstance(key, SigningKey) or kind_of(key.public_key()) != kind:
        raise Malformed(f"the PEM holds a private key of another kind than {kind}")
    return key


def _check_length(half: str, kind: str, raw: bytes, octets: dict[str, int]) -> None:
    if kind not in octets:
        raise Malformed(f"HPKE key kind {kind!r} isn't known, expected one of {', '.join(HPKE_KINDS)}")
    if len(raw) != octets[kind]:
        raise Malformed(f"{half} {kind} key has {len(raw)} octets, expected {octets[kind]}")


def _load(half: str, kind: str, raw: bytes, load: Callable[[str, bytes], _T]) -> _T:
    try:
        return load(kind, raw)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Malformed(f"these octets aren't a usable {half} {kind} key") from error


def _load_public(kind: str, raw: bytes) -> _LibraryPublic:
    curve = x25519.X25519PublicKey.from_public_bytes(raw[-32:])
    # A point of low order loads, but every seal to it fails (RFC 7748 §6.1): found out here, once.
    _LOW_ORDER_PROBE.exchange(curve)
    if kind == X25519:
        return curve
    return hpke.MLKEM768X25519PublicKey(mlkem.MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC]), curve)


def _load_private(kind: str, raw: bytes) -> _LibraryPrivate:
    curve = x25519.X25519PrivateKey.from_private_bytes(raw[-32:])
    if kind == X25519:
        return curve
    return hpke.MLKEM768X25519PrivateKey(mlkem.MLKEM768PrivateKey.from_seed_bytes(raw[:_MLKEM_SEED]), curve)


def _public_octets(kind: str, raw: bytes) -> bytes:
    curve = x25519.X25519PrivateKey.from_private_bytes(raw[-32:]).public_key().public_bytes_raw()
    if kind == X25519:
        return curve
    return mlkem.MLKEM768PrivateKey.from_seed_bytes(raw[:_MLKEM_SEED]).public_key().public_bytes_raw() + curve
