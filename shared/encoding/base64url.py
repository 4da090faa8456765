"""Unpadded base64url (RFC 4648 §5), strict: one text for one value.

Python's decoder skips foreign characters and ignores the spare bits of the last one, so that many
texts would decode to the same octets; a signature over such a text could be presented in two forms.
"""

from __future__ import annotations

import base64
import binascii

from shared.errors import Malformed


def encode(data: bytes) -> str:
    """Return the unpadded base64url text of `data`."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str, *, length: int | None = None, what: str = "base64url value") -> bytes:
    """Return the octets of `text`; `length` demands an exact number of octets.

    Raises Malformed unless re-encoding the result gives the same text.
    """
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise Malformed(f"{what} isn't base64url: {error}") from error
    if encode(data) != text:
        raise Malformed(f"{what} isn't canonical base64url: padding, foreign characters or spare bits")
    if length is not None and len(data) != length:
        raise Malformed(f"{what} has {len(data)} octets, expected {length}")
    return data
