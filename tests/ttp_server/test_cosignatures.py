"""What nodes bring as witnesses (witness.md N4, N5): verified, stored once, shown beside the log's signature."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from shared.api import messages
from shared.api.messages import Cosignature
from shared.crypto.keys import key_id
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle
from shared.ledger import note
from shared.ledger.note import KeyType
from shared.ledger.policy import of_quorum
from tests.doubles.parties import NOW
from tests.doubles.served import NodeClient, Served
from tests.doubles.witnesses import Cosigner
from ttp_server.ports.values import Node

NAME = "b.example/witness"


@pytest.fixture
def bob(world: Served) -> NodeClient:
    """The enrolled node of Bob's domain."""
    node = NodeClient(world, "b.example")
    assert node.enrol(world.parties.b).status_code == 201
    return node


def cosignature(world: Served, name: str = NAME, signer: str = NAME, time: int = NOW) -> Cosignature:
    """Cosign the newest checkpoint under a name, with the key of `signer`."""
    ledger = world.ttp.desk.ledger
    text = note.parse(ledger.snapshot.note).text
    key = Cosigner(signer).key
    verifier = note.verifier_key(name, KeyType.COSIGNATURE, key.public_key())
    return Cosignature(verifier, ledger.size, note.cosign(text, name, key, time))


def bring(node: NodeClient, brought: Cosignature) -> httpx.Response:
    """Bring it."""
    return node.ask("POST", "/v1/cosignatures", messages.encode_cosignature(brought))


def published(world: Served) -> list[str]:
    """Return who signed the published checkpoint."""
    return [line.name for line in note.parse(world.client.get("/ledger/checkpoint").content).signatures]


class TestTake:
    @pytest.mark.both_databases
    def test_shown(self, world: Served, bob: NodeClient) -> None:
        """It is published with the checkpoint, is in bundles and proofs made afterwards, and outlives a restart."""
        assert bob.complete(world.exchange(b"letter")).status_code == 200
        assert bring(bob, cosignature(world)).status_code == 201
        assert bring(bob, cosignature(world)).status_code == 201
        size = world.ttp.desk.ledger.size
        policy = of_quorum([Cosigner(NAME).verifier], 1)
        for _twice in range(2):
            assert published(world) == ["ttp.example/ledger", NAME]
            world.restart()
        (bundle,) = bob.feed().bundles
        assert NAME.encode() in bundle.proof
        # It is Bob's own, so for his exchange it doesn't count.
        with pytest.raises(Exception, match=r"ledger\.quorum.*a party's own: b\.example"):
            verify_bundle(bundles.decode(bundles.encode(bundle)), world.trust, policy)
        assert bob.complete(world.exchange(b"another")).status_code == 200
        assert published(world) == ["ttp.example/ledger"]
        older = world.client.get(f"/ledger/inclusion/0?size={size}").content
        assert NAME.encode() in older

    def test_names(self, world: Served, bob: NodeClient) -> None:
        """A node cosigns as its own domains' witness only, under a name of the form that is specified."""
        assert bring(bob, cosignature(world, "a.example/witness")).status_code == 403
        for name in (
            "b.example",
            "b.example/w",
            "b.example/witness/x",
            "b.example/witness/",
            "b.example/witness/1/2",
            "b.example/witness/\u0663",
        ):
            assert bring(bob, cosignature(world, name)).status_code == 400, name
        assert bring(bob, cosignature(world, "b.example/witness/2")).status_code == 201

    @pytest.mark.both_databases
    def test_first_key_stays(self, world: Served, bob: NodeClient) -> None:
        """The first key of a name stays, also after a restart; another one takes another name."""
        assert bring(bob, cosignature(world)).status_code == 201
        world.restart()
        assert bring(bob, cosignature(world, signer="another key")).status_code == 409
        assert bring(bob, cosignature(world, "b.example/witness/2", signer="another key")).status_code == 201

    def test_an_organisation_is_shown_once(self, world: Served, bob: NodeClient) -> None:
        """A node that brings many under many names takes no other's place: one of them is shown."""
        for number in range(2, 36):
            name = f"b.example/witness/{number}"
            assert bring(bob, cosignature(world, name, name)).status_code == 201
        alice = NodeClient(world, "z.example")
        with world.ttp.desk.store.writing() as transaction:
            transaction.put_node(Node(key_id(alice.key.public_key()), ("z.example",)))
        assert bring(alice, cosignature(world, "z.example/witness", "z")).status_code == 201
        assert [name.partition("/")[0] for name in published(world)] == ["ttp.example", "b.example", "z.example"]

    def test_false_ones(self, world: Served, bob: NodeClient) -> None:
        """A signature that isn't over this checkpoint, by this key or of this time is refused, and nothing is shown."""
        good = cosignature(world)
        other = replace(good, line=replace(good.line, octets=good.line.octets[:8] + bytes(64)))
        assert bring(bob, other).json()["step"] == "witness.cosignature"
        assert bring(bob, replace(good, key=Cosigner("b.example/witness/2").verifier)).status_code == 422
        assert bring(bob, cosignature(world, time=NOW + 301)).status_code == 422
        assert bring(bob, replace(good, size=99)).status_code == 404
        as_log = note.verifier_key(NAME, KeyType.LOG, Cosigner(NAME).key.public_key())
        assert bring(bob, replace(good, key=as_log)).status_code == 400
        assert published(world) == ["ttp.example/ledger"]

    def test_enrolled_nodes_only(self, world: Served) -> None:
        """Who isn't enrolled brings nothing."""
        assert bring(NodeClient(world, "b.example"), cosignature(world)).status_code == 403
        body = messages.encode_cosignature(cosignature(world))
        answer = world.client.post("/v1/cosignatures", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 401

    def test_bounds(self, world: Served) -> None:
        """However many nodes bring one, the note stays within its bounds."""
        for number in range(40):
            name = f"n{number}.example"
            node = NodeClient(world, name)
            with world.ttp.desk.store.writing() as transaction:
                transaction.put_node(Node(key_id(node.key.public_key()), (name,)))
            assert bring(node, cosignature(world, f"{name}/witness", name)).status_code == 201
        names = published(world)
        assert len(names) == note.MAX_SIGNATURES
        assert names[0] == "ttp.example/ledger"
