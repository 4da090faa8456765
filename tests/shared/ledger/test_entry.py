"""Ledger entries: one canonical form, closed members, and the mask on the traded share."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from hypothesis import given
from hypothesis import strategies as st

from shared.encoding import base64url, canonical
from shared.encoding.labels import H
from shared.errors import Malformed, SecMTPError, TooLarge
from shared.ledger import entry
from shared.ledger.entry import (
    KEY_EVENTS,
    KEY_PURPOSES,
    MAX_ENTRY,
    OUTCOMES,
    AnchorEntry,
    BindingEntry,
    Entry,
    ExchangeEntry,
    KeyEntry,
    RevocationEntry,
)

HM, MASKED, BODY, KEY = (bytes([octet]) * 32 for octet in (1, 2, 3, 4))
COMPLETED = ExchangeEntry(HM, "COMPLETED", MASKED, BODY, 1_764_000_000)
EXPIRED = ExchangeEntry(HM, "EXPIRED", None, BODY, 1_764_000_000)
BINDING = BindingEntry(HM, BODY, 1_764_000_000)
REVOCATION = RevocationEntry(HM, KEY, 1_764_259_200, BODY, 1_764_000_000)
ANCHOR = AnchorEntry(HM, BODY, 1_764_000_000)
INTRODUCED = KeyEntry(KEY, "escrow", "introduced", BODY, 1_764_000_000)
ALL: list[Entry] = [COMPLETED, EXPIRED, BINDING, REVOCATION, ANCHOR, INTRODUCED]

octets = st.binary(min_size=32, max_size=32)
times = st.integers(0, canonical.MAX_INTEGER)
entries: st.SearchStrategy[Entry] = st.one_of(
    st.builds(ExchangeEntry, octets, st.just("COMPLETED"), octets, octets, times),
    st.builds(ExchangeEntry, octets, st.sampled_from(sorted(OUTCOMES - {"COMPLETED"})), st.none(), octets, times),
    st.builds(BindingEntry, octets, octets, times),
    st.builds(AnchorEntry, octets, octets, times),
    st.builds(
        KeyEntry, octets, st.sampled_from(sorted(KEY_PURPOSES)), st.sampled_from(sorted(KEY_EVENTS)), octets, times
    ),
    st.tuples(times, times).flatmap(
        lambda pair: st.builds(RevocationEntry, octets, octets, st.just(max(pair)), octets, st.just(min(pair)))
    ),
)


def members(value: Entry) -> dict[str, Any]:
    """Return the JSON members of an entry."""
    decoded: dict[str, Any] = json.loads(entry.encode(value))
    return decoded


class TestForm:
    def test_exchange(self) -> None:
        """A completed exchange has exactly these octets: canonical JSON with the masked share."""
        assert entry.encode(COMPLETED) == (
            b'{"body":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM",'
            b'"exchange":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE","kind":"exchange",'
            b'"masked":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI","outcome":"COMPLETED","time":1764000000,"v":1}'
        )

    def test_members(self) -> None:
        """Each kind has its own members and no others; without a trade there is no masked share."""
        common = {"v": 1, "body": base64url.encode(BODY), "time": 1_764_000_000}
        name = base64url.encode(HM)
        assert members(EXPIRED) == {**common, "kind": "exchange", "exchange": name, "outcome": "EXPIRED"}
        assert members(BINDING) == {**common, "kind": "binding", "id": name}
        revocation = {"kind": "revocation", "id": name, "key": base64url.encode(KEY), "effective": 1_764_259_200}
        assert members(REVOCATION) == {**common, **revocation}
        assert members(ANCHOR) == {**common, "kind": "anchor", "id": name}
        introduced = {"kind": "key", "key": base64url.encode(KEY), "purpose": "escrow", "event": "introduced"}
        assert members(INTRODUCED) == {**common, **introduced}

    @given(entries)
    def test_round_trip(self, value: Entry) -> None:
        """An entry survives its octets, and the octets survive parsing."""
        data = entry.encode(value)
        assert entry.decode(data) == value
        assert entry.encode(entry.decode(data)) == data

    @given(st.binary(max_size=200))
    def test_never_another_exception(self, data: bytes) -> None:
        """Whatever the octets are, they are refused with a SecMTPError when they aren't an entry."""
        with pytest.raises(SecMTPError):
            entry.decode(data)


