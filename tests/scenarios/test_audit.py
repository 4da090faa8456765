"""A running TTP's ledger is audited over HTTPS by somebody who has nothing but the root certificate."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from shared.commands.demo_mail import default_letter
from shared.commands.demo_world import World


def ledger(world: World, *arguments: str | Path) -> dict[str, Any]:
    """Run a command of the group `ledger` that must find all well."""
    command = [sys.executable, "-m", "shared.cli", "ledger", *map(str, arguments), "--json"]
    done = subprocess.run(
        [*command, "--trust", str(world.root)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


class TestAudit:
    def test_mirror_and_verify(self, world: World, tmp_path: Path) -> None:
        """The log is mirrored while it grows; mirror, verify and monitor see every exchange in it."""
        address = f"https://127.0.0.1:{world.ttp_port}/ledger"
        first = ledger(world, "mirror", address, tmp_path / "copy")
        letter = default_letter(world.place, "carol@a.example", "dave@b.example", 1_764_000_000)
        world.submit(letter, ["dave@b.example"], "carol@a.example")
        world.wait_for_mail("carol@a.example", "the receipt")
        second = ledger(world, "mirror", address, tmp_path / "copy")
        assert second["mirrored"] >= 1
        assert second["size"] == first["size"] + second["mirrored"]
        offline = ledger(world, "verify", tmp_path / "copy")
        assert (offline["size"], offline["root"], offline["checkpoints"]) == (second["size"], second["root"], 2)
        assert offline["counts"]["binding"] >= 5
        assert offline["counts"]["COMPLETED"] >= 1
        assert ledger(world, "verify", address)["ok"]
        assert ledger(world, "monitor", address, "--state", tmp_path / "state")["since"] == 0
        assert ledger(world, "monitor", address, "--state", tmp_path / "state")["since"] >= second["size"]
