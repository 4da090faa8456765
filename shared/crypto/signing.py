"""Compact JWS (RFC 7515) as SecMTP uses it: one algorithm per token type, four header members, no more.

Keys and algorithms never come from a header alone: the caller names the type it expects, and passes
the key that the manifest or a verified certificate names. `parse` yields an `UnverifiedToken`; only
`check_signature` says that the octets are the key holder's.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from shared.crypto.keys import SigningKey, VerifyingKey
from shared.encoding import base64url, canonical
from shared.encoding.fields import Fields
from shared.encoding.labels import H, blob_digest
from shared.errors import EvidenceFault, Malformed, TooLarge

MAX_TOKEN = 32 * 1024
MAX_CHAIN = 4
MAX_CERTIFICATE = 8 * 1024


@dataclass(frozen=True, slots=True)
class TokenType:
    """`label` stands in the payload, `typ` in the header; `alg` follows the kind of the signer's key."""

    label: str
    typ: str
    alg: str


def _tokens(alg: str, *labels: str) -> tuple[TokenType, ...]:
    return tuple(TokenType(label, f"secmtp-{label.lower()}+jws", alg) for label in labels)


NRO, NRR, ACK, ABORT, REFUSE = _tokens("Ed25519", "NRO", "NRR", "ACK", "ABORT", "REFUSE")
NRD, EXPIRED, INVALID, ABORTED, TTP = _tokens("Ed25519", "NRD", "EXPIRED", "INVALID", "ABORTED", "TTP")
# Domain CAs are P-256: RFC 5280 path validation as we have it refuses Ed25519 CAs.
BINDING, DOMAIN, REVOCATION = _tokens("ES256", "BINDING", "DOMAIN", "REVOCATION")

_HEADER_LIMIT = 2 * MAX_CHAIN * MAX_CERTIFICATE


def _registry() -> jws.JWSRegistry:
    registry = jws.JWSRegistry(algorithms=["Ed25519", "ES256"], strict_check_header=False)
    registry.max_header_length = _HEADER_LIMIT
    registry.max_payload_length = MAX_TOKEN
    return registry


_REGISTRY = _registry()


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A well-formed token whose signature nobody checked yet. `chain` is DER, leaf first, without the root."""

    compact: str
    type: TokenType
    chain: tuple[bytes, ...]
    payload: canonical.JSON

    @property
    def digest(self) -> bytes:
        """The digest of the compact octets, by which other tokens name this one: 32 octets."""
        return token_digest(self.compact)

    def fields(self) -> Fields:
        """Return a closed reader of the payload, with version and label already taken."""
        fields = Fields(self.payload, self.type.label)
        fields.version()
        fields.constant("label", self.type.label)
        return fields


def token_digest(compact: str) -> bytes:
    """Return H("token", compact octets): 32 octets."""
    return H("token", compact.encode("ascii"))


def sign(token: TokenType, members: canonical.JSON, key: SigningKey, chain: Sequence[bytes]) -> str:
    """Sign `members` (plus `v` and `label`) and return the compact token.

    `chain` (DER, leaf first) must begin with the certificate of `key`. Ed25519 tokens are
    deterministic: the same members give the same octets.
    """
    header = {
        "alg": token.alg,
        "typ": token.typ,
        "x5c": [base64.b64encode(der).decode("ascii") for der in chain],
        "x5t#S256": base64url.encode(blob_digest(chain[0])),
    }
    payload = canonical.encode({"v": 1, "label": token.label, **members})
    return jws.serialize_compact(header, payload, _private(key), registry=_REGISTRY)


def parse(compact: str, token: TokenType) -> UnverifiedToken:
    """Parse a compact token of the expected type, bounds first. Raises Malformed; checks no signature."""
    what = token.label
    if len(compact) > MAX_TOKEN:
        raise TooLarge(f"{what} has {len(compact)} characters, at most {MAX_TOKEN} are allowed")
    parts = compact.split(".")
    if len(parts) != 3:
        raise Malformed(f"{what} isn't a compact JWS: {len(parts)} parts, expected 3")
    header, payload, signature = (base64url.decode(part, what=f"a part of {what}") for part in parts)
    base64url.decode(parts[2], length=64, what=f"the signature of {what}")
    del signature
    chain = _header(canonical.decode(header, what=f"header of {what}", limit=_HEADER_LIMIT), token)
    return UnverifiedToken(compact, token, chain, canonical.decode(payload, what=f"payload of {what}"))


def stated_type(compact: str) -> str:
    """Return the `typ` that a token's header states, to choose what to parse it as. Raises Malformed."""
    if len(compact) > MAX_TOKEN:
        raise TooLarge(f"token has {len(compact)} characters, at most {MAX_TOKEN} are allowed")
    header = base64url.decode(compact.partition(".")[0], what="a token's header")
    return Fields(canonical.decode(header, what="a token's header", limit=_HEADER_LIMIT), "header").text("typ")


def check_signature(token: UnverifiedToken, key: VerifyingKey, step: str) -> None:
    """Raise EvidenceFault(step) unless `key` signed the token."""
    try:
        jws.deserialize_compact(token.compact, _public(key, token.type, step), registry=_REGISTRY)
    except (JoseError, ValueError) as error:
        raise EvidenceFault(step, f"the {token.type.label} isn't signed by the key that it must be") from error


def _header(header: canonical.JSON, token: TokenType) -> tuple[bytes, ...]:
    fields = Fields(header, f"header of {token.label}")
    fields.constant("alg", token.alg)
    fields.constant("typ", token.typ)
    chain = tuple(_certificate(item) for item in fields.items("x5c", limit=MAX_CHAIN))
    if not chain:
        raise Malformed(f"header of {token.label} has an empty x5c")
    named = fields.octets("x5t#S256", 32)
    fields.end()
    if not hmac.compare_digest(named, blob_digest(chain[0])):
        raise Malformed(f"header of {token.label}: x5t#S256 isn't the digest of the first certificate in x5c")
    return chain


def _certificate(item: object) -> bytes:
    if not isinstance(item, str) or len(item) > MAX_CERTIFICATE:
        raise Malformed("x5c holds something that isn't a certificate of allowed length")
    try:
        der = base64.b64decode(item.encode("ascii"), validate=True)
    except ValueError as error:
        raise Malformed("x5c holds text that isn't base64") from error
    if base64.b64encode(der).decode("ascii") != item:
        raise Malformed("x5c holds text that isn't canonical base64")
    return der


def _private(key: SigningKey) -> OKPKey | ECKey:
    return OKPKey.import_key(key) if isinstance(key, ed25519.Ed25519PrivateKey) else ECKey.import_key(key)


def _public(key: VerifyingKey, token: TokenType, step: str) -> OKPKey | ECKey:
    if isinstance(key, ed25519.Ed25519PublicKey) and token.alg == "Ed25519":
        return OKPKey.import_key(key)
    if isinstance(key, ec.EllipticCurvePublicKey) and token.alg == "ES256":
        return ECKey.import_key(key)
    raise EvidenceFault(step, f"the signer's key isn't of the kind that {token.alg} needs")
