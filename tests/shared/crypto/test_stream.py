"""The chunked ciphertext: round trips at every boundary, and no manipulation opens."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crypto.stream import (
    CHUNK,
    HEADER,
    MAGIC,
    TAG,
    ciphertext_length,
    decrypt,
    encrypt,
    key_commitment,
    plain_length,
)
from shared.errors import EvidenceFault, Malformed

KEY = bytes(range(32))
BOUNDARIES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK]


def seal(plain: bytes, key: bytes = KEY) -> bytes:
    """Encrypt in one go."""
    return b"".join(encrypt(key, [plain]))


def open_all(ciphertext: bytes | Iterable[bytes], key: bytes = KEY) -> bytes:
    """Decrypt in one go."""
    pieces = [ciphertext] if isinstance(ciphertext, bytes) else ciphertext
    return b"".join(decrypt(key, pieces))


def failing_step(ciphertext: bytes, key: bytes = KEY) -> str:
    """Return the step at which the ciphertext is refused."""
    with pytest.raises(EvidenceFault) as caught:
        open_all(ciphertext, key)
    return caught.value.step


class TestRoundTrip:
    @pytest.mark.parametrize("length", BOUNDARIES)
    def test_boundaries(self, length: int) -> None:
        """Messages around every chunk boundary come back, and lengths are what the functions say."""
        plain = bytes(i * 7 % 251 for i in range(length))
        ciphertext = seal(plain)
        assert open_all(ciphertext) == plain
        assert len(ciphertext) == ciphertext_length(length)
        assert plain_length(len(ciphertext)) == length

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.integers(0, 50_000), max_size=6), st.integers(1, 70_000))
    def test_any_cut(self, lengths: list[int], cut: int) -> None:
        """How input and ciphertext are cut into pieces changes nothing."""
        pieces = [bytes([number % 256]) * length for number, length in enumerate(lengths)]
        ciphertext = b"".join(encrypt(KEY, pieces))
        assert ciphertext == seal(b"".join(pieces))
        cuts = [ciphertext[i : i + cut] for i in range(0, len(ciphertext), cut)]
        assert open_all(cuts) == b"".join(pieces)


class TestManipulation:
    def test_every_octet_of_a_short_one(self) -> None:
        """A flipped bit in any octet is refused."""
        ciphertext = seal(b"short")
        for place in range(len(ciphertext)):
            altered = bytearray(ciphertext)
            altered[place] ^= 1
            assert failing_step(bytes(altered)).startswith("content.")

    def test_truncation(self) -> None:
        """A ciphertext cut anywhere is refused, at a chunk boundary too."""
        ciphertext = seal(bytes(2 * CHUNK))
        for length in (0, 1, HEADER - 1, HEADER, HEADER + TAG, HEADER + CHUNK + TAG, len(ciphertext) - 1):
            assert failing_step(ciphertext[:length]).startswith("content.")

    def test_reordered_and_repeated_chunks(self) -> None:
        """Chunks can't be swapped, repeated or appended."""
        ciphertext = seal(bytes(2 * CHUNK) + b"end")
        head, size = ciphertext[:HEADER], CHUNK + TAG
        first, second, last = (
            ciphertext[HEADER:][:size],
            ciphertext[HEADER + size :][:size],
            ciphertext[HEADER + 2 * size :],
        )
        for body in (second + first + last, first + first + last, first + second + last + last, first + last):
            assert failing_step(head + body) == "content.chunk"

    def test_empty_last_chunk(self) -> None:
        """A needless empty last chunk, which would make a second form of a message, is refused."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        cipher = AESGCM(KEY)
        first = cipher.encrypt((0).to_bytes(11, "big") + b"\x00", bytes(CHUNK), None)
        last = cipher.encrypt((1).to_bytes(11, "big") + b"\x01", b"", None)
        assert failing_step(MAGIC + key_commitment(KEY) + first + last) == "content.end"

    def test_other_version(self) -> None:
        """Another magic is refused before anything is decrypted."""
        assert failing_step(b"SecMTPc\x02" + seal(b"x")[len(MAGIC) :]) == "content.header"

    @given(st.integers(0, 10 * CHUNK))
    def test_lengths_that_nothing_has(self, length: int) -> None:
        """A length either belongs to exactly one message length or is refused."""
        try:
            plain = plain_length(length)
        except Malformed:
            return
        assert ciphertext_length(plain) == length
