"""Envelopes as a sender makes them who has Alice's key and may cheat at every place."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from secmtp_node.ports.services import Envelope, SigningPair
from secmtp_node.ports.values import KeyUse
from shared.crypto import suites
from shared.crypto.keys import generate_hpke
from shared.crypto.shares import Shares
from shared.crypto.stream import encrypt
from shared.encoding.labels import blob_digest
from shared.evidence import head as heads
from shared.evidence.composition import Sealed, Secrets, compose
from shared.evidence.head import Head
from shared.evidence.manifest import Core, Manifest, Recipient, Sender, size_class
from shared.evidence.tokens import sign_nro
from tests.doubles.nodes import TwoNodes
from tests.doubles.parties import LETTER

ALICE, BOB = "alice@a.example", "bob@b.example"


def origin_of(world: TwoNodes) -> SigningPair:
    """Return Alice's origin key, as her login opens it."""
    login = world.a.log_in(ALICE)
    return world.a.vault.origin(world.a.desk.user_key(ALICE, KeyUse.ORIGIN), login.client_key)


@dataclass
class Crafted:
    """An envelope from Alice to Bob as a sender makes it who has Alice's key and may cheat at every place."""

    world: TwoNodes
    content: bytes = LETTER
    changes: dict[str, Any] = field(default_factory=dict)

    def core(self) -> Core:
        """The core of an honest exchange, with changes."""
        world = self.world
        binding = world.a.desk.book.find(BOB).binding
        sender = world.a.desk.user_key(ALICE, KeyUse.ORIGIN)
        honest = _honest(world, self.content, sender.key_id, binding.receipt.key_id, binding.hpke.key_id)
        return replace(honest, **self.changes)

    def envelope(
        self,
        manifest: Callable[[Manifest], Manifest] = lambda made: made,
        sealed: Callable[[Sealed], Sealed] = lambda made: made,
        ciphertext: Callable[[bytes], bytes] = lambda made: made,
        nro: Callable[[str], str] = lambda made: made,
    ) -> Envelope:
        """Make the envelope; each argument bends what was made at that place."""
        core = self.core()
        drawn = Secrets(Shares.draw(), secrets.token_bytes(32))
        octets = ciphertext(b"".join(encrypt(drawn.content_key, [self.content])))
        hpke = self.world.a.desk.book.find(BOB).binding.hpke
        if hpke.kind != core.suite.kem:
            hpke = generate_hpke(core.suite.kem).public
        escrow = self.world.ttp.ledger.escrow.public
        escrow = escrow if escrow.kind == core.suite.kem else generate_hpke(core.suite.kem).public
        made, blobs = compose(core, drawn, blob_digest(octets), hpke, escrow)
        made = manifest(made)
        pair = origin_of(self.world)
        signed = nro(sign_nro(made.exchange, self.world.clock(), pair.key, pair.chain))
        head = heads.seal(Head(made, signed, sealed(blobs)), self.world.b.hpke.public)
        return Envelope(made.exchange, ALICE, BOB, head, lambda: [octets], len(octets), self.world.clock())


def _honest(world: TwoNodes, content: bytes, origin: bytes, receipt: bytes, hpke: bytes) -> Core:
    return Core(
        suite=suites.HYBRID,
        nonce=secrets.token_bytes(32),
        mode="online",
        sender=Sender(ALICE, origin),
        recipient=Recipient(BOB, receipt, hpke, "gateway"),
        ttp=world.ttp.ledger.named,
        created=world.clock(),
        expires=world.clock() + 3600,
        size=size_class(len(content)),
        notice="x",
    )
