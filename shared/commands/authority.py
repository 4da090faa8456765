"""A root certification authority in a directory: `root.pem`, `root.key`, and `issued.jsonl`.

Plain functions, for the command line and for set-ups in one process. The record of what was issued only
grows: nothing is handed out that isn't in it, so that all that was ever issued can be revoked.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from shared.crypto import issuance, requests
from shared.crypto.issuance import Issuer, Validity
from shared.crypto.keys import encode_signing, generate_p256, key_id
from shared.crypto.passphrase import IV, SALT, decrypt_key, encrypt_key
from shared.crypto.paths import TrustRoot
from shared.crypto.requests import DOMAIN_CA, CertificateRequest, Certificates, VerifiedCertificates
from shared.encoding import base64url, canonical
from shared.errors import ConfigurationError, Malformed
from shared.programs import files

CERTIFICATE = "root.pem"
KEY = "root.key"
RECORD = "issued.jsonl"
MAX_PEM = 64 * 1024
MAX_RECORD = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Issued:
    """A line of the record: what was certified, for which key, when. `key` is a key id in base64url."""

    purpose: str
    names: tuple[str, ...]
    key: str
    serial: str
    issued: int


def init_authority(
    directory: Path, *, name: str, now: int, passphrase: str | None, lifetime: int = issuance.ROOT_LIFETIME
) -> Path:
    """Make a root CA in a new directory and return the path of its certificate.

    `passphrase` None leaves the key unencrypted. Raises ConfigurationError if there is a CA already.
    """
    files.private_directory(directory)
    for taken in (directory / CERTIFICATE, directory / KEY):
        if taken.exists():
            raise ConfigurationError(f"{taken} exists already: take another directory for a new authority")
    key = generate_p256()
    certificate = issuance.issue_root(name, key, x509.random_serial_number(), Validity.starting(now, lifetime))
    root = TrustRoot.from_der(certificate)
    if passphrase is None:
        pem = encode_signing(key)
    else:
        pem = encrypt_key(key, passphrase, secrets.token_bytes(SALT), secrets.token_bytes(IV))
    files.write_secret(directory / KEY, pem)
    # Commit point. A crash before leaves a key that signed nothing; after it, a complete authority.
    files.write_public(directory / CERTIFICATE, root.to_pem())
    return directory / CERTIFICATE


def issue_from_file(
    directory: Path,
    request: Path,
    out: Path,
    *,
    now: int,
    passphrase: str | None,
    lifetime: int = issuance.SERVICE_LIFETIME,
) -> Certificates:
    """Certify all that a request file asks for and write the certificates file. Raises SecMTPError.

    Who asks was checked by whoever calls: everything in the request is certified.
    """
    asked = read_request(request)
    if out.exists():
        raise ConfigurationError(f"{out} exists already and isn't overwritten; move it away first")
    root, issuer = open_authority(directory, passphrase)
    serials = [x509.random_serial_number() for _ in range(requests.count(asked))]
    certificates = requests.issue(asked, issuer, serials, now, lifetime=lifetime, domain_lifetime=lifetime)
    verified = requests.verify_certificates(certificates, root, now)
    lines = list(_lines(asked, verified, now))
    # Commit point. A crash before: nothing was issued. After: the record names certificates that nobody
    # got, and asking again gives new ones.
    files.append_lines(directory / RECORD, lines)
    files.write_public(out, requests.encode_certificates(certificates))
    return certificates


def read_request(path: Path) -> CertificateRequest:
    """Return a request that is well-formed and proves possession of its keys. Raises SecMTPError."""
    return requests.decode_request(files.read_bounded(path, requests.MAX_FILE))


def open_authority(directory: Path, passphrase: str | None) -> tuple[TrustRoot, Issuer]:
    """Return the authority's certificate and its key. Raises ConfigurationError."""
    root = TrustRoot.from_pem(files.read_bounded(directory / CERTIFICATE, MAX_PEM))
    key = decrypt_key(files.read_secret(directory / KEY, MAX_PEM), passphrase)
    if root.key_ids != (key_id(key.public_key()),):
        raise ConfigurationError(f"{directory / KEY} isn't the key of {directory / CERTIFICATE}")
    return root, Issuer(root.certificates[0], key)


def needs_passphrase(directory: Path) -> bool:
    """Whether the authority's key is encrypted."""
    return b"ENCRYPTED" in files.read_secret(directory / KEY, MAX_PEM)


def certified_before(directory: Path, request: CertificateRequest) -> list[Issued]:
    """Return what was issued for any name in the request to a key that isn't in the request.

    That is either the same organisation with new keys, or somebody else: a person must look.
    """
    names = {name for certified in request.names.leaves.values() for name in certified}
    names.update(request.names.domains)
    keys = {base64url.encode(key_id(key)) for key in request.all_keys}
    return [line for line in read_record(directory) if names.intersection(line.names) and line.key not in keys]


def read_record(directory: Path) -> list[Issued]:
    """Return all that the authority ever issued, oldest first. Raises Malformed for a damaged record."""
    path = directory / RECORD
    if not path.exists():
        return []
    complete, newline, _ = files.read_bounded(path, MAX_RECORD).rpartition(b"\n")
    return [_parse(line) for line in complete.split(b"\n")] if newline else []


def _lines(request: CertificateRequest, verified: VerifiedCertificates, now: int) -> Iterator[bytes]:
    for purpose, leaf in verified.leaves.items():
        yield _line(purpose.value, request.names.leaves[purpose], leaf.key_id, leaf.certificate, now)
    if verified.domain_ca is not None:
        authority = verified.domain_ca
        yield _line(DOMAIN_CA, authority.domains, authority.key_id, authority.certificate, now)


def _line(purpose: str, names: Iterable[str], key: bytes, der: bytes, now: int) -> bytes:
    members = {
        "purpose": purpose,
        "names": list(names),
        "key": base64url.encode(key),
        "serial": f"{x509.load_der_x509_certificate(der).serial_number:040x}",
        "issued": now,
        "certificate": base64url.encode(der),
    }
    return canonical.encode(members)


def _parse(line: bytes) -> Issued:
    try:
        value = json.loads(line)
        return Issued(value["purpose"], tuple(value["names"]), value["key"], value["serial"], value["issued"])
    except (ValueError, KeyError, TypeError) as error:
        raise Malformed(f"{RECORD} has a line that isn't ours; restore it from a backup") from error
