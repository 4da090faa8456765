"""Certificate chains at an instant, against one trust root, in a fixed order of named steps.

The path itself (signatures, RFC 5280, name constraints) is the library's work; what the library can't
know is ours: which purpose, which depth, which names (docs/protocols/evidence.md C1–C6). The instant
always comes from the caller, never from a certificate. Every failure is an EvidenceFault.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from shared.crypto.keys import SignaturePublicKey, key_id
from shared.encoding.address import domain_of, normal_address, normal_domain
from shared.encoding.labels import blob_digest
from shared.errors import EvidenceFault, Malformed

ARC = "2.25.190232336471728815189852986359685205264"
MAX_CERTIFICATE = 8 * 1024


class Purpose(Enum):
    """What a leaf certificate is for: exactly one extended key usage below the project's arc."""

    NRD = 1
    LEDGER = 2
    NODE = 3
    NODE_REQUEST = 4
    ORIGIN = 5
    RECEIPT_GATEWAY = 6
    RECEIPT_USER = 7
    AGENT = 8
    TTP = 9

    @property
    def oid(self) -> x509.ObjectIdentifier:
        """The extended key usage's object identifier."""
        return x509.ObjectIdentifier(f"{ARC}.1.{self.value}")


USER_PURPOSES = frozenset({Purpose.ORIGIN, Purpose.RECEIPT_GATEWAY, Purpose.RECEIPT_USER})
TLS_PURPOSES = frozenset({Purpose.NODE, Purpose.TTP})
TLS_USAGES = {
    Purpose.NODE: frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}),
    Purpose.TTP: frozenset({ExtendedKeyUsageOID.SERVER_AUTH}),
}
_BY_OID = {purpose.oid: purpose for purpose in Purpose}


@dataclass(frozen=True, slots=True)
class VerifiedCertificate:
    """A leaf whose chain was verified. `names` are dNSNames, `address` a user's, `origin` a ledger's."""

    purpose: Purpose
    public_key: SignaturePublicKey
    key_id: bytes
    names: tuple[str, ...]
    address: str | None
    origin: str | None
    not_before: int
    not_after: int
    issuer_key_id: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True)
class VerifiedDomainCA:
    """A domain's own CA. `domains` are the mail domains that it may certify, as A-labels."""

    domains: tuple[str, ...]
    public_key: ec.EllipticCurvePublicKey
    key_id: bytes
    not_before: int
    not_after: int
    certificate: bytes


@dataclass(frozen=True)
class TrustRoot:
    """The root certificates that the caller trusts, DER. Equal roots are equal values."""

    certificates: tuple[bytes, ...]

    @staticmethod
    def from_pem(data: bytes) -> TrustRoot:
        """Parse one or more PEM certificates. Raises Malformed unless each is a self-signed P-256 CA."""
        try:
            parsed = x509.load_pem_x509_certificates(data)
        except ValueError as error:
            raise Malformed(f"the trust file holds no PEM certificate: {error}") from error
        return TrustRoot.from_der([certificate.public_bytes(Encoding.DER) for certificate in parsed])

    @staticmethod
    def from_der(certificates: Sequence[bytes]) -> TrustRoot:
        """Take DER certificates. Raises Malformed unless each is a self-signed P-256 CA."""
        for der in certificates:
            _check_root(der)
        return TrustRoot(tuple(certificates))


@dataclass(frozen=True, slots=True)
class _Path:
    """A path whose signatures and constraints hold; from when until when all of it is valid."""

    leaf: x509.Certificate
    issuer: x509.Certificate
    length: int
    not_before: int
    not_after: int


def verify_chain(
    chain: Sequence[bytes], root: TrustRoot, purposes: Collection[Purpose], at: int
) -> VerifiedCertificate:
    """Verify a leaf's chain (DER, leaf first, root not included) at the instant `at` (UTC seconds).

    Raises EvidenceFault with step `certificate.syntax`, `.chain`, `.validity`, `.purpose`, `.depth` or
    `.names` (evidence.md C1 to C6).
    """
    path = _path(tuple(chain), root)
    _check_validity(path, at)
    purpose = _check_purpose(path.leaf, purposes)
    _check_depth(path, purpose)
    names, address, origin = _check_names(path, purpose)
    return VerifiedCertificate(
        purpose=purpose,
        public_key=_public_key(path.leaf),
        key_id=key_id(_public_key(path.leaf)),
        names=names,
        address=address,
        origin=origin,
        not_before=path.not_before,
        not_after=path.not_after,
        issuer_key_id=key_id(_public_key(path.issuer)),
        certificate=chain[0],
    )


