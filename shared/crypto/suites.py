"""The cipher suites that may be named in a manifest: an allow-list on both sides, never a negotiation.

A name fixes everything: KEM, KDF and AEAD of the seals, KDF of the message key, cipher of key wrap
and content. Both suites differ in the KEM only.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import Malformed


@dataclass(frozen=True, slots=True)
class Suite:
    """One allowed suite. `kem` is the kind of HPKE key that its seals are made to."""

    name: str
    kem: str


HYBRID = Suite("MLKEM768_X25519+HKDF_SHA256+AES_256_GCM", "MLKEM768_X25519")
CLASSIC = Suite("X25519+HKDF_SHA256+AES_256_GCM", "X25519")
ALLOWED: dict[str, Suite] = {suite.name: suite for suite in (HYBRID, CLASSIC)}


def named(name: str) -> Suite:
    """Return the suite of that name. Raises Malformed for any other."""
    try:
        return ALLOWED[name]
    except KeyError:
        raise Malformed(f"cipher suite {name!r} isn't allowed, expected one of {', '.join(ALLOWED)}") from None


def of_kind(kem: str) -> Suite:
    """Return the suite whose seals are made to HPKE keys of this kind."""
    for suite in ALLOWED.values():
        if suite.kem == kem:
            return suite
    raise Malformed(f"HPKE key kind {kem!r} belongs to no allowed suite")
