"""The tokens of an exchange: NRO, NRR, NRD, EXPIRED, INVALID, ABORTED, as values and as compact JWS.

Each names the exchange hM and, by digest, every token it answers, so that none can be moved to
another exchange or paired with another predecessor (docs/protocols/evidence.md). This file signs and
parses; whether a token is to be believed is decided in verification.py alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.crypto import signing
from shared.crypto.certificates import VerifiedCertificate
from shared.crypto.keys import SigningKey
from shared.crypto.signing import UnverifiedToken
from shared.encoding import base64url
from shared.encoding.fields import Fields
from shared.errors import Malformed


@dataclass(frozen=True, slots=True)
class KeyState:
    """What the ledger said of a key at the moment of the trade: no revocation, or one under notice.

    `effective` is the ledger time from which the revocation counts against evidence, None without one.
    """

    effective: int | None = None


@dataclass(frozen=True, slots=True)
class NRO:
    """Verified: the origin key named in M signed hM. `time` is the signer's claim."""

    compact: str
    digest: bytes
    time: int
    certificate: VerifiedCertificate


@dataclass(frozen=True, slots=True)
class NRR:
    """Verified: the receipt key named in M signed hM and the digest of this NRO. `time` is the signer's claim."""

    compact: str
    digest: bytes
    time: int
    certificate: VerifiedCertificate


@dataclass(frozen=True, slots=True)
class NRD:
    """Verified: the TTP traded this NRR for s_T, at ledger time `time`, as entry `index`.

    ISO/IEC 13888 would call it a transport token (NRT).
    """

    compact: str
    digest: bytes
    share: bytes = field(repr=False)
    index: int
    time: int
    origin_key: KeyState
    receipt_key: KeyState
    certificate: VerifiedCertificate


@dataclass(frozen=True, slots=True)
class Refusal:
    """Verified: the TTP made no trade (EXPIRED, INVALID or ABORTED). It says nothing about who read or sent."""

    compact: str
    outcome: str
    index: int
    time: int
    certificate: VerifiedCertificate


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """Index and ledger time that the writer gives a token inside its transaction."""

    index: int
    time: int


def sign_nro(exchange: bytes, time: int, key: SigningKey, chain: Sequence[bytes]) -> str:
    """Sign the origin of an exchange (envelope.md E7)."""
    return signing.sign(signing.NRO, {"exchange": base64url.encode(exchange), "time": time}, key, chain)


def sign_nrr(exchange: bytes, nro_digest: bytes, time: int, key: SigningKey, chain: Sequence[bytes]) -> str:
    """Sign the receipt of an exchange, before the message can be read (online.md R6)."""
    members = {"exchange": base64url.encode(exchange), "nro": base64url.encode(nro_digest), "time": time}
    return signing.sign(signing.NRR, members, key, chain)


@dataclass(frozen=True, slots=True)
class Trade:
    """What an NRD says: which tokens were traded for which share, and how the ledger saw both keys."""

    exchange: bytes
    nro: bytes
    nrr: bytes
    share: bytes = field(repr=False)
    origin_key: KeyState
    receipt_key: KeyState


def sign_nrd(trade: Trade, place: LedgerPlace, key: SigningKey, chain: Sequence[bytes]) -> str:
    """Sign the trade at the place that the ledger's writer gave (online.md T7)."""
    members = {
        "exchange": base64url.encode(trade.exchange),
        "nro": base64url.encode(trade.nro),
        "nrr": base64url.encode(trade.nrr),
        "share": base64url.encode(trade.share),
        "keys": {"origin": _state_json(trade.origin_key), "receipt": _state_json(trade.receipt_key)},
        "index": place.index,
        "time": place.time,
    }
    return signing.sign(signing.NRD, members, key, chain)


def sign_refusal(
    outcome: str, exchange: bytes, nro: bytes, place: LedgerPlace, key: SigningKey, chain: Sequence[bytes]
) -> str:
    """Sign that an exchange ended at the TTP without a trade: `outcome` is EXPIRED or INVALID."""
    members = {
        "exchange": base64url.encode(exchange),
        "nro": base64url.encode(nro),
        "index": place.index,
        "time": place.time,
    }
    return signing.sign(REFUSALS[outcome], members, key, chain)


def sign_aborted(
    exchange: bytes, statement: tuple[bytes, bytes], place: LedgerPlace, key: SigningKey, chain: Sequence[bytes]
) -> str:
    """Sign that the sender aborted: `statement` are the digests of the NRO and of the ABORT (offline.md T3)."""
    members = {
        "exchange": base64url.encode(exchange),
        "nro": base64url.encode(statement[0]),
        "abort": base64url.encode(statement[1]),
        "index": place.index,
        "time": place.time,
    }
    return signing.sign(signing.ABORTED, members, key, chain)


REFUSALS = {"EXPIRED": signing.EXPIRED, "INVALID": signing.INVALID}


def parse_refusal(compact: str) -> UnverifiedToken:
    """Parse a token that is EXPIRED, INVALID or ABORTED. Raises Malformed for anything else."""
    for kind in (*REFUSALS.values(), signing.ABORTED):
        try:
            return signing.parse(compact, kind)
        except Malformed as error:
            failure = error
    raise failure


def key_state(fields: Fields) -> KeyState:
    """Parse one member of an NRD's `keys`."""
    notice = fields.choice("state", ("good", "notice")) == "notice"
    effective = fields.integer("effective") if notice else None
    fields.end()
    return KeyState(effective)


def _state_json(state: KeyState) -> dict[str, str | int]:
    if state.effective is None:
        return {"state": "good"}
    return {"state": "notice", "effective": state.effective}
