"""What a recipient's node refuses before it signs, each by its step, and that a refusal leaves nothing."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from secmtp_node.ports.services import Envelope
from shared.crypto import suites
from shared.crypto.certificates import Purpose
from shared.crypto.keys import X25519, generate_ed25519, generate_hpke, key_id
from shared.encoding.labels import blob_digest
from shared.errors import EvidenceFault, Forbidden, Malformed, NotFound, SecMTPError, Unavailable
from shared.evidence.manifest import Manifest, size_class
from shared.evidence.tokens import sign_nro
from shared.exchange.sender import State
from tests.doubles.crafted import ALICE, BOB, Crafted, origin_of
from tests.doubles.nodes import TwoNodes, content_of
from tests.doubles.parties import LETTER, Domain

DAVE = "dave@b.example"
OTHER = b"other than expected".ljust(32, b".")  # the same in each process: it is part of tests' names


def refusal(world: TwoNodes, envelope: Envelope, **changed: object) -> SecMTPError:
    """Bring an envelope that must be refused; nothing of it may be left."""
    with pytest.raises(SecMTPError) as refused:
        world.b.accept(envelope, **changed)
    assert world.b.incoming(envelope.exchange) is None
    assert world.b.cipher_files() == []
    assert world.ttp.asked == 0
    world.b.work()
    assert world.b.mailbox(BOB) == {}
    return refused.value


def step_of(error: SecMTPError) -> str:
    """Return the step of a failed check."""
    assert isinstance(error, EvidenceFault), error
    return error.step


def test_honest(world: TwoNodes) -> None:
    """The envelope that the other tests bend is accepted as it is."""
    world.b.accept(Crafted(world).envelope())
    world.b.work()
    (delivered,) = world.b.mailbox(BOB).values()
    assert content_of(delivered) == LETTER


class TestHead:
    """R1."""

    def test_for_another_exchange(self, world: TwoNodes) -> None:
        """A head that was sealed for another exchange doesn't open for this one."""
        envelope = Crafted(world).envelope()
        assert step_of(refusal(world, replace(envelope, exchange=OTHER))) == "head.seal"

    def test_for_another_node(self, world: TwoNodes) -> None:
        """A head that was sealed to another node doesn't open here."""
        envelope = Crafted(world).envelope()
        world.b.hpke = generate_hpke("MLKEM768_X25519")
        world.b.load()
        assert step_of(refusal(world, envelope)) == "head.seal"

    @pytest.mark.parametrize("place", [0, 600, 1200, -1])
    def test_bit_flips(self, world: TwoNodes, place: int) -> None:
        """A flipped bit anywhere in the head is seen."""
        envelope = Crafted(world).envelope()
        head = bytearray(envelope.head)
        head[place] ^= 1
        assert step_of(refusal(world, replace(envelope, head=bytes(head)))) == "head.seal"

    def test_known_by_its_id_alone(self, world: TwoNodes) -> None:
        """Whoever reads an exchange id in the ledger doesn't learn here whose it is."""
        envelope = Crafted(world).envelope()
        world.b.accept(envelope)
        with pytest.raises(EvidenceFault, match=r"head\.seal"):
            world.b.accept(replace(envelope, head=secrets.token_bytes(2000)))
        assert len(world.b.cipher_files()) == 1


