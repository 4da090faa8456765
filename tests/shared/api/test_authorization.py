"""Request tokens: for one node, one request, one minute."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from shared.api.authorization import LIFETIME, SKEW, Request, authorize, verify_request
from shared.crypto.certificates import Purpose
from shared.crypto.keys import key_id
from shared.errors import Unauthenticated
from tests.doubles.parties import NOW, parties

KEY = ed25519.Ed25519PrivateKey.generate()
CHAIN = [parties().root.leaf(Purpose.NODE_REQUEST, ["b.example"], KEY)]
REQUEST = Request("POST", "/v1/exchanges/complete", b"{}")
SERIAL = bytes(range(16))


def header(now: int = NOW) -> str:
    """A good Authorization header."""
    return authorize(REQUEST, "ttp.example", now, SERIAL, KEY, CHAIN)


def refusal(value: str, request: Request = REQUEST, audience: str = "ttp.example", now: int = NOW) -> str:
    """Return why a header is refused."""
    with pytest.raises(Unauthenticated) as caught:
        verify_request(value, request, audience, parties().trust, now)
    return caught.value.message


def test_valid() -> None:
    """A token made for a request says which node asks, with which serial, and when it may be forgotten."""
    requester = verify_request(header(), REQUEST, "ttp.example", parties().trust, NOW)
    assert requester.key_id == key_id(KEY.public_key())
    assert requester.names == ("b.example",)
    assert requester.serial == SERIAL
    assert requester.forget_after == NOW + LIFETIME + SKEW


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, method="GET"),
        replace(REQUEST, target="/v1/exchanges/status"),
        replace(REQUEST, target="/v1/exchanges/complete?x=1"),
        replace(REQUEST, body=b"{ }"),
    ],
)
def test_another_request(other: Request) -> None:
    """A token serves only the method, path, query and body that it was made for."""
    assert "another method, path or body" in refusal(header(), other)


def test_another_ttp() -> None:
    """A token for one TTP isn't accepted by another."""
    assert "'aud'" in refusal(header(), audience="other.example")


@pytest.mark.parametrize("now", [NOW - SKEW - 1, NOW + LIFETIME + SKEW + 1])
def test_time(now: int) -> None:
    """Outside its minute, plus the allowed difference of clocks, a token is refused."""
    assert "now it is" in refusal(header(), now=now)


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic abc", "Bearer a.b.c", "bearer " + header()])
def test_not_a_token(value: str) -> None:
    """Anything but a bearer token of our form is refused."""
    refusal(value)


def test_a_users_certificate() -> None:
    """A user's key can't ask in the place of a node's."""
    world = parties()
    value = authorize(REQUEST, "ttp.example", NOW, SERIAL, world.bob.origin, world.bob.origin_chain)
    assert "certificate.purpose" in refusal(value)
