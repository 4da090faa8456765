"""A ledger with everything in it that a TTP can be asked for, and more entries than one tile holds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx

from shared.api import messages
from shared.api.messages import Cosignature
from shared.crypto.keys import key_id
from shared.crypto.signing import token_digest
from shared.encoding.labels import blob_digest
from shared.ledger import anchor as anchors
from shared.ledger import note as notes
from shared.ledger.tiles import WIDTH
from tests.doubles.parties import EXPIRES, NOW
from tests.doubles.served import NodeClient, Served, binding_of
from tests.doubles.witnesses import Cosigner
from ttp_server.services.anchors import anchor


def fill(world: Served, a: NodeClient, b: NodeClient) -> None:
    """Ask for everything. The first entries are: a binding, a trade, INVALID, ABORTED, a refusal, an anchor."""
    bob, authority, parties = world.parties.bob, world.parties.b, world.parties
    first = binding_of(bob, authority)
    made = [b.post_signed("/v1/bindings", first), b.complete(world.exchange(b"traded"))]
    garbage = bytes(80)
    made.append(b.complete(parties.resigned(world.exchange(b"bad"), h_ET=blob_digest(garbage)), escrow=garbage))
    offline = {"mode": "offline", "direct_until": EXPIRES - 100}
    made += [a.abort(world.exchange(b"aborted", **offline)), b.refuse(world.exchange(b"refused", **offline))]
    made += [a.anchor([blob_digest(b"digest")])]
    world.clock.time = NOW + 10
    made += [b.post_signed("/v1/bindings", binding_of(bob, authority, token_digest(first), NOW + 10))]
    late = world.exchange(b"late")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: _anchor(world, number), range(WIDTH)))
        made += pool.map(lambda number: b.complete(world.exchange(b"more %d" % number)), range(4))
    made.append(b.revoke(bob.address, key_id(bob.receipt.public_key()), authority))
    world.clock.time = EXPIRES + 1
    made += [b.status(late), _cosign(world, b)]
    assert {answer.status_code for answer in made} <= {200, 201}, [answer.text for answer in made]


def _cosign(world: Served, b: NodeClient) -> httpx.Response:
    """Bring the cosignature of b.example's node."""
    cosigner, ledger = Cosigner("b.example/witness"), world.ttp.desk.ledger
    text = notes.parse(ledger.snapshot.note).text
    line = notes.cosign(text, "b.example/witness", cosigner.key, NOW)
    key = notes.verifier_key("b.example/witness", notes.KeyType.COSIGNATURE, cosigner.key.public_key())
    return b.ask("POST", "/v1/cosignatures", messages.encode_cosignature(Cosignature(key, ledger.size, line)))


def _anchor(world: Served, number: int) -> None:
    anchor(world.ttp.desk, anchors.batch([blob_digest(b"%d" % number)]))
