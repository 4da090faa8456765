"""Paths and parameters of MAIL and RCPT (RFC 5321 §4.1.2), parsed strictly and without losing a letter."""

from __future__ import annotations

import re

from shared.encoding.address import normal_domain
from shared.errors import Malformed

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_QUOTED = re.compile(r'"(?:[\x20-\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*"')
_ROUTE = re.compile(r"@[^\s<>:,@]+(?:,@[^\s<>:,@]+)*:")
_LITERAL = re.compile(r"\[[A-Za-z0-9.:\-]{1,64}\]")
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-]*")
_VALUE = re.compile(r"[\x21-\x3c\x3e-\x7e]+")


def split_path(argument: str, keyword: str) -> tuple[str, str]:
    """Split `FROM:<path> parameters` into path and parameters. Raises Malformed.

    A `>` inside a quoted local part doesn't end the path: an address can't smuggle a parameter.
    """
    prefix = re.match(rf"{keyword}:[ \t]*<", argument, re.IGNORECASE)
    if prefix is None:
        raise Malformed(f"expected {keyword}:<address>")
    quoted = escaped = False
    for place in range(prefix.end(), len(argument)):
        char = argument[place]
        if escaped:
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == ">" and not quoted:
            return argument[prefix.end() : place], argument[place + 1 :]
    raise Malformed("the address isn't closed by '>'")


def parse_mailbox(path: str, *, home: str) -> str:
    """Return local@domain of a path; the domain as A-labels. `Postmaster` alone is the one of `home`.

    Source routes are dropped (RFC 5321 appendix C). A quoted local part that needs no quotes loses them.
    Raises Malformed.
    """
    route = _ROUTE.match(path)
    text = path[route.end() :] if route else path
    if text.lower() == "postmaster":
        return f"{text}@{home}"
    quoted = _QUOTED.match(text)
    found = quoted or _DOT_STRING.match(text)
    if found is None or text[found.end() : found.end() + 1] != "@":
        raise Malformed("an address is local@domain")
    return f"{_local(found.group())}@{_domain(text[found.end() + 1 :])}"


def parse_parameters(text: str) -> dict[str, str]:
    """Return ESMTP parameters, keywords in upper case, values as they are. Raises Malformed."""
    parameters: dict[str, str] = {}
    for word in text.split(" "):
        if not word:
            continue
        keyword, equals, value = word.partition("=")
        if not _KEYWORD.fullmatch(keyword) or (equals and not _VALUE.fullmatch(value)):
            raise Malformed(f"the parameter {keyword[:40]!r} isn't well-formed")
        if keyword.upper() in parameters:
            raise Malformed(f"the parameter {keyword.upper()} stands twice")
        parameters[keyword.upper()] = value
    return parameters


def format_path(address: str) -> str:
    """Return `<local@domain>` for the wire, the local part quoted where it must be."""
    local, _, domain = address.rpartition("@")
    if not _DOT_STRING.fullmatch(local) and not _QUOTED.fullmatch(local):
        raise Malformed(f"{address!r} can't stand in an SMTP command")
    return f"<{local}@{domain}>"


def _local(local: str) -> str:
    if not local.startswith('"'):
        return local
    plain = re.sub(r"\\(.)", r"\1", local[1:-1])
    return plain if _DOT_STRING.fullmatch(plain) else local


def _domain(domain: str) -> str:
    if _LITERAL.fullmatch(domain):
        return domain
    return normal_domain(domain)
