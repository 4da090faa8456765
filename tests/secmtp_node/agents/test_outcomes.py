"""Outcomes other than a receipt, proofs of faults, and what a node does with evidence that it can't believe."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text

from secmtp_node.agents import jobs, learning
from secmtp_node.agents.opening import PROOF
from secmtp_node.ports.services import Rejected
from secmtp_node.ports.values import Task
from shared.crypto import shares
from shared.crypto.certificates import TrustRoot
from shared.crypto.shares import Shares
from shared.encoding.labels import blob_digest
from shared.errors import EvidenceFault, Forbidden
from shared.evidence import bundle as bundles
from shared.evidence import composition
from shared.evidence.bundle import Bundle
from shared.evidence.manifest import Manifest
from shared.evidence.receipt import verify_bundle, verify_no_trade
from shared.exchange.recipient import State as RecipientState
from shared.exchange.sender import State as SenderState
from tests.doubles.crafted import ALICE, BOB, Crafted
from tests.doubles.nodes import TwoNodes, dying
from tests.doubles.parties import LETTER, Root
from tests.doubles.ttp import shown_to_ttp

DAY = 24 * 3600


def bent_ciphertext(made: bytes) -> bytes:
    """Flip a bit in the last chunk, before M is made over it."""
    return made[:-1] + bytes([made[-1] ^ 1])


def bent_commitment(made: bytes) -> bytes:
    """Commit to another content key, before M is made over it."""
    return made[:8] + secrets.token_bytes(32) + made[40:]


def state_at(world: TwoNodes, exchange: bytes) -> RecipientState:
    """Return the state at node b."""
    incoming = world.b.incoming(exchange)
    assert incoming is not None
    return incoming.state


class TestSendersFault:
    """Good shares, and a message that doesn't open (online.md R8)."""

    @pytest.mark.parametrize(
        ("bend", "step"), [(bent_ciphertext, "content.chunk"), (bent_commitment, "content.commitment")]
    )
    def test_proof(self, world: TwoNodes, bend: Callable[[bytes], bytes], step: str) -> None:
        """Nothing is delivered but a notice, and what is kept shows anybody that decryption must fail."""
        envelope = Crafted(world).envelope(ciphertext=bend)
        world.b.accept(envelope)
        world.b.work()
        assert state_at(world, envelope.exchange) is RecipientState.FAULTY
        ((name, notice),) = world.b.mailbox(BOB).items()
        assert name.endswith(".notice")
        assert step.encode() in notice
        assert b"Dear Bob" not in notice
        with world.b.store.transaction() as unit:
            fault = unit.evidence.find_fault(envelope.exchange)
        assert fault is not None
        assert fault.step == step
        proof = bundles.decode(world.b.desk.at_rest.open(fault.proof, PROOF, envelope.exchange))
        assert proof.openings is not None
        receipt = verify_bundle(proof, world.root.trust)  # both commitments open
        both = Shares(receipt.nrd.share, proof.openings.recipient_share)
        composition.content_key(receipt.manifest, both, proof.openings.wrapped_key)
        assert blob_digest(b"".join(envelope.ciphertext())) == receipt.manifest.h_ct

    def test_wrapped_key(self, world: TwoNodes) -> None:
        """A wrapped key that doesn't open under the shares is the sender's fault too."""
        garbage = secrets.token_bytes(shares.WRAPPED)
        envelope = Crafted(world).envelope(
            manifest=lambda made: replace(made, h_key=blob_digest(garbage)),
            sealed=lambda made: replace(made, wrapped_key=garbage),
        )
        world.b.accept(envelope)
        world.b.work()
        assert state_at(world, envelope.exchange) is RecipientState.FAULTY
        with world.b.store.transaction() as unit:
            fault = unit.evidence.find_fault(envelope.exchange)
        assert fault is not None
        assert fault.step == "content.key"

    @pytest.mark.parametrize("after", [False, True])
    def test_crash(self, world: TwoNodes, *, after: bool) -> None:
        """A node that dies while it keeps the proof keeps it after all, with one notice."""
        for at in range(1, 30):
            envelope = Crafted(world).envelope(ciphertext=bent_ciphertext)
            world.b.accept(envelope)
            died = dying(world.b, world.b.work, at, after=after)
            world.clock.time += 1000
            world.b.work()
            world.clock.time += 1000
            world.b.work()
            assert state_at(world, envelope.exchange) is RecipientState.FAULTY
            assert len(world.b.mailbox(BOB)) == at
            if not died:
                break

    def test_our_own_damage(self, world: TwoNodes) -> None:
        """A ciphertext that was damaged on our own disk is nobody else's fault, and is delivered once restored."""
        envelope = Crafted(world).envelope()
        world.b.accept(envelope)
        (name,) = world.b.cipher_files()
        path = world.b.place / "data" / "ciphertexts" / name
        good = path.read_bytes()
        path.write_bytes(bent_ciphertext(good))
        world.b.work()
        assert state_at(world, envelope.exchange) is RecipientState.HAVE
        assert world.b.mailbox(BOB) == {}
        assert "job failed" in [event for event, _ in world.b.told]
        path.write_bytes(good)
        world.clock.time += 120
        world.b.work()
        assert state_at(world, envelope.exchange) is RecipientState.DELIVERED

    def test_damaged_row(self, world: TwoNodes) -> None:
        """A wrapped key that was damaged in our own database is no fault of the sender's either."""
        envelope = Crafted(world).envelope()
        world.b.accept(envelope)
        with world.b._engine.begin() as connection:
            connection.execute(text("UPDATE incoming SET wrapped_key = :k"), {"k": secrets.token_bytes(48)})
        world.b.work()
        assert state_at(world, envelope.exchange) is RecipientState.HAVE
        assert world.b.mailbox(BOB) == {}
        with world.b.store.transaction() as unit:
            assert unit.evidence.find_fault(envelope.exchange) is None

    def test_another_trust_root(self, world: TwoNodes) -> None:
        """Evidence that doesn't verify any more, since the operator changed the root, blames no sender."""
        envelope = Crafted(world).envelope()
        world.b.accept(envelope)
        world.b.store.die_at = None
        world.b.work(rounds=1)  # the trade
        world.b.desk = replace(world.b.desk, root=TrustRoot.from_der(Root("another").certificate))
        world.b.work()
        assert state_at(world, envelope.exchange) is RecipientState.HAVE
        with world.b.store.transaction() as unit:
            assert unit.evidence.find_fault(envelope.exchange) is None


