"""The head of an envelope opens for its node and its exchange only."""

from __future__ import annotations

import pytest

from shared.crypto.keys import generate_hpke
from shared.errors import EvidenceFault, Malformed, SecMTPError
from shared.evidence import head as heads
from shared.evidence.head import Head
from tests.doubles.parties import parties


def made() -> Head:
    """A head of a good exchange."""
    exchange = parties().exchange()
    return Head(exchange.manifest, exchange.nro, exchange.sealed)


@pytest.mark.parametrize("kem", ["X25519", "MLKEM768_X25519"])
def test_round_trip(kem: str) -> None:
    """A sealed head opens at its node to what it was."""
    node = generate_hpke(kem)
    head = made()
    assert heads.open_head(heads.seal(head, node.public), head.manifest.exchange, node) == head


def test_another_node() -> None:
    """Another node can't open it."""
    head = made()
    blob = heads.seal(head, generate_hpke("X25519").public)
    with pytest.raises(EvidenceFault, match=r"head\.seal"):
        heads.open_head(blob, head.manifest.exchange, generate_hpke("X25519"))


def test_another_exchange_in_the_header() -> None:
    """A head moved under another exchange's id doesn't open."""
    node = generate_hpke("X25519")
    blob = heads.seal(made(), node.public)
    with pytest.raises(EvidenceFault, match=r"head\.seal"):
        heads.open_head(blob, bytes(32), node)


def test_truncation() -> None:
    """A truncated head is malformed, wherever it is cut."""
    data = heads.encode(made())
    for length in range(0, len(data), 101):
        with pytest.raises(Malformed):
            heads.decode(data[:length])


def test_altered_seal() -> None:
    """A head with any altered octet doesn't open."""
    node = generate_hpke("X25519")
    head = made()
    blob = heads.seal(head, node.public)
    for place in range(0, len(blob), 53):
        altered = bytearray(blob)
        altered[place] ^= 0x40
        with pytest.raises(SecMTPError):
            heads.open_head(bytes(altered), head.manifest.exchange, node)
