"""U+0000 in a text, which PostgreSQL can't hold: let in, it would undo everybody's batch again and again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from shared.api import messages
from shared.crypto.keys import key_id
from shared.evidence.binding import BindingContent, sign_binding
from shared.evidence.revocation import Revocation, sign_revocation
from tests.doubles.parties import NOW
from tests.doubles.served import NodeClient, Served, served_on

ADDRESSES = ["bob\x00@b.example", "bob@b.exam\x00ple", "\x00@b.example", "bob@b.example\x00"]


@pytest.fixture
def world(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> Iterator[Served]:
    """A TTP on either database."""
    with served_on(kind, tmp_path, lambda: request.getfixturevalue("postgres")) as made:
        yield made


def signed(world: Served, address: str) -> list[tuple[str, str]]:
    """What b.example's own CA may sign with such an address, and where it is handed in."""
    bob, authority = world.parties.bob, world.parties.b
    content = BindingContent(
        address, bob.origin_chain[0], bob.receipt_chain[0], bob.hpke.public, "on_delivery", NOW, None
    )
    revocation = Revocation(address, key_id(bob.receipt.public_key()), "superseded", NOW)
    return [
        ("/v1/bindings", sign_binding(content, authority.key, authority.certificate)),
        ("/v1/revocations", sign_revocation(revocation, authority.key, authority.certificate)),
    ]


@pytest.mark.both_databases
def test_nowhere(world: Served) -> None:
    """Whatever an enrolled node signs with such an address is refused as its fault; its neighbours' trades stand."""
    b = NodeClient(world, "b.example")
    assert b.enrol(world.parties.b).status_code == 201
    exchanges = [world.exchange(b"letter %d" % number) for number in range(8)]
    with ThreadPoolExecutor(12) as pool:
        trades = [pool.submit(b.complete, exchange) for exchange in exchanges]
        refused = [
            pool.submit(b.post_signed, path, token) for address in ADDRESSES for path, token in signed(world, address)
        ]
        refused += [pool.submit(b.look_up, address) for address in ADDRESSES]
        assert {one.result().status_code for one in trades} == {200}
        statuses = {one.result().status_code for one in refused}
    assert statuses <= {400, 403, 422}, statuses
    assert world.ttp.desk.ledger.snapshot.size == len(exchanges)


@pytest.mark.both_databases
@pytest.mark.parametrize("party", ["sender", "recipient"])
def test_not_in_a_manifest(world: Served, party: str) -> None:
    """A manifest whose party has such an address makes no exchange: no certificate can be for it."""
    b = NodeClient(world, "b.example")
    assert b.enrol(world.parties.b).status_code == 201
    core = world.parties.core(b"letter")
    named = replace(getattr(core, party), address="x\x00@b.example")
    exchange = world.exchange(b"letter", **{party: named})
    answers = [b.complete(exchange), b.status(exchange)]
    assert {answer.status_code for answer in answers} <= {400, 403, 422}
    body = messages.encode_address("x\x00@b.example")
    assert b.ask("POST", "/v1/directory", body).status_code == 400
