"""Mail addresses as they stand in evidence: one form for one mailbox, without guessing.

The domain is compared as lower-case A-labels (RFC 5890 §2.3.2); the local part is kept as it is,
letter case and Unicode form too (RFC 5321 §2.4, RFC 6530 §9.1).
"""

from __future__ import annotations

import idna

from shared.errors import Malformed

MAX_ADDRESS = 998


def normal_domain(domain: str) -> str:
    """Return a domain as lower-case A-labels. Raises Malformed for what can't be one."""
    try:
        ascii_domain = idna.encode(domain, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise Malformed(f"{domain!r} isn't a domain name: {error}") from error
    return ascii_domain.rstrip(".")


def normal_address(address: str) -> str:
    """Return local@domain with the domain in normal form. Raises Malformed."""
    local, at, domain = address.rpartition("@")
    if (
        not at
        or not local
        or len(address) > MAX_ADDRESS
        or any(ord(char) < 0x20 or ord(char) == 0x7F for char in address)
    ):
        raise Malformed(f"{address!r} isn't a mail address: expected local@domain")
    return f"{local}@{normal_domain(domain)}"


def domain_of(address: str) -> str:
    """Return the domain of an address in normal form."""
    return address.rpartition("@")[2]


def is_normal(address: str) -> bool:
    """Whether the address is in the form that `normal_address` gives."""
    try:
        return normal_address(address) == address
    except Malformed:
        return False
