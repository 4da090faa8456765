"""A closed reader of JSON members: every member is taken exactly once, and none may be left over.

Decoders use it so that an unknown member is refused rather than ignored: what one side ignores, the
other side may have relied on.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from shared.encoding import base64url
from shared.errors import Malformed

MAX_TEXT = 2048
VERSION = 1


class Fields:
    """Takes typed members out of one JSON object. `what` names the object in errors."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise Malformed(f"{what} isn't a JSON object")
        self._left: dict[str, Any] = dict(value)
        self._what = what

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str) -> object:
        """Take a member of any type. Raises Malformed when it isn't there."""
        if name not in self._left:
            raise Malformed(f"{self._what} lacks the member {name!r}")
        value: object = self._left.pop(name)
        return value

    def constant(self, name: str, expected: str | int) -> None:
        """Take a member that must have exactly this value."""
        value = self.take(name)
        if type(value) is not type(expected) or value != expected:
            raise Malformed(f"{self._what}: {name!r} is {value!r}, expected {expected!r}")

    def version(self) -> None:
        """Take `v`, which must be the version that we speak."""
        self.constant("v", VERSION)

    def text(self, name: str, *, limit: int = MAX_TEXT) -> str:
        """Take a text of 1 to `limit` characters."""
        value = self.take(name)
        if not isinstance(value, str) or not 0 < len(value) <= limit:
            raise Malformed(f"{self._what}: {name!r} isn't a text of 1 to {limit} characters")
        return value

    def choice(self, name: str, allowed: Collection[str]) -> str:
        """Take a text that must be one of `allowed`."""
        value = self.text(name)
        if value not in allowed:
            raise Malformed(f"{self._what}: {name!r} is {value!r}, expected one of {', '.join(sorted(allowed))}")
        return value

    def integer(self, name: str, *, least: int = 0) -> int:
        """Take an integer that is at least `least`."""
        value = self.take(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise Malformed(f"{self._what}: {name!r} isn't an integer of at least {least}")
        return value

    def octets(self, name: str, length: int | None = None, *, limit: int = 1 << 20) -> bytes:
        """Take base64url octets: exactly `length`, or 1 to `limit` of them."""
        text = self.text(name, limit=(limit + 2) // 3 * 4)
        data = base64url.decode(text, length=length, what=f"{self._what}: {name!r}")
        if len(data) > limit:  # the text's bound is coarser
            raise Malformed(f"{self._what}: {name!r} has {len(data)} octets, at most {limit} are allowed")
        return data

    def nested(self, name: str) -> Fields:
        """Take a nested object as a reader of its own."""
        return Fields(self.take(name), f"{self._what}.{name}")

    def items(self, name: str, *, limit: int) -> list[object]:
        """Take a list of at most `limit` items."""
        value = self.take(name)
        if not isinstance(value, list) or len(value) > limit:
            raise Malformed(f"{self._what}: {name!r} isn't a list of at most {limit} items")
        return value

    def texts(self, name: str, *, limit: int) -> tuple[str, ...]:
        """Take a list of 1 to `limit` texts."""
        values = self.items(name, limit=limit)
        texts = tuple(value for value in values if isinstance(value, str) and 0 < len(value) <= MAX_TEXT)
        if not texts or len(texts) != len(values):
            raise Malformed(f"{self._what}: {name!r} isn't a list of texts")
        return texts

    def end(self) -> None:
        """Raise Malformed when members are left over."""
        if self._left:
            names = ", ".join(sorted(map(repr, self._left)))
            raise Malformed(f"{self._what} has members that this version doesn't know: {names}")