class TestNames:
    """R2: the names in M, the SMTP envelope and our users."""

    def test_another_recipient(self, world: TwoNodes) -> None:
        """M's recipient must be RCPT's address."""
        assert step_of(refusal(world, Crafted(world).envelope(), recipient=DAVE)) == "names.recipient"

    @pytest.mark.parametrize("sender", ["carol@a.example", "alice@b.example"])
    def test_another_sender(self, world: TwoNodes, sender: str) -> None:
        """M's sender must be MAIL FROM's address."""
        assert step_of(refusal(world, Crafted(world).envelope(), sender=sender)) == "names.sender"

    def test_null_sender(self, world: TwoNodes) -> None:
        """An envelope has a sender."""
        assert isinstance(refusal(world, Crafted(world).envelope(), sender=""), Malformed)

    def test_no_user(self, world: TwoNodes) -> None:
        """An address without a user here is refused as unknown."""
        crafted = Crafted(world)
        named = replace(crafted.core().recipient, address="zoe@b.example")
        envelope = Crafted(world, changes={"recipient": named}).envelope()
        assert isinstance(refusal(world, envelope, recipient="zoe@b.example"), NotFound)

    @pytest.mark.parametrize(
        ("member", "value", "step"),
        [
            ("receipt_key", OTHER, "names.receipt-key"),
            ("hpke_key", OTHER, "names.hpke-key"),
            ("level", "user", "names.level"),
        ],
    )
    def test_keys_and_level(self, world: TwoNodes, member: str, value: object, step: str) -> None:
        """M names the recipient's live keys, and asks for no other level than they have."""
        named = replace(Crafted(world).core().recipient, **{member: value})  # type: ignore[arg-type]
        assert step_of(refusal(world, Crafted(world, changes={"recipient": named}).envelope())) == step

    def test_suite(self, world: TwoNodes) -> None:
        """A weaker suite than that of the recipient's key is refused, allowed elsewhere or not."""
        envelope = Crafted(world, changes={"suite": suites.of_kind(X25519)}).envelope()
        assert step_of(refusal(world, envelope)) == "names.suite"

    @pytest.mark.parametrize(("created", "expires"), [(-7200, 0), (301, 3600)])
    def test_time(self, world: TwoNodes, created: int, expires: int) -> None:
        """An exchange that has expired, or is from a future beyond clocks' differences, isn't signed for."""
        now = world.clock()
        envelope = Crafted(world, changes={"created": now + created, "expires": now + expires}).envelope()
        assert step_of(refusal(world, envelope)) == "names.time"

    def test_clocks_differ(self, world: TwoNodes) -> None:
        """A sender's clock that is five minutes ahead harms nobody."""
        now = world.clock()
        world.b.accept(Crafted(world, changes={"created": now + 300}).envelope())


class TestTTP:
    """R2: a sender can't name a puppet."""

    def test_not_allowed(self, world: TwoNodes) -> None:
        """A TTP that isn't on the list is refused."""
        named = replace(world.ttp.ledger.named, name="puppet.example")
        assert step_of(refusal(world, Crafted(world, changes={"ttp": named}).envelope())) == "ttp.allowed"

    @pytest.mark.parametrize("member", ["log", "nrd_key", "checkpoint_key"])
    def test_other_keys(self, world: TwoNodes, member: str) -> None:
        """The allowed TTP's name with another ledger or keys is refused."""
        value: object = "evil.example/ledger" if member == "log" else OTHER
        named = replace(world.ttp.ledger.named, **{member: value})  # type: ignore[arg-type]
        assert step_of(refusal(world, Crafted(world, changes={"ttp": named}).envelope())) == "ttp.keys"

    @pytest.mark.parametrize(("member", "value"), [("escrow_key", OTHER), ("epoch", 7)])
    def test_other_epoch(self, world: TwoNodes, member: str, value: object) -> None:
        """An escrow key that isn't that of the epoch, or an epoch that there isn't, is refused."""
        named = replace(world.ttp.ledger.named, **{member: value})  # type: ignore[arg-type]
        assert step_of(refusal(world, Crafted(world, changes={"ttp": named}).envelope())) == "ttp.epoch"

    def test_epoch_too_short(self, world: TwoNodes) -> None:
        """An exchange that outlives its epoch is refused: its escrow might not open any more."""
        world.ttp.open_until = world.clock() + 3599
        assert step_of(refusal(world, Crafted(world).envelope())) == "ttp.epoch"

    def test_certificates_too_short(self, world: TwoNodes) -> None:
        """An exchange that outlives the recipient's certificate is refused: its receipt might not be one."""
        envelope = Crafted(world, changes={"expires": world.clock() + 366 * 24 * 3600}).envelope()
        assert step_of(refusal(world, envelope)) == "names.outlives"

    def test_new_epoch(self, world: TwoNodes) -> None:
        """An epoch that began after this node last asked isn't refused: it asks again."""
        world.b.accept(Crafted(world).envelope())
        world.ttp.epoch, world.ttp.ledger.escrow = 2, generate_hpke("MLKEM768_X25519")
        named = replace(world.ttp.ledger.named, epoch=2)
        world.b.accept(Crafted(world, changes={"ttp": named}).envelope())

    def test_ttp_away(self, world: TwoNodes) -> None:
        """Without any record of the TTP the envelope is put off, not refused."""
        envelope = Crafted(world).envelope()
        world.ttp.faults.down = True
        with pytest.raises(Unavailable):
            world.b.accept(envelope)
        assert world.b.cipher_files() == []


