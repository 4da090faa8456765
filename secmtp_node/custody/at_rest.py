"""Short secrets in the database, sealed under the node's master key.

The master key lies in a file outside the database and its backups: the database alone opens nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.encoding.labels import frame
from shared.errors import ConfigurationError
from shared.programs.files import read_secret, write_secret

KEY = 32
NONCE = 12
FILE = "master.key"


def make_master_key(keys: Path, draw: Callable[[int], bytes]) -> None:
    """Make the master key's file."""
    write_secret(keys / FILE, draw(KEY))


def wrap(key: bytes, secret: bytes, aad: bytes, nonce: bytes) -> bytes:
    """Return nonce ‖ ciphertext. Keys are used for many secrets, so nonces are random."""
    return nonce + AESGCM(key).encrypt(nonce, secret, aad)


def unwrap(key: bytes, wrapped: bytes, aad: bytes) -> bytes:
    """Open what `wrap` gave. Raises InvalidTag."""
    return AESGCM(key).decrypt(wrapped[:NONCE], wrapped[NONCE:], aad)


def derive(secret: bytes, label: str) -> bytes:
    """Derive a 32-octet key for one purpose."""
    return HKDF(hashes.SHA256(), KEY, None, frame(label)).derive(secret)


class MasterKey:
    """Seals and fingerprints with keys derived from the master key, one for each purpose."""

    def __init__(self, keys: Path, draw: Callable[[int], bytes]) -> None:
        master = read_secret(keys / FILE, KEY)
        if len(master) != KEY:
            raise ConfigurationError(f"{keys / FILE} isn't a master key: {len(master)} octets, expected {KEY}")
        self._sealing = derive(master, "node at rest")
        self._fingerprints = derive(master, "node fingerprints")
        self.users = derive(master, "node users' keys")
        self._draw = draw

    def seal(self, secret: bytes, what: str, about: bytes) -> bytes:
        """Seal a secret; `what` and `about` must be the same to open it."""
        return wrap(self._sealing, secret, frame(what, about), self._draw(NONCE))

    def open(self, sealed: bytes, what: str, about: bytes) -> bytes:
        """Open what `seal` gave. Raises ConfigurationError under another master key."""
        try:
            return unwrap(self._sealing, sealed, frame(what, about))
        except (InvalidTag, ValueError) as error:
            raise ConfigurationError(f"a sealed {what} doesn't open: is {FILE} the one of this database?") from error

    def fingerprint(self, *parts: bytes) -> bytes:
        """Return a keyed digest: 32 octets that tell nothing without the master key."""
        return hmac.digest(self._fingerprints, frame("fingerprint", *parts), "sha256")
