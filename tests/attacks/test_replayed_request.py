"""Somebody who recorded a node's request sends it again, or uses its token for a request of their own.

A request token is good for one request, once; and a restart of the TTP, which forgets what it has seen,
opens no window.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from shared.api import messages
from shared.crypto.keys import key_id
from shared.evidence.revocation import Revocation, sign_revocation
from tests.doubles.parties import NOW
from tests.doubles.served import NodeClient, Served, served

FEED = "/v1/feed?cursor=0&wait=0&limit=100"
LIFETIME, SKEW = 60, 120


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Served]:
    """A TTP over real HTTPS."""
    with served(tmp_path) as made:
        yield made


@pytest.fixture
def b(world: Served) -> NodeClient:
    """The recipient's node, enrolled, with Bob's binding published."""
    node = NodeClient(world, "b.example")
    assert node.enrol(world.parties.b).status_code == 201
    assert node.publish(world.parties.bob, world.parties.b).status_code == 201
    return node


def send(world: Served, method: str, target: str, body: bytes, authorization: str) -> httpx.Response:
    """Send a request as it was recorded, or with another one's token."""
    headers = {"Authorization": authorization, "Content-Type": "application/json"}
    return world.client.request(method, target, content=body, headers=headers)


def refused(answer: httpx.Response, code: str) -> None:
    """Assert that it was refused as not authenticated, for this reason."""
    assert answer.status_code == 401, answer.text
    assert answer.json()["type"] == f"urn:secmtp:problem:{code}"


def revocation_of_bob(world: Served) -> bytes:
    """The body of a revocation: a request that changes something."""
    bob, authority = world.parties.bob, world.parties.b
    content = Revocation(bob.address, key_id(bob.receipt.public_key()), "key-compromise", NOW)
    return messages.encode_signed(sign_revocation(content, authority.key, authority.certificate))


def test_sent_again(world: Served, b: NodeClient) -> None:
    """A recorded request that is sent again is refused, though it was good the first time, until it is too old."""
    authorization = b.authorization("GET", FEED, b"")
    assert send(world, "GET", FEED, b"", authorization).status_code == 200
    for later in (0, 1, LIFETIME, LIFETIME + SKEW):
        world.clock.time = NOW + later
        refused(send(world, "GET", FEED, b"", authorization), "token-replayed")
    world.clock.time = NOW + LIFETIME + SKEW + 1
    refused(send(world, "GET", FEED, b"", authorization), "unauthenticated")


def test_sent_twice_at_once(world: Served, b: NodeClient) -> None:
    """Of copies that arrive at the same time exactly one is admitted."""
    authorization = b.authorization("GET", FEED, b"")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: send(world, "GET", FEED, b"", authorization), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7


def test_kept_back_and_sent_later(world: Served, b: NodeClient) -> None:
    """A request that was kept back instead of delivered is too old after its lifetime and the allowed skew."""
    body = revocation_of_bob(world)
    authorization = b.authorization("POST", "/v1/revocations", body)
    world.clock.time = NOW + LIFETIME + SKEW + 1
    refused(send(world, "POST", "/v1/revocations", body, authorization), "unauthenticated")
    assert b.look_up(world.parties.bob.address).status_code == 200


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/v1/feed?cursor=1&wait=0&limit=100", b""),
        ("GET", "/v1/feed", b""),
        ("GET", FEED, b"{}"),
        ("POST", "/v1/directory", messages.encode_address("bob@b.example")),
    ],
)
def test_its_token_on_another_request(world: Served, b: NodeClient, method: str, target: str, body: bytes) -> None:
    """A token is good for its own method, path, query and body alone; the attempt doesn't use it up."""
    authorization = b.authorization("GET", FEED, b"")
    assert send(world, method, target, body, authorization).status_code in {401, 413}
    assert send(world, "GET", FEED, b"", authorization).status_code == 200


def test_another_body(world: Served, b: NodeClient) -> None:
    """The token of a harmless publication doesn't admit a revocation on the same path, or on another."""
    harmless, body = messages.encode_signed("a.b.c"), revocation_of_bob(world)
    for path in ("/v1/revocations", "/v1/bindings"):
        refused(send(world, "POST", path, body, b.authorization("POST", path, harmless)), "unauthenticated")
    assert b.look_up(world.parties.bob.address).status_code == 200


def test_for_another_ttp(world: Served, b: NodeClient) -> None:
    """What a node signed for another TTP, which may be the attacker's, admits nothing here."""
    authorization = b.authorization("GET", FEED, b"", audience="evil.example")
    refused(send(world, "GET", FEED, b"", authorization), "unauthenticated")


def test_after_a_restart(world: Served, b: NodeClient) -> None:
    """A restart forgets what was seen, so whatever was signed before it is refused by a code of its own."""
    used, unused = b.authorization("GET", FEED, b""), b.authorization("GET", FEED, b"")
    assert send(world, "GET", FEED, b"", used).status_code == 200
    world.clock.time = NOW + 1
    world.restart()
    for authorization in (used, unused):
        refused(send(world, "GET", FEED, b"", authorization), "token-predates-start")
    # The code tells an honest node to sign a new one, which is admitted, once.
    fresh = b.authorization("GET", FEED, b"")
    assert send(world, "GET", FEED, b"", fresh).status_code == 200
    refused(send(world, "GET", FEED, b"", fresh), "token-replayed")


def test_an_enrolment(world: Served) -> None:
    """A recorded enrolment sent again, before or after a restart, is refused like any other request."""
    node = NodeClient(world, "a.example")
    recorded: list[tuple[bytes, str]] = []
    signing = node.authorization

    def record(method: str, target: str, body: bytes) -> str:
        recorded.append((body, signing(method, target, body)))
        return recorded[-1][1]

    node.authorization = record  # type: ignore[method-assign,assignment]
    assert node.enrol(world.parties.a).status_code == 201
    ((body, authorization),) = recorded
    refused(send(world, "POST", "/v1/nodes", body, authorization), "token-replayed")
    world.clock.time = NOW + 1
    world.restart()
    refused(send(world, "POST", "/v1/nodes", body, authorization), "token-predates-start")