class TestOrigin:
    """R3: the NRO."""

    def test_another_key(self, world: TwoNodes) -> None:
        """An NRO by a key that M doesn't name is refused."""
        named = replace(Crafted(world).core().sender, origin_key=OTHER)
        assert step_of(refusal(world, Crafted(world, changes={"sender": named}).envelope())) == "nro.key"

    def test_uncertified(self, world: TwoNodes) -> None:
        """An NRO by a key that another domain's CA certified for the address is refused."""
        other = Domain("evil.example", world.root)
        key = generate_ed25519()
        chain = other.certify(Purpose.ORIGIN, "alice@evil.example", key)
        named = replace(Crafted(world).core().sender, origin_key=key_id(key.public_key()))
        crafted = Crafted(world, changes={"sender": named})
        taken: list[Manifest] = []

        def keep(made: Manifest) -> Manifest:
            taken.append(made)
            return made

        envelope = crafted.envelope(keep, nro=lambda _: sign_nro(taken[0].exchange, world.clock(), key, chain))
        assert step_of(refusal(world, envelope)) == "nro.key"

    def test_another_exchange(self, world: TwoNodes) -> None:
        """An NRO of another exchange is refused."""
        pair = origin_of(world)
        other = sign_nro(OTHER, world.clock(), pair.key, pair.chain)
        assert step_of(refusal(world, Crafted(world).envelope(nro=lambda _: other))) == "nro.exchange"

    def test_bent_signature(self, world: TwoNodes) -> None:
        """An NRO with a signature of other octets is refused."""
        envelope = Crafted(world).envelope(nro=lambda made: made[:-86] + "A" * 86)
        assert step_of(refusal(world, envelope)) == "nro.signature"


class TestBlobs:
    """R3 and R4: what is sealed, and the ciphertext."""

    @pytest.mark.parametrize(
        ("member", "step"),
        [
            ("escrow", "escrow.digest"),
            ("recipient_share", "recipient-share.digest"),
            ("wrapped_key", "content.wrapped"),
        ],
    )
    def test_swapped(self, world: TwoNodes, member: str, step: str) -> None:
        """A blob that isn't M's is refused before anything is signed."""
        envelope = Crafted(world).envelope(sealed=lambda made: replace(made, **{member: b"x" * 48}))
        assert step_of(refusal(world, envelope)) == step

    @pytest.mark.parametrize("place", [0, 20, -1])
    def test_changed_ciphertext(self, world: TwoNodes, place: int) -> None:
        """A ciphertext that was changed on the way is refused."""
        envelope = Crafted(world).envelope()
        octets = bytearray(b"".join(envelope.ciphertext()))
        octets[place] ^= 1
        bent = replace(envelope, ciphertext=lambda: [bytes(octets)])
        assert step_of(refusal(world, bent)) == "ciphertext.digest"

    def test_cut_ciphertext(self, world: TwoNodes) -> None:
        """A ciphertext that was cut on the way is refused."""
        envelope = Crafted(world).envelope()
        octets = b"".join(envelope.ciphertext())
        bent = replace(envelope, ciphertext=lambda: [octets[:-1]])
        assert step_of(refusal(world, bent)) == "ciphertext.digest"

    def test_size_class(self, world: TwoNodes) -> None:
        """A length that isn't of the size class in M is refused: the recipient is told what comes."""
        envelope = Crafted(world, changes={"size": size_class(10_000_000)}).envelope()
        assert step_of(refusal(world, envelope)) == "ciphertext.size"

    def test_impossible_length(self, world: TwoNodes) -> None:
        """Octets that no encryption gives are refused."""
        envelope = Crafted(world).envelope(ciphertext=lambda made: made[:40])
        assert step_of(refusal(world, envelope)) == "ciphertext.length"

    def test_share_of_another_exchange(self, world: TwoNodes) -> None:
        """An E_R that opens to something else than what M commits to is refused: nobody could read the letter."""
        envelope = Crafted(world).envelope(manifest=lambda made: replace(made, com_R=OTHER))
        assert step_of(refusal(world, envelope)) == "recipient-share.commitment"

    def test_share_that_does_not_open(self, world: TwoNodes) -> None:
        """An E_R that M names and that doesn't open is refused."""
        garbage = b"x" * 1168
        envelope = Crafted(world).envelope(
            manifest=lambda made: replace(made, h_ER=blob_digest(garbage)),
            sealed=lambda made: replace(made, recipient_share=garbage),
        )
        assert step_of(refusal(world, envelope)) == "recipient-share.seal"