class TestNoTrade:
    """EXPIRED, INVALID and refusals."""

    def test_expired_before_it_was_carried(self, world: TwoNodes) -> None:
        """The peer was never there: after `expires` the sender gets a failure with the TTP's token, once."""
        world.wire.down = True
        world.a.submit(ALICE, [BOB], LETTER)
        for _ in range(8):
            world.a.work()
            world.clock.time += DAY
        (exchange,) = world.a.exchanges()
        assert world.a.outgoing(exchange).state is SenderState.EXPIRED
        (report,) = world.a.mailbox(ALICE).values()
        assert b"Status: 5.4.7" in report
        verify_no_trade(world.ttp.outcomes[exchange], world.root.trust)
        assert world.a.alarms() == world.b.alarms() == []

    def test_no_failure_from_silence(self, world: TwoNodes) -> None:
        """As long as the TTP can't be asked, an overdue exchange is neither failed nor forgotten."""
        world.wire.down = True
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work()
        world.ttp.faults.down = True
        for _ in range(20):
            world.clock.time += DAY
            while jobs.run_one(world.a.desk):
                pass
        assert world.a.mailbox(ALICE) == {}
        world.ttp.faults.down = False
        world.settle(4)
        assert len(world.a.mailbox(ALICE)) == 1

    def test_signed_and_expired(self, world: TwoNodes) -> None:
        """The recipient signed and couldn't trade in time: both sides end EXPIRED, nothing is delivered."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work()
        world.clock.time += 6 * DAY
        world.settle(4)
        (exchange,) = world.a.exchanges()
        assert state_at(world, exchange) is RecipientState.EXPIRED
        assert world.a.outgoing(exchange).state is SenderState.EXPIRED
        assert world.b.mailbox(BOB) == {}

    def test_invalid_escrow(self, world: TwoNodes) -> None:
        """An escrow that doesn't open as M commits: INVALID on both sides, no delivery, no NRR handed out."""

        def other_share(made: Manifest) -> Manifest:
            return replace(made, com_T=secrets.token_bytes(32))

        envelope = Crafted(world).envelope(manifest=other_share)
        world.b.accept(envelope)
        world.b.work()
        assert state_at(world, envelope.exchange) is RecipientState.INVALID
        assert world.ttp.outcomes[envelope.exchange].nrr is None
        assert world.b.mailbox(BOB) == {}

    def test_refused_then_receipted(self, world: TwoNodes) -> None:
        """A receipt that comes after the peer refused still is the receipt, and is reported too."""
        world.wire.reply = Rejected("554 5.7.1 not today")
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work()
        (exchange,) = world.a.exchanges()
        assert world.a.outgoing(exchange).state is SenderState.REFUSED
        (report,) = world.a.mailbox(ALICE).values()
        assert b"Status: 5.7.1" in report
        with world.a.store.transaction() as unit:
            unit.jobs.add(Task.CARRY, exchange, world.clock())
            unit.outgoing.move(exchange, SenderState.QUEUED)
        world.wire.reply = None
        world.a.work()
        with world.a.store.transaction() as unit:
            unit.outgoing.move(exchange, SenderState.REFUSED)
        world.settle(3)
        assert world.a.outgoing(exchange).state is SenderState.RECEIPTED
        assert len(world.a.mailbox(ALICE)) == 2

    def test_ttp_refuses_the_trade(self, world: TwoNodes) -> None:
        """A TTP that refuses ends nothing: the node goes on asking until there is a terminal token."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work()
        world.ttp.faults.refusal = Forbidden("the key is revoked", code="key-revoked")
        with pytest.raises(Forbidden):
            world.b.work()
        (exchange,) = world.a.exchanges()
        assert state_at(world, exchange) is RecipientState.SIGNED
        world.ttp.faults.refusal = None
        world.settle(4)
        assert state_at(world, exchange) is RecipientState.DELIVERED


class TestUnbelievable:
    """Evidence that doesn't verify, or that can't be."""

    def test_bent_answer(self, world: TwoNodes) -> None:
        """A bundle whose proof isn't one changes nothing, delivers nothing, and is kept as an alarm."""
        world.ttp.faults.bend = lambda bundle: replace(bundle, salt=bytes(32))
        world.a.submit(ALICE, [BOB], LETTER)
        world.settle(3)
        (exchange,) = world.a.exchanges()
        assert state_at(world, exchange) is RecipientState.SIGNED
        assert world.a.outgoing(exchange).state is SenderState.SENT
        assert world.a.mailbox(ALICE) == world.b.mailbox(BOB) == {}
        assert world.a.alarms() == ["bad bundle in the feed"]

    def test_feed_goes_on(self, world: TwoNodes) -> None:
        """A bad bundle in the feed doesn't stop the ones behind it."""
        first: list[bytes] = []

        def bend(bundle: Bundle) -> Bundle:
            first[:] = first or [bundle.manifest.exchange]
            return replace(bundle, salt=bytes(32)) if bundle.manifest.exchange == first[0] else bundle

        world.ttp.faults.bend = bend
        world.a.submit(ALICE, [BOB], LETTER)
        world.settle(2)
        world.a.submit(ALICE, [BOB], LETTER + b"second\r\n")
        world.settle(4)
        assert len(world.a.mailbox(ALICE)) == len(world.b.mailbox(BOB)) == 1

    def test_answer_about_another(self, world: TwoNodes) -> None:
        """A good bundle of another exchange is no answer."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.settle(3)
        (bundle,) = world.ttp.outcomes.values()
        with pytest.raises(EvidenceFault, match=r"answer\.exchange"):
            learning.learn(world.b.desk, bundle, secrets.token_bytes(32))

    def test_two_outcomes(self, world: TwoNodes) -> None:
        """A second, different outcome of an exchange changes nothing, and is kept: it proves the TTP's fault."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.settle(3)
        (exchange,) = world.a.exchanges()
        before = world.ttp.outcomes[exchange]
        shown = world.a.outgoing(exchange)
        second = world.ttp.ledger.refuse(shown_to_ttp(shown.manifest, shown.nro), "INVALID", world.clock())
        world.ttp.items.append(second)
        world.settle(1)
        assert world.a.outgoing(exchange).state is SenderState.RECEIPTED
        assert state_at(world, exchange) is RecipientState.DELIVERED
        with world.a.store.transaction() as unit:
            kept = unit.evidence.find(exchange)
        assert kept is not None
        assert kept.bundle == before

    def test_restored_from_backup(self, world: TwoNodes) -> None:
        """Nodes that forgot an exchange hear from the feed what they signed, and raise the alarm."""
        envelope = Crafted(world).envelope()
        world.b.accept(envelope)
        world.b.work()
        assert world.b.alarms() == []
        world.a.work()
        assert world.a.alarms() == ["an NRO of ours that this node didn't make"]
        with world.b._engine.begin() as connection:
            for table in ("incoming", "evidence", "jobs", "named_values"):
                connection.execute(text(f"DELETE FROM {table}"))
        world.b.load()
        world.b.follow()
        assert world.b.alarms() == ["an NRR of ours that this node didn't make"]

    def test_others_evidence(self, world: TwoNodes) -> None:
        """Evidence of exchanges between others makes no alarm."""
        world.a.submit(ALICE, ["carol@a.example"], LETTER)
        world.settle(4)
        assert world.b.alarms() == []
