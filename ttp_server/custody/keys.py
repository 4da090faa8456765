"""Signing keys and certificates of the TTP in its directory; nothing is served with what isn't certified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.crypto import requests
from shared.crypto.certificates import Purpose, TrustRoot
from shared.crypto.keys import (
    ED25519,
    P256,
    SigningKey,
    decode_signing,
    encode_signing,
    generate_ed25519,
    generate_p256,
    key_id,
)
from shared.errors import ConfigurationError
from shared.programs.files import read_bounded, read_secret, write_secret
from ttp_server.ports.values import Identity

MAX_KEY = 8 * 1024
MAX_ROOT = 64 * 1024
KEYS = {Purpose.NRD: ED25519, Purpose.LEDGER: ED25519, Purpose.TTP: P256}
CERTIFICATES = "certificates.json"
ROOT = "root.pem"


@dataclass(frozen=True)
class Keys:
    """The TTP's signing keys with their certificates, all checked against each other and the root."""

    identity: Identity
    root: TrustRoot
    nrd: Ed25519PrivateKey
    checkpoint: Ed25519PrivateKey
    tls_certificate: bytes


def key_file(directory: Path, purpose: Purpose) -> Path:
    """Where the key for a purpose lies."""
    return directory / "keys" / f"{purpose.value}.pem"


def make_keys(directory: Path) -> dict[Purpose, SigningKey]:
    """Make a fresh key for each purpose, in files of their own."""
    made: dict[Purpose, SigningKey] = {}
    for purpose, kind in KEYS.items():
        made[purpose] = generate_ed25519() if kind == ED25519 else generate_p256()
        write_secret(key_file(directory, purpose), encode_signing(made[purpose]))
    return made


def check_certificates(
    directory: Path, certificates: requests.Certificates, root: TrustRoot, at: int
) -> requests.VerifiedCertificates:
    """Require that the CA certified exactly the keys in this directory. Raises ConfigurationError, EvidenceFault."""
    verified = requests.verify_certificates(certificates, root, at)
    for purpose, certificate in verified.leaves.items():
        own = key_id(_load(directory, purpose).public_key())
        if certificate.key_id != own:
            raise ConfigurationError(f"the certificate for {purpose.value} isn't for the key in {directory}")
    return verified


def load_keys(directory: Path, name: str, log: str, at: int) -> Keys:
    """Load and check everything that serving needs. Raises ConfigurationError with what to do."""
    if not (directory / CERTIFICATES).is_file():
        raise ConfigurationError(f"{directory} has no certificates: run `secmtp ttp certify FILE --dir {directory}`")
    root = TrustRoot.from_pem(read_bounded(directory / ROOT, MAX_ROOT))
    certificates = requests.decode_certificates(read_bounded(directory / CERTIFICATES, requests.MAX_FILE))
    certified = check_certificates(directory, certificates, root, at).leaves
    if name not in certified[Purpose.NRD].names or certified[Purpose.LEDGER].origin != log:
        # Tokens under a name that isn't certified would look good here and be refused by everybody else.
        raise ConfigurationError(
            f"the settings name the TTP {name!r} and its ledger {log!r}, the certificates are for "
            f"{', '.join(certified[Purpose.NRD].names)} and {certified[Purpose.LEDGER].origin}"
        )
    nrd, checkpoint = load_signing(directory, Purpose.NRD), load_signing(directory, Purpose.LEDGER)
    identity = Identity(
        name=name,
        log=log,
        nrd_key=key_id(nrd.public_key()),
        checkpoint_key=key_id(checkpoint.public_key()),
        nrd_certificate=certificates.leaves[Purpose.NRD],
        ledger_certificate=certificates.leaves[Purpose.LEDGER],
    )
    return Keys(identity, root, nrd, checkpoint, certificates.leaves[Purpose.TTP])


def load_signing(directory: Path, purpose: Purpose) -> Ed25519PrivateKey:
    """Return an Ed25519 key of the directory, certified or not."""
    key = _load(directory, purpose)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"the key for {purpose.value} must be Ed25519")
    return key


def _load(directory: Path, purpose: Purpose) -> SigningKey:
    return decode_signing(read_secret(key_file(directory, purpose), MAX_KEY), KEYS[purpose])
