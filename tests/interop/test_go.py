"""Go's library for checksum databases accepts our ledger and refuses an altered one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from shared.ledger import proof as proofs
from shared.ledger import tiles
from shared.ledger.checkpoint import Checkpoint, sign_checkpoint
from shared.ledger.tiles import ENTRIES
from tests.doubles.logs import KEY, LOG, Log, exchange
from tests.vectors import make_ledger

SOURCES = Path(__file__).parent / "go"
VECTORS: dict[str, Any] = json.loads((SOURCES.parents[1] / "vectors" / "ledger" / "ledger.json").read_text("utf-8"))
GOLDEN: dict[str, Any] = json.loads((SOURCES.parents[1] / "vectors" / "ledger" / "c2sp.json").read_text("utf-8"))
SIGNED = VECTORS["checkpoints"]
Question = dict[str, Any]
Ask = Callable[[Sequence[Question]], list[str]]

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Build the program, and return what asks it: one answer for each question."""
    place = tmp_path_factory.mktemp("go")
    library = {
        "GO111MODULE": "off",
        "GOPATH": "/usr/share/gocode",
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
        "GOCACHE": str(place / "cache"),
    }
    command = ["go", "build", "-o", str(place / "verify"), "."]
    built = subprocess.run(command, cwd=SOURCES, env={**os.environ, **library}, capture_output=True, check=False)
    assert built.returncode == 0, built.stderr.decode()

    def questions(asked: Sequence[Question]) -> list[str]:
        lines = "".join(json.dumps({"vkey": VECTORS["log"]["vkey"], **question}) + "\n" for question in asked)
        done = subprocess.run([place / "verify"], input=lines.encode(), capture_output=True, timeout=60, check=True)
        answers = done.stdout.decode().splitlines()
        assert len(answers) == len(asked)
        return answers

    return questions


def base64(hashes: Sequence[bytes]) -> list[str]:
    """Return hashes as the library reads them."""
    return [b64encode(one).decode() for one in hashes]


def record(data: str, entry: str) -> Question:
    """Ask about a proof file."""
    proof = proofs.decode(data.encode())
    note = proof.checkpoint.decode()
    return {"ask": "record", "note": note, "index": proof.index, "entry": entry, "path": base64(proof.path)}


def tree(old: int, new: int, path: Sequence[bytes]) -> Question:
    """Ask about a consistency proof of the vectors' log."""
    log = make_ledger.Log()
    notes = {"older": log.checkpoint(old).decode(), "note": log.checkpoint(new).decode()}
    return {"ask": "tree", **notes, "path": base64(path)}


class TestVectors:
    def test_checkpoints(self, ask: Ask) -> None:
        """The library opens our checkpoints, whose cosignature it ignores as an unknown one's, and the golden one."""
        asked: list[Question] = [{"ask": "note", "note": data} for data in SIGNED.values()]
        asked.append({"ask": "note", "note": GOLDEN["checkpoint"]["note"], "vkey": GOLDEN["checkpoint"]["log_vkey"]})
        assert ask(asked) == ["ok"] * len(asked)

    def test_proofs(self, ask: Ask) -> None:
        """It accepts our proofs of inclusion and consistency."""
        asked = [record(case["proof"], case["entry"]) for case in VECTORS["inclusion"]]
        paths = [
            (case["old"], case["new"], [bytes.fromhex(one) for one in case["path"]]) for case in VECTORS["consistency"]
        ]
        # From size 0 and between equal sizes the library knows no proof.
        asked += [tree(*case) for case in paths if 0 < case[0] < case[1]]
        assert len(asked) == 17
        assert ask(asked) == ["ok"] * len(asked)

    def test_refused(self, ask: Ask) -> None:
        """It refuses what we refuse: notes, proofs and paths that were changed."""
        refused = VECTORS["refused"]
        asked: list[Question] = [{"ask": "note", "note": case["note"]} for case in refused["checkpoints"]]
        asked += [record(data, refused["inclusion"]["entry"]) for data in refused["inclusion"]["proofs"]]
        asked += [tree(3, 7, [bytes.fromhex(one) for one in path]) for path in refused["consistency"]["paths"]]
        accepted = [question for question, answer in zip(asked, ask(asked), strict=True) if answer == "ok"]
        # Of a second line of a known key the library looks at the first only, and it doesn't know cosignatures; it
        # leaves the form of numbers to whoever reads the text, which here is Go's parser.
        known = [case["note"] for case in refused["checkpoints"]]
        assert [known.index(question["note"]) for question in accepted] == [3, 4, 9, 10]


class TestLog:
    @pytest.mark.parametrize("size", [1, 256, 257, 1000])
    def test_whole(self, ask: Ask, size: int, tmp_path: Path) -> None:
        """It recomputes the root from our tiles, and finds every entry of our bundles in them."""
        log = Log([exchange(number) for number in range(size)])
        log.write(tmp_path)
        note = log.at().signed.decode()
        assert ask([{"ask": "log", "vkey": LOG.encode(), "note": note, "place": str(tmp_path)}]) == ["ok"]

    def test_altered(self, ask: Ask, tmp_path: Path) -> None:
        """It refuses the log with any file of it altered, and with another root signed."""
        log = Log([exchange(number) for number in range(600)])
        question: Question = {"ask": "log", "vkey": LOG.encode(), "note": log.at().signed.decode()}
        asked = []
        for number, name in enumerate(log.names()):
            place = tmp_path / str(number)
            log.write(place)
            path = place / tiles.path(*name)
            data = path.read_bytes()
            path.write_bytes(data[:9] + bytes([data[9] ^ 1]) + data[10:])
            asked.append({**question, "place": str(place)})
        assert len(asked) == 7
        assert sum(name.level == ENTRIES for name in log.names()) == 3
        other = sign_checkpoint(Checkpoint(LOG.name, 600, bytes(32)), KEY)
        asked.append({**question, "note": other.decode(), "place": str(log.write(tmp_path / "other"))})
        answers = ask(asked)
        assert "ok" not in answers
        shutil.rmtree(tmp_path)
