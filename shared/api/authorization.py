"""The short-lived request token that admits an enrolled node (docs/protocols/api.md A1–A6).

A compact JWS in `Authorization: Bearer`, made for one method, path, query and body, once. It admits
and is rate-limited by; it never is the authority for a trade: that is the NRR.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from shared.crypto import signing
from shared.crypto.certificates import Purpose, TrustRoot, VerifiedCertificate, verify_chain
from shared.crypto.keys import SigningKey
from shared.encoding import base64url
from shared.encoding.labels import H
from shared.errors import EvidenceFault, Malformed, Unauthenticated

LIFETIME = 60
SKEW = 120
SCHEME = "Bearer "
REQUEST = signing.TokenType("REQUEST", "secmtp-request+jwt", "Ed25519")


@dataclass(frozen=True, slots=True)
class Request:
    """What a request token is made for. `target` is path and query as sent."""

    method: str
    target: str
    body: bytes

    @property
    def digest(self) -> bytes:
        """H("request", method, target, body): 32 octets."""
        return H("request", self.method.encode("ascii"), self.target.encode("utf-8"), self.body)


@dataclass(frozen=True, slots=True)
class Requester:
    """Verified: the node that signed this request. `serial` must not have been seen before `forget_after`."""

    key_id: bytes
    names: tuple[str, ...]
    serial: bytes
    issued: int
    forget_after: int
    certificate: VerifiedCertificate


def authorize(request: Request, audience: str, now: int, serial: bytes, key: SigningKey, chain: Sequence[bytes]) -> str:
    """Return the value of the Authorization header. `serial` is 16 fresh random octets."""
    members = {
        "aud": audience,
        "iat": now,
        "exp": now + LIFETIME,
        "jti": base64url.encode(serial),
        "request": base64url.encode(request.digest),
    }
    return SCHEME + signing.sign(REQUEST, members, key, chain)


def verify_request(header: str, request: Request, audience: str, root: TrustRoot, now: int) -> Requester:
    """Verify a request token at an instant. Raises Unauthenticated; replay is the caller's to check."""
    if not header.startswith(SCHEME):
        raise Unauthenticated("the request has no 'Authorization: Bearer' token; sign it with the node's request key")
    try:
        return _verify(header.removeprefix(SCHEME), request, audience, root, now)
    except (Malformed, EvidenceFault) as error:
        raise Unauthenticated(f"request token refused: {error.message}") from error


def _verify(compact: str, request: Request, audience: str, root: TrustRoot, now: int) -> Requester:
    token = signing.parse(compact, REQUEST)
    fields = token.fields()
    fields.constant("aud", audience)
    issued, expires = fields.integer("iat"), fields.integer("exp")
    serial = fields.octets("jti", 16)
    digest = fields.octets("request", 32)
    fields.end()
    if not issued - SKEW <= now <= expires + SKEW or not 0 < expires - issued <= LIFETIME:
        raise Malformed(f"valid from {issued} to {expires} (at most {LIFETIME} s), now it is {now}")
    if not hmac.compare_digest(digest, request.digest):
        raise Malformed("it was made for another method, path or body")
    certificate = verify_chain(token.chain, root, {Purpose.NODE_REQUEST}, now)
    signing.check_signature(token, certificate.public_key, "request.signature")
    return Requester(
        key_id=certificate.key_id,
        names=certificate.names,
        serial=serial,
        issued=issued,
        forget_after=expires + SKEW,
        certificate=certificate,
    )
