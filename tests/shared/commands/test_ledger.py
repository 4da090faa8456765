"""`secmtp ledger`: what auditors, mirrors and monitors are told, and what they keep."""

from __future__ import annotations

import gzip
import json
import os
import pty
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared import cli
from shared.commands import ledger_store
from shared.crypto.certificates import Purpose
from shared.crypto.issuance import Issuer, Validity, issue_leaf, issue_root
from shared.crypto.keys import generate_p256
from shared.ledger import note, tiles
from shared.ledger.note import KeyType, verifier_key
from shared.ledger.tiles import ENTRIES, WIDTH, TileName
from shared.programs import files
from tests.doubles.logs import KEY, LOG, Log, QuietFiles, exchange, over_http

ENTRIES_OF_LOG = [exchange(number, "COMPLETED" if number % 3 else "EXPIRED") for number in range(1100)]
VKEY = LOG.encode()
Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command of the group with the log's key, and return exit code and answer."""

    def call(*arguments: str | Path, key: str = VKEY) -> tuple[int, dict[str, Any]]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["ledger", *map(str, arguments), "--key", key, "--json"])
        answer: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert isinstance(ended.value.code, int)
        return ended.value.code, answer

    return call


def log_of(size: int, *more: bytes, first: bytes | None = None) -> Log:
    """Return a log of this size, with other entries behind, or another first one."""
    found = ENTRIES_OF_LOG[:size] if first is None else [first, *ENTRIES_OF_LOG[1:size]]
    return Log([*found, *more])


def files_of(place: Path) -> dict[str, bytes]:
    """Return all files of a directory."""
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


class Compressing(QuietFiles):
    """Compresses everything, asked or not."""

    def do_GET(self) -> None:  # noqa: N802  (the library's name)
        """Serve a file."""
        path = Path(self.translate_path(self.path))
        data = gzip.compress(path.read_bytes()) if path.is_file() else b""
        self.send_response(200 if data else 404)
        self.send_header("Content-Length", str(len(data)))
        if data:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(data)


