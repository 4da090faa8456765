"""Bodies of the HTTP API: what one end encodes the other decodes; nothing else is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.api import messages
from shared.api.messages import CompleteRequest, Cosignature, Enrolment, FeedPage, Listing, StatusRequest
from shared.encoding import base64url
from shared.errors import Malformed
from shared.ledger import note
from tests.doubles.parties import NOW, parties
from tests.doubles.witnesses import Cosigner


@cache
def complete() -> CompleteRequest:
    """One good request; seals are random, so it is made once."""
    exchange = parties().exchange()
    return CompleteRequest(exchange.manifest, exchange.nro, exchange.nrr, exchange.sealed.escrow)


@cache
def page() -> FeedPage:
    """One page with two bundles."""
    world = parties()
    return FeedPage((world.ttp.trade(world.exchange()), world.ttp.trade(world.exchange(b"second"))), 42)


def decode_page(body: bytes) -> FeedPage:
    """Decode a page of at most two."""
    return messages.decode_page(body, limit=2)


class TestLedger:
    """Cosignatures and consistency proofs."""

    def test_cosignature(self) -> None:
        """A cosignature is read as it was written; another form of key, size or line is refused."""
        key = Cosigner("b.example/witness").verifier
        line = note.cosign("text\n", key.name, Cosigner(key.name).key, NOW)
        body = messages.encode_cosignature(Cosignature(key, 5, line))
        assert messages.decode_cosignature(body) == Cosignature(key, 5, line)
        good = json.loads(body)
        for changed in (
            {"key": good["key"][:-1]},
            {"size": "5"},
            {"line": good["line"][:-1]},
            {"line": good["line"] * 2},
            {"line": "x" * 600},
            {"more": 1},
        ):
            with pytest.raises(Malformed):
                messages.decode_cosignature(json.dumps({**good, **changed}).encode())

    def test_consistency(self) -> None:
        """A consistency proof is read for the sizes that were asked for, and for no others."""
        hashes = [base64url.encode(bytes([number]) * 32) for number in range(3)]
        body = json.dumps({"v": 1, "old": 3, "size": 7, "hashes": hashes}).encode()
        assert messages.decode_consistency(body, 3, 7) == tuple(bytes([number]) * 32 for number in range(3))
        for old, size in ((3, 8), (2, 7)):
            with pytest.raises(Malformed, match="asked for a proof"):
                messages.decode_consistency(body, old, size)
        for bad in (hashes[:1] * 65, ["AAAA"], "x"):
            with pytest.raises(Malformed):
                messages.decode_consistency(json.dumps({"v": 1, "old": 3, "size": 7, "hashes": bad}).encode(), 3, 7)


def decode_record(body: bytes) -> str:
    """Decode a signed record."""
    return messages.decode_signed(body, "record")


CODECS: list[tuple[bytes, Callable[[bytes], Any], Any]] = [
    (messages.encode_complete(complete()), messages.decode_complete, complete()),
    (
        messages.encode_status(StatusRequest(complete().manifest, complete().nro)),
        messages.decode_status,
        StatusRequest(complete().manifest, complete().nro),
    ),
    (
        messages.encode_enrolment(Enrolment("token", b"request", (b"ca", b"cb"))),
        messages.decode_enrolment,
        Enrolment("token", b"request", (b"ca", b"cb")),
    ),
    (messages.encode_listing(Listing("b", "d")), messages.decode_listing, Listing("b", "d")),
    (messages.encode_address("bob@b.example"), messages.decode_address, "bob@b.example"),
    (messages.encode_signed("t"), decode_record, "t"),
]


@pytest.mark.parametrize(("body", "decode", "value"), CODECS)
class TestEveryBody:
    def test_round_trip(self, body: bytes, decode: Callable[[bytes], Any], value: Any) -> None:
        """What is encoded decodes to the same value, in any layout of JSON."""
        assert decode(body) == value
        assert decode(json.dumps(json.loads(body), indent=2).encode()) == value

    def test_closed(self, body: bytes, decode: Callable[[bytes], Any], value: Any) -> None:
        """A member more, a member less, another version or another type is malformed."""
        document = json.loads(body)
        others = [{**document, "new": 1}, {**document, "v": 2}, [document], "text"]
        others += [{name: member for name, member in document.items() if name != left} for left in document]
        others += [{**document, name: [None]} for name in document]
        for other in others:
            with pytest.raises(Malformed):
                decode(json.dumps(other).encode())

    def test_truncated(self, body: bytes, decode: Callable[[bytes], Any], value: Any) -> None:
        """A body cut anywhere is malformed."""
        for length in range(0, len(body), max(1, len(body) // 50)):
            with pytest.raises(Malformed):
                decode(body[:length])


def test_page_round_trip() -> None:
    """A feed page carries its bundles and its cursor."""
    assert decode_page(messages.encode_page(page())) == page()


def test_page_over_its_limit() -> None:
    """A page with more bundles than asked for is refused."""
    with pytest.raises(Malformed, match="at most 1"):
        messages.decode_page(messages.encode_page(page()), limit=1)


@given(st.binary(max_size=200))
def test_garbage(data: bytes) -> None:
    """Garbage is malformed to every decoder, never a crash."""
    for _, decode, _ in CODECS:
        with pytest.raises(Malformed):
            decode(data)
