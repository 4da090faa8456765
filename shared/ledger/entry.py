"""Ledger entries: the canonical JSON octets that become leaves, readable by everybody who mirrors the log.

So they name nobody: an exchange by hM, everything else by salted ids, bodies by salted hashes. The
traded share stands in its entry under a mask that only holders of M can take off, which is how a
recipient reads `s_T` off any mirror when the TTP's answer is lost or withheld.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.encoding import base64url, canonical
from shared.encoding.fields import Fields
from shared.encoding.labels import DIGEST_OCTETS, H, frame
from shared.errors import Malformed

MAX_ENTRY = 65_535  # C2SP tlog-tiles: entry bundles have 16-bit lengths
COMPLETED = "COMPLETED"
OUTCOMES = frozenset({COMPLETED, "EXPIRED", "INVALID", "ABORTED"})
KEY_PURPOSES = frozenset({"ledger", "nrd", "escrow"})
KEY_EVENTS = frozenset({"introduced", "retired", "destroyed"})
_OCTETS = 32


@dataclass(frozen=True, slots=True)
class ExchangeEntry:
    """An exchange came to its outcome. `masked` is the masked s_T, with COMPLETED and only then.

    `exchange` is hM, `body` the salted hash of the token (`body_digest`), each 32 octets; `time` is
    ledger time, UTC seconds.
    """

    exchange: bytes
    outcome: str
    masked: bytes | None
    body: bytes
    time: int

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise Malformed(f"outcome {self.outcome!r} isn't one of {', '.join(sorted(OUTCOMES))}")
        if (self.masked is not None) != (self.outcome == COMPLETED):
            raise Malformed("an exchange entry has a masked share with COMPLETED, and only then")
        _require(self.exchange, self.body, *([] if self.masked is None else [self.masked]), times=(self.time,))


@dataclass(frozen=True, slots=True)
class BindingEntry:
    """A key binding was published. `id` is salted, so that only its domain can find its own entries."""

    id: bytes
    body: bytes
    time: int

    def __post_init__(self) -> None:
        _require(self.id, self.body, times=(self.time,))


@dataclass(frozen=True, slots=True)
class RevocationEntry:
    """The key of id `key` was revoked at ledger time `time`; against evidence it counts from `effective` on."""

    id: bytes
    key: bytes
    effective: int
    body: bytes
    time: int

    def __post_init__(self) -> None:
        _require(self.id, self.key, self.body, times=(self.effective, self.time))
        if self.effective < self.time:
            raise Malformed(f"a revocation of {self.time} can't count from {self.effective}, which is before it")


@dataclass(frozen=True, slots=True)
class AnchorEntry:
    """A batch of digests was lodged, so that what they are of has a time in the ledger (`anchor.py`).

    `id` is salted like the body, so that an anchor tells outsiders neither whose it is nor of how much.
    """

    id: bytes
    body: bytes
    time: int

    def __post_init__(self) -> None:
        _require(self.id, self.body, times=(self.time,))


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A key of the TTP itself was introduced, retired or destroyed. Its id isn't salted: it is everybody's business.

    `purpose` is one of `KEY_PURPOSES`, `event` one of `KEY_EVENTS`, `key` the key id.
    """

    key: bytes
    purpose: str
    event: str
    body: bytes
    time: int

    def __post_init__(self) -> None:
        for value, allowed in ((self.purpose, KEY_PURPOSES), (self.event, KEY_EVENTS)):
            if value not in allowed:
                raise Malformed(f"a key entry says {value!r}, expected one of {', '.join(sorted(allowed))}")
        _require(self.key, self.body, times=(self.time,))


Entry = ExchangeEntry | BindingEntry | RevocationEntry | AnchorEntry | KeyEntry


