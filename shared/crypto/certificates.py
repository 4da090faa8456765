"""Is this chain good for this purpose at this instant? X.509 paths as evidence.md section 2 narrows them.

The library builds the path and checks RFC 5280's rules with policies of our own. What it lets through
and SecMTP doesn't (other SAN types under a mail constraint, SmtpUTF8Mailbox, a second purpose, a leaf
where none belongs) is refused by the steps C4 to C6 here. Nothing here reads a clock, and the instant
never comes from a certificate. Revocation is a matter of the ledger, not of this file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.crypto.keys import ED25519, P256, VerifyingKey, key_id, kind_of
from shared.encoding.address import domain_of, is_normal, normal_domain
from shared.errors import ConfigurationError, EvidenceFault, Malformed

SYNTAX = "certificate.syntax"
CHAIN = "certificate.chain"
VALIDITY = "certificate.validity"
PURPOSE = "certificate.purpose"
DEPTH = "certificate.depth"
NAMES = "certificate.names"

MAX_CHAIN = 4
MAX_CERTIFICATE = 8 * 1024
MAX_NAMES = 64
MAX_INSTANT = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that X.509 can say
ORIGIN_SCHEME = "https://"

_ARC = "2.25.190232336471728815189852986359685205264.1."
_CACHED_PATHS = 2048
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class Purpose(Enum):
    """What a certified key is for; the value is the word that files and messages use."""

    NRD = "nrd"
    LEDGER = "ledger"
    NODE = "node"
    NODE_REQUEST = "node-request"
    ORIGIN = "origin"
    RECEIPT_GATEWAY = "receipt-gateway"
    RECEIPT_USER = "receipt-user"
    AGENT = "agent"
    TTP = "ttp"

    @property
    def oid(self) -> x509.ObjectIdentifier:
        """The extended key usage of this purpose."""
        return RULES[self].oid


@dataclass(frozen=True, slots=True)
class Rule:
    """What a leaf of one purpose looks like: a row of the table in evidence.md section 2.

    `companions` are the usages that TLS programs want beside ours; `names` are the SAN types allowed,
    `many` whether there may be more than one; `by_domain` whether a domain CA issues it, or the root.
    """

    oid: x509.ObjectIdentifier
    names: tuple[type[x509.GeneralName], ...]
    kind: str = ED25519
    companions: frozenset[x509.ObjectIdentifier] = frozenset()
    many: bool = False
    by_domain: bool = False


def _oid(number: int) -> x509.ObjectIdentifier:
    return x509.ObjectIdentifier(f"{_ARC}{number}")


_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
RULES: dict[Purpose, Rule] = {
    Purpose.NRD: Rule(_oid(1), (x509.DNSName,)),
    Purpose.LEDGER: Rule(_oid(2), (x509.UniformResourceIdentifier,)),
    Purpose.NODE: Rule(_oid(3), (x509.DNSName,), P256, frozenset((_SERVER, _CLIENT)), many=True),
    Purpose.NODE_REQUEST: Rule(_oid(4), (x509.DNSName,), many=True),
    Purpose.ORIGIN: Rule(_oid(5), (x509.RFC822Name,), by_domain=True),
    Purpose.RECEIPT_GATEWAY: Rule(_oid(6), (x509.RFC822Name,), by_domain=True),
    Purpose.RECEIPT_USER: Rule(_oid(7), (x509.RFC822Name,), by_domain=True),
    Purpose.AGENT: Rule(_oid(8), (x509.DNSName,)),
    Purpose.TTP: Rule(_oid(9), (x509.DNSName, x509.IPAddress), P256, frozenset((_SERVER,)), many=True),
}
_BY_OID = {rule.oid: purpose for purpose, rule in RULES.items()}


@dataclass(frozen=True, slots=True)
class VerifiedCertificate:
    """A leaf that was good for `purpose` at the instant asked. Times are UTC seconds, both inclusive.

    `names` are dNSNames, `address` the mail address of a user's key, `origin` that of a ledger's.
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


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """The root certificates (DER) that a relying party trusts: one, or several while a root is renewed.

    Raises ConfigurationError for what can't be a root: whoever configured it must look again.
    """

    certificates: tuple[bytes, ...]
    _parsed: tuple[x509.Certificate, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parsed", tuple(_root(der) for der in self.certificates))
        if not self.certificates:
            raise ConfigurationError("the trust root is empty: name at least one root certificate")

    @classmethod
    def from_pem(cls, pem: bytes) -> TrustRoot:
        """Read one or several PEM certificates."""
        try:
            found = x509.load_pem_x509_certificates(pem)
        except Exception as error:  # the library raises many unrelated types on garbage
            raise ConfigurationError("the trust root isn't a file of PEM certificates") from error
        return cls(tuple(certificate.public_bytes(Encoding.DER) for certificate in found))

    @classmethod
    def from_der(cls, der: bytes) -> TrustRoot:
        """Read a single DER certificate."""
        return cls((der,))

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        """The key ids of the root keys, 32 octets each."""
        return tuple(key_id(_verifying_key(certificate)) for certificate in self._parsed)

    def to_library(self) -> tuple[x509.Certificate, ...]:
        """Return the library's objects for these certificates."""
        return self._parsed


def verify_chain(
    chain: Sequence[bytes], root: TrustRoot, purposes: Collection[Purpose], at: int
) -> VerifiedCertificate:
    """Verify a chain (DER, leaf first, without the root) for one of `purposes` at an instant (UTC seconds).

    Raises EvidenceFault with the first step that fails, in the order C1 to C6 of evidence.md.
    """
    path = _path_at(root, tuple(chain), at)
    leaf = path.certificates[0]
    with _reading(PURPOSE):
        purpose = _leaf_purpose(leaf, purposes)
        public_key = _leaf_key(leaf, purpose)
    with _reading(DEPTH):
        _check_depth(path, purpose)
    with _reading(NAMES):
        values = _leaf_names(leaf, purpose)
        address = _address(values[0], path.certificates[1]) if RULES[purpose].by_domain else None
    return VerifiedCertificate(
        purpose=purpose,
        public_key=public_key,
        key_id=key_id(public_key),
        names=tuple(value for value in values if x509.DNSName in RULES[purpose].names and not _is_host_address(value)),
        address=address,
        origin=_origin(values[0]) if purpose is Purpose.LEDGER else None,
        not_before=_seconds(leaf.not_valid_before_utc),
        not_after=_seconds(leaf.not_valid_after_utc),
        issuer_key_id=key_id(_verifying_key(path.certificates[1])),
        certificate=path.chain[0],
    )
