"""What certified keys are for, and what a certificate for each purpose looks like (evidence.md section 2).

One table that issuing and checking both read, so that nothing is issued that wouldn't be accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.crypto.keys import ED25519, P256

ARC = "2.25.190232336471728815189852986359685205264"


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
    """A row of the table. `kind` is that of the key, `names` the SAN types allowed, `many` whether several.

    `companions` are the usages that TLS programs want beside ours; `by_domain` says that a domain CA
    issues it, otherwise the root does.
    """

    oid: x509.ObjectIdentifier
    names: tuple[type[x509.GeneralName], ...]
    kind: str = ED25519
    companions: frozenset[x509.ObjectIdentifier] = frozenset()
    many: bool = False
    by_domain: bool = False


def _oid(number: int) -> x509.ObjectIdentifier:
    return x509.ObjectIdentifier(f"{ARC}.1.{number}")


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
BY_OID = {rule.oid: purpose for purpose, rule in RULES.items()}
