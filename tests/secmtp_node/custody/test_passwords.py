"""SCRAM verifiers: the RFC's vector, and nothing that tells known users from unknown ones."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from secmtp_node.custody.passwords import ITERATIONS, ScramPasswords, make_verifier
from shared.errors import Malformed

# RFC 7677 section 3
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
AUTH_MESSAGE = (
    b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)
PROOF = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
SIGNATURE = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


def fingerprint(*parts: bytes) -> bytes:
    """A keyed digest, as the master key gives it."""
    return hmac.digest(b"key", b"|".join(parts), "sha256")


PASSWORDS = ScramPasswords(fingerprint)


class TestVector:
    def test_proof_and_signature(self) -> None:
        """The RFC's proof yields the ClientKey of the password, and the server signs as the RFC says."""
        verifier, client_key = make_verifier("pencil", SALT, 4096)
        assert PASSWORDS.by_proof(PROOF, AUTH_MESSAGE, verifier) == client_key
        assert PASSWORDS.answer(AUTH_MESSAGE, verifier) == SIGNATURE
        assert hashlib.sha256(client_key).digest() == verifier.stored_key

    def test_wrong_proof(self) -> None:
        """A proof with any octet altered, or of another length, yields nothing."""
        verifier, _ = make_verifier("pencil", SALT, 4096)
        for place in range(len(PROOF)):
            wrong = bytearray(PROOF)
            wrong[place] ^= 1
            assert PASSWORDS.by_proof(bytes(wrong), AUTH_MESSAGE, verifier) is None
        assert PASSWORDS.by_proof(PROOF[:-1], AUTH_MESSAGE, verifier) is None
        assert PASSWORDS.by_proof(b"", AUTH_MESSAGE, verifier) is None


class TestPasswords:
    def test_right_and_wrong(self) -> None:
        """A right password yields the ClientKey that a proof yields; a wrong or impossible one yields nothing."""
        verifier, client_key = make_verifier("pencil", SALT, 4096)
        assert PASSWORDS.by_password("pencil", verifier) == client_key
        for wrong in ("Pencil", "pencil ", "", "x" * 5000, "\u0007", "\ud800"):
            assert PASSWORDS.by_password(wrong, verifier) is None

    def test_saslprep(self) -> None:
        """Two ways to type one password (RFC 4013) are one password."""
        verifier, client_key = make_verifier("I\u00adX\u2168", SALT, 4096)
        assert PASSWORDS.by_password("IXIX", verifier) == client_key

    @pytest.mark.parametrize("password", ["", "x" * 2000, "\u0007bell"])
    def test_cannot_be_one(self, password: str) -> None:
        """What can't be a password isn't made one."""
        with pytest.raises(Malformed):
            make_verifier(password, SALT)

    def test_cost(self) -> None:
        """New verifiers have at least 100,000 iterations: it's what stands between a stolen database and a guess."""
        assert ITERATIONS >= 100_000
        assert make_verifier("pencil", SALT)[0].iterations == ITERATIONS

    def test_unknown_users(self) -> None:
        """An unknown address always has the same verifier, another than others', of the same shape and cost."""
        fake = PASSWORDS.fake("nobody@a.example")
        assert PASSWORDS.fake("nobody@a.example") == fake
        assert PASSWORDS.fake("somebody@a.example").salt != fake.salt
        assert (len(fake.salt), fake.iterations) == (len(SALT), ITERATIONS)
        assert PASSWORDS.by_password("", fake) is None

    def test_nothing_secret_is_shown(self) -> None:
        """A verifier's repr shows no key."""
        verifier, _ = make_verifier("pencil", SALT, 4096)
        assert verifier.stored_key.hex() not in repr(verifier)
        assert repr(verifier.stored_key) not in repr(verifier)
