"""Keys under a passphrase: a standard file, slow to guess."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shared.crypto.keys import encode_signing, generate_ed25519, key_id, p256_from_scalar
from shared.crypto.passphrase import decrypt_key, encrypt_key
from shared.errors import ConfigurationError, Malformed

SALT, IV = bytes(range(16)), bytes(range(16, 32))
PASSPHRASE = "correct horse bättery"
KEY = p256_from_scalar(bytes(range(32)))
PEM = encrypt_key(KEY, PASSPHRASE, SALT, IV)


class TestEncryptKey:
    """encrypt_key."""

    def test_opens(self) -> None:
        """The key comes back with the passphrase."""
        assert key_id(decrypt_key(PEM, PASSPHRASE).public_key()) == key_id(KEY.public_key())

    def test_standard(self) -> None:
        """Any reader of PKCS #8 opens it: this is the library's own."""
        assert PEM.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
        assert load_pem_private_key(PEM, PASSPHRASE.encode()).private_numbers() == KEY.private_numbers()  # type: ignore[union-attr]

    def test_rounds(self) -> None:
        """A guess costs 600,000 rounds of PBKDF2."""
        assert b"\x02\x03\x09\x27\xc0" in base64.b64decode(b"".join(PEM.splitlines()[1:-1]))

    def test_from_arguments(self) -> None:
        """The octets follow from the arguments; another salt or IV gives others."""
        assert encrypt_key(KEY, PASSPHRASE, SALT, IV) == PEM
        assert encrypt_key(KEY, PASSPHRASE, IV, IV) != PEM
        assert encrypt_key(KEY, PASSPHRASE, SALT, SALT) != PEM

    def test_short_passphrase(self) -> None:
        """A passphrase of seven characters is refused."""
        with pytest.raises(ConfigurationError, match="8 characters"):
            encrypt_key(KEY, "1234567", SALT, IV)

    def test_salt_length(self) -> None:
        """Salt and IV have their full length."""
        with pytest.raises(Malformed, match="16"):
            encrypt_key(KEY, PASSPHRASE, b"", IV)


class TestDecryptKey:
    """decrypt_key."""

    @pytest.mark.parametrize("guess", ["wrong horse", "", "Correct horse bättery"])
    def test_wrong_passphrase(self, guess: str) -> None:
        """A wrong passphrase opens nothing."""
        with pytest.raises(ConfigurationError):
            decrypt_key(PEM, guess)

    def test_passphrase_missing(self) -> None:
        """That a passphrase is needed is said."""
        with pytest.raises(ConfigurationError, match="needs a passphrase"):
            decrypt_key(PEM, None)

    def test_passphrase_not_needed(self) -> None:
        """That a key isn't encrypted is said, rather than a passphrase ignored."""
        plain = encode_signing(KEY)
        assert decrypt_key(plain, None).private_numbers() == KEY.private_numbers()
        with pytest.raises(ConfigurationError, match="isn't encrypted"):
            decrypt_key(plain, PASSPHRASE)

    def test_other_key(self) -> None:
        """A key of another kind is no CA's."""
        with pytest.raises(ConfigurationError, match="P-256"):
            decrypt_key(encode_signing(generate_ed25519()), None)

    @pytest.mark.parametrize("pem", [b"", b"garbage", PEM[:100], PEM.replace(b"M", b"N", 3)])
    def test_garbage(self, pem: bytes) -> None:
        """Octets that are no key file are refused."""
        with pytest.raises(ConfigurationError):
            decrypt_key(pem, PASSPHRASE)
