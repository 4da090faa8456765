"""Names and passwords from AUTH PLAIN (RFC 4616) and LOGIN, over TLS only; nothing of them is kept or logged."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable

from shared.errors import Malformed

MECHANISMS = ("PLAIN", "LOGIN")


async def credentials(mechanism: str, initial: str, challenge: Callable[[str], Awaitable[str]]) -> tuple[str, str]:
    """Return name and password. `challenge` sends a prompt and returns the client's base64 answer.

    Raises Malformed for what isn't base64 of UTF-8, or not of the mechanism's form.
    """
    if mechanism == "LOGIN":
        name = _text(initial) if initial else _text(await challenge("Username:"))
        return name, _text(await challenge("Password:"))
    parts = _text(initial or await challenge("")).split("\0")
    if len(parts) != 3:
        raise Malformed("PLAIN is authorization identity, NUL, name, NUL, password (RFC 4616)")
    return parts[1], parts[2]


def _text(coded: str) -> str:
    try:
        return base64.b64decode("" if coded == "=" else coded, validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise Malformed("that isn't base64 of UTF-8") from error
