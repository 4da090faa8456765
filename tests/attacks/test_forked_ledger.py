"""A TTP keeps two ledgers with one key: it shows one to the sender, another to the recipient, and signs both.

Whoever saw one of them and is shown the other finds it out: the node, an external witness, a mirror; and each keeps
what proves it to everybody.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

from secmtp_node.ports.services import TTP
from shared.api import messages
from shared.api.messages import Cosignature
from shared.ledger import note, tiles
from shared.ledger.note import KeyType, VerifierKey, verifier_key
from shared.ledger.tiles import ENTRIES, WIDTH
from shared.ledger.witness import AddCheckpoint, Cosigned, Refused
from shared.programs.witness import initialise, load, open_keeper
from tests.doubles.nodes import Clock, DoubleNode, Wire
from tests.doubles.served import NodeClient, Served

EXTRA = pytest.mark.parametrize("extra", [0, 2])  # how many entries more the second history has


class Face:
    """One of the two ledgers, as a node and a mirror see it."""

    name = "ttp.example"

    def __init__(self, world: Served) -> None:
        self.world = world
        self.client = NodeClient(world, "b.example")
        assert self.client.enrol(world.parties.b).status_code == 201
        self.brought: list[Cosignature] = []

    def trade(self, count: int, what: str) -> None:
        """Let letters be traded."""
        for number in range(count):
            assert self.client.complete(self.world.exchange(f"{what} {number}".encode())).status_code == 200

    def record(self) -> str:
        """Return the TTP's record."""
        return messages.decode_signed(self.world.client.get("/v1/ttp").content, "TTP record")

    def checkpoint(self) -> bytes:
        """Return the checkpoint that is shown."""
        return self.world.client.get("/ledger/checkpoint").content

    def consistency(self, old: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that is shown."""
        answer = self.world.client.get(f"/ledger/consistency/{old}?size={size}")
        return messages.decode_consistency(answer.content, old, size)

    def put_cosignature(self, cosignature: Cosignature) -> None:
        """Take a cosignature."""
        self.brought.append(cosignature)
        body = messages.encode_cosignature(cosignature)
        assert self.client.ask("POST", "/v1/cosignatures", body).status_code == 201

    @property
    def size(self) -> int:
        """How many entries it shows."""
        return self.world.ttp.desk.ledger.size

    @property
    def log(self) -> VerifierKey:
        """The key that signs both."""
        return verifier_key("ttp.example/ledger", KeyType.LOG, self.world.ttp.keys.checkpoint.public_key())

    def download(self, place: Path) -> Path:
        """Write what it serves into a directory."""
        levels = [(ENTRIES, self.size), *((level, row.stop) for level, row in enumerate(tiles.edge_ranges(self.size)))]
        for level, count in levels:
            for number in range(-(-count // WIDTH)):
                path = tiles.path(level, number, min(WIDTH, count - number * WIDTH))
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_bytes(self.world.client.get(f"/ledger/{path}").content)
        (place / "checkpoint").write_bytes(self.checkpoint())
        return place


@pytest.fixture
def faces(tmp_path: Path, extra: int) -> Iterator[tuple[Face, Face]]:
    """Two TTPs with one past, one key and two presents."""
    with ExitStack() as stack:
        world, other = Served(tmp_path / "one"), Served(tmp_path / "two")
        world.start()
        stack.callback(world.stop)
        first = Face(world)
        first.trade(2, "the common past")
        world.stop()
        shutil.rmtree(other.directory)
        shutil.copytree(world.directory, other.directory)
        world.start()
        other.start()
        stack.callback(other.stop)
        second = Face(other)
        first.trade(1, "to the sender")
        second.trade(1 + extra, "to the recipient")
        yield first, second


def prove(notes: list[bytes], log: VerifierKey) -> None:
    """Assert that two notes prove to anybody that the log signed two histories, or can't show that it didn't."""
    texts = [note.verify(note.parse(octets), {log}).text.split("\n") for octets in notes]
    assert len({(size, root) for _origin, size, root, _ in texts}) == 2


@EXTRA
def test_seen_by_a_node(faces: tuple[Face, Face], tmp_path: Path) -> None:
    """The node cosigns the first only, keeps both signed checkpoints, and stops new trades."""
    first, second = faces
    parties = first.world.parties
    node = DoubleNode(tmp_path / "n", parties.b, parties.root, cast("TTP", first), Wire(), Clock())  # type: ignore[arg-type]
    node.look()
    node.ttp = cast("TTP", second)  # type: ignore[assignment]
    node.load()
    node.look()
    assert len(first.brought) == 1
    assert second.brought == []
    with node.store.transaction() as unit:
        (alarm,) = unit.evidence.alarms(10)
        seen = unit.checkpoints.newest("ttp.example")
    assert alarm.kind in {"fork of the ledger", "ledger that doesn't continue"}
    assert seen is not None
    assert seen.stopped
    one, _, two = alarm.data.rpartition(b"\nttp.example/ledger\n")
    prove([one, b"ttp.example/ledger\n" + two], first.log)
    node.close()


@EXTRA
def test_seen_by_a_witness(faces: tuple[Face, Face], tmp_path: Path, extra: int) -> None:
    """An external witness cosigns one of them, refuses the other with 422, and keeps what proves a fork."""
    first, second = faces
    initialise(tmp_path / "w", name="w.test", logs=[first.log.encode()], seen=[], draw_key=bytes(32), port=0)
    keeper = open_keeper(tmp_path / "w", load(tmp_path / "w"))
    old = first.size
    assert isinstance(keeper.add_checkpoint(AddCheckpoint(0, (), first.checkpoint()).encode(), 1).answer, Cosigned)
    proof = second.consistency(old, second.size)
    answer = keeper.add_checkpoint(AddCheckpoint(old, proof, second.checkpoint()).encode(), 2).answer
    assert isinstance(answer, Refused)
    assert answer.status == 422
    kept = keeper.forks()
    assert len(kept) == (0 if extra else 1)  # a proof that fails might be the messenger's fault
    for fork in kept:
        prove([fork.first, fork.second], first.log)


@EXTRA
def test_seen_by_a_mirror(faces: tuple[Face, Face], tmp_path: Path) -> None:
    """A mirror of the first refuses the second, keeps both checkpoints, and stays as it was."""
    first, second = faces
    copy, code = tmp_path / "copy", []
    for number, face in enumerate((first, second)):
        source = face.download(tmp_path / f"source{number}")
        command = [sys.executable, "-m", "shared.cli", "ledger", "mirror", str(source), str(copy), "--json"]
        done = subprocess.run([*command, "--key", face.log.encode()], capture_output=True, timeout=60, check=False)
        code.append((done.returncode, json.loads(done.stdout).get("step")))
    assert code == [(0, None), (1, "ledger.fork")]
    prove([path.read_bytes() for path in sorted((copy / "fork").iterdir())], first.log)
    assert (copy / "checkpoint").read_bytes() == first.checkpoint()
