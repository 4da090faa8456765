"""A world of three processes that can be killed and started again on the ports they had."""

from __future__ import annotations

from pathlib import Path

from shared.commands.demo_mail import Letter, content_digest, take_bundle
from shared.commands.demo_world import World
from shared.crypto.certificates import TrustRoot
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle

ALICE, BOB = "alice@a.example", "bob@b.example"


class Restartable:
    """A world whose programs can be killed and started again on the ports they had."""

    def __init__(self, world: World, place: Path) -> None:
        self.world = world
        self._place = place
        self._sent: dict[str, int] = {}

    def kill(self, name: str) -> None:
        """Kill a program: no signal handler runs, nothing is flushed."""
        self.world.programs[name].kill()

    def start(self, name: str) -> None:
        """Start a program again."""
        self.world.start_again(name)

    def send(self, text: str) -> str:
        """Submit a letter and return its digest."""
        path = self._place / f"{len(self._sent)}.eml"
        path.write_bytes(f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: {text}\r\n\r\n{text}\r\n".encode())
        digest = self.world.submit(Letter(path, unix=False), [BOB])
        self._sent[digest] = 1
        return digest

    def settled(self) -> None:
        """Wait until every letter and receipt has come; assert that each came exactly once and is valid."""
        count = len(self._sent)
        self.world.wait_for_mail(BOB, "all letters", count)
        self.world.wait_for_mail(ALICE, "all receipts", count)
        assert sorted(content_digest(path) for path in self.world.mailbox(BOB)) == sorted(self._sent)
        root = TrustRoot.from_pem(self.world.root.read_bytes())
        receipts = [verify_bundle(bundles.decode_any(take_bundle(path)), root) for path in self.world.mailbox(ALICE)]
        assert len({receipt.manifest.exchange for receipt in receipts}) == count
