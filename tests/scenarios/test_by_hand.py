"""The commands of the README, typed by hand as it were: from nothing to programs that run and a user who sends."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.commands.demo_mail import Letter, content_digest, submit
from shared.commands.demo_processes import Program, wait_for

pytestmark = pytest.mark.timeout(180)
README = Path(__file__).parent.parent.parent / "README.md"
ALICE, BOB, PASSWORD = "alice@a.example", "bob@a.example", "a password of some length"


def secmtp(*arguments: str | Path, code: int = 0) -> str:
    """Run a command; it must exit with this code and without a traceback."""
    command = [sys.executable, "-m", "shared.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@contextmanager
def running(name: str, arguments: list[str], place: Path) -> Iterator[dict[str, int]]:
    """Run a program as long as the block."""
    program = Program(name, arguments, place)
    try:
        yield program.ready(60)
    finally:
        program.end()


def test_setting_up_by_hand(tmp_path: Path) -> None:
    """CA, TTP, node and users are set up command by command, and a certified letter goes through them."""
    authority, ttp, node = tmp_path / "CA", tmp_path / "TTP", tmp_path / "NODE"
    root = authority / "root.pem"
    secret, password = tmp_path / "token", tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    secmtp("ca", "init", "--dir", authority, "--name", "Example root", "--no-passphrase")
    secmtp("ttp", "init", "--dir", ttp, "--name", "ttp.example", "--host", "localhost", "--port", "0")
    secmtp("ttp", "serve", "--dir", ttp, code=2)  # not certified yet: it says so
    for place, group in ((ttp, "ttp"), (node, "node")):
        if group == "node":
            ports = ("--submission", "0", "--submissions", "0", "--peer", "0")
            secmtp("node", "init", "--dir", node, "--domain", "a.example", "--host", "localhost", *ports)
        issued = tmp_path / f"{group}-certificates.json"
        secmtp("ca", "issue", place / "request.json", "--dir", authority, "--out", issued, "--yes")
        secmtp(group, "certify", issued, "--dir", place, "--root", root)
    secret.write_text(secmtp("ttp", "token", "--dir", ttp, "--domain", "a.example"))
    assert "enrol" in secmtp("node", "serve", "--dir", node, code=2)
    with running("ttp", ["ttp", "serve", "--dir", str(ttp)], tmp_path) as at:
        url = f"https://localhost:{at['port']}"
        enrol = ("node", "enrol", "--dir", node, "--ttp", url, "--name", "ttp.example", "--token-file", secret)
        secmtp(*enrol)
        for user in (ALICE, BOB):
            secmtp("node", "user", "add", user, "--dir", node, "--password-file", password)
        assert secmtp("node", "user", "list", "--dir", node).split() == [ALICE, BOB]
        with running("node", ["node", "serve", "--dir", str(node)], tmp_path) as ports_of:
            letter = tmp_path / "letter.eml"
            letter.write_bytes(b"Subject: by hand\r\n\r\nhello\r\n")
            server = ("localhost", ports_of["submission"])
            digest = submit(Letter(letter, unix=False), server, root, (ALICE, PASSWORD), [BOB])
            new = node / "mail" / BOB / "new"
            found = wait_for(lambda: next(iter(sorted(new.glob("*"))), None), 60, "the letter", [])
            assert content_digest(found) == digest
            receipts = node / "mail" / ALICE / "new"
            wait_for(lambda: next(iter(sorted(receipts.glob("*"))), None), 60, "the receipt", [])
        bundle = tmp_path / "exported.secmtp.json"
        secmtp("node", "evidence", found.name, "--dir", node, "--out", bundle)
        assert "VALID receipt" in secmtp("evidence", "verify", bundle, "--trust", root)


def test_readme_names_commands_that_exist() -> None:
    """Every `secmtp` command and option that the README shows is one that the program has."""
    text = README.read_text(encoding="utf-8").replace("\n   ", " ")
    shown = set(
        re.findall(
            r"secmtp ((?:ca|ttp|node|evidence|ledger|demo)(?: (?:user|db|witness))? [a-z]+)((?: [^`\n#]*)?)", text
        )
    )
    assert len(shown) >= 10
    for command, rest in sorted(shown):
        usage = secmtp(*command.split(), "--help")
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in usage, f"{command} {option}"
