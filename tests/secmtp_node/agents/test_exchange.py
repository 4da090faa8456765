"""A letter's whole way through two nodes: submission, envelope, receipt, trade, delivery, report."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from secmtp_node.agents.sender import check_sender, log_in
from shared.commands.demo_mail import take_bundle
from shared.errors import Forbidden, Malformed, NotFound, Unauthenticated
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle, verify_content
from shared.exchange.recipient import State as RecipientState
from shared.exchange.sender import State as SenderState
from tests.doubles.nodes import PASSWORD, TwoNodes, content_of
from tests.doubles.parties import LETTER

ALICE, BOB, CAROL, DAVE = "alice@a.example", "bob@b.example", "carol@a.example", "dave@b.example"
CASES = sorted((Path(__file__).parents[2] / "cases").glob("*.eml"))
REFUSED = [path for path in CASES if path.stem in {"case32b", "case45"}]
CASES = [path for path in CASES if path not in REFUSED]


def only(world: TwoNodes) -> bytes:
    """Return the one exchange that there is."""
    (bundle,) = world.ttp.outcomes.values()
    return bundle.manifest.exchange


class TestOneLetter:
    """Alice writes to Bob."""

    def test_delivered_and_receipted(self, world: TwoNodes) -> None:
        """Bob has the octets, Alice the receipt, both nodes the state, and the TTP was asked once."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.settle(3)
        (delivered,) = world.b.mailbox(BOB).values()
        assert content_of(delivered) == LETTER
        exchange = only(world)
        assert world.a.outgoing(exchange).state is SenderState.RECEIPTED
        incoming = world.b.incoming(exchange)
        assert incoming is not None
        assert incoming.state is RecipientState.DELIVERED
        assert world.ttp.asked == 1
        assert world.a.alarms() == world.b.alarms() == []

    def test_report_proves_the_content(self, world: TwoNodes, tmp_path: Path) -> None:
        """The bundle in the report verifies with the root alone, and proves exactly the octets submitted."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.settle(3)
        (report,) = world.a.mailbox(ALICE).values()
        path = tmp_path / "report"
        path.write_bytes(report)
        bundle = bundles.decode(take_bundle(path))
        receipt = verify_bundle(bundle, world.root.trust)
        assert bundle.openings is not None
        verify_content(receipt, bundle.openings, [LETTER])

    def test_headers_on_top(self, world: TwoNodes) -> None:
        """The node's headers name the sender that was proven, and end with the exchange."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.settle(3)
        (delivered,) = world.b.mailbox(BOB).values()
        top = delivered[: -len(LETTER)].decode().split("\r\n")
        assert top[0] == "Return-Path: <alice@a.example>"
        assert top[1].startswith("Received: from ")
        assert " by b.example with ESMTPS id " in top[1]
        assert top[2].startswith("Authentication-Results: b.example; x-secmtp=pass header.from=alice@a.example")
        assert top[-2] == f"SecMTP-Exchange: {only(world).hex()}"

    def test_within_one_node(self, world: TwoNodes) -> None:
        """A letter to a user of the same node is an exchange like any other, with both sides in one database."""
        world.a.submit(ALICE, [CAROL], LETTER)
        world.settle(3)
        (delivered,) = world.a.mailbox(CAROL).values()
        assert content_of(delivered) == LETTER
        assert len(world.a.mailbox(ALICE)) == 1
        assert world.a.alarms() == []

    def test_null_reverse_path(self, world: TwoNodes) -> None:
        """A letter with a null reverse path is delivered under the login's name, and nothing is reported."""
        world.a.submit(ALICE, [BOB], LETTER, reverse_path="")
        world.settle(3)
        assert len(world.b.mailbox(BOB)) == 1
        assert world.a.mailbox(ALICE) == {}
        assert world.a.outgoing(only(world)).state is SenderState.RECEIPTED

    @pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
    def test_refused_at_the_door(self, world: TwoNodes, path: Path) -> None:
        """What would change a header in front of it, and what goes in circles, is refused and leaves nothing."""
        with pytest.raises(Malformed):
            world.a.submit(ALICE, [BOB], path.read_bytes())
        assert world.a.cipher_files() == []

    @pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
    def test_messages_from_the_field(self, world: TwoNodes, path: Path) -> None:
        """Every message that broke others passes seal and open unchanged, but for its Bcc fields."""
        letter = path.read_bytes()
        world.a.submit(ALICE, [BOB], letter)
        world.settle(3)
        (delivered,) = world.b.mailbox(BOB).values()
        if path.stem == "case43":
            lines = letter.splitlines(keepends=True)
            letter = b"".join(lines[:5] + lines[9:])
        assert content_of(delivered) == letter


