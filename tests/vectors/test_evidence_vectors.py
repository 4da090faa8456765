"""The committed files of evidence are to both verifiers what they say, octet for octet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.crypto.certificates import TrustRoot
from shared.errors import EvidenceFault
from shared.evidence import bundle as bundles
from shared.evidence import refusal as refusals
from shared.evidence.bundle import Bundle
from shared.evidence.receipt import verify_bundle, verify_content, verify_no_trade
from tests.interop import independent
from tests.vectors.make_evidence import vector

VECTOR: dict[str, Any] = json.loads((Path(__file__).parent / "evidence.json").read_text())
ROOT = bytes.fromhex(VECTOR["root"])
TRUST = TrustRoot.from_der(ROOT)


def verdict(octets: bytes) -> str:
    """Say what a file is, as the vectors do."""
    bundle = bundles.decode_any(octets)
    try:
        verify_bundle(bundle, TRUST)
    except EvidenceFault as fault:
        if isinstance(bundle, Bundle) and fault.step == "receipt.completion":
            return f"no trade: {verify_no_trade(bundle, TRUST).refusal.outcome}"
        return fault.step
    return "receipt"


@pytest.mark.parametrize("name", VECTOR["bundles"])
def test_bundle(name: str) -> None:
    """Each bundle decodes, encodes to the same octets, and is what it must be; the other verifier agrees."""
    entry = VECTOR["bundles"][name]
    octets = str(entry["text"]).encode()
    assert bundles.encode(bundles.decode_any(octets)) == octets
    assert verdict(octets) == entry["is"]
    try:
        independent.verify(octets, ROOT)
    except Exception:  # noqa: BLE001  (it says no by any exception)
        assert entry["is"] != "receipt"
    else:
        assert entry["is"] == "receipt"


def test_content() -> None:
    """The bundle with openings is for exactly the letter in the file."""
    bundle = bundles.decode(VECTOR["bundles"]["online, NRR + NRD, with openings"]["text"].encode())
    assert bundle.openings is not None
    verify_content(verify_bundle(bundle, TRUST), bundle.openings, [bytes.fromhex(VECTOR["letter"])])


def test_refusal() -> None:
    """The refusal file decodes, encodes to the same octets, and verifies."""
    octets = str(VECTOR["refusal"]).encode()
    file = refusals.decode(octets)
    assert refusals.encode(file) == octets
    refusals.verify(file, TRUST)


def test_generator() -> None:
    """The generator makes files of the same names and kinds today."""
    made = vector()
    kinds = {name: entry["is"] for name, entry in VECTOR["bundles"].items()}
    assert {name: entry["is"] for name, entry in made["bundles"].items()} == kinds
    assert all(len(made[name]) for name in ("root", "letter", "refusal"))
