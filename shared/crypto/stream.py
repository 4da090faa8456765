"""The message in 64 KiB chunks: AES-256-GCM in STREAM form, in flat memory at any size.

`header ‖ chunk*`: the header commits to the content key (AES-GCM doesn't: one ciphertext could open
to two letters under two keys), every chunk's nonce holds its number and whether it is the last.
Nothing of the exchange is in it, so that visible recipients share one ciphertext. A decrypter's
output is safe to show only after its iterator has ended: until then the end may be missing.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.encoding.labels import H
from shared.errors import EvidenceFault, Malformed

CHUNK = 64 * 1024
TAG = 16
MAGIC = b"SecMTPc\x01"
HEADER = len(MAGIC) + 32


def key_commitment(content_key: bytes) -> bytes:
    """Return H("cek", content key), which the header holds: 32 octets."""
    return H("cek", content_key)


def ciphertext_length(plain: int) -> int:
    """Return how many octets `plain` octets become."""
    chunks = max(1, -(-plain // CHUNK))
    return HEADER + plain + chunks * TAG


def plain_length(ciphertext: int) -> int:
    """Return how many octets a ciphertext of that length holds. Raises Malformed if there is no such length."""
    body = ciphertext - HEADER
    chunks = -(-body // (CHUNK + TAG))
    plain = body - chunks * TAG
    if body < TAG or plain < 0 or ciphertext_length(plain) != ciphertext:
        raise Malformed(f"no ciphertext has {ciphertext} octets")
    return plain


def encrypt(content_key: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the ciphertext of the octets in `pieces`. `content_key` (32 octets) must be fresh: nonces start at 0."""
    cipher = AESGCM(content_key)
    yield MAGIC + key_commitment(content_key)
    for number, chunk, last in _chunked(pieces, CHUNK):
        yield cipher.encrypt(_nonce(number, last=last), chunk, None)


def decrypt(content_key: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the plain octets; use them only when the iterator has ended.

    Raises EvidenceFault with step `content.header`, `content.commitment`, `content.chunk` or
    `content.end`. With good shares and a good ciphertext digest each is the sender's fault.
    """
    rest = _Rest(pieces)
    _check_header(rest.take(HEADER), content_key)
    cipher = AESGCM(content_key)
    for number, chunk, last in _chunked(rest, CHUNK + TAG):
        if last and number and len(chunk) <= TAG:
            raise EvidenceFault("content.end", "the last chunk is empty, though it isn't the only one")
        try:
            yield cipher.decrypt(_nonce(number, last=last), chunk, None)
        except (InvalidTag, ValueError) as error:
            raise EvidenceFault("content.chunk", f"chunk {number} doesn't open: altered, cut or moved") from error


def _check_header(header: bytes, content_key: bytes) -> None:
    if len(header) != HEADER or not header.startswith(MAGIC):
        raise EvidenceFault("content.header", "the ciphertext doesn't begin with the header of this version")
    if not hmac.compare_digest(header[len(MAGIC) :], key_commitment(content_key)):
        raise EvidenceFault("content.commitment", "the content key isn't the one that the ciphertext commits to")


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _chunked(pieces: Iterable[bytes], size: int) -> Iterator[tuple[int, bytes, bool]]:
    """Regroup pieces of any length into (number, chunk, is the last). No input gives one empty last chunk."""
    held = bytearray()
    number = 0
    for piece in pieces:
        held += piece
        while len(held) > size:  # only "more than": the last chunk is known as such only at the end
            yield number, bytes(held[:size]), False
            del held[:size]
            number += 1
    yield number, bytes(held), True


class _Rest:
    """An iterator of pieces from whose beginning some octets were taken."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = b""

    def take(self, count: int) -> bytes:
        while len(self._held) < count:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._held += piece
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def __iter__(self) -> Iterator[bytes]:
        yield self._held
        yield from self._pieces
