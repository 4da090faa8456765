"""Keys: one octet form for each kind, ids as pinned vectors say, and nothing secret in what is printed."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from shared.crypto import keys, sealing, suites
from shared.crypto.keys import (
    ED25519,
    HPKE_KINDS,
    HYBRID,
    P256,
    X25519,
    HpkePrivateKey,
    HpkePublicKey,
    SigningKey,
    decode_private,
    decode_public,
    decode_signing,
    encode_private,
    encode_public,
    encode_signing,
    generate_hpke,
    key_id,
    kind_of,
)
from shared.encoding import base64url
from shared.encoding.labels import H
from shared.errors import Malformed

VECTORS = Path(__file__).parents[2] / "vectors"
PINNED = json.loads((VECTORS / "keys.json").read_text(encoding="utf-8"))
SIGNING: dict[str, Callable[[bytes], SigningKey]] = {ED25519: keys.ed25519_from_seed, P256: keys.p256_from_scalar}


def named(vector: dict[str, Any]) -> str:
    """Name a vector in test output."""
    return f"{vector['kind']}-{vector.get('why', vector.get('key_id', '')[:6])}"


class TestVectors:
    """tests/vectors/keys.json."""

    def test_generator(self) -> None:
        """The committed vectors are what their generator makes."""
        made = runpy.run_path(str(VECTORS / "make_keys.py"))["text"]()
        assert made == (VECTORS / "keys.json").read_text(encoding="utf-8")

    @pytest.mark.parametrize("vector", [one for one in PINNED["good"] if one["kind"] in SIGNING], ids=named)
    def test_signing_keys(self, vector: dict[str, str]) -> None:
        """A signing key from a fixed seed has the pinned public octets and key id."""
        key = SIGNING[vector["kind"]](base64url.decode(vector["private"]))
        assert base64url.encode(keys.public_octets(key.public_key())) == vector["public"]
        assert base64url.encode(key_id(key.public_key())) == vector["key_id"]

    @pytest.mark.parametrize("vector", [one for one in PINNED["good"] if one["kind"] in HPKE_KINDS], ids=named)
    def test_hpke_keys(self, vector: dict[str, str]) -> None:
        """An HPKE key from fixed octets has the pinned public octets and key id, on both sides."""
        private = HpkePrivateKey(vector["kind"], base64url.decode(vector["private"]))
        public = decode_public({"kind": vector["kind"], "key": vector["public"]})
        assert private.public == public
        assert base64url.encode(private.key_id) == base64url.encode(key_id(public)) == vector["key_id"]

    @pytest.mark.parametrize("vector", PINNED["refused"], ids=named)
    def test_refused(self, vector: dict[str, str]) -> None:
        """Octets that no seal could be made to aren't a key."""
        with pytest.raises(Malformed):
            decode_public({"kind": vector["kind"], "key": vector["public"]})
        with pytest.raises(Malformed):
            HpkePublicKey(vector["kind"], base64url.decode(vector["public"]))


@pytest.mark.parametrize("kind", HPKE_KINDS)
class TestHpkeKeys:
    """HpkePublicKey and HpkePrivateKey."""

    def test_forms(self, kind: str) -> None:
        """Both halves survive their octet forms."""
        key = generate_hpke(kind)
        assert decode_private(encode_private(key)) == key
        assert decode_public(encode_public(key.public)) == key.public

    def test_opens_what_was_sealed(self, kind: str) -> None:
        """A key that went through its octet form opens a seal made to the original."""
        key = generate_hpke(kind)
        suite = suites.of_kind(kind)
        blob = sealing.seal(suite, b"context", "T", decode_public(encode_public(key.public)), b"share")
        assert sealing.open_seal(suite, b"context", "T", decode_private(encode_private(key)), blob) == b"share"

    def test_fresh(self, kind: str) -> None:
        """Every generated key is another."""
        assert len({generate_hpke(kind).raw for _ in range(5)}) == 5

    def test_nothing_secret_is_shown(self, kind: str) -> None:
        """Neither repr nor an error about a private key shows a piece of it."""
        key = generate_hpke(kind)
        assert "raw" not in repr(key)
        assert repr(key.raw)[2:10] not in repr(key)
        with pytest.raises(Malformed) as raised:
            HpkePrivateKey(kind, key.raw + b"\x00")
        assert repr(key.raw)[2:10] not in str(raised.value)

    def test_either_half_matters(self, kind: str) -> None:
        """Two keys that differ in one octet, in either half, have different ids."""
        raw = bytearray(generate_hpke(kind).raw)
        first = HpkePrivateKey(kind, bytes(raw)).key_id
        for place in (1, len(raw) - 2):
            raw[place] ^= 0x10
            assert HpkePrivateKey(kind, bytes(raw)).key_id != first
            raw[place] ^= 0x10

    @given(data=st.binary(max_size=200))
    def test_garbage(self, kind: str, data: bytes) -> None:
        """Arbitrary octets are a key of the right length or Malformed, nothing else."""
        for form in (lambda: decode_private(data), lambda: HpkePublicKey(kind, data)):
            try:
                form()
            except Malformed:
                continue
            assert len(data) >= 32


