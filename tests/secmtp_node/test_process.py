"""The node as a process of its own, while its TTP is away: starts, answers, is killed, starts again, ends."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from secmtp_node import setup
from shared.commands import ca

PASSWORD = "only for tests"
ALICE = "alice@a.example"
DEADLINE = 30.0


@dataclass
class Process:
    """A node's directory and the processes that were started on it."""

    place: Path
    trust: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> subprocess.Popen[bytes]:
        """Start a process."""
        command = [sys.executable, "-m", "shared.cli", "node", "serve", "--dir", str(self.place)]
        log = (self.place.parent / f"log-{len(self.started)}").open("wb")
        with log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        self.started.append(process)
        return process

    def log(self) -> str:
        """Return what the newest process logged."""
        return (self.place.parent / f"log-{len(self.started) - 1}").read_text()


def ready(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """Return the readiness line."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the node ended instead of being ready"
    found: dict[str, int] = json.loads(line)
    return found


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Process]:
    """A node of a.example with Alice, enrolled at a TTP where nobody answers."""
    now = int(time.time())
    place = tmp_path / "node"
    ca.init_authority(tmp_path / "ca", name="Test root", now=now, passphrase=None)
    setup.initialise(place, domains=["a.example"], hosts=["localhost"], now=now)
    ca.issue_from_file(tmp_path / "ca", place / "request.json", tmp_path / "issued.json", now=now, passphrase=None)
    trust = tmp_path / "ca" / "root.pem"
    setup.install_certificates(place, tmp_path / "issued.json", trust, now=now)
    setup.add_user(place, ALICE, PASSWORD, now=now)
    (place / "ttp.json").write_text(json.dumps({"name": "ttp.example", "url": "https://127.0.0.1:1"}))
    made = Process(place, trust)
    yield made
    for process in made.started:
        process.kill()
        process.wait(DEADLINE)
        if process.stdout is not None:
            process.stdout.close()


def session(node: Process, port: int) -> smtplib.SMTP:
    """Log Alice in."""
    client = smtplib.SMTP("localhost", port, timeout=DEADLINE)
    client.starttls(context=ssl.create_default_context(cafile=str(node.trust)))
    client.login(ALICE, PASSWORD)
    return client


def test_life(node: Process) -> None:
    """A node serves while its TTP is away, puts recipients off, survives a kill, and ends in time when told to."""
    process = node.start()
    ports = ready(process)
    assert set(ports) == {"ready", "submission", "submissions", "peer"}
    with session(node, ports["submission"]) as client:
        assert client.mail(ALICE)[0] == 250
        code, text = client.rcpt("bob@b.example")
        assert (code, text[:5]) == (451, b"4.3.0")
        assert client.noop()[0] == 250

    second = node.start()
    assert second.wait(DEADLINE) != 0
    assert "another node runs" in node.log()
    assert "Traceback" not in node.log()

    process.kill()
    process.wait(DEADLINE)
    third = node.start()
    ports = ready(third)
    with session(node, ports["submission"]):
        pass
    begin = time.monotonic()
    third.send_signal(signal.SIGTERM)
    assert third.wait(DEADLINE) == 0
    assert time.monotonic() - begin < 10
    events = [json.loads(line) for line in node.log().splitlines()]
    assert "worker died" not in {event["event"] for event in events}


def test_secrets_are_not_arguments(tmp_path: Path) -> None:
    """The command line takes passwords and tokens from a file or a prompt, never as an argument."""
    for command in (["user", "add"], ["enrol"]):
        run = subprocess.run(
            [sys.executable, "-m", "shared.cli", "node", *command, "--help"],
            capture_output=True,
            timeout=DEADLINE,
            check=True,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        )
        text = run.stdout.decode()
        assert "--password " not in text
        assert "--token " not in text
        assert "-file" in text
