"""Attack: take the escrow of Alice's exchange, put it into a manifest of one's own, let the TTP open it there."""

from __future__ import annotations

from dataclasses import replace

from shared.evidence.composition import DoesNotOpen, Opened, open_escrow
from tests.doubles.parties import Parties, User


def test_a_transplanted_escrow_does_not_open() -> None:
    """In a manifest of Mallory's, with the copied escrow and commitment, s_T stays closed: hC is in the seal."""
    world = Parties()
    victim = world.exchange()
    mallory = User("mallory@a.example", world.a)
    core = world.core(sender=mallory, recipient=User("accomplice@b.example", world.b))
    transplant = replace(victim.manifest, core=core)
    assert isinstance(open_escrow(victim.manifest, victim.sealed.escrow, world.ttp.escrow), Opened)
    assert open_escrow(transplant, victim.sealed.escrow, world.ttp.escrow) == DoesNotOpen()


def test_any_change_of_core_closes_the_escrow() -> None:
    """Whatever member of core is changed, the escrow no longer opens: expiry, recipient, nonce, notice."""
    world = Parties()
    victim = world.exchange()
    core = victim.manifest.core
    changes = (
        replace(core, expires=core.expires + 1),
        replace(core, created=core.created - 1),
        replace(core, nonce=bytes(32)),
        replace(core, notice="another notice"),
        replace(core, size=core.size * 2),
        replace(core, recipient=replace(core.recipient, address="eve@b.example")),
        replace(core, ttp=replace(core.ttp, log="other.example/ledger")),
    )
    for changed in changes:
        manifest = replace(victim.manifest, core=changed)
        assert open_escrow(manifest, victim.sealed.escrow, world.ttp.escrow) == DoesNotOpen()