class TestDecodePublic:
    """decode_public."""

    @pytest.mark.parametrize(
        "value",
        [
            None,
            [],
            "X25519",
            {},
            {"kind": X25519},
            {"kind": X25519, "key": 1},
            {"kind": 1, "key": "AA"},
            {"kind": X25519, "key": "A" * 42 + "B"},
            {"kind": X25519, "key": base64url.encode(bytes(range(32))) + "="},
            {"kind": X25519, "key": base64url.encode(bytes(range(32))), "more": 1},
        ],
    )
    def test_malformed(self, value: object) -> None:
        """Another shape, another spelling or an unknown member is refused."""
        with pytest.raises(Malformed):
            decode_public(value)

    def test_same_octets_another_kind(self) -> None:
        """The kind is part of the key id: the same 32 octets as an Ed25519 key have another."""
        public = keys.ed25519_from_seed(bytes(range(32))).public_key()
        octets = generate_hpke(X25519).public.raw
        assert key_id(HpkePublicKey(X25519, octets)) != key_id(public)
        assert key_id(HpkePublicKey(X25519, octets)) != H("key", b"Ed25519", octets)


class TestDecodePrivate:
    """decode_private."""

    def test_kinds_arent_mixed(self) -> None:
        """Private octets of one kind aren't taken for the other's."""
        for kind, other in ((X25519, HYBRID), (HYBRID, X25519)):
            with pytest.raises(Malformed):
                decode_private(encode_private(generate_hpke(kind)).replace(kind.encode(), other.encode(), 1))

    def test_no_zero(self) -> None:
        """Octets without a kind are refused."""
        with pytest.raises(Malformed, match="known kind"):
            decode_private(b"\x01" * 32)


class TestSigningKeys:
    """Ed25519 and P-256 keys."""

    @pytest.mark.parametrize(("kind", "make"), [(ED25519, keys.generate_ed25519), (P256, keys.generate_p256)])
    def test_pem(self, kind: str, make: Any) -> None:
        """A key survives its PEM, and isn't taken for one of the other kind."""
        key = make()
        other = P256 if kind == ED25519 else ED25519
        assert key_id(decode_signing(encode_signing(key), kind).public_key()) == key_id(key.public_key())
        with pytest.raises(Malformed, match="another kind"):
            decode_signing(encode_signing(key), other)

    def test_not_a_pem(self) -> None:
        """Octets that aren't a private key's PEM are refused."""
        with pytest.raises(Malformed, match="PEM"):
            decode_signing(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", ED25519)

    @pytest.mark.parametrize("octets", [b"", bytes(31), bytes(33)])
    def test_lengths(self, octets: bytes) -> None:
        """A seed or scalar has 32 octets."""
        for make in SIGNING.values():
            with pytest.raises(Malformed, match="32 octets"):
                make(octets)

    @pytest.mark.parametrize("scalar", [bytes(32), b"\xff" * 32])
    def test_scalars(self, scalar: bytes) -> None:
        """Zero and what isn't below the group order are no P-256 scalars."""
        with pytest.raises(Malformed, match="order"):
            keys.p256_from_scalar(scalar)

    def test_other_curves(self) -> None:
        """A key on another curve is none of ours."""
        with pytest.raises(Malformed, match="neither"):
            kind_of(ec.generate_private_key(ec.SECP384R1()).public_key())
        with pytest.raises(Malformed, match="neither"):
            decode_signing(encode_signing(ec.generate_private_key(ec.SECP256K1())), P256)

    def test_one_key_in_two_pems(self) -> None:
        """The key id is that of the key, whichever object holds it."""
        key = keys.generate_ed25519()
        again = ed25519.Ed25519PrivateKey.from_private_bytes(key.private_bytes_raw())
        assert key_id(key.public_key()) == key_id(again.public_key())
