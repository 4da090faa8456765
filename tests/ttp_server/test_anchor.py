"""Anchors over real HTTPS: a time in the ledger for digests that the TTP knows nothing of."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from shared.api import messages
from shared.encoding import base64url
from shared.encoding.labels import H
from shared.evidence import anchored
from shared.evidence.bundle import DirectBundle
from shared.evidence.receipt import verify_bundle
from shared.ledger import anchor as anchors
from tests.doubles.ledger import stored_entries
from tests.doubles.parties import DIRECT, NOW
from tests.doubles.served import NodeClient, Served

DIGESTS = [H("token", bytes([number])) for number in range(30)]


def test_makes_a_direct_receipt_evidence(world: Served, a: NodeClient) -> None:
    """NRO, NRR and ACK that never passed the TTP are a receipt when they are anchored in its ledger."""
    exchange = world.exchange(b"letter", mode="offline", direct_until=DIRECT)
    bundle = DirectBundle(exchange.manifest, exchange.nro, exchange.nrr, world.parties.ack(exchange))
    batch = anchors.batch([*DIGESTS, *bundle.digests])
    lodged = messages.decode_lodged(a.anchor(batch.digests).content)
    proven = replace(bundle, anchor=anchored.prove(batch, bundle.digests, lodged))
    receipt = verify_bundle(proven, world.trust)
    assert (receipt.carried_by, receipt.time) == ("NRR + ACK, anchored", NOW)


def test_tells_nothing_of_what_it_is_of(world: Served, a: NodeClient) -> None:
    """Neither the entry nor its body holds a digest, and no exchange has an outcome by it."""
    assert a.anchor(DIGESTS).status_code == 200
    (entry,) = stored_entries(world)
    assert entry.kind == "anchor"
    text = messages.encode_anchor(anchors.batch(DIGESTS))
    for digest in messages.decode_anchor(text).digests:
        assert digest not in entry.entry + entry.body
    assert a.feed().bundles == ()


@pytest.mark.both_databases
@pytest.mark.both_databases
def test_the_same_batch_again(world: Served, a: NodeClient, b: NodeClient) -> None:
    """A batch that is lodged again, by whomever, at once or after a restart, is answered with the one entry."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda node: node.anchor(DIGESTS), [a, b] * 4))
    assert {answer.status_code for answer in answers} == {200}
    first = messages.decode_lodged(answers[0].content)
    world.restart()
    world.clock.time += 5
    again = messages.decode_lodged(a.anchor(reversed(DIGESTS)).content)
    assert (again.salt, again.time) == (first.salt, first.time)
    assert len(stored_entries(world)) == 1


def test_another_batch_is_another_entry(world: Served, a: NodeClient) -> None:
    """One digest more is another batch with an entry and a time of its own."""
    assert a.anchor(DIGESTS).status_code == 200
    assert a.anchor(DIGESTS[:-1]).status_code == 200
    assert len(stored_entries(world)) == 2


@pytest.mark.parametrize(
    "digests",
    ["[]", '["AAAA"]', "[1]", "{}", '["' + "A" * 43 + '","' + "A" * 43 + '"]'],
)
def test_malformed(world: Served, a: NodeClient, digests: str) -> None:
    """An empty batch, digests of another length or twice the same are refused without an entry."""
    answer = a.ask("POST", "/v1/anchors", f'{{"v":1,"digests":{digests}}}'.encode())
    assert answer.status_code == 400
    assert stored_entries(world) == []


def test_unsorted(world: Served, a: NodeClient) -> None:
    """Digests in another order are refused: a batch has one form."""
    digests = [base64url.encode(digest) for digest in sorted(DIGESTS)]
    for order, status in ((digests, 200), (digests[::-1], 400)):
        body = json.dumps({"v": 1, "digests": order}).encode()
        assert a.ask("POST", "/v1/anchors", body).status_code == status


def test_only_enrolled_nodes(world: Served) -> None:
    """A node that isn't enrolled can't fill the ledger."""
    assert NodeClient(world, "c.example").anchor(DIGESTS).status_code == 403
