"""Makes certificates and certificate requests. Serial numbers, times and keys are arguments.

The root issues what `issue` makes of a request file; a domain CA issues `user_certificate`s. What may be
issued stands in docs/protocols/evidence.md section 2, and certificates.py refuses everything else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from shared.crypto.certificates import TLS_PURPOSES, TLS_USAGES, USER_PURPOSES, Purpose, TrustRoot
from shared.crypto.keys import SigningKey, VerifyingKey, key_id
from shared.encoding import base64url, canonical
from shared.encoding.address import normal_address, normal_domain
from shared.encoding.fields import Fields
from shared.errors import Malformed

DAY = 24 * 3600
ROOT_DAYS = 20 * 365
SERVICE_DAYS = 2 * 365
USER_DAYS = 365
DOMAIN_CA = "DOMAIN_CA"
KINDS: Mapping[str, tuple[str, ...]] = {
    "ttp": (Purpose.NRD.name, Purpose.LEDGER.name, Purpose.TTP.name),
    "node": (Purpose.NODE.name, Purpose.NODE_REQUEST.name, DOMAIN_CA),
}
MAX_REQUEST = 64 * 1024
MAX_NAMES = 32


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that can sign: its certificate and private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate is valid, UTC seconds."""

    start: int
    end: int

    @staticmethod
    def days(start: int, days: int) -> Validity:
        """Valid for `days` from an hour before `start`, since clocks differ."""
        return Validity(start - 3600, start + days * DAY)


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """What a TTP or a node asks the root CA for: one CSR (DER) for each purpose of its kind.

    `names` are the TTP's name and hosts, or a node's hosts; `domains` a node's mail domains.
    """

    kind: str
    names: tuple[str, ...]
    domains: tuple[str, ...]
    requests: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class IssuedCertificates:
    """The CA's answer: certificates (DER) by purpose, and the root (DER)."""

    certificates: Mapping[str, bytes]
    root: bytes


def root_certificate(name: str, key: ec.EllipticCurvePrivateKey, serial: int, validity: Validity) -> x509.Certificate:
    """Make a self-signed root: P-256, path length 1."""
    builder = _builder(name, name, key.public_key(), serial, validity)
    return _authority(builder, key.public_key(), 1).sign(key, hashes.SHA256())


def domain_ca_certificate(
    domains: Sequence[str], public: ec.EllipticCurvePublicKey, root: Authority, serial: int, validity: Validity
) -> x509.Certificate:
    """Make a domain CA: path length 0, critically constrained to exactly these mail domains."""
    builder = _builder(f"{domains[0]} domain CA", _name(root), public, serial, validity)
    permitted = [x509.RFC822Name(normal_domain(domain)) for domain in domains]
    builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    return _authority(builder, public, 0).sign(root.key, hashes.SHA256())


def leaf_certificate(
    purpose: Purpose,
    names: Sequence[str],
    public: VerifyingKey,
    issuer: Authority,
    serial: int,
    validity: Validity,
) -> x509.Certificate:
    """Make a leaf of this purpose. `names`: DNS names or addresses, a ledger's origin, or one mail address."""
    builder = _builder(names[0], _name(issuer), public, serial, validity)
    usages = [purpose.oid, *sorted(TLS_USAGES.get(purpose, ()), key=lambda oid: oid.dotted_string)]
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(_alternatives(purpose, names)), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(certify=False), critical=True)
    issuer_key = issuer.key.public_key()
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def user_certificate(
    purpose: Purpose,
    address: str,
    public: ed25519.Ed25519PublicKey,
    domain_ca: Authority,
    serial: int,
    validity: Validity,
) -> bytes:
    """Make a user's certificate (DER) with exactly one mail address."""
    if purpose not in USER_PURPOSES:
        raise Malformed(f"a domain CA doesn't issue {purpose.name} certificates")
    normal = normal_address(address)
    return leaf_certificate(purpose, [normal], public, domain_ca, serial, validity).public_bytes(Encoding.DER)


def make_request(
    kind: str, names: Sequence[str], domains: Sequence[str], keys: Mapping[str, SigningKey]
) -> CertificateRequest:
    """Make a request; each CSR proves that its key is held. `keys` has one key for each purpose of the kind."""
    if set(keys) != set(KINDS[kind]):
        raise Malformed(f"a {kind} request needs keys for {', '.join(KINDS[kind])}")
    requests = {purpose: _csr(purpose, key) for purpose, key in keys.items()}
    return CertificateRequest(kind, tuple(names), tuple(map(normal_domain, domains)), requests)


def encode_request(request: CertificateRequest) -> bytes:
    """Return the canonical octets of a request file."""
    return canonical.encode(
        {
            "v": 1,
            "kind": f"secmtp-{request.kind}-request",
            "names": list(request.names),
            "domains": list(request.domains),
            "requests": {purpose: base64url.encode(der) for purpose, der in request.requests.items()},
        }
    )


