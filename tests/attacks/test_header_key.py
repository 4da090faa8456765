"""Attack: let the token's own header say which key, algorithm or type it is to be checked with."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from shared.crypto import signing
from shared.encoding import base64url, canonical
from shared.errors import Malformed, SecMTPError
from shared.evidence.verification import verify_nro
from tests.doubles.parties import NOW, Parties


def parts(compact: str) -> tuple[dict[str, Any], bytes, bytes]:
    """Split a token into header, payload and signature."""
    header, payload, signature = (base64url.decode(part) for part in compact.split("."))
    return json.loads(header), payload, signature


def join(header: dict[str, Any], payload: bytes, signature: bytes) -> str:
    """Put a token together again."""
    return ".".join(map(base64url.encode, (canonical.encode(header), payload, signature)))


@pytest.mark.parametrize(
    "changed",
    [
        {"alg": "none"},
        {"alg": "EdDSA"},
        {"alg": "HS256"},
        {"alg": "ES256"},
        {"typ": "secmtp-nrr+jws"},
        {"typ": "JWT"},
        {"jwk": {"kty": "OKP"}},
        {"jku": "https://mallory.example/keys"},
        {"x5u": "https://mallory.example/cert"},
        {"kid": "1"},
        {"crit": ["b64"], "b64": False},
        {"x5t#S256": base64url.encode(bytes(32))},
        {"x5c": []},
        {"x5c": ["AAAA", "AAAA", "AAAA", "AAAA", "AAAA"]},
        {"x5c": ["not base64!"]},
    ],
)
def test_any_other_header_is_malformed(changed: dict[str, Any]) -> None:
    """A header that differs from the one form in any member is refused before any key is looked at."""
    world = Parties()
    exchange = world.exchange()
    header, payload, signature = parts(exchange.nro)
    with pytest.raises(Malformed):
        signing.parse(join({**header, **changed}, payload, signature), signing.NRO)


def test_hmac_with_the_public_key() -> None:
    """A MAC made with the public key as secret, the classic confusion of algorithms, doesn't pass."""
    world = Parties()
    exchange = world.exchange()
    header, payload, _ = parts(exchange.nro)
    header["alg"] = "HS256"
    signed = f"{base64url.encode(canonical.encode(header))}.{base64url.encode(payload)}".encode()
    mac = hmac.new(world.alice.origin.public_key().public_bytes_raw(), signed, hashlib.sha256).digest()
    with pytest.raises(SecMTPError):
        verify_nro(join(header, payload, mac), exchange.manifest, world.trust, NOW)


def test_payload_in_another_spelling() -> None:
    """A payload that isn't canonical is refused even with a good signature over it."""
    world = Parties()
    exchange = world.exchange()
    header, payload, _ = parts(exchange.nro)
    loose = payload.replace(b",", b", ", 1)
    signed = f"{base64url.encode(canonical.encode(header))}.{base64url.encode(loose)}"
    signature = world.alice.origin.sign(signed.encode())
    with pytest.raises(Malformed, match="canonical"):
        signing.parse(f"{signed}.{base64url.encode(signature)}", signing.NRO)


def test_certificate_in_another_base64() -> None:
    """A certificate in a second base64 spelling would make a second token of the same meaning; it is refused."""
    world = Parties()
    header, payload, signature = parts(world.exchange().nro)
    text = header["x5c"][0]
    header["x5c"][0] = text + "\n"
    with pytest.raises(Malformed):
        signing.parse(join(header, payload, signature), signing.NRO)
    assert base64.b64encode(base64.b64decode(text)).decode() == text
