"""Every endpoint's bound on its body, whether its length is announced or not; nothing is left of what is over."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from shared.api import endpoints
from shared.api.endpoints import Endpoint
from tests.doubles.served import NodeClient, Served

POSTS = [endpoint for endpoint in endpoints.ALL if endpoint.method == "POST"]
GETS = [endpoint for endpoint in endpoints.ALL if endpoint.method == "GET"]
PIECE = 4096


def pieces(octets: int) -> Iterator[bytes]:
    """A body of blanks of this length in pieces: sent without saying how long it is."""
    for start in range(0, octets, PIECE):
        yield b" " * min(PIECE, octets - start)


def send(node: NodeClient, endpoint: Endpoint, octets: int, *, announced: bool) -> httpx.Response:
    """Send a signed request with a body of blanks."""
    path = endpoint.path.replace("{exchange}", "00" * 32).replace("{index}", "0").replace("{old}", "0")
    body = b" " * octets
    headers = {
        "Authorization": node.authorization(endpoint.method, path, body),
        "Content-Type": "application/json",
    }
    content = body if announced else pieces(octets)
    return node._served.client.request(endpoint.method, path, content=content, headers=headers)


def is_problem(answer: httpx.Response, status: int, code: str) -> None:
    """Assert that an answer is a problem document of this status and code."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:secmtp:problem:{code}")


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "streamed"])
@pytest.mark.parametrize("endpoint", POSTS, ids=lambda endpoint: endpoint.name)
def test_over(world: Served, b: NodeClient, endpoint: Endpoint, *, announced: bool) -> None:
    """One octet more than an endpoint's bound is refused as too large; the bound itself is read, and then refused."""
    before = world.ttp.desk.ledger.size
    is_problem(send(b, endpoint, endpoint.limit + 1, announced=announced), 413, "too-large")
    is_problem(send(b, endpoint, endpoint.limit, announced=announced), 400, "malformed")
    assert world.ttp.desk.ledger.size == before


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "streamed"])
@pytest.mark.parametrize("endpoint", GETS, ids=lambda endpoint: endpoint.name)
def test_a_body_where_none_is(world: Served, b: NodeClient, endpoint: Endpoint, *, announced: bool) -> None:
    """What takes no body takes not a single octet of one."""
    is_problem(send(b, endpoint, 1, announced=announced), 413, "too-large")


def test_far_over(world: Served, b: NodeClient) -> None:
    """A body without an end isn't collected: it is refused at the bound, and the next request is served."""
    try:
        answer = send(b, endpoints.LOOK_UP, 64 * 1024 * 1024, announced=False)
    except httpx.TransportError:  # refused and closed while we were still sending
        pass
    else:
        is_problem(answer, 413, "too-large")
    assert b.feed().bundles == ()
