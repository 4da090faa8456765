"""Enrolment over real HTTPS: who becomes a node of which domains, by which token, and who is turned away."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from shared.api import endpoints, messages
from shared.api.authorization import Request, Requester, verify_request
from shared.api.messages import Enrolment
from shared.crypto.certificates import Purpose
from shared.crypto.issuance import issue_domain_ca
from shared.crypto.keys import generate_p256, key_id
from shared.errors import Unauthenticated, Unavailable
from tests.doubles.parties import NOW, VALID, Domain, Root
from tests.doubles.served import NodeClient, Served
from ttp_server import setup
from ttp_server.ports.values import Node
from ttp_server.services import nodes
from ttp_server.services.nodes import RateLimit, ReplayGuard


def new_token(world: Served, *domains: str, lifetime: int = 3600) -> str:
    """Have the operator make an enrolment token."""
    return setup.create_enrolment_token(world.directory, domains=domains, now=world.clock.now(), lifetime=lifetime)


def enrol(
    node: NodeClient, token: str, certificate: bytes | None = None, authorities: Sequence[bytes] = ()
) -> httpx.Response:
    """Ask for enrolment with a token. The body names the node's own certificate and CAs unless a test cheats."""
    parties = node._served.parties
    own = [domain.certificate for domain in (parties.a, parties.b) if domain.name in node.domains]
    enrolment = Enrolment(token, certificate or node.certificate, tuple(authorities or own))
    return node.ask("POST", "/v1/nodes", messages.encode_enrolment(enrolment))


def enrolled(world: Served, node: NodeClient) -> Node | None:
    """What is stored of a node."""
    with world.ttp.desk.store.reading() as stored:
        return stored.node(key_id(node.key.public_key()))


class TestEnrolment:
    def test_with_a_good_token(self, world: Served) -> None:
        """A node with a token for its domains is enrolled for all that its certificate names, and may ask."""
        node, token = NodeClient(world, "a.example", "b.example"), new_token(world, "a.example", "b.example")
        assert enrol(node, token).status_code == 201
        assert enrolled(world, node) == Node(key_id(node.key.public_key()), ("a.example", "b.example"))
        assert node.feed().bundles == ()

    def test_token_is_nowhere_in_the_database(self, world: Served) -> None:
        """The operator's token is stored as a digest alone: who reads the database can't enrol anything."""
        token = new_token(world, "a.example")
        files = [path.read_bytes() for path in (world.directory / "data").iterdir()]
        assert files
        assert not any(token.encode() in data for data in files)

    def test_repeated_after_a_lost_answer(self, world: Served) -> None:
        """The same key may use its token again, even when it has expired by then: the answer may have been lost."""
        node, token = NodeClient(world, "a.example"), new_token(world, "a.example")
        assert enrol(node, token).status_code == 201
        world.clock.time += 7200
        assert enrol(node, token).status_code == 201

    def test_used_by_another_key(self, world: Served) -> None:
        """A used token enrols nobody else, though the other's certificate is for the same domain."""
        first, second = NodeClient(world, "a.example"), NodeClient(world, "a.example")
        token = new_token(world, "a.example")
        assert enrol(first, token).status_code == 201
        assert enrol(second, token).status_code == 403
        assert enrolled(world, second) is None

    def test_used_by_many_at_once(self, world: Served) -> None:
        """Of many keys that use one token at once exactly one is enrolled."""
        rivals, token = [NodeClient(world, "a.example") for _ in range(8)], new_token(world, "a.example")
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda node: enrol(node, token).status_code, rivals))
        assert sorted(statuses) == [201] + [403] * 7
        assert sum(enrolled(world, node) is not None for node in rivals) == 1

    @pytest.mark.parametrize(("later", "status"), [(3599, 201), (3600, 403)])
    def test_expiry(self, world: Served, later: int, status: int) -> None:
        """A token is good until the second at which it expires, and not in it."""
        node, token = NodeClient(world, "a.example"), new_token(world, "a.example", lifetime=3600)
        world.clock.time += later
        assert enrol(node, token).status_code == status

    def test_unknown_token(self, world: Served) -> None:
        """A token that the operator didn't make is refused as one that is used: nothing is learned by trying."""
        first, second = NodeClient(world, "a.example"), NodeClient(world, "a.example")
        token = new_token(world, "a.example")
        enrol(first, token)
        assert enrol(second, token).content == enrol(second, "A" * 43).content

    def test_for_other_domains(self, world: Served) -> None:
        """A token doesn't stretch to a domain that it isn't for, and isn't used up by who tried."""
        token = new_token(world, "a.example")
        greedy, honest = NodeClient(world, "a.example", "c.example"), NodeClient(world, "a.example")
        refused = enrol(greedy, token)
        assert (refused.status_code, "c.example" in refused.json()["detail"]) == (403, True)
        assert enrolled(world, greedy) is None
        assert enrol(honest, token).status_code == 201


