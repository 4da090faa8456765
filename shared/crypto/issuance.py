"""Makes certificates; serials, times and keys are arguments.

What is built here is what certificates.py accepts: both read the table in purposes.py. How a TTP or a
node asks the root CA for its certificates, and gets them, is in requests.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from shared.crypto.certificates import MAX_NAMES, ORIGIN_SCHEME
from shared.crypto.keys import P256, VerifyingKey, kind_of
from shared.crypto.purposes import RULES, Purpose
from shared.encoding.address import domain_of, normal_address, normal_domain
from shared.errors import Malformed

DAY = 24 * 3600
YEAR = 365 * DAY
ROOT_LIFETIME = 20 * YEAR
SERVICE_LIFETIME = 2 * YEAR
DOMAIN_LIFETIME = 2 * YEAR
USER_LIFETIME = YEAR
# Well-run clocks differ by seconds: a certificate that began "now" would be refused by the next host.
BACKDATE = 300
_MAX_SERIAL = 2**159
_MAX_COMMON_NAME = 64
# RFC 5321 §4.1.2: Dot-string. Letter case and length are left alone.
_DOT_STRING = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a certificate is valid: UTC seconds, both inclusive."""

    not_before: int
    not_after: int

    @classmethod
    def starting(cls, now: int, lifetime: int) -> Validity:
        """Return a validity of `lifetime` seconds from now, backdated by five minutes for others' clocks."""
        return cls(now - BACKDATE, now + lifetime)


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA's certificate (DER) and its key."""

    certificate: bytes
    key: ec.EllipticCurvePrivateKey


def issue_root(name: str, key: ec.EllipticCurvePrivateKey, serial: int, validity: Validity) -> bytes:
    """Return a self-signed root certificate (DER) with path length 1."""
    subject = _common_name(name)
    builder = _builder(subject, key.public_key(), serial, validity).issuer_name(subject)
    builder = _authority(builder, key.public_key(), path_length=1)
    return _signed(builder, key)


def issue_domain_ca(
    public_key: VerifyingKey, domains: Sequence[str], root: Issuer, serial: int, validity: Validity
) -> bytes:
    """Return the certificate (DER) of the CA of these mail domains, by critical name constraint of these only."""
    _check_kind(public_key, P256, "a domain CA")
    constraints = domain_constraints(domains)
    builder = _builder(_common_name(f"SecMTP domain CA {domains[0]}"), public_key, serial, validity)
    builder = _authority(builder, public_key, path_length=0).add_extension(constraints, critical=True)
    return _by(builder, root)


def issue_leaf(
    purpose: Purpose,
    public_key: VerifyingKey,
    names: Sequence[str],
    issuer: Issuer,
    serial: int,
    validity: Validity,
) -> bytes:
    """Return a certificate (DER) for one purpose.

    `names` are as the purpose has them: domain and host names (for a TTP's TLS key addresses too), the
    ledger's origin, or the one mail address of a user. Raises Malformed for names it can't have.
    """
    _check_kind(public_key, RULES[purpose].kind, purpose.value)
    subject_names = alternative_names(purpose, names)
    builder = (
        _builder(x509.Name([]), public_key, serial, validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(usages(purpose), critical=False)
        # RFC 5280 §4.2.1.6: critical, since the subject is empty.
        .add_extension(subject_names, critical=True)
    )
    if RULES[purpose].by_domain:
        _check_domain(names[0], issuer)
    return _by(builder, issuer)


def usages(purpose: Purpose) -> x509.ExtendedKeyUsage:
    """Return the extended key usages of a purpose, ours first."""
    rule = RULES[purpose]
    return x509.ExtendedKeyUsage([rule.oid, *sorted(rule.companions, key=lambda oid: oid.dotted_string)])


def alternative_names(purpose: Purpose, names: Sequence[str]) -> x509.SubjectAlternativeName:
    """Return the subject's alternative names for a purpose. Raises Malformed for what it can't have."""
    rule = RULES[purpose]
    if not 0 < len(names) <= (MAX_NAMES if rule.many else 1):
        raise Malformed(f"a certificate for {purpose.value} can't have {len(names)} names")
    return x509.SubjectAlternativeName([_general_name(rule.names, name) for name in _distinct(names)])


def domain_constraints(domains: Sequence[str]) -> x509.NameConstraints:
    """Return the name constraint that permits exactly these mail domains. Raises Malformed."""
    if not 0 < len(domains) <= MAX_NAMES:
        raise Malformed(f"a domain CA can't be for {len(domains)} domains, 1 to {MAX_NAMES} may be")
    permitted = [x509.RFC822Name(_normal_domain(domain)) for domain in _distinct(domains)]
    return x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None)