class TestPolicy:
    """R5 and R6."""

    def test_not_delegated(self, world: TwoNodes) -> None:
        """For a user who didn't delegate the keys, the node signs nothing."""
        world.b.add_user("zoe@b.example", delegated=False)
        known = world.a.desk.book.find("zoe@b.example").binding
        named = replace(
            Crafted(world).core().recipient,
            address="zoe@b.example",
            receipt_key=known.receipt.key_id,
            hpke_key=known.hpke.key_id,
        )
        envelope = Crafted(world, changes={"recipient": named}).envelope()
        assert isinstance(refusal(world, envelope, recipient="zoe@b.example"), Forbidden)

    def test_again(self, world: TwoNodes) -> None:
        """The same envelope again is answered alike, also when it is delivered long since; the NRR stays."""
        envelope = Crafted(world).envelope()
        first = world.b.accept(envelope)
        signed = world.b.incoming(envelope.exchange)
        world.clock.time += 10
        assert world.b.accept(envelope) == first
        world.b.work()
        assert world.b.accept(envelope) == first
        after = world.b.incoming(envelope.exchange)
        assert signed is not None
        assert after is not None
        assert after.nrr == signed.nrr
        assert len(world.b.cipher_files()) == 1
        assert len(world.b.mailbox(BOB)) == 1

    def test_after_a_failed_first_try(self, world: TwoNodes, monkeypatch: pytest.MonkeyPatch) -> None:
        """A first try that failed inside the node leaves no trace: the second is an exchange like any other."""
        envelope = Crafted(world).envelope()
        real = world.b.files.write

        def full(_pieces: object) -> object:
            raise Unavailable("a file couldn't be written: no space left")

        monkeypatch.setattr(world.b.files, "write", full)
        with pytest.raises(Unavailable):
            world.b.accept(envelope)
        monkeypatch.setattr(world.b.files, "write", real)
        world.b.accept(envelope)
        world.b.work()
        assert len(world.b.mailbox(BOB)) == 1

    def test_twenty_at_once(self, world: TwoNodes) -> None:
        """Twenty sessions that bring one envelope at once: one NRR, one file, one delivery."""
        envelope = Crafted(world).envelope()
        with ThreadPoolExecutor(20) as pool:
            said = set(pool.map(lambda _: world.b.accept(envelope), range(20)))
        assert len(said) == 1
        assert len(world.b.cipher_files()) == 1
        world.b.work()
        assert len(world.b.mailbox(BOB)) == 1


def test_refusal_reaches_the_sender(world: TwoNodes) -> None:
    """A refused envelope is reported to its sender with the step, once, and isn't brought again."""
    world.a.submit(ALICE, [BOB], LETTER)
    world.b.hpke = generate_hpke("MLKEM768_X25519")
    world.b.load()  # its record isn't published yet: what was sealed to the old key doesn't open
    world.settle(6)
    assert len(world.wire.carried) == 1
    (report,) = world.a.mailbox(ALICE).values()
    assert b"head.seal" in report
    assert b"Action: failed" in report
    (exchange,) = world.a.exchanges()
    assert world.a.outgoing(exchange).state is State.REFUSED
