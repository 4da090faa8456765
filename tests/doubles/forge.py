"""Certificates of any shape, good and bad: what no part of the product would issue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from shared.crypto.purposes import RULES, Purpose

NOW = 1_800_000_000
DAY = 24 * 3600
WINDOW = (NOW - DAY, NOW + 365 * DAY)
SMTP_UTF8_MAILBOX = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9")

Extension = tuple[x509.ExtensionType, bool]
Key = (
    ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | rsa.RSAPrivateKey
    | mldsa.MLDSA65PrivateKey
)


def p256() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def edwards() -> ed25519.Ed25519PrivateKey:
    """A fresh Ed25519 key."""
    return ed25519.Ed25519PrivateKey.generate()


@dataclass
class Authority:
    """Whoever signs: a name, a key, and the certificate (DER) once there is one."""

    name: str
    key: Key = field(default_factory=p256)
    certificate: bytes = b""


def forge(
    issuer: Authority,
    key: Key,
    extensions: Sequence[Extension],
    *,
    subject: str = "",
    window: tuple[int, int] = WINDOW,
    serial: int = 4711,
) -> bytes:
    """Sign a certificate with exactly these extensions and return it in DER."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer.name))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(datetime.fromtimestamp(window[0], UTC))
        .not_valid_after(datetime.fromtimestamp(window[1], UTC))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    hashed = hashes.SHA256() if isinstance(issuer.key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) else None
    return builder.sign(issuer.key, hashed).public_bytes(Encoding.DER)


def name(text: str) -> x509.Name:
    """A subject or issuer; empty for no name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def root(title: str = "Test root", key: Key | None = None, window: tuple[int, int] = WINDOW) -> Authority:
    """A self-signed root."""
    authority = Authority(title, key or p256())
    authority.certificate = forge(authority, authority.key, root_extensions(), subject=title, window=window)
    return authority


def root_extensions(path_length: int | None = 1) -> list[Extension]:
    """The extensions of a root."""
    return [constraints(ca=True, path_length=path_length), key_usage(ca=True)]


def domain_ca(
    issuer: Authority,
    extensions: Sequence[Extension] | None = None,
    *,
    title: str = "CA of b.example",
    key: Key | None = None,
    window: tuple[int, int] = WINDOW,
) -> Authority:
    """The CA of b.example, or what `extensions` make of it."""
    authority = Authority(title, key or p256())
    shape = domain_ca_extensions() if extensions is None else extensions
    authority.certificate = forge(issuer, authority.key, shape, subject=title, window=window)
    return authority


def domain_ca_extensions(*more: Extension, domains: Sequence[str] = ("b.example",)) -> list[Extension]:
    """The extensions of a domain CA, and more."""
    permitted = x509.NameConstraints([mail(domain) for domain in domains], None)
    return [constraints(ca=True, path_length=0), key_usage(ca=True), (permitted, True), *more]


def leaf_extensions(
    purpose: Purpose, names: Sequence[x509.GeneralName], *more: x509.ObjectIdentifier
) -> list[Extension]:
    """The extensions of a leaf for a purpose, and more usages."""
    usages = x509.ExtendedKeyUsage([RULES[purpose].oid, *RULES[purpose].companions, *more])
    shape: list[Extension] = [constraints(ca=False, path_length=None), key_usage(ca=False), (usages, False)]
    return [*shape, (x509.SubjectAlternativeName(names), True)] if names else shape


def constraints(*, ca: bool, path_length: int | None) -> Extension:
    """The basic constraints."""
    return x509.BasicConstraints(ca=ca, path_length=path_length), True


def key_usage(*, ca: bool, signs: bool = True) -> Extension:
    """The key usage of a CA or a leaf."""
    usage = x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not signs,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
    return usage, True


def mail(address: str) -> x509.RFC822Name:
    """An rfc822Name with any content whatever."""
    return x509.RFC822Name._init_without_validation(address)


def dns(domain: str) -> x509.DNSName:
    """A dNSName with any content whatever."""
    return x509.DNSName._init_without_validation(domain)


def uri(text: str) -> x509.UniformResourceIdentifier:
    """A URI with any content whatever."""
    return x509.UniformResourceIdentifier._init_without_validation(text)


def utf8_mailbox(address: str) -> x509.OtherName:
    """A SmtpUTF8Mailbox (RFC 9598), which name constraints on mail addresses don't hold."""
    text = address.encode()
    return x509.OtherName(SMTP_UTF8_MAILBOX, bytes((0x0C, len(text))) + text)
