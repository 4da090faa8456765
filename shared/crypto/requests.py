"""What a TTP or a node sends to the root CA, and what it gets back: two kinds of JSON files.

A request carries a CSR for each key that already holds the very names and usages asked for, so that
a CSR taken from one request can't get a certificate for other names in another. The CA certifies what
the request names, all or nothing; whether the requester *is* that organisation, a person decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from shared.crypto import issuance
from shared.crypto.certificates import MAX_NAMES, VerifiedCertificate, VerifiedDomainCA, verify_chain, verify_domain_ca
from shared.crypto.issuance import Issuer, Validity
from shared.crypto.keys import P256, SigningKey, VerifyingKey, kind_of
from shared.crypto.paths import LIBRARY_ERRORS, MAX_CERTIFICATE, TrustRoot
from shared.crypto.purposes import RULES, Purpose
from shared.encoding import base64url, canonical
from shared.encoding.fields import Fields
from shared.errors import Malformed

MAX_FILE = 128 * 1024
DOMAIN_CA = "domain-ca"
TTP_KIND = "ttp"
NODE_KIND = "node"


@dataclass(frozen=True, slots=True)
class TTPNames:
    """What a TTP is to be certified as. `log` is its ledger's origin, `hosts` are names or addresses for TLS."""

    name: str
    log: str
    hosts: tuple[str, ...]

    kind = TTP_KIND
    domains: tuple[str, ...] = field(default=(), init=False)

    @property
    def leaves(self) -> dict[Purpose, tuple[str, ...]]:
        """The names in the certificate for each purpose."""
        return {Purpose.NRD: (self.name,), Purpose.LEDGER: (self.log,), Purpose.TTP: self.hosts}

    def to_json(self) -> canonical.JSON:
        """Return the members of a request file."""
        return {"name": self.name, "log": self.log, "hosts": list(self.hosts)}


@dataclass(frozen=True, slots=True)
class NodeNames:
    """What a node is to be certified as: its mail domains, which its CA may certify, and host names for TLS."""

    domains: tuple[str, ...]
    hosts: tuple[str, ...] = ()

    kind = NODE_KIND

    @property
    def leaves(self) -> dict[Purpose, tuple[str, ...]]:
        """The names in the certificate for each purpose."""
        return {Purpose.NODE: (*self.domains, *self.hosts), Purpose.NODE_REQUEST: self.domains}

    def to_json(self) -> canonical.JSON:
        """Return the members of a request file."""
        members: canonical.JSON = {"domains": list(self.domains)}
        return {**members, "hosts": list(self.hosts)} if self.hosts else members