class TestCertificates:
    def test_of_another_key(self, world: Served) -> None:
        """A node can't enrol a certificate whose key didn't sign the request."""
        thief, victim = NodeClient(world, "a.example"), NodeClient(world, "a.example")
        answer = enrol(thief, new_token(world, "a.example"), victim.certificate)
        assert (answer.status_code, answer.json()["step"]) == (422, "enrolment.key")
        assert enrolled(world, victim) is None

    def test_for_another_purpose(self, world: Served) -> None:
        """A certificate that isn't for signing requests doesn't make a node, though the key is the same."""
        node = NodeClient(world, "a.example")
        other = world.parties.root.leaf(Purpose.NRD, ["a.example"], node.key)
        answer = enrol(node, new_token(world, "a.example"), other)
        assert (answer.status_code, answer.json()["step"]) == (422, "certificate.purpose")

    def test_of_another_root(self, world: Served) -> None:
        """Neither a request signed under another root nor a body that names such a certificate enrols anything."""
        node = NodeClient(world, "a.example")
        good, foreign = node.certificate, Root("Another root").leaf(Purpose.NODE_REQUEST, ["a.example"], node.key)
        token = new_token(world, "a.example")
        assert enrol(node, token, foreign).status_code == 422
        node.certificate = foreign
        assert enrol(node, token, good).status_code == 401
        assert enrolled(world, node) is None

    def test_foreign_domain_ca(self, world: Served) -> None:
        """A node can't bring along the CA of a domain that it doesn't answer for."""
        node = NodeClient(world, "a.example")
        answer = enrol(node, new_token(world, "a.example"), authorities=[world.parties.b.certificate])
        assert (answer.status_code, answer.json()["step"]) == (422, "enrolment.domains")
        assert enrolled(world, node) is None

    def test_of_many_domains(self, world: Served) -> None:
        """A provider's node with one CA for as many mail domains as a CA may have is enrolled for them all."""
        domains = tuple(f"customer-{number}.example" for number in range(64))
        root = world.parties.root
        authority = issue_domain_ca(generate_p256().public_key(), domains, root.issuer, 901, VALID)
        node = NodeClient(world, *domains)
        assert enrol(node, new_token(world, *domains), authorities=[authority]).status_code == 201
        stored = enrolled(world, node)
        assert stored is not None
        assert set(stored.domains) == set(domains)

    def test_no_domain_ca(self, world: Served) -> None:
        """An enrolment that names no domain CA is malformed."""
        node = NodeClient(world, "c.example")
        assert enrol(node, new_token(world, "c.example")).status_code == 400

    @pytest.mark.parametrize("junk", [b"\x30\x00", b"no DER", bytes(2000)])
    def test_junk(self, world: Served, junk: bytes) -> None:
        """What isn't a certificate is refused at its step, in either place."""
        node, token = NodeClient(world, "a.example"), new_token(world, "a.example")
        assert enrol(node, token, junk).status_code == 422
        assert enrol(node, token, authorities=[junk]).status_code == 422
        assert enrol(node, token).status_code == 201

    def test_renewed_for_fewer_domains(self, world: Served) -> None:
        """A renewed certificate of the same key counts from its first use: what it doesn't name any more is gone."""
        node, parties = NodeClient(world, "a.example", "b.example"), world.parties
        assert enrol(node, new_token(world, "a.example", "b.example")).status_code == 201
        assert node.publish(parties.bob, parties.b).status_code == 201
        node.certificate = parties.root.leaf(Purpose.NODE_REQUEST, ["a.example"], node.key)
        refused = node.revoke(parties.bob.address, key_id(parties.bob.receipt.public_key()), parties.b)
        assert refused.status_code == 403
        assert node.publish(parties.alice, parties.a).status_code == 201

    def test_renewed_for_more_domains(self, world: Served) -> None:
        """A renewed certificate that names more doesn't widen an enrolment: that takes the operator's token."""
        node, parties = NodeClient(world, "a.example"), world.parties
        assert enrol(node, new_token(world, "a.example")).status_code == 201
        node.certificate = parties.root.leaf(Purpose.NODE_REQUEST, ["a.example", "b.example"], node.key)
        assert node.ask("GET", "/v1/feed").status_code == 200
        bob = parties.bob
        refused = node.revoke(bob.address, key_id(bob.receipt.public_key()), parties.b)
        assert refused.status_code == 403
        assert enrol(node, new_token(world, "a.example", "b.example")).status_code == 201
        assert node.publish(bob, parties.b).status_code == 201


