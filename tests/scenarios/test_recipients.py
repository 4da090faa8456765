"""Several recipients, in one domain and in two, visible and blind."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.commands.demo_mail import Letter, content_digest, take_bundle
from shared.commands.demo_world import World
from shared.crypto.certificates import TrustRoot
from shared.evidence import bundle as bundles
from shared.evidence.receipt import Receipt, verify_bundle

pytestmark = pytest.mark.timeout(120)


def receipts(world: World, paths: set[Path]) -> dict[str, Receipt]:
    """Verify the receipts in report files and return them by recipient."""
    root = TrustRoot.from_pem(world.root.read_bytes())
    found = [verify_bundle(bundles.decode(take_bundle(path)), root) for path in paths]
    return {receipt.manifest.core.recipient.address: receipt for receipt in found}


def test_one_letter_to_four(world: World, tmp_path: Path) -> None:
    """Each of four recipients gets the letter and signs for it alone; the blind one is nowhere to be seen."""
    visible = ["bob@b.example", "dave@b.example", "carol@a.example"]
    blind = "erin@b.example"
    letter = tmp_path / "letter.eml"
    fields = (
        "From: alice@a.example",
        "To: Bob <bob@b.example>, dave@b.example",
        "Cc: carol@a.example",
        f"bCC : {blind},",
        " other-secret@b.example",
        "Subject: to four",
    )
    letter.write_bytes("\r\n".join([*fields, "", "hello", ""]).encode())
    before = {user: set(world.mailbox(user)) for user in [*visible, blind, "alice@a.example"]}
    world.submit(Letter(letter, unix=False), [*visible, blind])
    for user in [*visible, blind]:
        world.wait_for_mail(user, "the letter", len(before[user]) + 1)
    world.wait_for_mail("alice@a.example", "four receipts", len(before["alice@a.example"]) + 4)
    got = {user: set(world.mailbox(user)) - before[user] for user in before}

    texts = {user: next(iter(got[user])).read_bytes() for user in [*visible, blind]}
    assert len({content_digest(next(iter(got[user]))) for user in texts}) == 1
    for user in visible:
        assert b"erin" not in texts[user]
    assert all(b"other-secret" not in text and b"bcc" not in text.lower() for text in texts.values())

    verified = receipts(world, got["alice@a.example"])
    assert set(verified) == {*visible, blind}
    ciphertexts = {user: verified[user].manifest.h_ct for user in verified}
    assert len({ciphertexts[user] for user in visible}) == 1
    assert ciphertexts[blind] != ciphertexts[visible[0]]
    for user, receipt in verified.items():
        others = {*visible, blind} - {user}
        assert not any(other.encode() in receipt.manifest.octets for other in others)
