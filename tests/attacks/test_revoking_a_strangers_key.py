"""A domain binds a stranger's public key to an address of its own and revokes it.

Bindings prove that a domain vouches for an address, not that it has the private keys. A revocation that
counted by key alone would let any enrolled domain end everybody's exchanges.
"""

from __future__ import annotations

from pathlib import Path

from shared.crypto.certificates import Purpose
from shared.crypto.keys import key_id
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle
from tests.doubles.parties import NOW, User
from tests.doubles.served import NodeClient, served


def test_the_stranger_goes_on(tmp_path: Path) -> None:
    """Mallory's domain certifies Bob's public key for mallory@, revokes that, and Bob still is found and trades."""
    with served(tmp_path) as world:
        parties, bob = world.parties, world.parties.bob
        a, b = NodeClient(world, "a.example"), NodeClient(world, "b.example")
        assert {a.enrol(parties.a).status_code, b.enrol(parties.b).status_code} == {201}
        assert b.publish(bob, parties.b).status_code == 201
        mallory = User("mallory@a.example", parties.a)
        mallory.receipt = bob.receipt  # the public half is all that a certificate needs
        mallory.receipt_chain = parties.a.certify(Purpose.RECEIPT_GATEWAY, mallory.address, bob.receipt)
        stolen = key_id(bob.receipt.public_key())
        assert a.publish(mallory, parties.a).status_code == 201
        assert a.revoke(mallory.address, stolen, parties.a).status_code == 201
        assert a.look_up(mallory.address).status_code == 404
        assert a.look_up(bob.address).status_code == 200
        exchange = world.exchange(b"letter", created=NOW)
        receipt = verify_bundle(bundles.decode(b.complete(exchange).content), world.trust)
        assert receipt.nrd.receipt_key.effective is None
