"""Revocations: a domain's word that a key of one of its addresses is not to be trusted any more.

It stops new exchanges at once, but counts against evidence only from its ledger time plus the TTP's
notice: otherwise a recipient's own domain could read a letter and then revoke the receipt's key.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.crypto import signing
from shared.crypto.certificates import TrustRoot, verify_domain_ca
from shared.crypto.keys import SigningKey
from shared.encoding import base64url
from shared.encoding.address import domain_of, is_normal
from shared.evidence.verification import alone, require, step

REASONS = ("key-compromise", "superseded", "cessation", "unspecified")


@dataclass(frozen=True, slots=True)
class Revocation:
    """The key (by id) of `address` that is revoked, and why. `issued` is the domain's claim, UTC seconds."""

    address: str
    key: bytes
    reason: str
    issued: int


def sign_revocation(revocation: Revocation, key: SigningKey, domain_ca: bytes) -> str:
    """Sign a revocation with the domain CA's key."""
    members = {
        "address": revocation.address,
        "key": base64url.encode(revocation.key),
        "reason": revocation.reason,
        "issued": revocation.issued,
    }
    return signing.sign(signing.REVOCATION, members, key, [domain_ca])


def verify_revocation(compact: str, root: TrustRoot, at: int) -> Revocation:
    """Verify that the CA of the address's domain signed the revocation. Raises EvidenceFault `revocation.*`."""
    with step("revocation.syntax"):
        token = signing.parse(compact, signing.REVOCATION)
        fields = token.fields()
        revocation = Revocation(
            fields.text("address", limit=998),
            fields.octets("key", 32),
            fields.choice("reason", REASONS),
            fields.integer("issued"),
        )
        fields.end()
    require(is_normal(revocation.address), "revocation.syntax", f"{revocation.address!r} isn't in normal form")
    domain_ca = verify_domain_ca(alone(token.chain, "revocation.syntax"), root, at)
    named = domain_of(revocation.address) in domain_ca.domains
    require(named, "revocation.domain", f"the CA of {', '.join(domain_ca.domains)} can't revoke {revocation.address}")
    signing.check_signature(token, domain_ca.public_key, "revocation.signature")
    return revocation