def _general_name(types: tuple[type[x509.GeneralName], ...], name: str) -> x509.GeneralName:
    if types == (x509.RFC822Name,):
        return _mail_name(name)
    if types == (x509.UniformResourceIdentifier,):
        if not name or not name.isascii() or not name.isprintable() or " " in name:
            raise Malformed(f"{name!r} isn't a ledger's origin: expected ASCII without blanks, like ttp.example/ledger")
        return x509.UniformResourceIdentifier(ORIGIN_SCHEME + name)
    if x509.IPAddress in types:
        try:
            return x509.IPAddress(ip_address(name))
        except ValueError:
            pass
    return x509.DNSName(_normal_domain(name))


def _mail_name(address: str) -> x509.RFC822Name:
    """Return the name of a mail address, its local part as it is.

    An rfc822Name is ASCII (RFC 5280 §4.2.1.6), the form that could say more (SmtpUTF8Mailbox) isn't held
    by name constraints, and the library finds no path for a quoted local part: such can't be certified.
    """
    normal = normal_address(address)
    if normal != address or not _DOT_STRING.fullmatch(address.rpartition("@")[0]):
        raise Malformed(
            f"{address!r} can't be certified: expected an unquoted ASCII local part and a domain in A-labels"
        )
    return x509.RFC822Name(address)


def _normal_domain(domain: str) -> str:
    normal = normal_domain(domain)
    if normal != domain:
        raise Malformed(f"{domain!r} isn't in normal form, write {normal!r}")
    return normal


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _common_name(name: str) -> x509.Name:
    """Return a subject that is shown to people and identifies nobody: what a CA may do stands in extensions."""
    if not name:
        raise Malformed("a CA needs a name")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_MAX_COMMON_NAME])])


def _builder(subject: x509.Name, public_key: VerifyingKey, serial: int, validity: Validity) -> x509.CertificateBuilder:
    if not 0 < serial < _MAX_SERIAL:
        raise Malformed("a serial number is positive and has at most 20 octets (RFC 5280 §4.1.2.2)")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(datetime.fromtimestamp(validity.not_before, UTC))
        .not_valid_after(datetime.fromtimestamp(validity.not_after, UTC))
    )


def _authority(
    builder: x509.CertificateBuilder, public_key: VerifyingKey, *, path_length: int
) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,  # a domain CA also signs bindings and records
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _check_kind(public_key: VerifyingKey, kind: str, what: str) -> None:
    if kind_of(public_key) != kind:
        raise Malformed(f"a key for {what} is of kind {kind}, not {kind_of(public_key)}")


def _check_domain(address: str, issuer: Issuer) -> None:
    extensions = x509.load_der_x509_certificate(issuer.certificate).extensions
    constraints = next((one.value for one in extensions if isinstance(one.value, x509.NameConstraints)), None)
    domains = [tree.value for tree in (constraints and constraints.permitted_subtrees) or []]
    if domain_of(normal_address(address)) not in domains:
        raise Malformed(f"{address} is outside the domains of the CA: {', '.join(domains) or 'it is no domain CA'}")


def _by(builder: x509.CertificateBuilder, issuer: Issuer) -> bytes:
    certificate = x509.load_der_x509_certificate(issuer.certificate)
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    return _signed(builder.issuer_name(certificate.subject).add_extension(authority, critical=False), issuer.key)


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> bytes:
    # Deterministic ECDSA (RFC 6979): the same certificate has one signature, so vectors can be made.
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)