NODES_ONLY = [endpoint for endpoint in endpoints.ALL if endpoint.admits == "nodes"]


@pytest.mark.parametrize("endpoint", NODES_ONLY, ids=lambda endpoint: endpoint.name)
def test_not_enrolled(world: Served, endpoint: endpoints.Endpoint) -> None:
    """A certified node that isn't enrolled gets 403 from all that is for nodes; who isn't certified gets 401."""
    stranger = NodeClient(world, "c.example")
    path = endpoint.path.replace("{exchange}", "00" * 32)
    assert stranger.ask(endpoint.method, path).status_code == 403
    assert stranger.ask(endpoint.method, path, Authorization="").status_code == 401


def test_two_nodes_of_a_domain(world: Served, b: NodeClient) -> None:
    """A domain may have several nodes; each is told of everything."""
    second = NodeClient(world, "b.example")
    assert second.enrol(Domain("b.example", world.parties.root)).status_code == 201
    assert b.complete(world.exchange(b"letter")).status_code == 200
    assert second.feed() == b.feed()


class TestRateLimit:
    def test_bucket(self) -> None:
        """A node has a burst at once, then its rate a second, never more than the burst, and others aren't hurt."""
        limit = RateLimit(10)
        for _ in range(nodes.BURST):
            limit.take(b"one", NOW)
        with pytest.raises(Unavailable):
            limit.take(b"one", NOW)
        limit.take(b"other", NOW)
        for _ in range(10):
            limit.take(b"one", NOW + 1)
        with pytest.raises(Unavailable):
            limit.take(b"one", NOW + 1)
        for _ in range(nodes.BURST):
            limit.take(b"one", NOW + 10_000)
        with pytest.raises(Unavailable):
            limit.take(b"one", NOW + 10_000)

    def test_clock_that_goes_back(self) -> None:
        """A clock that jumps back takes nothing from a bucket and gives nothing to it."""
        limit = RateLimit(10)
        for number in range(nodes.BURST):
            limit.take(b"one", NOW - number)
        with pytest.raises(Unavailable):
            limit.take(b"one", NOW - nodes.BURST)


class TestReplayGuard:
    @pytest.fixture
    def requester(self, world: Served) -> Requester:
        """A verified request of a node."""
        node, request = NodeClient(world, "a.example"), Request("GET", "/v1/feed", b"")
        header = node.authorization("GET", "/v1/feed", b"")
        return verify_request(header, request, "ttp.example", world.trust, NOW)

    def test_full(self, requester: Requester, monkeypatch: pytest.MonkeyPatch) -> None:
        """When it is full of tokens that are still good it turns requests away, and forgets none of them."""
        monkeypatch.setattr(nodes, "MAX_SERIALS", 3)
        guard = ReplayGuard(NOW)
        made = [replace(requester, serial=bytes([number]) * 16) for number in range(4)]
        for one in made[:3]:
            guard.admit(one, NOW)
        with pytest.raises(Unavailable):
            guard.admit(made[3], NOW)
        for one in made[:3]:
            with pytest.raises(Unauthenticated):
                guard.admit(one, NOW)
        guard.admit(made[3], requester.forget_after + 1)

    def test_serials_are_each_nodes_own(self, requester: Requester) -> None:
        """A node can't use up a serial that another is going to use."""
        guard = ReplayGuard(NOW)
        guard.admit(requester, NOW)
        guard.admit(replace(requester, key_id=bytes(32)), NOW)
