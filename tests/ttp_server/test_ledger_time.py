"""Time as the ledger gives it: certificates are judged by it, the TTP's own too, and it never goes back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.crypto.certificates import Purpose
from shared.crypto.issuance import Validity, issue_leaf
from shared.crypto.signing import token_digest
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle
from shared.evidence.tokens import sign_nrr
from tests.doubles.parties import EXPIRES, NOW
from tests.doubles.served import NodeClient, Served


def test_a_certificate_that_ends_before_ledger_time(world: Served, b: NodeClient) -> None:
    """When the clock went back behind the ledger, a certificate that only the clock finds good makes no trade.

    The receipt would say ledger time, at which every verifier finds the certificate ended: the recipient
    would read, and the sender would hold nothing.
    """
    world.clock.time = NOW + 1000
    verify_bundle(bundles.decode(b.complete(world.exchange(b"moves the ledger's time")).content), world.trust)
    world.clock.time = NOW
    bob, authority = world.parties.bob, world.parties.b
    ending = Validity(NOW - 3600, NOW + 500)
    certificate = issue_leaf(
        Purpose.RECEIPT_GATEWAY, bob.receipt.public_key(), [bob.address], authority.issuer, 77, ending
    )
    exchange = world.exchange(b"letter")
    chain = [certificate, authority.certificate]
    nrr = sign_nrr(exchange.manifest.exchange, token_digest(exchange.nro), NOW, bob.receipt, chain)
    answer = b.complete(exchange, nrr=nrr)
    assert (answer.status_code, answer.json()["step"]) == (422, "certificate.validity")
    assert world.ttp.desk.stored(exchange.manifest.exchange) is None
    # With a certificate that holds at ledger time the same exchange is traded.
    verify_bundle(bundles.decode(b.complete(exchange).content), world.trust)


@pytest.mark.parametrize("member", ["nrd_certificate", "ledger_certificate"])
@pytest.mark.parametrize("late", [False, True])
def test_the_ttps_own_certificates(world: Served, a: NodeClient, b: NodeClient, member: str, *, late: bool) -> None:
    """A TTP whose own certificate has ended signs nothing: its fault, no state, and stored outcomes still go out."""
    desk, root = world.ttp.desk, world.parties.root
    before, exchange = world.exchange(b"before"), world.exchange(b"letter")
    token = bundles.decode(b.complete(before).content).token
    purpose, key, name = (
        (Purpose.NRD, world.ttp.keys.nrd, "ttp.example")
        if member == "nrd_certificate"
        else (Purpose.LEDGER, world.ttp.keys.checkpoint, "ttp.example/ledger")
    )
    ended = issue_leaf(purpose, key.public_key(), [name], root.issuer, 78, Validity(NOW - 3600, NOW - 1))
    object.__setattr__(desk, "identity", replace(desk.identity, **{member: ended}))  # type: ignore[arg-type]
    world.clock.time = EXPIRES if late else NOW
    for answer in (b.complete(exchange), a.status(exchange) if late else b.complete(exchange)):
        assert answer.status_code == 500
    assert desk.stored(exchange.manifest.exchange) is None
    assert bundles.decode(b.complete(before).content).token == token


@pytest.mark.both_databases
def test_entries_never_go_back_in_time(world: Served, b: NodeClient) -> None:
    """Whatever the clock does, the times of the ledger's entries only grow."""
    for time in (NOW + 50, NOW, NOW + 20, NOW + 60, NOW + 10):
        world.clock.time = time
        assert b.complete(world.exchange(b"at %d" % time, created=NOW - 60)).status_code == 200
    with world.ttp.desk.store.reading() as stored:
        times = [entry.time for entry in stored.entries()]
    assert times == sorted(times)
    assert times[-1] == NOW + 60