Names = TTPNames | NodeNames


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A request whose CSRs all prove possession of their key, for these names."""

    names: Names
    keys: Mapping[Purpose, VerifyingKey]
    domain_ca: VerifyingKey | None

    @property
    def all_keys(self) -> tuple[VerifyingKey, ...]:
        """Every key that is to be certified."""
        return (*self.keys.values(), *(() if self.domain_ca is None else (self.domain_ca,)))


@dataclass(frozen=True, slots=True)
class Certificates:
    """Unverified: what the CA issued for one request (DER), and its root, which is trusted by nobody for that."""

    kind: str
    leaves: Mapping[Purpose, bytes]
    domain_ca: bytes | None
    root: bytes


@dataclass(frozen=True, slots=True)
class VerifiedCertificates:
    """Issued certificates of which each is good for its purpose at the instant asked."""

    leaves: Mapping[Purpose, VerifiedCertificate]
    domain_ca: VerifiedDomainCA | None


def make_request(
    names: Names, keys: Mapping[Purpose, SigningKey], domain_ca: ec.EllipticCurvePrivateKey | None = None
) -> bytes:
    """Return the canonical octets of a request. `keys` has one for each purpose of `names.leaves`.

    A node brings its domain CA's key too. Raises Malformed for names that can't be certified.
    """
    csrs = {purpose.value: _csr(_leaf_extensions(purpose, names), keys[purpose]) for purpose in names.leaves}
    if domain_ca is not None:
        csrs[DOMAIN_CA] = _csr(_domain_ca_extensions(names), domain_ca)
    coded = {slot: base64url.encode(der) for slot, der in csrs.items()}
    octets = canonical.encode({"v": 1, "kind": names.kind, **names.to_json(), "csrs": coded})
    decode_request(octets)
    return octets


def decode_request(data: bytes) -> CertificateRequest:
    """Parse a request and check every CSR: its signature, the kind of its key, and that it asks for these names.

    Raises Malformed.
    """
    fields = Fields(canonical.decode(data, what="certificate request", limit=MAX_FILE), "certificate request")
    fields.version()
    names = _names(fields)
    csrs = fields.nested("csrs")
    fields.end()
    keys = {
        purpose: _proven_key(csrs, purpose.value, RULES[purpose].kind, _leaf_extensions(purpose, names))
        for purpose in names.leaves
    }
    domain_ca = None
    if isinstance(names, NodeNames):
        domain_ca = _proven_key(csrs, DOMAIN_CA, P256, _domain_ca_extensions(names))
    csrs.end()
    return CertificateRequest(names, keys, domain_ca)


def issue(
    request: CertificateRequest,
    root: Issuer,
    serials: Sequence[int],
    now: int,
    *,
    lifetime: int = issuance.SERVICE_LIFETIME,
    domain_lifetime: int = issuance.DOMAIN_LIFETIME,
) -> Certificates:
    """Issue everything that a request asks for. `serials` are fresh numbers, as many as `count` says."""
    left = list(serials)
    validity = Validity.starting(now, lifetime)
    leaves = {
        purpose: issuance.issue_leaf(purpose, request.keys[purpose], names, root, left.pop(), validity)
        for purpose, names in request.names.leaves.items()
    }
    domain_ca = None
    if request.domain_ca is not None:
        domain_validity = Validity.starting(now, domain_lifetime)
        domain_ca = issuance.issue_domain_ca(
            request.domain_ca, request.names.domains, root, left.pop(), domain_validity
        )
    return Certificates(request.names.kind, leaves, domain_ca, root.certificate)


def count(request: CertificateRequest) -> int:
    """Return how many certificates (so, serial numbers) a request takes."""
    return len(request.all_keys)


def encode_certificates(certificates: Certificates) -> bytes:
    """Return the canonical octets of a file of issued certificates."""
    issued = {purpose.value: base64url.encode(der) for purpose, der in certificates.leaves.items()}
    if certificates.domain_ca is not None:
        issued[DOMAIN_CA] = base64url.encode(certificates.domain_ca)
    root = base64url.encode(certificates.root)
    return canonical.encode({"v": 1, "kind": certificates.kind, "certificates": issued, "root": root})


def decode_certificates(data: bytes) -> Certificates:
    """Parse a file of issued certificates. Raises Malformed; checks no certificate."""
    fields = Fields(canonical.decode(data, what="certificates file", limit=MAX_FILE), "certificates file")
    fields.version()
    kind = fields.choice("kind", (TTP_KIND, NODE_KIND))
    root = fields.octets("root", limit=MAX_CERTIFICATE)
    issued = fields.nested("certificates")
    fields.end()
    leaves = {purpose: issued.octets(purpose.value, limit=MAX_CERTIFICATE) for purpose in _PURPOSES[kind]}
    domain_ca = issued.octets(DOMAIN_CA, limit=MAX_CERTIFICATE) if kind == NODE_KIND else None
    issued.end()
    return Certificates(kind, leaves, domain_ca, root)


def verify_certificates(certificates: Certificates, root: TrustRoot, at: int) -> VerifiedCertificates:
    """Verify each certificate for its purpose under a root that is trusted for other reasons than this file.

    Raises EvidenceFault. Whether the certified keys are one's own is the caller's to compare, by key id.
    """
    leaves = {purpose: verify_chain([der], root, {purpose}, at) for purpose, der in certificates.leaves.items()}
    domain_ca = None if certificates.domain_ca is None else verify_domain_ca(certificates.domain_ca, root, at)
    return VerifiedCertificates(leaves, domain_ca)


_PURPOSES = {
    TTP_KIND: (Purpose.NRD, Purpose.LEDGER, Purpose.TTP),
    NODE_KIND: (Purpose.NODE, Purpose.NODE_REQUEST),
}


def _names(fields: Fields) -> Names:
    if fields.choice("kind", (TTP_KIND, NODE_KIND)) == TTP_KIND:
        return TTPNames(
            fields.text("name", limit=255),
            fields.text("log", limit=255),
            fields.texts("hosts", limit=MAX_NAMES),
        )
    domains = fields.texts("domains", limit=MAX_NAMES)
    hosts = fields.texts("hosts", limit=MAX_NAMES) if "hosts" in fields else ()
    return NodeNames(domains, hosts)


def _leaf_extensions(purpose: Purpose, names: Names) -> list[x509.ExtensionType]:
    return [issuance.alternative_names(purpose, names.leaves[purpose]), issuance.usages(purpose)]


def _domain_ca_extensions(names: Names) -> list[x509.ExtensionType]:
    return [issuance.domain_constraints(names.domains)]


def _csr(extensions: Sequence[x509.ExtensionType], key: SigningKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return builder.sign(key, None).public_bytes(Encoding.DER)
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def _proven_key(csrs: Fields, slot: str, kind: str, wanted: Sequence[x509.ExtensionType]) -> VerifyingKey:
    """Return the key of a CSR that is signed by it and asks for exactly the extensions wanted."""
    der = csrs.octets(slot, limit=MAX_CERTIFICATE)
    try:
        csr = x509.load_der_x509_csr(der)
        signed, key, asked = csr.is_signature_valid, csr.public_key(), [one.value for one in csr.extensions]
    except LIBRARY_ERRORS as error:
        raise Malformed(f"the CSR for {slot} can't be read: {type(error).__name__}") from error
    if not isinstance(key, VerifyingKey) or kind_of(key) != kind:
        raise Malformed(f"the CSR for {slot} has a key of type {type(key).__name__}, expected {kind}")
    if not signed:
        raise Malformed(f"the CSR for {slot} isn't signed by its own key")
    if asked != wanted:
        raise Malformed(f"the CSR for {slot} asks for other names or usages than the request")
    return key
