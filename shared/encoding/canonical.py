"""Canonical JSON (RFC 8785), narrowed: ASCII member names, integers below 2^53, no floats.

`decode` accepts only octets that `encode` would produce, so a hash over them names one value and
one text. It never guesses: duplicate members, other spellings and trailing octets are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

import rfc8785

from shared.errors import Malformed, TooLarge

JSON = dict[str, Any]
MAX_OCTETS = 64 * 1024
MAX_DEPTH = 16
MAX_INTEGER = 2**53 - 1


def encode(value: Mapping[str, Any]) -> bytes:
    """Return the canonical octets of a JSON object. Raises Malformed for what we don't allow."""
    _check(value, 0)
    return _octets(value)


def decode(data: bytes, *, what: str, limit: int = MAX_OCTETS) -> JSON:
    """Parse canonical octets of one JSON object of at most `limit` octets.

    Raises TooLarge before parsing, Malformed when `encode` of the result isn't `data`.
    """
    if len(data) > limit:
        raise TooLarge(f"{what} has {len(data)} octets, at most {limit} are allowed")
    value = parse_object(data, what=what)  # which has checked it
    if _octets(value) != data:
        raise Malformed(f"{what} isn't canonical JSON (RFC 8785): member order, blanks or escapes differ")
    return value


def parse_object(data: bytes, *, what: str) -> JSON:
    """Parse a JSON object strictly (no duplicates, floats or constants) in any layout."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except (ValueError, RecursionError) as error:  # ValueError: UTF-8, syntax, huge integers
        raise Malformed(f"{what} isn't JSON: {error}") from error
    if not isinstance(value, dict):
        raise Malformed(f"{what} is a JSON {type(value).__name__}, expected an object")
    _check(value, 0)
    return value


def _octets(value: Mapping[str, Any]) -> bytes:
    try:
        return rfc8785.dumps(dict(value))
    except (rfc8785.CanonicalizationError, UnicodeError) as error:
        raise Malformed(f"value has no canonical JSON form: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> JSON:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("JSON object names a member twice")
    return members


def _refuse_number(text: str) -> NoReturn:
    raise Malformed(f"JSON number {text!r} isn't an integer")


def _check(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Malformed(f"JSON is nested deeper than {MAX_DEPTH}")
    match value:
        case bool() | None:
            return
        case str():
            _check_text(value)
        case int():
            if abs(value) > MAX_INTEGER:
                raise Malformed(f"JSON integer {value} is outside ±(2^53 − 1)")
        case Mapping():
            for name, member in value.items():
                _check_name(name)
                _check(member, depth + 1)
        case list() | tuple():
            for member in value:
                _check(member, depth + 1)
        case _:
            raise Malformed(f"JSON value of type {type(value).__name__} isn't allowed")


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Malformed("JSON text holds a lone surrogate") from error


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.isascii() or not name:
        raise Malformed(f"JSON member name {name!r} isn't non-empty ASCII")
