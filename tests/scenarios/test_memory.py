"""A large message in flat memory, through both nodes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from shared.commands.demo_mail import Letter, content_digest
from shared.commands.demo_world import World

pytestmark = pytest.mark.timeout(300)
OCTETS = 200 * 1024 * 1024
BOUND = 150 * 1024
LINE = bytes(range(40, 117)) + b"\r\n"


def peak(world: World, name: str) -> int:
    """Return a program's peak resident memory in KiB, as the kernel counted it."""
    status = Path(f"/proc/{world.programs[name].pid}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def test_two_hundred_megabytes(tmp_path: Path) -> None:
    """A message of 200 MB is delivered unchanged while neither node ever holds 150 MB in memory."""
    path = tmp_path / "huge.eml"
    digest = hashlib.sha256()
    block = LINE * 4096
    with path.open("wb") as file:
        for piece in (b"From: alice@a.example\r\nTo: bob@b.example\r\n\r\n", *[block] * (OCTETS // len(block))):
            file.write(piece)
            digest.update(piece)
    with World(tmp_path / "world", lambda line: None) as world:
        world.set_up()
        assert world.submit(Letter(path, unix=False), ["bob@b.example"]) == digest.hexdigest()
        delivered = world.wait_for_mail("bob@b.example", "the letter")
        world.wait_for_mail("alice@a.example", "the receipt")
        assert content_digest(delivered) == digest.hexdigest()
        for node in ("node-a.example", "node-b.example"):
            assert peak(world, node) < BOUND, f"{node} needed {peak(world, node)} KiB"
