"""Is this chain good for this purpose at this instant? X.509 paths as evidence.md section 2 narrows them.

What RFC 5280 lets through and SecMTP doesn't (other SAN types under a mail constraint, a
SmtpUTF8Mailbox, a second purpose, a leaf where none belongs) is refused by the steps C4 to C6 here.
Nothing here reads a clock. Revocation is a matter of the ledger, not of this file.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from shared.crypto.keys import VerifyingKey, key_id, kind_of
from shared.crypto.paths import (
    CACHED_PATHS,
    CHAIN,
    SYNTAX,
    VALIDITY,
    Path,
    TrustRoot,
    authority_key,
    path_at,
    reading,
    seconds,
)
from shared.crypto.purposes import BY_OID, RULES, Purpose
from shared.encoding.address import domain_of, is_normal, normal_domain
from shared.errors import EvidenceFault, Malformed

__all__ = [
    "CHAIN",
    "DEPTH",
    "MAX_NAMES",
    "NAMES",
    "ORIGIN_SCHEME",
    "PURPOSE",
    "SYNTAX",
    "VALIDITY",
    "Purpose",
    "TrustRoot",
    "VerifiedCertificate",
    "VerifiedDomainCA",
    "verify_chain",
    "verify_domain_ca",
]

PURPOSE = "certificate.purpose"
DEPTH = "certificate.depth"
NAMES = "certificate.names"

MAX_NAMES = 64
ORIGIN_SCHEME = "https://"
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class VerifiedCertificate:
    """A leaf that was good for `purpose` at the instant asked. Times are UTC seconds, both inclusive.

    `names` are its dNSNames, `address` is the mail address of a user's key, `origin` that of a ledger's.
    """

    purpose: Purpose
    public_key: VerifyingKey = field(repr=False)
    key_id: bytes
    names: tuple[str, ...]
    address: str | None
    origin: str | None
    not_before: int
    not_after: int
    issuer_key_id: bytes
    certificate: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class VerifiedDomainCA:
    """A domain's CA that was good at the instant asked, and the mail domains that it may certify."""

    domains: tuple[str, ...]
    public_key: ec.EllipticCurvePublicKey = field(repr=False)
    key_id: bytes
    not_before: int
    not_after: int
    issuer_key_id: bytes
    certificate: bytes = field(repr=False)


def verify_chain(
    chain: Sequence[bytes], root: TrustRoot, purposes: Collection[Purpose], at: int
) -> VerifiedCertificate:
    """Verify a chain (DER, leaf first, without the root) for one of `purposes` at an instant (UTC seconds).

    Raises EvidenceFault with the first step that fails, in the order C1 to C6 of evidence.md.
    """
    path = path_at(root, chain, at)
    with reading(PURPOSE):
        purpose = _purpose(path)
        if purpose not in purposes:
            wanted = " or ".join(sorted(one.value for one in purposes))
            raise EvidenceFault(PURPOSE, f"the certificate is for {purpose.value}, expected {wanted}")
    return _leaf(path)


def verify_domain_ca(der: bytes, root: TrustRoot, at: int) -> VerifiedDomainCA:
    """Verify a domain CA's certificate (DER), issued by the root, at an instant. Raises EvidenceFault."""
    return _domain_ca(path_at(root, (der,), at))


# What follows depends on the path alone, not on the instant, and is remembered with the path.


@lru_cache(maxsize=CACHED_PATHS)
def _purpose(path: Path) -> Purpose:
    """Return the leaf's only purpose: exactly one of our usages, its companions, and nothing else."""
    usages = list(_extension(path.leaf, x509.ExtendedKeyUsage, PURPOSE))
    ours = [BY_OID[usage] for usage in usages if usage in BY_OID]
    if len(ours) != 1:
        raise EvidenceFault(PURPOSE, f"the certificate has {len(ours)} SecMTP key usages, expected exactly one")
    purpose = ours[0]
    if len(usages) != 1 + len(RULES[purpose].companions) or set(usages) - {purpose.oid} != RULES[purpose].companions:
        raise EvidenceFault(PURPOSE, f"a certificate for {purpose.value} has other key usages beside it than it may")
    return purpose


@lru_cache(maxsize=CACHED_PATHS)
def _leaf(path: Path) -> VerifiedCertificate:
    purpose, leaf = _purpose(path), path.leaf
    with reading(PURPOSE):
        key = _leaf_key(leaf, purpose)
    with reading(DEPTH):
        _check_depth(path, purpose)
    with reading(NAMES):
        names = _names(leaf, purpose)
        address = _address(names[0], path.issuer) if RULES[purpose].by_domain else None
        origin = _origin(names[0]) if purpose is Purpose.LEDGER else None
    return VerifiedCertificate(
        purpose=purpose,
        public_key=key,
        key_id=key_id(key),
        names=tuple(name.value for name in names if isinstance(name, x509.DNSName)),
        address=address,
        origin=origin,
        not_before=seconds(leaf.not_valid_before_utc),
        not_after=seconds(leaf.not_valid_after_utc),
        issuer_key_id=key_id(authority_key(path.issuer, CHAIN)),
        certificate=path.chain[0],
    )


@lru_cache(maxsize=CACHED_PATHS)
def _domain_ca(path: Path) -> VerifiedDomainCA:
    authority = path.leaf
    with reading(PURPOSE):
        _check_authority(authority, PURPOSE)
    if len(path.certificates) != 2:
        raise EvidenceFault(DEPTH, "a domain CA is issued by the root, this path doesn't lead from one to the other")
    with reading(NAMES):
        domains = _domains(authority)
    key = authority_key(authority, PURPOSE)
    return VerifiedDomainCA(
        domains=domains,
        public_key=key,
        key_id=key_id(key),
        not_before=seconds(authority.not_valid_before_utc),
        not_after=seconds(authority.not_valid_after_utc),
        issuer_key_id=key_id(authority_key(path.issuer, CHAIN)),
        certificate=path.chain[0],
    )