class TestRefused:
    @pytest.mark.parametrize("value", ALL, ids=lambda value: type(value).__name__)
    def test_every_bit_and_end(self, value: Entry) -> None:
        """Truncated or with a bit flipped, the octets are refused or are another entry's one form, never this one's."""
        data = entry.encode(value)
        wrong = [data[:end] for end in range(len(data))]
        wrong += [
            data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] for at in range(len(data)) for bit in range(8)
        ]
        for changed in wrong:
            try:
                other = entry.decode(changed)
            except SecMTPError:
                continue
            assert other != value
            assert entry.encode(other) == changed

    @pytest.mark.parametrize("value", ALL, ids=lambda value: type(value).__name__)
    def test_members_are_closed(self, value: Entry) -> None:
        """A member too few or too many is refused in every kind."""
        for name in members(value):
            left = {key: member for key, member in members(value).items() if key != name}
            with pytest.raises(Malformed):
                entry.decode(canonical.encode(left))
        with pytest.raises(Malformed):
            entry.decode(canonical.encode({**members(value), "more": 1}))

    @pytest.mark.parametrize(
        "change",
        [
            {"v": 2},
            {"v": True},
            {"v": "1"},
            {"kind": "anchors"},
            {"kind": 1},
            {"kind": "binding"},
            {"outcome": "OPEN"},
            {"outcome": "completed"},
            {"outcome": "ABORTED"},
            {"masked": None},
            {"masked": ""},
            {"masked": base64url.encode(bytes(31))},
            {"masked": base64url.encode(bytes(32)) + "="},
            {"exchange": HM.hex()},
            {"exchange": 7},
            {"time": -1},
            {"time": True},
            {"time": "1764000000"},
            {"time": None},
        ],
    )
    def test_values(self, change: dict[str, Any]) -> None:
        """A value outside its type, length or list is refused, a newer version too."""
        with pytest.raises(Malformed):
            entry.decode(canonical.encode({**members(COMPLETED), **change}))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{}",
            b"[]",
            b"null",
            entry.encode(EXPIRED) + b"\n",
            b" " + entry.encode(EXPIRED),
            entry.encode(EXPIRED).replace(b",", b", "),
            entry.encode(EXPIRED).replace(b"1764000000", b"1764000000.0"),
            entry.encode(EXPIRED).replace(b"1764000000", b"1.764e9"),
            entry.encode(EXPIRED).replace(b'"v":1', b'"v":1,"v":1'),
            entry.encode(EXPIRED).replace(b"EXPIRED", b"EXPIR\\u0045D"),
        ],
    )
    def test_other_spellings(self, data: bytes) -> None:
        """The same value in another spelling is refused: one entry has one leaf hash."""
        with pytest.raises(Malformed):
            entry.decode(data)

    def test_too_large(self) -> None:
        """Over 65,535 octets nothing is parsed."""
        with pytest.raises(TooLarge):
            entry.decode(bytes(MAX_ENTRY + 1))

    @pytest.mark.parametrize("outcome", sorted(OUTCOMES))
    def test_masked_with_completed_only(self, outcome: str) -> None:
        """A masked share goes with COMPLETED always and with nothing else."""
        with pytest.raises(Malformed):
            ExchangeEntry(HM, outcome, None if outcome == "COMPLETED" else MASKED, BODY, 0)

    def test_values_in_code(self) -> None:
        """An entry that couldn't be decoded can't be made either."""
        for wrong in (bytes(31), bytes(33), b""):
            for build in (
                lambda wrong=wrong: ExchangeEntry(wrong, "EXPIRED", None, BODY, 0),
                lambda wrong=wrong: ExchangeEntry(HM, "COMPLETED", wrong, BODY, 0),
                lambda wrong=wrong: BindingEntry(HM, wrong, 0),
                lambda wrong=wrong: RevocationEntry(HM, wrong, 0, BODY, 0),
                lambda wrong=wrong: AnchorEntry(HM, wrong, 0),
                lambda wrong=wrong: KeyEntry(wrong, "nrd", "retired", BODY, 0),
            ):
                with pytest.raises(Malformed):
                    build()
        for time in (-1, canonical.MAX_INTEGER + 1):
            with pytest.raises(Malformed):
                BindingEntry(HM, BODY, time)
        with pytest.raises(Malformed):
            ExchangeEntry(HM, "OPEN", None, BODY, 0)

    @pytest.mark.parametrize(("purpose", "event"), [("tls", "introduced"), ("nrd", "lost"), ("", "retired")])
    def test_key(self, purpose: str, event: str) -> None:
        """A key entry is of one of the three purposes and events."""
        with pytest.raises(Malformed):
            KeyEntry(KEY, purpose, event, BODY, 0)
        told = {**members(INTRODUCED), "purpose": purpose, "event": event}
        with pytest.raises(Malformed):
            entry.decode(canonical.encode(told))

    def test_revocation_before_itself(self) -> None:
        """A revocation can't count from before it was logged."""
        with pytest.raises(Malformed):
            RevocationEntry(HM, KEY, 99, BODY, 100)


class TestMask:
    @given(octets, octets, octets)
    def test_unmask(self, share: bytes, nonce: bytes, exchange: bytes) -> None:
        """Whoever knows nonce and hM takes the mask off again."""
        assert entry.unmask(entry.mask(share, nonce, exchange), nonce, exchange) == share

    def test_formula(self) -> None:
        """The mask is HKDF-SHA256 (RFC 5869) of the nonce, salted with hM, under the label; here by hand."""

        def hmac_sha256(key: bytes, data: bytes) -> bytes:
            state = hmac.HMAC(key, hashes.SHA256())
            state.update(data)
            return state.finalize()

        pad = hmac_sha256(hmac_sha256(HM, KEY), b"SecMTP v1 mask\x00\x01")
        assert entry.mask(bytes(32), KEY, HM) == pad
        assert entry.mask(BODY, KEY, HM) == bytes(octet ^ 3 for octet in pad)

    def test_binds(self) -> None:
        """Another nonce or another exchange takes another mask."""
        masked = entry.mask(MASKED, KEY, HM)
        assert entry.unmask(masked, BODY, HM) != MASKED
        assert entry.unmask(masked, KEY, BODY) != MASKED

    @pytest.mark.parametrize("lengths", [(31, 32, 32), (32, 0, 32), (32, 32, 33)])
    def test_lengths(self, lengths: tuple[int, int, int]) -> None:
        """Share, nonce and hM have 32 octets each, or nothing is masked."""
        with pytest.raises(Malformed):
            entry.mask(*(bytes(length) for length in lengths))

    def test_body(self) -> None:
        """The body's digest is the labelled hash over salt and body, so equal bodies don't show."""
        assert entry.body_digest(HM, b"body") == H("body", HM, b"body")
        assert entry.body_digest(HM, b"body") != entry.body_digest(KEY, b"body")
