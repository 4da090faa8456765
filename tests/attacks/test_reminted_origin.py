"""The sender signs a second NRO over the same M, to have a receipt for one and deny the other.

The NRR names the compact NRO that the recipient saw; a second one is worth nothing beside it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import EvidenceFault
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle
from shared.evidence.tokens import sign_nro
from tests.doubles.parties import NOW
from tests.doubles.served import NodeClient, served


def test_a_second_origin_is_worth_nothing(tmp_path: Path) -> None:
    """The TTP trades only the NRO that the NRR answers, and a receipt with the other one fails at its step."""
    with served(tmp_path) as world:
        b = NodeClient(world, "b.example")
        assert b.enrol(world.parties.b).status_code == 201
        exchange, alice = world.exchange(b"letter"), world.parties.alice
        second = sign_nro(exchange.manifest.exchange, NOW + 1, alice.origin, alice.origin_chain)
        refused = b.complete(exchange, nro=second)
        assert (refused.status_code, refused.json()["step"]) == (422, "nrr.nro")
        traded = bundles.decode(b.complete(exchange).content)
        # Asked again with the other NRO, the TTP hands out what is stored, with the first.
        assert bundles.decode(b.complete(exchange, nro=second).content).nro == exchange.nro
        with pytest.raises(EvidenceFault) as failed:
            verify_bundle(replace(traded, nro=second), world.trust)
        assert failed.value.step == "nrr.nro"