def _leaf_key(leaf: x509.Certificate, purpose: Purpose) -> VerifyingKey:
    key, rule = leaf.public_key(), RULES[purpose]
    if not isinstance(key, VerifyingKey) or kind_of(key) != rule.kind:
        raise EvidenceFault(PURPOSE, f"a key for {purpose.value} is of kind {rule.kind}, not {type(key).__name__}")
    if _is_authority(leaf):
        raise EvidenceFault(PURPOSE, f"a certificate for {purpose.value} is none of a CA")
    usage = _extension(leaf, x509.KeyUsage, PURPOSE)
    if not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise EvidenceFault(PURPOSE, f"a key for {purpose.value} makes signatures, and none as a CA")
    return key


def _check_depth(path: Path, purpose: Purpose) -> None:
    by_domain = RULES[purpose].by_domain
    expected = 2 if by_domain else 1
    if len(path.chain) != expected or len(path.certificates) != expected + 1:
        issuer = "a domain CA" if by_domain else "the root"
        shown = f"the chain has {len(path.chain)} certificates of which {len(path.certificates) - 1} lead to the root"
        raise EvidenceFault(DEPTH, f"{purpose.value} is issued by {issuer}, in a chain of {expected}; {shown}")
    if by_domain:
        _check_authority(path.issuer, DEPTH)


def _check_authority(certificate: x509.Certificate, step: str) -> None:
    """Raise EvidenceFault(step) unless this is what the root issues as a domain's CA."""
    authority_key(certificate, step)
    limits = _extension(certificate, x509.BasicConstraints, step)
    if not limits.ca or limits.path_length != 0:
        raise EvidenceFault(step, f"a domain CA has path length 0, this has {limits.path_length} (CA: {limits.ca})")
    if not _extension(certificate, x509.KeyUsage, step).key_cert_sign:
        raise EvidenceFault(step, "a domain CA's key may sign certificates, this one may not")
    for refused in (x509.ExtendedKeyUsage, x509.SubjectAlternativeName):
        if _find(certificate, refused)[1] is not None:
            raise EvidenceFault(step, f"a domain CA has no {refused.__name__}")


def _domains(authority: x509.Certificate) -> tuple[str, ...]:
    """Return the domains that a CA is permitted: exact mail domains, nothing else, and critical."""
    critical, constraints = _find(authority, x509.NameConstraints)
    permitted = (constraints and constraints.permitted_subtrees) or []
    domains = tuple(tree.value for tree in permitted if isinstance(tree, x509.RFC822Name))
    if constraints is None or not critical or constraints.excluded_subtrees or len(domains) != len(permitted):
        raise EvidenceFault(NAMES, "a domain CA's constraint is critical, and permits mail domains and nothing else")
    if not 0 < len(domains) <= MAX_NAMES or not all(map(_is_domain, domains)):
        raise EvidenceFault(NAMES, f"a domain CA is permitted 1 to {MAX_NAMES} exact domains in A-labels")
    return domains


def _names(leaf: x509.Certificate, purpose: Purpose) -> list[x509.GeneralName]:
    """Return the subject's names: only of the types that the purpose has, and as many as it may have."""
    rule = RULES[purpose]
    names = list(_extension(leaf, x509.SubjectAlternativeName, NAMES))
    strange = [type(name).__name__ for name in names if type(name) not in rule.names]
    if strange:
        raise EvidenceFault(NAMES, f"a certificate for {purpose.value} has no {', '.join(sorted(set(strange)))}")
    if not 0 < len(names) <= (MAX_NAMES if rule.many else 1):
        raise EvidenceFault(NAMES, f"a certificate for {purpose.value} has {len(names)} names, which it may not")
    for name in names:
        if isinstance(name, x509.DNSName) and not _is_domain(name.value):
            raise EvidenceFault(NAMES, f"{name.value!r} isn't a domain name in lower-case A-labels")
    return names


def _address(name: x509.GeneralName, issuer: x509.Certificate) -> str:
    domains, address = _domains(issuer), str(name.value)
    if not is_normal(address):
        raise EvidenceFault(NAMES, f"{address!r} isn't a mail address in normal form")
    if domain_of(address) not in domains:
        raise EvidenceFault(NAMES, f"the CA of {', '.join(domains)} can't certify {address}")
    return address


def _origin(name: x509.GeneralName) -> str:
    uri = str(name.value)
    origin = uri.removeprefix(ORIGIN_SCHEME)
    if origin == uri or not origin or not origin.isascii() or not origin.isprintable() or " " in origin:
        raise EvidenceFault(NAMES, f"{uri!r} isn't {ORIGIN_SCHEME!r} and a ledger's origin")
    return origin


def _is_domain(text: str) -> bool:
    try:
        return normal_domain(text) == text
    except Malformed:
        return False


def _is_authority(certificate: x509.Certificate) -> bool:
    _, limits = _find(certificate, x509.BasicConstraints)
    return limits is not None and limits.ca


def _extension(certificate: x509.Certificate, wanted: type[_Extension], step: str) -> _Extension:
    _, found = _find(certificate, wanted)
    if found is None:
        raise EvidenceFault(step, f"the certificate has no {wanted.__name__}")
    return found


def _find(certificate: x509.Certificate, wanted: type[_Extension]) -> tuple[bool, _Extension | None]:
    """Return whether an extension is critical, and its value: (False, None) if it isn't there."""
    for extension in certificate.extensions:
        if isinstance(extension.value, wanted):
            return extension.critical, extension.value
    return False, None