def encode(entry: Entry) -> bytes:
    """Return the entry's octets, which are what the leaf hash is over: canonical JSON."""
    members: canonical.JSON = {"v": 1, "body": base64url.encode(entry.body), "time": entry.time}
    match entry:
        case ExchangeEntry():
            members |= {"kind": "exchange", "exchange": base64url.encode(entry.exchange), "outcome": entry.outcome}
            if entry.masked is not None:
                members["masked"] = base64url.encode(entry.masked)
        case BindingEntry():
            members |= {"kind": "binding", "id": base64url.encode(entry.id)}
        case RevocationEntry():
            members |= {"kind": "revocation", "id": base64url.encode(entry.id), "effective": entry.effective}
            members["key"] = base64url.encode(entry.key)
        case AnchorEntry():
            members |= {"kind": "anchor", "id": base64url.encode(entry.id)}
        case KeyEntry():
            members |= {"kind": "key", "key": base64url.encode(entry.key)}
            members |= {"purpose": entry.purpose, "event": entry.event}
    return canonical.encode(members)


def decode(data: bytes) -> Entry:
    """Parse an entry of a kind and version that we know, at most 65,535 octets. Raises Malformed or TooLarge."""
    fields = Fields(canonical.decode(data, what="ledger entry", limit=MAX_ENTRY), "ledger entry")
    fields.version()
    kind = fields.choice("kind", _READERS)
    entry = _READERS[kind](fields)
    fields.end()
    return entry


def mask(share: bytes, nonce: bytes, exchange: bytes) -> bytes:
    """Return s_T ⊕ HKDF-SHA256(ikm = core's nonce, salt = hM, info = frame("mask")); 32 octets each.

    The nonce is drawn afresh for each M, so one mask hides one share. Raises Malformed for other lengths.
    """
    if not len(share) == len(nonce) == len(exchange) == _OCTETS:
        raise Malformed(f"a share, a nonce or hM to mask with hasn't {_OCTETS} octets")
    pad = HKDF(algorithm=SHA256(), length=_OCTETS, salt=exchange, info=frame("mask")).derive(nonce)
    return bytes(left ^ right for left, right in zip(share, pad, strict=True))


def unmask(masked: bytes, nonce: bytes, exchange: bytes) -> bytes:
    """Return s_T from an entry's masked share. It is s_T only if it opens com_T: the caller checks that."""
    return mask(masked, nonce, exchange)


def body_digest(salt: bytes, body: bytes) -> bytes:
    """Return H("body", salt, body): how an entry names its body without letting anybody guess it."""
    return H("body", salt, body)


def _exchange(fields: Fields) -> Entry:
    return ExchangeEntry(
        exchange=fields.octets("exchange", DIGEST_OCTETS),
        outcome=fields.choice("outcome", OUTCOMES),
        masked=fields.octets("masked", _OCTETS) if "masked" in fields else None,
        body=fields.octets("body", DIGEST_OCTETS),
        time=fields.integer("time"),
    )


def _binding(fields: Fields) -> Entry:
    return BindingEntry(
        fields.octets("id", DIGEST_OCTETS), fields.octets("body", DIGEST_OCTETS), fields.integer("time")
    )


def _revocation(fields: Fields) -> Entry:
    return RevocationEntry(
        id=fields.octets("id", DIGEST_OCTETS),
        key=fields.octets("key", DIGEST_OCTETS),
        effective=fields.integer("effective"),
        body=fields.octets("body", DIGEST_OCTETS),
        time=fields.integer("time"),
    )


def _anchor(fields: Fields) -> Entry:
    return AnchorEntry(fields.octets("id", DIGEST_OCTETS), fields.octets("body", DIGEST_OCTETS), fields.integer("time"))


def _key(fields: Fields) -> Entry:
    return KeyEntry(
        key=fields.octets("key", DIGEST_OCTETS),
        purpose=fields.choice("purpose", KEY_PURPOSES),
        event=fields.choice("event", KEY_EVENTS),
        body=fields.octets("body", DIGEST_OCTETS),
        time=fields.integer("time"),
    )


_READERS = {"exchange": _exchange, "binding": _binding, "revocation": _revocation, "anchor": _anchor, "key": _key}


def _require(*digests: bytes, times: tuple[int, ...]) -> None:
    if any(len(digest) != _OCTETS for digest in digests):
        raise Malformed(f"a ledger entry's id, key, share or hash hasn't {_OCTETS} octets")
    if any(not 0 <= time <= canonical.MAX_INTEGER for time in times):
        raise Malformed("a ledger entry's time isn't between 0 and 2^53 − 1")