def verify_domain_ca(der: bytes, root: TrustRoot, at: int) -> VerifiedDomainCA:
    """Verify a domain CA's certificate directly under the root at an instant. Raises EvidenceFault."""
    certificate = _load(der)
    issuer = _issuing_root(certificate, root)
    not_before, not_after = _window((certificate, issuer))
    _check_validity(_Path(certificate, issuer, 1, not_before, not_after), at)
    public_key = _public_key(certificate)
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or _path_length(certificate) != 0:
        raise EvidenceFault("certificate.purpose", "not a domain CA: P-256, CA with path length 0 expected")
    domains = _permitted_domains(certificate)
    return VerifiedDomainCA(domains, public_key, key_id(public_key), not_before, not_after, der)


@lru_cache(maxsize=4096)
def _path(chain: tuple[bytes, ...], root: TrustRoot) -> _Path:
    """Build the path. Cached by exact octets: signatures don't change, validity is checked on each use."""
    if not chain:
        raise EvidenceFault("certificate.syntax", "the chain is empty")
    certificates = [_load(der) for der in chain]
    roots = [_load(der) for der in root.certificates]
    not_before, not_after = _window(certificates)
    for trusted in roots:
        start = max(not_before, _start(trusted))
        if start > min(not_after, _end(trusted)):
            continue
        path = _try_path(certificates, trusted, start)
        if path is not None:
            first, last = _window(path)
            return _Path(path[0], path[1], len(path) - 1, first, last)
    raise EvidenceFault("certificate.chain", "the chain doesn't lead to the trusted root, or breaks its constraints")


def _try_path(certificates: list[x509.Certificate], root: x509.Certificate, at: int) -> list[x509.Certificate] | None:
    builder = PolicyBuilder().store(Store([root])).time(datetime.fromtimestamp(at, UTC)).max_chain_depth(1)
    verifier = builder.extension_policies(ca_policy=_CA_POLICY, ee_policy=_EE_POLICY).build_client_verifier()
    try:
        path = list(verifier.verify(certificates[0], certificates[1:]).chain)
    except (VerificationError, ValueError):
        return None
    # What isn't used in the path has no business in the chain: one chain for one leaf.
    return path if path[:-1] == certificates and path[-1] == root else None


def _is_ca(_policy: Policy, _certificate: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("issuer isn't a CA")


def _may_sign(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.key_cert_sign:
        raise ValueError("issuer may not sign certificates")


_CA_POLICY = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.CRITICAL, _is_ca)
    .require_present(x509.KeyUsage, Criticality.CRITICAL, _may_sign)
    .may_be_present(x509.NameConstraints, Criticality.CRITICAL, None)
)
_EE_POLICY = (
    ExtensionPolicy.permit_all()
    .require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    .require_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)
)


def _load(der: bytes) -> x509.Certificate:
    if len(der) > MAX_CERTIFICATE:
        raise EvidenceFault("certificate.syntax", f"{len(der)} octets, at most {MAX_CERTIFICATE} are allowed")
    try:
        certificate = x509.load_der_x509_certificate(der)
        _ = certificate.extensions, certificate.signature_hash_algorithm, certificate.subject
        _public_key(certificate)
    except EvidenceFault:
        raise
    except Exception as error:  # the parser raises many kinds on garbage
        raise EvidenceFault("certificate.syntax", f"isn't a certificate: {error}") from error
    return certificate


def _public_key(certificate: x509.Certificate) -> SignaturePublicKey:
    key = certificate.public_key()
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise EvidenceFault("certificate.syntax", "its key is neither Ed25519 nor P-256")


def _check_validity(path: _Path, at: int) -> None:
    if not path.not_before <= at <= path.not_after:
        window = f"{_iso(path.not_before)} to {_iso(path.not_after)}"
        raise EvidenceFault("certificate.validity", f"valid from {window}, asked about {_iso(at)}")


def _check_purpose(leaf: x509.Certificate, purposes: Collection[Purpose]) -> Purpose:
    usages = list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    found = [_BY_OID[oid] for oid in usages if oid in _BY_OID]
    expected = ", ".join(sorted(purpose.name for purpose in purposes))
    if len(found) != 1 or found[0] not in purposes:
        names = ", ".join(purpose.name for purpose in found) or "none"
        raise EvidenceFault("certificate.purpose", f"certified for {names}, expected {expected}")
    purpose = found[0]
    others = frozenset(usages) - {purpose.oid}
    if len(usages) != len(set(usages)) or others != TLS_USAGES.get(purpose, frozenset()):
        raise EvidenceFault("certificate.purpose", f"holds other key usages than those of {purpose.name}")
    expected_type = ec.EllipticCurvePublicKey if purpose in TLS_PURPOSES else ed25519.Ed25519PublicKey
    if not isinstance(_public_key(leaf), expected_type):
        raise EvidenceFault("certificate.purpose", f"the key isn't of the kind that {purpose.name} uses")
    return purpose


