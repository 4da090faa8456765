"""Real witnesses served over HTTP in this process, which can be stopped, held up and restored, and a TTP that waits."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from pathlib import Path

from shared.ledger import witness
from shared.ledger.note import KeyType, VerifierKey, verifier_key
from shared.ledger.policy import Policy, of_quorum
from shared.ledger.witness import Decision, Signer
from shared.programs.http import AnnouncedServer
from shared.programs.witness import Fork, Keeper, initialise, load, open_keeper
from shared.programs.witness_server import application, configuration
from tests.doubles.served import PushedClock, Served
from tests.doubles.witnesses import Cosigner
from ttp_server.custody.keys import load_keys
from ttp_server.settings import FILE
from ttp_server.settings import load as load_ttp


class _QuickServer(AnnouncedServer):
    """The real server, which looks for its end more often."""

    async def main_loop(self) -> None:
        """Serve until told to end."""
        await self.on_tick(0)
        while not self.should_exit:  # noqa: ASYNC110  (uvicorn has a flag, no event)
            await asyncio.sleep(0.005)


class _HeldKeeper(Keeper):
    """A keeper that answers when it is let."""

    let: threading.Event

    def add_checkpoint(self, body: bytes, now: int) -> Decision:
        """Wait, then decide."""
        self.let.wait(10)
        return super().add_checkpoint(body, now)


class RunningWitness:
    """An external witness. `clock` is its own; `let` holds its answers up while it is cleared."""

    def __init__(self, directory: Path, name: str, log: VerifierKey) -> None:
        self.directory = directory
        self.name = name
        self.clock = PushedClock()
        self.let = threading.Event()
        self.let.set()
        self.log = log
        self.signer: Signer | None = None  # another one than it should have
        key = Cosigner(name).key.private_bytes_raw()
        initialise(directory, name=name, logs=[log.encode()], seen=[], draw_key=key, port=0)
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        """Its submission prefix, the same after a restart."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def size(self) -> int:
        """The size that it cosigned last."""
        newest = open_keeper(self.directory, load(self.directory)).newest(witness.origin_hash(self.log.name))
        return 0 if newest is None else witness.decode_state(newest).checkpoint.size

    def forks(self) -> list[Fork]:
        """Return what it kept of forks."""
        return open_keeper(self.directory, load(self.directory)).forks()

    def start(self) -> None:
        """Serve."""
        settings = load(self.directory).model_copy(update={"port": self._port})
        kept = open_keeper(self.directory, settings)
        keeper = _HeldKeeper(self.signer or kept.signer, kept.logs, kept._state)
        keeper.let = self.let
        self._server = _QuickServer(configuration(settings, application(keeper, self.clock.now)))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()), daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the witness didn't start"
            threading.Event().wait(0.005)
        self._port = self._server.port

    def stop(self) -> None:
        """End serving."""
        self._server.should_exit = True
        self._thread.join(10)

    def back_up(self) -> Path:
        """Copy its directory."""
        copy = self.directory.with_name(f"{self.directory.name}.copy")
        shutil.copytree(self.directory, copy)
        return copy

    def restore(self, copy: Path) -> None:
        """Do what operators must not: serve a restored copy."""
        self.stop()
        shutil.rmtree(self.directory)
        shutil.copytree(copy, self.directory)
        self.start()


class WitnessedTTP(Served):
    """A TTP that waits for a quorum of witnesses; each has a clock of its own that `push` moves with the others."""

    def __init__(
        self, directory: Path, names: tuple[str, ...], terms: tuple[int, int], seconds: float, database: str = ""
    ) -> None:
        super().__init__(directory, database)
        settings = load_ttp(self.directory)
        keys = load_keys(self.directory, settings.name, settings.log, self.clock.now())
        self.log = verifier_key(settings.log, KeyType.LOG, keys.checkpoint.public_key())
        self.witnesses = [RunningWitness(directory / f"w{n}", name, self.log) for n, name in enumerate(names)]
        lines = [f"quorum = {terms[0]}", f"faulty = {terms[1]}", f"witness_seconds = {seconds}"]
        for one in self.witnesses:
            lines += [
                "[[witnesses]]",
                f"vkey = {json.dumps(Cosigner(one.name).verifier.encode())}",
                f'url = "{one.url}"',
            ]
        text = (self.directory / FILE).read_text().replace("quorum = 0\nfaulty = 0\n", "")
        (self.directory / FILE).write_text(text + "\n".join(lines) + "\n")
        self.policy: Policy = of_quorum([Cosigner(name).verifier for name in names], terms[0])

    def push(self, seconds: int) -> None:
        """Let time pass for everybody."""
        self.clock.time += seconds
        for one in self.witnesses:
            one.clock.time += seconds

    def second(self, directory: Path | None = None) -> WitnessedTTP:
        """Serve the same TTP by another process on the same database, or from a copy of its directory."""
        other = copy(self)
        if directory is not None:
            shutil.copytree(self.directory, directory)
            other.directory = directory
        other.start()
        return other


@contextmanager
def witnessed(
    directory: Path,
    *names: str,
    quorum: int = 2,
    faulty: int = 0,
    seconds: float = 5.0,
    database: str = "",
) -> Iterator[WitnessedTTP]:
    """Serve a TTP and its witnesses."""
    with ExitStack() as stack:
        world = WitnessedTTP(directory, names or ("w1.test", "w2.test", "w3.test"), (quorum, faulty), seconds, database)
        for one in world.witnesses:
            stack.callback(one.stop)
        world.start()
        stack.callback(world.stop)
        yield world
