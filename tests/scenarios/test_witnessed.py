"""A world with an external witness, each program a process of its own: receipts are witnessed from the start."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shared.commands.demo_mail import take_bundle
from shared.commands.demo_processes import Program, wait_for
from shared.commands.demo_world import RECIPIENT, SENDER, World
from shared.ledger import note
from tests.doubles.restartable import Restartable

pytestmark = pytest.mark.timeout(300)
LOG = "ttp.example/ledger"


class WitnessedWorld(World):
    """Sets an external witness up, which the TTP waits for, and lets both nodes demand one."""

    vkey = ""
    port = 0

    @property
    def context(self) -> ssl.SSLContext:
        """Trust in the world's root."""
        return ssl.create_default_context(cafile=str(self.root))

    def start_witness(self) -> None:
        """Start it where it was."""
        port = {"SECMTP_WITNESS_PORT": str(self.port)}
        serve = ["ledger", "witness", "serve", "--dir", str(self.place / "witness")]
        self.programs["witness"] = Program("witness", serve, self.place, port)
        self.port = self.programs["witness"].ready(60)["port"]

    def _make_ttp(self, now: int) -> None:
        super()._make_ttp(now)
        log = command("ttp", "vkey", "--dir", str(self.place / "ttp"))[1].strip()
        arguments = ["--dir", str(self.place / "witness"), "--name", "witness.test", "--log", log]
        self.vkey = command("ledger", "witness", "init", *arguments)[1].strip()
        self.start_witness()
        settings = self.place / "ttp" / "ttp.toml"
        more = f'witness_seconds = 1\n[[witnesses]]\nvkey = "{self.vkey}"\nurl = "http://127.0.0.1:{self.port}"\n'
        settings.write_text(settings.read_text().replace("quorum = 0", "quorum = 1") + more)

    def _make_node(self, domain: str, users: object, now: int) -> None:
        super()._make_node(domain, users, now)  # type: ignore[arg-type]
        settings = self.place / f"node-{domain}" / "node.toml"
        pauses = "witness_pause = 1\nfirst_pause = 1\nlongest_pause = 2\n"
        settings.write_text(settings.read_text().replace("quorum = 0", "quorum = 1") + pauses)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WitnessedWorld, Restartable]]:
    """A running world."""
    place = tmp_path_factory.mktemp("witnessed")
    with WitnessedWorld(place / "world", lambda line: None) as made:
        made.set_up()
        yield made, Restartable(made, place)


def command(*arguments: str) -> tuple[int, str]:
    """Run one of our commands."""
    run = [sys.executable, "-m", "shared.cli", *arguments]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout


def published(world: WitnessedWorld) -> set[str]:
    """Return who signed the published checkpoint."""
    answer = httpx.get(f"https://127.0.0.1:{world.ttp_port}/ledger/checkpoint", verify=world.context)
    return {line.name for line in note.parse(answer.content).signatures}


def test_receipt(world: tuple[WitnessedWorld, Restartable], tmp_path: Path) -> None:
    """The receipt in the sender's mailbox holds against a policy that demands the witness."""
    made, letters = world
    letters.send("a witnessed letter")
    letters.settled()
    (tmp_path / "policy").write_text(f"witness w {made.vkey}\nquorum w\n")
    (tmp_path / "bundle").write_bytes(take_bundle(made.mailbox(SENDER)[0]))
    options = ["--trust", str(made.root), "--policy", str(tmp_path / "policy"), "--json"]
    code, out = command("evidence", "verify", str(tmp_path / "bundle"), *options)
    assert (code, json.loads(out)["witnessed"]) == (0, "1 of 1, quorum met")


def test_nodes_are_witnesses_too(world: tuple[WitnessedWorld, Restartable]) -> None:
    """Both nodes cosign the newest checkpoint in a while, and `secmtp node status` says how far they have seen."""
    made, _letters = world
    expected = {LOG, "witness.test", "a.example/witness", "b.example/witness"}
    programs = list(made.programs.values())
    wait_for(lambda: published(made) if published(made) >= expected else None, 60, "the nodes' cosignatures", programs)
    code, out = command("node", "status", "--dir", str(made.place / "node-b.example"), "--json")
    (ledger,) = json.loads(out)["ledgers"]
    assert code == 0
    assert ledger["log"] == LOG
    assert ledger["size"] > 0


def test_witness_away(world: tuple[WitnessedWorld, Restartable]) -> None:
    """While the witness is away nothing is traded; when it is back, every letter and receipt comes, once."""
    made, letters = world
    before = len(made.mailbox(RECIPIENT))
    made.programs["witness"].kill()
    del made.programs["witness"]
    letters.send("while the witness is away")

    def refused() -> bool | None:
        lines = (made.place / "ttp.log").read_text().splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return any(event.get("endpoint") == "complete" and event.get("status") == 503 for event in events) or None

    wait_for(refused, 60, "a trade that is put off", list(made.programs.values()))
    assert len(made.mailbox(RECIPIENT)) == before
    letters.kill("ttp")  # what it committed and nobody cosigned is published first, at its next start
    made.start_witness()
    letters.start("ttp")
    letters.settled()
