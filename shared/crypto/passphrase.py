"""A private key under a passphrase: PKCS #8 with PBES2 (RFC 8018), which other tools open too.

The library's own writer takes 2,048 rounds of PBKDF2, which a guesser does a million times a second;
this one takes 600,000. It writes; reading is the library's.
"""

from __future__ import annotations

import base64

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from shared.crypto.keys import P256, kind_of
from shared.errors import ConfigurationError, Malformed

ROUNDS = 600_000
SALT = 16
IV = 16
MIN_CHARACTERS = 8
_BLOCK_BITS = 128
_KEY = 32
_INTEGER, _OCTETS, _NULL, _OID, _SEQUENCE = 0x02, 0x04, 0x05, 0x06, 0x30
_PBES2 = bytes.fromhex("2a864886f70d01050d")
_PBKDF2 = bytes.fromhex("2a864886f70d01050c")
_HMAC_SHA256 = bytes.fromhex("2a864886f70d0209")
_AES_256_CBC = bytes.fromhex("60864801650304012a")


def encrypt_key(key: ec.EllipticCurvePrivateKey, passphrase: str, salt: bytes, iv: bytes) -> bytes:
    """Return the encrypted PEM of a key; `salt` and `iv` are 16 fresh random octets each.

    Raises ConfigurationError for a passphrase of less than eight characters.
    """
    if len(passphrase) < MIN_CHARACTERS:
        raise ConfigurationError(f"the passphrase has less than {MIN_CHARACTERS} characters; take a longer one")
    if (len(salt), len(iv)) != (SALT, IV):
        raise Malformed(f"salt and IV have {SALT} and {IV} octets")
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    stretched = PBKDF2HMAC(hashes.SHA256(), _KEY, salt, ROUNDS).derive(passphrase.encode("utf-8"))
    padder = padding.PKCS7(_BLOCK_BITS).padder()
    encryptor = Cipher(algorithms.AES256(stretched), modes.CBC(iv)).encryptor()
    ciphertext = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    return _pem(_sequence(_algorithm(salt, iv), _tagged(_OCTETS, ciphertext)))


def decrypt_key(pem: bytes, passphrase: str | None) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key of a PEM, encrypted or (with None) not. Raises ConfigurationError."""
    try:
        key = load_pem_private_key(pem, None if passphrase is None else passphrase.encode("utf-8"))
    except TypeError as error:  # so the library says that a passphrase is missing, or not needed
        needs = "needs a passphrase" if passphrase is None else "isn't encrypted, use it without a passphrase"
        raise ConfigurationError(f"the key file {needs}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError("the key file can't be opened: wrong passphrase, or no private key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or kind_of(key.public_key()) != P256:
        raise ConfigurationError(f"the key file holds another kind of key than {P256}")
    return key


def _algorithm(salt: bytes, iv: bytes) -> bytes:
    """Return the AlgorithmIdentifier: PBES2 with PBKDF2-HMAC-SHA-256 and AES-256-CBC (RFC 8018 appendix A.4)."""
    rounds = _tagged(_INTEGER, ROUNDS.to_bytes((ROUNDS.bit_length() + 8) // 8, "big"))
    prf = _sequence(_tagged(_OID, _HMAC_SHA256), _tagged(_NULL, b""))
    kdf = _sequence(_tagged(_OID, _PBKDF2), _sequence(_tagged(_OCTETS, salt), rounds, prf))
    cipher = _sequence(_tagged(_OID, _AES_256_CBC), _tagged(_OCTETS, iv))
    return _sequence(_tagged(_OID, _PBES2), _sequence(kdf, cipher))


def _sequence(*members: bytes) -> bytes:
    return _tagged(_SEQUENCE, b"".join(members))


def _tagged(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def _pem(der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    label = b"ENCRYPTED PRIVATE KEY"
    return b"\n".join((b"-----BEGIN " + label + b"-----", *lines, b"-----END " + label + b"-----", b""))