def decode_request(data: bytes) -> CertificateRequest:
    """Parse a request file and check every proof of possession. Raises Malformed."""
    fields = Fields(canonical.decode(data, what="certificate request", limit=MAX_REQUEST), "certificate request")
    fields.version()
    kind = fields.choice("kind", [f"secmtp-{kind}-request" for kind in KINDS]).split("-")[1]
    names = fields.texts("names", limit=MAX_NAMES)
    domains = fields.items("domains", limit=MAX_NAMES)
    nested = fields.nested("requests")
    requests = {purpose: nested.octets(purpose, limit=4096) for purpose in KINDS[kind]}
    nested.end()
    fields.end()
    for der in requests.values():
        _proven_key(der)
    if not all(isinstance(domain, str) for domain in domains) or bool(domains) != (kind == "node"):
        raise Malformed("certificate request: a node names its mail domains, a TTP none")
    return CertificateRequest(kind, names, tuple(normal_domain(str(domain)) for domain in domains), requests)


def issue(
    request: CertificateRequest, root: Authority, serials: Sequence[int], validity: Validity
) -> IssuedCertificates:
    """Issue what a request asks for, in the order of KINDS, one serial number each."""
    certificates = {
        purpose: _issue_one(request, purpose, root, serial, validity).public_bytes(Encoding.DER)
        for purpose, serial in zip(KINDS[request.kind], serials, strict=True)
    }
    return IssuedCertificates(certificates, root.certificate.public_bytes(Encoding.DER))


def encode_issued(issued: IssuedCertificates) -> bytes:
    """Return the canonical octets of a certificates file."""
    certificates = {purpose: base64url.encode(der) for purpose, der in issued.certificates.items()}
    root = base64url.encode(issued.root)
    return canonical.encode({"v": 1, "kind": "secmtp-certificates", "certificates": certificates, "root": root})


def decode_issued(data: bytes, kind: str) -> IssuedCertificates:
    """Parse a certificates file for a TTP or a node. Raises Malformed; chains are the caller's to verify."""
    fields = Fields(canonical.decode(data, what="certificates file", limit=MAX_REQUEST), "certificates file")
    fields.version()
    fields.constant("kind", "secmtp-certificates")
    nested = fields.nested("certificates")
    certificates = {purpose: nested.octets(purpose, limit=8192) for purpose in KINDS[kind]}
    nested.end()
    issued = IssuedCertificates(certificates, fields.octets("root", limit=8192))
    fields.end()
    TrustRoot.from_der([issued.root])
    return issued


def _issue_one(
    request: CertificateRequest, purpose: str, root: Authority, serial: int, validity: Validity
) -> x509.Certificate:
    public = _proven_key(request.requests[purpose])
    if purpose == DOMAIN_CA:
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise Malformed("a domain CA's key must be P-256")
        return domain_ca_certificate(request.domains, public, root, serial, validity)
    wanted = Purpose[purpose]
    if (wanted in TLS_PURPOSES) != isinstance(public, ec.EllipticCurvePublicKey):
        raise Malformed(f"the key for {purpose} isn't of the kind that this purpose uses")
    return leaf_certificate(wanted, _names_for(request, wanted), public, root, serial, validity)


def _names_for(request: CertificateRequest, purpose: Purpose) -> Sequence[str]:
    match purpose:
        case Purpose.NODE:
            return [*request.domains, *(name for name in request.names if name not in request.domains)]
        case Purpose.NODE_REQUEST:
            return request.domains
        case Purpose.LEDGER:
            return [f"{request.names[0]}/ledger"]
        case Purpose.NRD:
            return request.names[:1]
        case _:
            return request.names


def _alternatives(purpose: Purpose, names: Sequence[str]) -> list[x509.GeneralName]:
    if purpose in USER_PURPOSES:
        return [x509.RFC822Name(name) for name in names]
    if purpose is Purpose.LEDGER:
        return [x509.UniformResourceIdentifier("https://" + name) for name in names]
    return [_host(name) for name in names]


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(normal_domain(name))


def _csr(purpose: str, key: SigningKey) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"SecMTP {purpose}")])
    algorithm = hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm).public_bytes(Encoding.DER)


def _proven_key(der: bytes) -> VerifyingKey:
    try:
        request = x509.load_der_x509_csr(der)
        public = request.public_key()
        valid = request.is_signature_valid
    except Exception as error:  # the parser raises many kinds on garbage
        raise Malformed(f"not a certificate signing request: {error}") from error
    if not valid or not isinstance(public, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey):
        raise Malformed("a certificate signing request doesn't prove that its key is held")
    key_id(public)
    return public


def _builder(
    subject: str, issuer: str, public: VerifyingKey, serial: int, validity: Validity
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(datetime.fromtimestamp(validity.start, UTC))
        .not_valid_after(datetime.fromtimestamp(validity.end, UTC))
    )


def _authority(
    builder: x509.CertificateBuilder, public: ec.EllipticCurvePublicKey, path_length: int
) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    builder = builder.add_extension(_usage(certify=True), critical=True)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _usage(*, certify: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certify,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certify,
        crl_sign=certify,
        encipher_only=False,
        decipher_only=False,
    )


def _name(authority: Authority) -> str:
    return str(authority.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
