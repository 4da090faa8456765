"""Attack: one ciphertext that opens under two keys to two letters ("invisible salamander").

AES-GCM commits to no key: a sender who picks two keys can solve for one block so that one tag is right
under both. With a shared ciphertext it could show Bob and Carol different letters under one digest.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.crypto.stream import MAGIC, decrypt, key_commitment
from shared.errors import EvidenceFault

ONE, OTHER = bytes(32), b"\x01" * 32
NONCE = (0).to_bytes(11, "big") + b"\x01"
BLOCKS = 3
FREE = 1


def times(x: int, y: int) -> int:
    """Multiply in GCM's field (NIST SP 800-38D section 6.3), bit-reflected as there."""
    product = 0
    for bit in range(127, -1, -1):
        if y >> bit & 1:
            product ^= x
        x = x >> 1 ^ (0xE1 << 120 if x & 1 else 0)
    return product


def power(x: int, exponent: int) -> int:
    """Raise to a power in the field; 1 is the block 80 00 … 00."""
    result = 1 << 127
    while exponent:
        if exponent & 1:
            result = times(result, x)
        x, exponent = times(x, x), exponent >> 1
    return result


def block(key: bytes, data: bytes) -> int:
    """Encrypt one AES block."""
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  (a single block)
    return int.from_bytes(encryptor.update(data), "big")


def tag(key: bytes, blocks: list[int]) -> int:
    """GCM's tag of ciphertext blocks without associated data."""
    h = block(key, bytes(16))
    state = 0
    for value in [*blocks, len(blocks) * 128]:
        state = times(state ^ value, h)
    return state ^ block(key, NONCE + (1).to_bytes(4, "big"))


def salamander() -> bytes:
    """Return one ciphertext with tag that both keys accept."""
    blocks = [0x1111, 0, 0x2222]
    difference = tag(ONE, blocks) ^ tag(OTHER, blocks)
    exponent = BLOCKS - FREE + 1
    factor = power(block(ONE, bytes(16)), exponent) ^ power(block(OTHER, bytes(16)), exponent)
    blocks[FREE] = times(difference, power(factor, 2**128 - 2))
    assert tag(ONE, blocks) == tag(OTHER, blocks)
    return b"".join(value.to_bytes(16, "big") for value in [*blocks, tag(ONE, blocks)])


def test_aes_gcm_alone_opens_to_two_texts() -> None:
    """The attack is real: plain AES-GCM accepts the same octets under both keys, and the texts differ."""
    octets = salamander()
    assert AESGCM(ONE).decrypt(NONCE, octets, None) != AESGCM(OTHER).decrypt(NONCE, octets, None)


def test_the_header_commits_to_one_key() -> None:
    """Our ciphertext opens under the key in its header's commitment and is refused under the other."""
    ciphertext = MAGIC + key_commitment(ONE) + salamander()
    assert len(b"".join(decrypt(ONE, [ciphertext]))) == BLOCKS * 16
    with pytest.raises(EvidenceFault) as caught:
        list(decrypt(OTHER, [ciphertext]))
    assert caught.value.step == "content.commitment"