class TestVerify:
    @pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1000])
    def test_sound(self, size: int, tmp_path: Path, run: Run) -> None:
        """A sound log passes, over HTTP and from a directory, with counts of what is in it."""
        log = log_of(size)
        log.write(tmp_path)
        with over_http(tmp_path) as address:
            answers = [run("verify", address), run("verify", tmp_path)]
        assert answers[0] == answers[1]
        code, answer = answers[0]
        assert (code, answer["ok"], answer["size"], answer["findings"]) == (0, True, size, [])
        assert answer["counts"].get("exchange", 0) == size

    def test_every_file(self, tmp_path: Path, run: Run) -> None:
        """A log with any file changed, or missing, fails at the step that says what it is."""
        log = log_of(600)
        log.write(tmp_path)
        for name in log.names():
            path = tmp_path / tiles.path(*name)
            data = path.read_bytes()
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            code, answer = run("verify", tmp_path)
            assert (code, answer["step"]) == (1, self.step(name))
            path.unlink()
            assert (run("verify", tmp_path)[1]["step"]) == "ledger.missing"
            path.write_bytes(data)
        assert run("verify", tmp_path)[0] == 0

    def step(self, name: TileName) -> str:
        """Return the step at which a changed file is found."""
        if name.level == ENTRIES:
            return "ledger.entries"
        return "ledger.tile" if name.width == WIDTH else "ledger.root"

    def test_full_instead_of_partial(self, tmp_path: Path, run: Run) -> None:
        """A server that has grown meanwhile, and dropped its partial tiles, is read by its full ones."""
        log_of(600).write(tmp_path)
        log_of(1100).write(tmp_path)
        (tmp_path / "checkpoint").write_bytes(log_of(600).at().signed)
        for folder in (tmp_path / "tile/0/002.p", tmp_path / "tile/entries/002.p"):
            shutil.rmtree(folder)
        code, answer = run("verify", tmp_path)
        assert (code, answer["size"], answer["counts"]["exchange"]) == (0, 600, 600)

    def test_compressed(self, tmp_path: Path, run: Run) -> None:
        """A server may compress what it serves; bounds are on what comes out."""
        log_of(300).write(tmp_path)
        with over_http(tmp_path, Compressing) as address:
            assert run("verify", address)[1]["counts"]["exchange"] == 300
            (tmp_path / "tile/0/000").write_bytes(bytes(2**20))
            assert run("verify", address)[1]["step"] == "ledger.tile"

    def test_two_outcomes(self, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """An exchange with two outcomes is an alarm that names both entries."""
        log_of(600, exchange(17, "ABORTED")).write(tmp_path)
        code, answer = run("verify", tmp_path)
        assert (code, answer["ok"]) == (1, False)
        expected = {
            "step": "exchange.outcomes",
            "entry": 600,
            "reason": "its exchange has an outcome already, in entry 17",
        }
        assert answer["findings"] == [expected]
        with pytest.raises(SystemExit):
            cli.main(["ledger", "verify", str(tmp_path), "--key", VKEY])
        assert "ALARM" in capsys.readouterr().out

    def test_many_findings(self, tmp_path: Path, run: Run) -> None:
        """However much is wrong, a hundred findings are told."""
        log_of(300, *ENTRIES_OF_LOG[:300]).write(tmp_path)
        code, answer = run("verify", tmp_path)
        assert (code, len(answer["findings"]), answer["findings"][0]["entry"]) == (1, 100, 300)

    def test_another_key(self, tmp_path: Path, run: Run) -> None:
        """A log that another key signs, or of another name, isn't the one to be audited."""
        log_of(3).write(tmp_path)
        stranger = Ed25519PrivateKey.generate().public_key()
        assert run("verify", tmp_path, key=verifier_key(LOG.name, KeyType.LOG, stranger).encode())[0] == 1
        code, answer = run("verify", tmp_path, key=verifier_key("other/log", KeyType.LOG, KEY.public_key()).encode())
        assert (code, answer["step"]) == (1, "checkpoint.origin")

    def test_certified(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """With a root certificate the log's key is the one that it certifies, and of no other root."""
        log_of(300).write(tmp_path / "log")
        valid = Validity.starting(int(time.time()), 3600)
        key, stranger = generate_p256(), generate_p256()
        root = issue_root("root", key, 1, valid)
        certificate = issue_leaf(Purpose.LEDGER, KEY.public_key(), [LOG.name], Issuer(root, key), 2, valid)
        (tmp_path / "log" / "certificate").write_bytes(certificate)
        answers = []
        for trusted in (root, issue_root("root", stranger, 1, valid)):
            (tmp_path / "root.pem").write_text(ssl.DER_cert_to_PEM_cert(trusted))
            with pytest.raises(SystemExit):
                cli.main(["ledger", "verify", str(tmp_path / "log"), "--trust", str(tmp_path / "root.pem"), "--json"])
            answers.append(json.loads(capsys.readouterr().out))
        assert [answer.get("step") for answer in answers] == [None, "certificate.chain"]
        assert answers[0]["size"] == 300

    def test_unusable(self, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """No key, a witness's key, no log and no server exit 2 with the reason."""
        log_of(3).write(tmp_path / "log")
        with pytest.raises(SystemExit) as ended:
            cli.main(["ledger", "verify", str(tmp_path / "log"), "--json"])
        assert ended.value.code == 2
        assert "whom to believe" in json.loads(capsys.readouterr().out)["reason"]
        witness = verifier_key("w.example/w", KeyType.COSIGNATURE, KEY.public_key()).encode()
        assert "witness" in run("verify", tmp_path / "log", key=witness)[1]["reason"]
        for place in (tmp_path, tmp_path / "nowhere", "http://127.0.0.1:1/ledger", "https://127.0.0.1:1/ledger"):
            code, answer = run("verify", place)
            assert (code, answer["step"]) == (2, "input")

    def test_policy(self, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
        """With a policy its quorum must have cosigned; one that lists the log needs no other key."""
        log_of(3).write(tmp_path)
        keys = [Ed25519PrivateKey.generate() for _ in range(2)]
        vkeys = [verifier_key(f"w{at}.example/w", KeyType.COSIGNATURE, key.public_key()) for at, key in enumerate(keys)]
        lines = (
            "".join(f"witness w{at} {vkey.encode()}\n" for at, vkey in enumerate(vkeys)) + "group q 2 w0 w1\nquorum q\n"
        )
        (tmp_path / "policy").write_text(f"log {VKEY}\n{lines}")
        text = note.parse(log_of(3).at().signed).text
        steps = [run("verify", tmp_path, "--policy", tmp_path / "policy")[1]["step"]]
        for vkey, key in zip(vkeys, keys, strict=True):
            with (tmp_path / "checkpoint").open("ab") as file:
                file.write(note.cosign(text, vkey.name, key, 1_764_000_000).encode().encode())
            with pytest.raises(SystemExit):
                cli.main(["ledger", "verify", str(tmp_path), "--policy", str(tmp_path / "policy"), "--json"])
            answer = json.loads(capsys.readouterr().out)
            steps.append(answer.get("step"))
        assert steps == ["ledger.quorum", "ledger.quorum", None]
        assert answer["witnessed"] == "2 of 2, quorum met"
        other = verifier_key(LOG.name, KeyType.LOG, keys[0].public_key()).encode()
        assert run("verify", tmp_path, "--policy", tmp_path / "policy", key=other)[1]["step"] == "ledger.policy"
        assert run("verify", tmp_path)[1]["witnessed"] == "0 of 0, ledger not witnessed"

    def test_too_much(self, tmp_path: Path, run: Run) -> None:
        """A file larger than it can be isn't read to its end."""
        log_of(300).write(tmp_path)
        (tmp_path / "tile/0/000").write_bytes(bytes(tiles.FULL + 1))
        code, answer = run("verify", tmp_path)
        assert (code, answer["step"]) == (1, "ledger.tile")
        (tmp_path / "checkpoint").write_bytes(bytes(2**17))
        assert run("verify", tmp_path)[0] == 2

    def test_progress(self, tmp_path: Path) -> None:
        """On a terminal a bar shows how far the audit is; its answer stays on stdout."""
        log_of(600).write(tmp_path)
        primary, secondary = pty.openpty()
        command = [sys.executable, "-m", "shared.cli", "ledger", "verify", str(tmp_path), "--key", VKEY]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=secondary,
            timeout=60,
            check=False,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(secondary)
        shown = os.read(primary, 65536).decode()
        os.close(primary)
        assert done.returncode == 0
        assert "600/600" in shown
        assert done.stdout.decode().startswith("OK ttp.example/ledger: 600 entries")


class TestMirror:
    def test_grows(self, tmp_path: Path, run: Run) -> None:
        """A mirror follows a log, holds each checkpoint that it saw, and can be mirrored itself."""
        source, copy = tmp_path / "log", tmp_path / "copy"
        for size, new in ((3, 3), (3, 0), (256, 253), (600, 344), (1100, 500)):
            log_of(size).write(source)
            with over_http(source) as address:
                code, answer = run("mirror", address, copy)
            assert (code, answer["size"], answer["mirrored"]) == (0, size, new)
            assert run("verify", copy)[0] == 0
        assert run("verify", copy)[1]["checkpoints"] == 4
        whole = {**files_of(log_of(1100).write(tmp_path / "fresh"))}
        held = files_of(copy)
        assert {name: held.get(name) for name in whole} == whole
        with over_http(copy) as address:
            assert run("mirror", address, tmp_path / "second")[0] == 0
        again = files_of(tmp_path / "second")
        assert {name: again.get(name) for name in whole} == whole

    def test_only_what_is_new(self, tmp_path: Path, run: Run) -> None:
        """What the mirror has isn't fetched again, and partial tiles go when they are full."""
        source, copy = tmp_path / "log", tmp_path / "copy"
        log_of(600).write(source)
        assert run("mirror", source, copy)[0] == 0
        assert (copy / "tile/0/002.p/88").exists()
        (source / "tile/entries/000").unlink()
        (source / "tile/0/001").unlink()
        log_of(1100).write(tmp_path / "later")
        for name in (TileName(ENTRIES, 0), TileName(0, 1)):
            (tmp_path / "later" / tiles.path(*name)).unlink()
        assert run("mirror", tmp_path / "later", copy)[0] == 0
        assert not (copy / "tile/0/002.p").exists()
        assert not (copy / "tile/entries/002.p").exists()
        assert run("verify", copy)[0] == 0

    @pytest.mark.parametrize("size", [600, 601, 1100])
    def test_fork(self, size: int, tmp_path: Path, run: Run) -> None:
        """A log that forked is refused for good: nothing changes but that both notes are kept."""
        source, copy = tmp_path / "log", tmp_path / "copy"
        log_of(600).write(source)
        assert run("mirror", source, copy)[0] == 0
        before = files_of(copy)
        forked = log_of(size, first=exchange(5000))
        forked.write(tmp_path / "forked")
        code, answer = run("mirror", tmp_path / "forked", copy)
        assert (code, answer["step"]) == (1, "ledger.fork")
        notes = [log_of(600).at().signed, forked.at().signed]
        assert answer["notes"] == [data.decode() for data in notes]
        after = files_of(copy)
        kept = {name: after.pop(name) for name in list(after) if name.startswith("fork/")}
        assert sorted(kept.values()) == sorted(notes)
        assert after == before
        code, answer = run("mirror", source, copy)
        assert (code, answer["step"]) == (1, "ledger.fork")
        assert run("verify", copy)[0] == 0

    def test_shrunk(self, tmp_path: Path, run: Run) -> None:
        """A log that is smaller than before is refused, and both notes are kept."""
        source, copy = tmp_path / "log", tmp_path / "copy"
        log_of(600).write(source)
        assert run("mirror", source, copy)[0] == 0
        code, answer = run("mirror", log_of(599).write(tmp_path / "old"), copy)
        assert (code, answer["step"]) == (1, "ledger.rollback")
        assert len([name for name in files_of(copy) if name.startswith("rollback/")]) == 2
        assert run("mirror", source, copy)[0] == 0

    def test_lying_server(self, tmp_path: Path, run: Run) -> None:
        """A server whose tiles aren't under the signed root is refused, which proves nothing against the log."""
        source, copy = tmp_path / "log", tmp_path / "copy"
        log_of(600).write(source)
        assert run("mirror", source, copy)[0] == 0
        before = files_of(copy)
        later = log_of(1100).write(tmp_path / "later")
        (later / "tile/0/003").write_bytes(bytes(tiles.FULL))
        assert run("mirror", later, copy)[1]["step"] == "ledger.tile"
        after = files_of(copy)
        assert {name: after.get(name) for name in before} == before
        assert not any(name.startswith("fork/") for name in after)
        assert run("verify", copy)[1]["size"] == 600
        assert run("mirror", log_of(1100).write(tmp_path / "later"), copy)[0] == 0

    def test_another_log(self, tmp_path: Path, run: Run) -> None:
        """A directory that holds another log isn't touched."""
        assert run("mirror", log_of(3).write(tmp_path / "log"), tmp_path / "copy")[0] == 0
        before = files_of(tmp_path / "copy")
        other = Log(ENTRIES_OF_LOG[:5], "other.example/ledger")
        key = verifier_key(other.origin, KeyType.LOG, KEY.public_key()).encode()
        assert (
            run("mirror", other.write(tmp_path / "other"), tmp_path / "copy", key=key)[1]["step"] == "checkpoint.origin"
        )
        assert files_of(tmp_path / "copy") == before

    def test_two_at_once(self, tmp_path: Path, run: Run) -> None:
        """While one process writes a mirror, a second one is turned away."""
        source = log_of(3).write(tmp_path / "log")
        with ledger_store.Mirror(tmp_path / "copy").locked():
            code, answer = run("mirror", source, tmp_path / "copy")
        assert (code, "another process" in answer["reason"]) == (2, True)
        assert run("mirror", source, tmp_path / "copy")[0] == 0

    def test_cut_off_at_every_file(self, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """Cut off before any file it writes, a mirror is whole at its old or new size, and goes on from there."""
        source, later = log_of(300).write(tmp_path / "log"), log_of(600).write(tmp_path / "later")
        really, points = files.replace_public, 0
        while True:
            copy = tmp_path / f"copy{points}"
            assert run("mirror", source, copy)[0] == 0
            left = points

            def cut(path: Path, data: bytes) -> None:
                nonlocal left
                if left == 0:
                    raise OSError(5, "cut off", str(path))
                left -= 1
                really(path, data)

            monkeypatch.setattr("shared.commands.ledger_store.replace_public", cut)
            with pytest.raises(SystemExit) as ended:
                cli.main(["ledger", "mirror", str(later), str(copy), "--key", VKEY, "--json"])
            monkeypatch.setattr("shared.commands.ledger_store.replace_public", really)
            assert run("verify", copy)[1]["size"] in (300, 600)
            assert run("mirror", later, copy)[0] == 0
            code, answer = run("verify", copy)
            assert (code, answer["size"], answer["checkpoints"]) == (0, 600, 2)
            if ended.value.code == 0:
                break
            points += 1
        assert points == 8  # old history, 2 bundles, 2 tiles of level 0, 1 of level 1, checkpoint, history


class TestMonitor:
    def test_goes_on(self, tmp_path: Path, run: Run) -> None:
        """A monitor reads what is new since it last looked."""
        state = tmp_path / "state"
        for size, since in ((0, 0), (3, 0), (3, 3), (600, 3), (1100, 600)):
            source = log_of(size).write(tmp_path / str(size))
            code, answer = run("monitor", source, "--state", state)
            assert (code, answer["size"], answer["since"]) == (0, size, since)
            assert answer["counts"].get("exchange", 0) == size - since

    def test_second_outcome(self, tmp_path: Path, run: Run) -> None:
        """A second outcome is an alarm, though the first one was read long ago, and again at each run."""
        state = tmp_path / "state"
        assert run("monitor", log_of(600).write(tmp_path / "log"), "--state", state)[0] == 0
        bad = log_of(700, exchange(17, "ABORTED"), exchange(9000)).write(tmp_path / "bad")
        for _ in range(2):
            code, answer = run("monitor", bad, "--state", state)
            assert code == 1
            assert [(one["step"], one["entry"]) for one in answer["findings"]] == [("exchange.outcomes", 700)]
            assert answer["since"] == 600

    def test_garbage(self, tmp_path: Path, run: Run) -> None:
        """One entry of garbage among a thousand stops the monitor before it, though it is under the signature."""
        state = tmp_path / "state"
        assert run("monitor", log_of(500).write(tmp_path / "log"), "--state", state)[0] == 0
        bad = Log([*ENTRIES_OF_LOG[:777], b"garbage", *ENTRIES_OF_LOG[777:1000]])
        for size in (1001, 1001):
            code, answer = run("monitor", bad.write(tmp_path / "bad"), "--state", state)
            assert (code, answer["size"], answer["since"]) == (1, size, 500)
            assert [(one["step"], one["entry"]) for one in answer["findings"]] == [("entry.syntax", 777)]
            assert answer["counts"]["exchange"] == 500

    def test_time(self, tmp_path: Path, run: Run) -> None:
        """Ledger time is compared with the last run's."""
        state = tmp_path / "state"
        assert run("monitor", Log([exchange(1, time=9)]).write(tmp_path / "log"), "--state", state)[0] == 0
        later = Log([exchange(1, time=9), exchange(2, time=8)]).write(tmp_path / "later")
        assert run("monitor", later, "--state", state)[1]["findings"][0]["step"] == "entry.time"

    @pytest.mark.parametrize(("size", "step"), [(599, "rollback"), (600, "fork"), (1100, "fork")])
    def test_fork(self, size: int, step: str, tmp_path: Path, run: Run) -> None:
        """A log that doesn't go on from where it was checked is an alarm, and both notes are kept beside the state."""
        state = tmp_path / "monitor" / "state"
        state.parent.mkdir()
        assert run("monitor", log_of(600).write(tmp_path / "log"), "--state", state)[0] == 0
        other = log_of(size, first=exchange(5000) if step == "fork" else None)
        code, answer = run("monitor", other.write(tmp_path / "other"), "--state", state)
        assert (code, answer["step"]) == (1, f"ledger.{step}")
        kept = files_of(state.parent / step)
        assert sorted(kept.values()) == sorted([log_of(600).at().signed, other.at().signed])
        assert run("monitor", tmp_path / "log", "--state", state)[0] == 0

    def test_unusable_state(self, tmp_path: Path, run: Run) -> None:
        """A file that isn't a monitor's memory is refused and left alone, another log's memory too."""
        source = log_of(3).write(tmp_path / "log")
        (tmp_path / "text").write_bytes(b"no database" * 1000)
        assert run("monitor", source, "--state", tmp_path / "text")[0] == 2
        assert (tmp_path / "text").read_bytes() == b"no database" * 1000
        assert run("monitor", source, "--state", tmp_path / "nowhere" / "state")[0] == 2
        other = Log(ENTRIES_OF_LOG[:5], "other.example/ledger")
        key = verifier_key(other.origin, KeyType.LOG, KEY.public_key()).encode()
        assert run("monitor", other.write(tmp_path / "other"), "--state", tmp_path / "state", key=key)[0] == 0
        assert run("monitor", source, "--state", tmp_path / "state")[1]["step"] == "checkpoint.origin"
