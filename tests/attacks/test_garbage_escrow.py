"""Attack: hand in garbage as E_T, so that the TTP calls the sender's good exchange invalid."""

from __future__ import annotations

import pytest

from shared.encoding.labels import blob_digest
from shared.errors import EvidenceFault
from shared.evidence.composition import DoesNotOpen, open_escrow
from tests.doubles.parties import Parties


def test_garbage_that_the_manifest_does_not_name_is_an_error() -> None:
    """A blob whose digest isn't M's is refused before it is opened; it can't become INVALID."""
    world = Parties()
    exchange = world.exchange()
    for garbage in (b"garbage", exchange.sealed.escrow[:-1], exchange.sealed.recipient_share, bytes(1168)):
        with pytest.raises(EvidenceFault) as caught:
            open_escrow(exchange.manifest, garbage, world.ttp.escrow)
        assert caught.value.step == "escrow.digest"


def test_garbage_that_the_manifest_commits_to_does_not_open() -> None:
    """Garbage that the sender itself committed to is found: the exchange can only end as INVALID."""
    world = Parties()
    garbage = bytes(80)
    exchange = world.resigned(world.exchange(), h_ET=blob_digest(garbage))
    assert open_escrow(exchange.manifest, garbage, world.ttp.escrow) == DoesNotOpen()


def test_an_escrow_of_another_share_does_not_open() -> None:
    """A well-made seal whose share isn't the one that M commits to is found too."""
    world = Parties()
    exchange = world.resigned(world.exchange(), com_T=bytes(32))
    assert open_escrow(exchange.manifest, exchange.sealed.escrow, world.ttp.escrow) == DoesNotOpen()


def test_another_key_is_no_fault_of_the_sender() -> None:
    """With a key that isn't the epoch's the TTP gets an error that names itself, and no state."""
    world = Parties()
    exchange = world.exchange()
    with pytest.raises(EvidenceFault, match=r"escrow\.key"):
        open_escrow(exchange.manifest, exchange.sealed.escrow, world.bob.hpke)
