"""The key with which this node cosigns ledgers. It signs nothing else, and is never used again after a restore."""

from __future__ import annotations

import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.crypto.keys import ED25519, decode_signing, encode_signing, generate_ed25519
from shared.errors import ConfigurationError
from shared.ledger.witness import Signer
from shared.programs.files import read_secret, write_secret

MAX_KEY = 8 * 1024
_FILE = re.compile(r"witness(?:-([1-9][0-9]{0,8}))?\.pem")


def load_witness(keys: Path, domain: str) -> Signer:
    """Return the newest witness key, under its name (witness.md N3). Makes one in a directory that has none."""
    number = _newest(keys)
    if not number:
        return new_witness(keys, domain)
    key = decode_signing(read_secret(_file(keys, number), MAX_KEY), ED25519)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{_file(keys, number)} isn't an Ed25519 key")
    return Signer(_name(domain, number), key)


def new_witness(keys: Path, domain: str) -> Signer:
    """Make a new key with a new name; the ones before stay, and aren't used any more."""
    number, key = _newest(keys) + 1, generate_ed25519()
    write_secret(_file(keys, number), encode_signing(key))
    return Signer(_name(domain, number), key)


def _newest(keys: Path) -> int:
    found = [_FILE.fullmatch(path.name) for path in keys.iterdir()]
    return max((int(match[1] or 1) for match in found if match), default=0)


def _file(keys: Path, number: int) -> Path:
    return keys / ("witness.pem" if number == 1 else f"witness-{number}.pem")


def _name(domain: str, number: int) -> str:
    return f"{domain}/witness" if number == 1 else f"{domain}/witness/{number}"
