"""Several TTP processes on one database and one directory, with a clock in a file that a test pushes for all.

    python -m tests.doubles.processes DIRECTORY

serves one of them, over HTTPS on a free port of 127.0.0.1, until SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path

import httpx

from shared.api import messages
from shared.crypto.keys import HpkePublicKey
from shared.evidence.records import verify_ttp
from shared.programs.log import configure_log
from tests.doubles.parties import NOW
from tests.doubles.postgres import Server
from tests.doubles.served import NodeClient, PushedClock, Served, _postgres_template, _QuickServer, client_of
from ttp_server.app import build
from ttp_server.server import configuration
from ttp_server.settings import load

CLOCK = "clock"
DEADLINE = 30.0


class FileClock:
    """Reads the time from a file, so that all processes have the same."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> int:
        """Return the time that it was pushed to."""
        return int(self._file.read_text())

    def random(self, octets: int) -> bytes:
        """Return fresh octets."""
        return secrets.token_bytes(octets)

    def monotonic(self) -> float:
        """Return seconds that never jump."""
        return time.monotonic()


class SharedClock(PushedClock):
    """The test's side of that clock."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        self.push(self.time)

    def push(self, time: int) -> None:
        """Set the time for everybody at once."""
        self.time = time
        new = self._file.with_suffix(".new")
        new.write_text(str(time))
        new.replace(self._file)


class Several(Served):
    """TTP processes with the world around them. What isn't about one of them asks the first."""

    def __init__(self, directory: Path, database: str, count: int) -> None:
        super().__init__(directory, database)
        self.clock: SharedClock = SharedClock(self.directory / CLOCK)
        self._count = count
        self._processes: list[subprocess.Popen[bytes]] = []
        self.clients: list[httpx.Client] = []

    def start(self) -> None:
        """Start them all at once."""
        outputs = [self.directory.parent / f"stdout-{number}" for number in range(self._count)]
        for number, output in enumerate(outputs):
            with output.open("wb") as out, output.with_name(f"stderr-{number}").open("wb") as err:
                command = [sys.executable, "-m", "tests.doubles.processes", str(self.directory)]
                self._processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err))
        self.clients = [client_of(self._port(number, output)) for number, output in enumerate(outputs)]
        self.client = self.clients[0]

    def stop(self) -> None:
        """End them as an operator does, and require that they ended well."""
        for client in self.clients:
            client.close()
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        try:
            assert [process.wait(DEADLINE) for process in self._processes] == [0] * self._count
        finally:
            for process in self._processes:
                process.kill()

    def through(self, node: NodeClient, number: int) -> NodeClient:
        """Return a node as it asks one of the processes."""
        view, asking = copy(self), copy(node)
        view.client = self.clients[number]
        asking._served = view
        return asking

    def escrow(self) -> HpkePublicKey:
        """The X25519 escrow key, as the record offers it."""
        token = messages.decode_signed(self.client.get("/v1/ttp").content, "TTP record")
        return verify_ttp(token, self.trust, self.clock.now()).epoch_for(NOW, "X25519").key

    def _port(self, number: int, output: Path) -> int:
        """Wait for the readiness line."""
        deadline = time.monotonic() + DEADLINE
        while not output.read_bytes().endswith(b"\n"):
            log = output.with_name(f"stderr-{number}")
            assert self._processes[number].poll() is None, log.read_text()
            assert time.monotonic() < deadline, "not ready in time"
            threading.Event().wait(0.01)
        port: int = json.loads(output.read_bytes())["port"]
        return port


@contextmanager
def several(directory: Path, postgres: Server, count: int = 2) -> Iterator[Several]:
    """Serve one ledger on PostgreSQL with several processes."""
    database = postgres.create(_postgres_template(postgres))
    world = Several(directory, database, count)
    try:
        world.start()
        yield world
    finally:
        world.stop()
    postgres.drop(database)


def main() -> None:
    """Serve one."""
    configure_log()
    directory = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    ttp = build(directory, load(directory), FileClock(directory / CLOCK))
    try:
        asyncio.run(_QuickServer(configuration(directory, load(directory), ttp), ttp).serve())
    finally:
        ttp.close()


if __name__ == "__main__":
    main()
