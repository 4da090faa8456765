"""`secmtp demo` as a newcomer runs it: separate processes, one line of JSON, nothing left running."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

KEYS = {
    "exchange",
    "mode",
    "submitted_sha256",
    "delivered_sha256",
    "delivered",
    "receipt",
    "bundle",
    "trust",
    "checkpoint",
    "ttp_requests",
    "seconds",
    "verdict",
}
pytestmark = pytest.mark.timeout(180)


def start(place: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a demo in a directory of its own."""
    command = [sys.executable, "-m", "shared.cli", "demo", "--dir", str(place), "--json", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Wait for a demo to end."""
    out, errors = process.communicate(timeout=300)
    return process.returncode, out, errors


def result(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Return the last line of a demo that must succeed."""
    code, out, errors = finish(process)
    assert code == 0, errors.decode()
    value: dict[str, Any] = json.loads(out.splitlines()[-1])
    return value


def running_in(place: Path) -> list[str]:
    """Return the command lines of processes that name a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(place) in line:
                found.append(line)
    return found


def test_two_demos_side_by_side(tmp_path: Path) -> None:
    """Two demos at once both end with a valid receipt, the same octets delivered, and nothing left running."""
    mail = tmp_path / "unix.eml"
    mail.write_bytes(b"From: x@a.example\nTo: y@b.example\nSubject: sent with LF\n\nbody\n")
    first, second = tmp_path / "first", tmp_path / "second"
    processes = [start(first), start(second, "--mail", str(mail))]
    results = [result(process) for process in processes]
    for value in results:
        assert set(value) == KEYS
        assert value["verdict"] == "valid"
        assert value["submitted_sha256"] == value["delivered_sha256"]
        assert value["ttp_requests"] == 1
        assert all(Path(value[name]).is_file() for name in ("delivered", "receipt", "bundle", "trust"))
    expected = hashlib.sha256(mail.read_bytes().replace(b"\n", b"\r\n")).hexdigest()
    assert results[1]["submitted_sha256"] == expected
    assert running_in(tmp_path) == []


@pytest.mark.timeout(600)
def test_offline_faults(tmp_path: Path) -> None:
    """Each fault of offline mode ends as promised: read with a receipt, or neither, with evidence either way."""
    told = {}
    for pair in (("sender-keeps-key", "recipient-withholds-ack"), ("recipient-silent", "ttp-down")):
        running = {name: start(tmp_path / name, "--mode", "offline", "--fault", name) for name in pair}
        for name, process in running.items():
            code, out, errors = finish(process)
            assert code == 0, errors.decode()
            told[name] = (out.decode(), json.loads(out.splitlines()[-1]))
    carried = {name: "NRR + ACK" if "carried by NRR + ACK" in text else "NRR + NRD" for name, (text, _) in told.items()}
    for name, (text, value) in told.items():
        assert set(value) == KEYS
        assert value["mode"] == "offline"
        assert "Recovery: " in text
        if name == "recipient-silent":
            assert (value["verdict"], value["delivered"]) == ("aborted", None)
        else:
            assert value["verdict"] == "valid"
            assert value["submitted_sha256"] == value["delivered_sha256"]
        assert (value["ttp_requests"] == 0) == (name == "ttp-down")
    assert carried["ttp-down"] == "NRR + ACK"
    assert {carried["sender-keeps-key"], carried["recipient-withholds-ack"]} == {"NRR + NRD"}
    assert running_in(tmp_path) == []


def test_faults_are_for_offline_mode(tmp_path: Path) -> None:
    """A fault without offline mode, or one that there isn't, is refused before anything is started."""
    for arguments in (("--fault", "ttp-down"), ("--mode", "offline", "--fault", "nonsense")):
        code, _, errors = finish(start(tmp_path / arguments[-1], *arguments))
        assert code == 2
        assert b"offline" in errors or b"sender-keeps-key" in errors


def test_what_smtp_cannot_carry(tmp_path: Path) -> None:
    """A message with a NUL is refused by the node, with its reason, and the demo says so."""
    mail = tmp_path / "nul.eml"
    mail.write_bytes(b"Subject: nul\r\n\r\na\0b\r\n")
    code, _, errors = finish(start(tmp_path / "demo", "--mail", str(mail)))
    assert code == 1
    assert b"NUL" in errors
    assert running_in(tmp_path) == []


@pytest.mark.parametrize("arguments", [["--mode", "hybrid"], ["--mode", "none"]])
def test_a_mode_that_is_not_built(tmp_path: Path, arguments: list[str]) -> None:
    """A mode that this version doesn't have is refused by name before anything is started."""
    code, _, errors = finish(start(tmp_path / "demo", *arguments))
    assert code == 2
    assert arguments[1].encode() in errors
    assert b"online" in errors
