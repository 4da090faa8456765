"""Key bindings: which keys an address has, signed by its domain's CA and logged.

A binding older than a week is refused, so that a directory can't serve a superseded one for long;
each names the digest of its predecessor, so that a sender's pin accepts only a continued history
(docs/protocols/directory.md D1–D4).
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.crypto import signing
from shared.crypto.certificates import (
    Purpose,
    TrustRoot,
    VerifiedCertificate,
    VerifiedDomainCA,
    verify_chain,
    verify_domain_ca,
)
from shared.crypto.keys import HpkePublicKey, SigningKey, decode_public, encode_public
from shared.encoding import base64url, canonical
from shared.encoding.address import domain_of, is_normal
from shared.encoding.fields import Fields
from shared.evidence.verification import alone, require, step

MAX_AGE = 7 * 24 * 3600
MAX_SKEW = 300
POLICIES = ("on_delivery",)
_LEVEL = {Purpose.RECEIPT_GATEWAY: "gateway", Purpose.RECEIPT_USER: "user"}
_RECEIPT = frozenset(_LEVEL)


@dataclass(frozen=True, slots=True)
class BindingContent:
    """What a domain says of one address. Certificates are DER; `issued` is UTC seconds.

    `predecessor` is the digest of the binding before, None for the first.
    """

    address: str
    origin: bytes
    receipt: bytes
    hpke: HpkePublicKey
    policy: str
    issued: int
    predecessor: bytes | None


@dataclass(frozen=True, slots=True)
class Binding:
    """Verified: the domain CA bound these keys to the address."""

    compact: str
    digest: bytes
    address: str
    origin: VerifiedCertificate
    receipt: VerifiedCertificate
    level: str
    hpke: HpkePublicKey
    policy: str
    issued: int
    predecessor: bytes | None
    domain_ca: VerifiedDomainCA


def sign_binding(content: BindingContent, key: SigningKey, domain_ca: bytes) -> str:
    """Sign a binding with the domain CA's key; `domain_ca` is its certificate."""
    members: canonical.JSON = {
        "address": content.address,
        "origin": base64url.encode(content.origin),
        "receipt": base64url.encode(content.receipt),
        "hpke": encode_public(content.hpke),
        "policy": content.policy,
        "issued": content.issued,
    }
    if content.predecessor is not None:
        members["predecessor"] = base64url.encode(content.predecessor)
    return signing.sign(signing.BINDING, members, key, [domain_ca])


def verify_binding(compact: str, root: TrustRoot, at: int, *, max_age: int = MAX_AGE) -> Binding:
    """Verify a binding at an instant: syntax, domain CA, signature, age, then both user certificates.

    Raises EvidenceFault with step `binding.*` or `certificate.*`.
    """
    with step("binding.syntax"):
        token = signing.parse(compact, signing.BINDING)
        content = _content(token.fields())
    domain_ca = verify_domain_ca(alone(token.chain, "binding.syntax"), root, at)
    named = domain_of(content.address) in domain_ca.domains
    require(named, "binding.domain", f"the CA of {', '.join(domain_ca.domains)} can't bind {content.address}")
    signing.check_signature(token, domain_ca.public_key, "binding.signature")
    _check_age(content.issued, at, max_age)
    origin = verify_chain([content.origin, *token.chain], root, {Purpose.ORIGIN}, at)
    receipt = verify_chain([content.receipt, *token.chain], root, _RECEIPT, at)
    for certificate in (origin, receipt):
        require(certificate.address == content.address, "binding.address", "a bound certificate is another address's")
    return Binding(
        compact=compact,
        digest=token.digest,
        address=content.address,
        origin=origin,
        receipt=receipt,
        level=_LEVEL[receipt.purpose],
        hpke=content.hpke,
        policy=content.policy,
        issued=content.issued,
        predecessor=content.predecessor,
        domain_ca=domain_ca,
    )


def check_pin(pinned: bytes | None, binding: Binding) -> None:
    """Raise EvidenceFault `binding.predecessor` unless the binding is the pinned one or names it as predecessor.

    `pinned` is the digest of the newest binding that this node used for the address, None at first sight.
    """
    known = pinned is None or pinned in (binding.digest, binding.predecessor)
    require(known, "binding.predecessor", f"the binding of {binding.address} doesn't continue the one seen before")


def _content(fields: Fields) -> BindingContent:
    content = BindingContent(
        address=fields.text("address", limit=998),
        origin=fields.octets("origin", limit=signing.MAX_CERTIFICATE),
        receipt=fields.octets("receipt", limit=signing.MAX_CERTIFICATE),
        hpke=decode_public(fields.take("hpke")),
        policy=fields.choice("policy", POLICIES),
        issued=fields.integer("issued"),
        predecessor=fields.octets("predecessor", 32) if "predecessor" in fields else None,
    )
    fields.end()
    require(is_normal(content.address), "binding.syntax", f"{content.address!r} isn't in normal form")
    return content


def _check_age(issued: int, at: int, max_age: int) -> None:
    require(issued <= at + MAX_SKEW, "binding.age", f"issued at {issued}, after the instant of the check ({at})")
    require(at - issued <= max_age, "binding.age", f"issued {at - issued} s ago, at most {max_age} s are allowed")
