"""The committed vectors are what the code makes, and what it opens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.crypto import sealing, suites
from shared.crypto.keys import HpkePrivateKey
from shared.errors import EvidenceFault
from tests.vectors.make_exchange import vector

HERE = Path(__file__).parent
SEALS = json.loads((HERE / "seals.json").read_text(encoding="utf-8"))


def test_exchange() -> None:
    """Running the generator again gives the committed file: no value of an exchange has changed."""
    assert vector() == json.loads((HERE / "exchange.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("given", SEALS, ids=lambda given: given["suite"])
def test_seals(given: dict[str, str]) -> None:
    """Each committed seal opens with its key, and with no other slot or context."""
    suite = suites.named(given["suite"])
    key = HpkePrivateKey(suite.kem, bytes.fromhex(given["private"]))
    context, blob = bytes.fromhex(given["context"]), bytes.fromhex(given["seal"])
    assert key.public.raw.hex() == given["public"]
    assert sealing.open_seal(suite, context, "T", key, blob).hex() == given["plaintext"]
    for other_context, slot in ((context, "R"), (bytes(32), "T")):
        with pytest.raises(EvidenceFault):
            sealing.open_seal(suite, other_context, slot, key, blob)
