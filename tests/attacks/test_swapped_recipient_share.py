"""Attack: swap E_R, so that the recipient signs and then can't read, or so that it later says it couldn't."""

from __future__ import annotations

import pytest

from shared.crypto import sealing
from shared.encoding.labels import blob_digest
from shared.errors import EvidenceFault
from shared.evidence.composition import open_recipient_share
from tests.doubles.parties import Exchange, Parties


def step_of(world: Parties, exchange: Exchange, blob: bytes) -> str:
    """Return the step at which the recipient refuses E_R, before it signs anything."""
    with pytest.raises(EvidenceFault) as caught:
        open_recipient_share(exchange.manifest, blob, world.bob.hpke)
    return caught.value.step


def test_another_blob_than_the_manifest_names() -> None:
    """E_R is named by digest in M: another one is neither signed for nor a later excuse."""
    world = Parties()
    exchange, other = world.exchange(), world.exchange(b"other")
    assert step_of(world, exchange, other.sealed.recipient_share) == "recipient-share.digest"


def test_a_blob_of_another_exchange_that_the_manifest_names() -> None:
    """A sender that commits to a blob which doesn't open here gets no signature."""
    world = Parties()
    other = world.exchange(b"other").sealed.recipient_share
    cheating = world.resigned(world.exchange(), h_ER=blob_digest(other))
    assert step_of(world, cheating, other) == "recipient-share.seal"


def test_a_share_that_does_not_open_its_commitment() -> None:
    """A sender that seals another share than it commits to gets no signature."""
    world = Parties()
    exchange = world.exchange()
    core = exchange.manifest.core
    wrong = sealing.seal(core.suite, core.digest, "R", world.bob.hpke.public, b"W" * 32)
    cheating = world.resigned(exchange, h_ER=blob_digest(wrong))
    assert step_of(world, cheating, wrong) == "recipient-share.commitment"


def test_a_share_of_another_length() -> None:
    """A seal of something that isn't a share gets no signature."""
    world = Parties()
    exchange = world.exchange()
    core = exchange.manifest.core
    short = sealing.seal(core.suite, core.digest, "R", world.bob.hpke.public, b"short")
    cheating = world.resigned(exchange, h_ER=blob_digest(short))
    assert step_of(world, cheating, short) == "recipient-share.seal"
