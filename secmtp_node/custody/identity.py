"""The node's own keys and certificates, in its directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.crypto import requests
from shared.crypto.certificates import Purpose, TrustRoot, VerifiedDomainCA
from shared.crypto.keys import (
    ED25519,
    HYBRID,
    P256,
    HpkePrivateKey,
    SigningKey,
    decode_private,
    decode_signing,
    encode_private,
    encode_signing,
    generate_ed25519,
    generate_hpke,
    generate_p256,
    key_id,
)
from shared.errors import ConfigurationError
from shared.programs.files import read_bounded, read_secret, write_secret

TLS, REQUEST, DOMAIN_CA = "tls", "request", "domain-ca"
KINDS = {TLS: P256, REQUEST: ED25519, DOMAIN_CA: P256}
HPKE = "hpke.key"
CERTIFICATES = "certificates.json"
ROOT = "root.pem"
MAX_KEY = 8 * 1024
MAX_ROOT = 64 * 1024


@dataclass(frozen=True)
class Identity:
    """Everything that makes this node this node. Certificates are DER."""

    root: TrustRoot
    root_file: Path
    tls_key_file: Path
    tls_certificate: bytes
    request_key: Ed25519PrivateKey
    request_certificate: bytes
    domain_key: ec.EllipticCurvePrivateKey
    domain_ca: VerifiedDomainCA
    hpke: HpkePrivateKey


def make_keys(keys: Path) -> dict[str, SigningKey]:
    """Make the node's keys in files of their own; return those that the CA is to certify."""
    made: dict[str, SigningKey] = {}
    for name, kind in KINDS.items():
        made[name] = generate_ed25519() if kind == ED25519 else generate_p256()
        write_secret(keys / f"{name}.pem", encode_signing(made[name]))
    write_secret(keys / HPKE, encode_private(generate_hpke(HYBRID)))
    return made


def check_certificates(directory: Path, certificates: requests.Certificates, root: TrustRoot, at: int) -> None:
    """Require that the CA certified exactly the keys in this directory. Raises ConfigurationError, EvidenceFault."""
    verified = requests.verify_certificates(certificates, root, at)
    if not {Purpose.NODE, Purpose.NODE_REQUEST} <= verified.leaves.keys():
        raise ConfigurationError("these certificates aren't for a node: take what the CA made of this node's request")
    certified = {
        TLS: verified.leaves[Purpose.NODE].key_id,
        REQUEST: verified.leaves[Purpose.NODE_REQUEST].key_id,
        DOMAIN_CA: None if verified.domain_ca is None else verified.domain_ca.key_id,
    }
    for name, found in certified.items():
        if found != key_id(_load(directory, name).public_key()):
            raise ConfigurationError(f"the certificate for the {name} key isn't for the key in {directory}")


def load_identity(directory: Path, at: int) -> Identity:
    """Load and check everything. Raises ConfigurationError with what to do."""
    if not (directory / CERTIFICATES).is_file():
        raise ConfigurationError(f"{directory} has no certificates: run `secmtp node certify FILE --dir {directory}`")
    root = TrustRoot.from_pem(read_bounded(directory / ROOT, MAX_ROOT))
    certificates = requests.decode_certificates(read_bounded(directory / CERTIFICATES, requests.MAX_FILE))
    check_certificates(directory, certificates, root, at)
    verified = requests.verify_certificates(certificates, root, at)
    request_key, domain_key = _load(directory, REQUEST), _load(directory, DOMAIN_CA)
    if (
        not isinstance(request_key, Ed25519PrivateKey)
        or not isinstance(domain_key, ec.EllipticCurvePrivateKey)
        or verified.domain_ca is None
    ):
        raise ConfigurationError("the request key must be Ed25519 and the domain CA P-256")
    return Identity(
        root=root,
        root_file=directory / ROOT,
        tls_key_file=directory / "keys" / f"{TLS}.pem",
        tls_certificate=certificates.leaves[Purpose.NODE],
        request_key=request_key,
        request_certificate=certificates.leaves[Purpose.NODE_REQUEST],
        domain_key=domain_key,
        domain_ca=verified.domain_ca,
        hpke=decode_private(read_secret(directory / "keys" / HPKE, MAX_KEY)),
    )


def _load(directory: Path, name: str) -> SigningKey:
    return decode_signing(read_secret(directory / "keys" / f"{name}.pem", MAX_KEY), KINDS[name])