def _check_depth(path: _Path, purpose: Purpose) -> None:
    expected = 2 if purpose in USER_PURPOSES else 1
    if path.length != expected:
        raise EvidenceFault(
            "certificate.depth", f"{purpose.name} has {path.length} certificates below the root, expected {expected}"
        )


def _check_names(path: _Path, purpose: Purpose) -> tuple[tuple[str, ...], str | None, str | None]:
    san = path.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    names = list(san)
    if purpose in USER_PURPOSES:
        return (), _address(names, path.issuer), None
    if purpose is Purpose.LEDGER:
        return (), None, _origin(names)
    allowed = (x509.DNSName, x509.IPAddress) if purpose in TLS_PURPOSES else (x509.DNSName,)
    if not names or not all(isinstance(name, allowed) for name in names):
        raise EvidenceFault("certificate.names", f"a {purpose.name} certificate holds names of another type")
    return tuple(name.value for name in names if isinstance(name, x509.DNSName)), None, None


def _address(names: list[x509.GeneralName], issuer: x509.Certificate) -> str:
    if len(names) != 1 or not isinstance(names[0], x509.RFC822Name):
        raise EvidenceFault("certificate.names", "a user's certificate must name exactly one mail address, nothing else")
    try:
        address = normal_address(names[0].value)
    except Malformed as error:
        raise EvidenceFault("certificate.names", error.message) from error
    if domain_of(address) not in _permitted_domains(issuer):
        raise EvidenceFault("certificate.names", f"the issuer isn't permitted to certify {address}")
    return address


def _origin(names: list[x509.GeneralName]) -> str:
    scheme = "https://"
    if len(names) == 1 and isinstance(names[0], x509.UniformResourceIdentifier) and names[0].value.startswith(scheme):
        return names[0].value.removeprefix(scheme)
    raise EvidenceFault("certificate.names", "a ledger's certificate must name exactly one origin as an https URI")


def _permitted_domains(authority: x509.Certificate) -> tuple[str, ...]:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound as error:
        raise EvidenceFault("certificate.names", "the domain CA has no name constraint") from error
    permitted = constraints.value.permitted_subtrees or []
    if not constraints.critical or not permitted or constraints.value.excluded_subtrees:
        raise EvidenceFault("certificate.names", "the domain CA's name constraint must be critical and permit domains")
    try:
        return tuple(_permitted_domain(name) for name in permitted)
    except Malformed as error:
        raise EvidenceFault("certificate.names", error.message) from error


def _permitted_domain(name: x509.GeneralName) -> str:
    if not isinstance(name, x509.RFC822Name) or "@" in name.value or name.value.startswith("."):
        raise Malformed("the domain CA's name constraint permits something that isn't one mail domain")
    return normal_domain(name.value)


def _issuing_root(certificate: x509.Certificate, root: TrustRoot) -> x509.Certificate:
    for der in root.certificates:
        trusted = _load(der)
        try:
            certificate.verify_directly_issued_by(trusted)
        except (InvalidSignature, ValueError, TypeError):
            continue
        return trusted
    raise EvidenceFault("certificate.chain", "the domain CA isn't issued by the trusted root")


def _path_length(authority: x509.Certificate) -> int | None:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None
    return constraints.path_length if constraints.ca and usage.key_cert_sign else None


def _check_root(der: bytes) -> None:
    try:
        root = _load(der)
        root.verify_directly_issued_by(root)
        self_signed_ca = isinstance(_public_key(root), ec.EllipticCurvePublicKey) and _path_length(root) == 1
    except (EvidenceFault, InvalidSignature, ValueError, TypeError) as error:
        raise Malformed(f"not a root certificate: {error}") from error
    if not self_signed_ca:
        raise Malformed(f"not a root certificate of SecMTP: P-256 CA of path length 1 expected ({blob_digest(der).hex()[:16]})")


def _window(certificates: Sequence[x509.Certificate]) -> tuple[int, int]:
    return max(map(_start, certificates)), min(map(_end, certificates))


def _start(certificate: x509.Certificate) -> int:
    return int(certificate.not_valid_before_utc.timestamp())


def _end(certificate: x509.Certificate) -> int:
    return int(certificate.not_valid_after_utc.timestamp())


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
