"""SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677): what the node keeps of a password, and what a login yields.

A right password or proof yields ClientKey, which the node never stores: it opens the user's keys. A
stolen database has StoredKey, from which a weak password can be guessed; the iteration count is what
stands against that, and nothing else does.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from scramp.core import saslprep

from secmtp_node.ports.values import Verifier
from shared.errors import Malformed

ITERATIONS = 120_000
SALT = 16
MAX_PASSWORD = 1024


def make_verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> tuple[Verifier, bytes]:
    """Return the verifier of a new password and its ClientKey. Raises Malformed for a password that can't be one."""
    salted = _salted(password, salt, iterations)
    client_key = _hmac(salted, b"Client Key")
    return Verifier(salt, iterations, hashlib.sha256(client_key).digest(), _hmac(salted, b"Server Key")), client_key


class ScramPasswords:
    """Checks passwords and proofs. `fingerprint` is a digest keyed by the node's master key."""

    def __init__(self, fingerprint: Callable[..., bytes]) -> None:
        self._fingerprint = fingerprint

    def fake(self, address: str) -> Verifier:
        """Return the verifier of an unknown address: always the same one, fitting no password."""
        stored = self._fingerprint(b"no such user: stored", address.encode())
        server = self._fingerprint(b"no such user: server", address.encode())
        salt = self._fingerprint(b"no such user: salt", address.encode())[:SALT]
        return Verifier(salt, ITERATIONS, stored, server)

    def by_password(self, password: str, verifier: Verifier) -> bytes | None:
        """Return the ClientKey of a right password. Takes as long for a wrong one."""
        try:
            salted = _salted(password, verifier.salt, verifier.iterations)
        except Malformed:
            salted = bytes(32)
        client_key = _hmac(salted, b"Client Key")
        right = hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored_key)
        return client_key if right else None

    def by_proof(self, proof: bytes, auth_message: bytes, verifier: Verifier) -> bytes | None:
        """Return the ClientKey of a right SCRAM proof (RFC 5802 §3): proof XOR HMAC(StoredKey, AuthMessage)."""
        signature = _hmac(verifier.stored_key, auth_message)
        if len(proof) != len(signature):
            return None
        client_key = bytes(one ^ other for one, other in zip(proof, signature, strict=True))
        right = hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored_key)
        return client_key if right else None

    def answer(self, auth_message: bytes, verifier: Verifier) -> bytes:
        """Return the ServerSignature."""
        return _hmac(verifier.server_key, auth_message)


def _salted(password: str, salt: bytes, iterations: int) -> bytes:
    if not 0 < len(password) <= MAX_PASSWORD:
        raise Malformed(f"a password has 1 to {MAX_PASSWORD} characters")
    try:
        prepared = saslprep(password)
    except Exception as error:  # scramp raises its own kinds on prohibited characters
        raise Malformed("the password has characters that SASLprep (RFC 4013) prohibits") from error
    return hashlib.pbkdf2_hmac("sha256", prepared.encode("utf-8"), salt, iterations)


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
