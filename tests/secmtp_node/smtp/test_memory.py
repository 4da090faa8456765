"""Large messages through a listener in a process of its own: flat memory, little work for each octet."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.doubles.listening import MEGABYTE, Dialog

# Serves one plain listener; for each line on stdin it prints what it has held and what it has used.
SERVER = """
import hashlib, json, pathlib, sys, time
from secmtp_node.smtp.guard import Guard, Limits
from secmtp_node.smtp.listener import Address, Listeners
from secmtp_node.smtp.message import read_message
from secmtp_node.smtp.session import Listening
from secmtp_node.smtp.spool import Spool

held = []

class Mail:
    def check_sender(self, login, address): pass
    def check_recipient(self, login, address): pass
    def submit(self, login, sender, recipients, message):
        held.append(read_message(message).digest.hex())
        return "stored"

def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

limits = Limits(octets=256 * 1024 * 1024)
listeners = Listeners()
listening = Listening("mx.example.net", "example.net", Spool(pathlib.Path(sys.argv[1])), limits, Guard(limits), print,
                      mail=Mail(), require_tls=False, require_login=False)
print(listeners.listen(Address("127.0.0.1", 0), listening, None), flush=True)
for line in sys.stdin:
    print(json.dumps({"held": held, "peak": peak(), "seconds": time.process_time()}), flush=True)
listeners.close()
"""


class Process:
    """A listener in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self.port = port

    def facts(self) -> dict[str, Any]:
        """Ask what was held and used."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        facts: dict[str, Any] = json.loads(self._process.stdout.readline())
        return facts


@contextmanager
def listener(place: Path) -> Iterator[Process]:
    """Run a listener."""
    command = [sys.executable, "-c", SERVER, str(place / "spool")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Process(process, int(process.stdout.readline()))
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(20)


def send(port: int, pieces: Iterable[bytes]) -> str:
    """Send a message in pieces and return the digest of what was sent."""
    digest = hashlib.sha256()
    with Dialog(port) as dialog:
        dialog.open()
        dialog.begin()
        dialog.socket.settimeout(50)
        for piece in pieces:
            digest.update(piece)
            dialog.send(piece)
        dialog.send(b".\r\n")
        assert dialog.reply().startswith("250 ")
    return digest.hexdigest()


class TestMemory:
    def test_large_message(self, tmp_path: Path) -> None:
        """A message of 200 MB, one long line among it, needs less than 150 MB and arrives octet for octet."""
        line = b"x" * 76 + b"\r\n"
        short = line * (MEGABYTE // len(line))
        pieces = [b"From: a@a.example\r\n\r\n", *[short] * 100, *[b"y" * MEGABYTE] * 100, b"\r\n"]
        with listener(tmp_path) as process:
            sent = send(process.port, pieces)
            facts = process.facts()
        assert facts["held"] == [sent]
        assert facts["peak"] < 150 * 1000 * 1000

    def test_empty_lines(self, tmp_path: Path) -> None:
        """20 MB of empty lines, and of lines of a dot, take a few seconds of work at most."""
        empty = b"\r\n" * (MEGABYTE // 2)
        dots = b"..\r\n" * (MEGABYTE // 4)
        with listener(tmp_path) as process:
            before = process.facts()["seconds"]
            send(process.port, [b"From: a@a.example\r\n\r\n", *[empty] * 20])
            send(process.port, [b"From: a@a.example\r\n\r\n", *[dots] * 20])
            facts = process.facts()
        assert len(facts["held"]) == 2
        assert facts["seconds"] - before < 5
        assert facts["peak"] < 150 * 1000 * 1000

    def test_long_commands(self, tmp_path: Path) -> None:
        """Command lines of a megabyte each, one after the other, need no memory that grows."""
        with listener(tmp_path) as process, Dialog(process.port) as dialog:
            assert dialog.reply().startswith("220 ")
            start = process.facts()["peak"]
            for _ in range(15):
                dialog.send(b"NOOP " + b"x" * (MEGABYTE // 2) + b"\r\n")
                assert dialog.reply().startswith("500 5.5.6 ")
            assert process.facts()["peak"] - start < 10 * MEGABYTE