class TestWhoMaySend:
    """Logins, senders and recipients at submission (online.md S1)."""

    def test_wrong_password(self, world: TwoNodes) -> None:
        """A wrong password and an unknown user are refused in the same words."""
        said = set()
        for address, password in ((ALICE, "wrong"), ("nobody@a.example", PASSWORD), ("not an address", PASSWORD)):
            with pytest.raises(Unauthenticated) as refused:
                log_in(world.a.desk, address, password)
            said.add(refused.value.message)
        assert len(said) == 1

    def test_another_sender(self, world: TwoNodes) -> None:
        """A login can't send under another user's address; the own in another spelling of the domain is own."""
        login = world.a.log_in(ALICE)
        with pytest.raises(Forbidden, match="can't send as"):
            check_sender(login, CAROL)
        check_sender(login, "alice@A.EXAMPLE")

    def test_unknown_recipient(self, world: TwoNodes) -> None:
        """A letter of which one recipient is unknown makes no exchange and leaves no file."""
        with pytest.raises(NotFound):
            world.a.submit(ALICE, [BOB, "nobody@b.example"], LETTER)
        assert world.a.cipher_files() == []
        world.settle(1)
        assert world.b.mailbox(BOB) == {}


class TestSeveral:
    """One letter to several recipients."""

    def test_shared_and_blind_ciphertexts(self, world: TwoNodes) -> None:
        """Visible recipients share one ciphertext, each blind one has its own, and all read the same octets."""
        letter = b"To: bob@b.example\r\nCc: Carol <carol@a.example>\r\nBcc: dave@b.example\r\n\r\nhello\r\n"
        world.a.submit(ALICE, [BOB, CAROL, DAVE], letter)
        assert len(world.a.cipher_files()) == 2
        world.settle(3)
        bare = letter.replace(b"Bcc: dave@b.example\r\n", b"")
        for node, user in ((world.b, BOB), (world.a, CAROL), (world.b, DAVE)):
            (delivered,) = node.mailbox(user).values()
            assert content_of(delivered) == bare
        manifests = {m.core.recipient.address: m for m in (b.manifest for b in world.ttp.outcomes.values())}
        assert manifests[BOB].h_ct == manifests[CAROL].h_ct != manifests[DAVE].h_ct
        assert not any(DAVE.encode() in manifests[user].octets for user in (BOB, CAROL))
        assert len(world.a.mailbox(ALICE)) == 3

    def test_twice_the_same_recipient(self, world: TwoNodes) -> None:
        """A recipient that is named twice, in two spellings of the domain, gets one letter."""
        world.a.submit(ALICE, [BOB, "bob@B.Example"], LETTER)
        world.settle(3)
        assert len(world.b.mailbox(BOB)) == 1

    def test_one_refuses(self, world: TwoNodes) -> None:
        """The state is one recipient's own: Bob's receipt is nobody else's, and Dave's failure isn't Bob's."""
        world.a.submit(ALICE, [BOB, DAVE], LETTER)
        with world.b._engine.begin() as connection:
            connection.execute(text("DELETE FROM user_keys WHERE address = :a"), {"a": DAVE})
        world.settle(3)
        reports = world.a.mailbox(ALICE)
        assert sorted(name.rpartition(".")[2] for name in reports) == ["failure", "receipt"]
        (failure,) = (report for name, report in reports.items() if name.endswith("failure"))
        assert b"dave@b.example" in failure
        assert b"bob@b.example" not in failure.partition(b"rfc822-headers")[0]


class TestRepetition:
    """The same submission again, because the 250 was lost."""

    def test_same_letter(self, world: TwoNodes) -> None:
        """A repetition is answered alike and makes no second exchange and no second file."""
        first = world.a.submit(ALICE, [BOB], LETTER)
        assert world.a.submit(ALICE, [BOB], LETTER) == first
        world.settle(3)
        assert world.a.submit(ALICE, [BOB], LETTER) == first
        world.settle(3)
        assert len(world.b.mailbox(BOB)) == len(world.a.mailbox(ALICE)) == len(world.a.cipher_files()) == 1

    @pytest.mark.parametrize("change", ["octets", "recipient", "user", "reverse path", "later"])
    def test_another_letter(self, world: TwoNodes, change: str) -> None:
        """Other octets, recipients, login or reverse path, or the same a day later, are another letter."""
        first = world.a.submit(ALICE, [BOB], LETTER)
        if change == "later":
            world.clock.time += 24 * 3600 + 1
        second = world.a.submit(
            CAROL if change == "user" else ALICE,
            [DAVE if change == "recipient" else BOB],
            LETTER + b"more\r\n" if change == "octets" else LETTER,
            reverse_path="" if change == "reverse path" else None,
        )
        assert second != first
