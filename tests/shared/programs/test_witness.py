"""An external witness: set up once, durable before it answers, one history whatever races, and served over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import ConfigurationError, Malformed
from shared.ledger import note, witness
from shared.ledger.checkpoint import Checkpoint, sign_checkpoint
from shared.ledger.merkle import leaf_hash
from shared.ledger.note import KeyType, decode_vkey, verifier_key
from shared.ledger.witness import AddCheckpoint, Cosigned, Refused, Stale
from shared.programs import witness as program
from shared.programs.witness import Keeper, initialise, load, open_keeper
from tests.doubles.tree import Tree

ORIGIN = "ttp.example/ledger"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
LOG = verifier_key(ORIGIN, KeyType.LOG, KEY.public_key())
TREE = Tree(leaf_hash(bytes([number])) for number in range(100))
OTHER = Tree(leaf_hash(bytes([number, 1])) for number in range(100))
NOW = 1_764_000_000


def request(old: int, new: int, tree: Tree = TREE) -> bytes:
    """Return an honest request."""
    return AddCheckpoint(old, tree.consistency(old, new), checkpoint(new, tree)).encode()


def checkpoint(size: int, tree: Tree = TREE) -> bytes:
    """Return a signed checkpoint."""
    return sign_checkpoint(Checkpoint(ORIGIN, size, tree.root_at(size)), KEY)


def made(directory: Path, *seen: bytes) -> Keeper:
    """Make a witness and open it."""
    initialise(directory, name="w.example", logs=[LOG.encode()], seen=seen, draw_key=b"w" * 32, port=0)
    return reopened(directory)


def reopened(directory: Path) -> Keeper:
    """Open a witness as a new process would."""
    return open_keeper(directory, load(directory))


class TestKeeper:
    """programs.witness.Keeper."""

    def test_remembers(self, tmp_path: Path) -> None:
        """What was cosigned outlives the process: a fork is refused and a rollback is told the newest size."""
        assert isinstance(made(tmp_path / "w").add_checkpoint(request(0, 10), NOW).answer, Cosigned)
        keeper = reopened(tmp_path / "w")
        assert keeper.add_checkpoint(request(0, 5), NOW).answer == Stale(10)
        assert isinstance(keeper.add_checkpoint(request(10, 20, OTHER), NOW).answer, Refused)
        assert isinstance(keeper.add_checkpoint(request(10, 20), NOW).answer, Cosigned)

    def test_keeps_forks(self, tmp_path: Path) -> None:
        """Both signed checkpoints of a fork are kept, once, and verify as the log's."""
        keeper = made(tmp_path / "w")
        keeper.add_checkpoint(request(0, 10), NOW)
        for _again in range(2):
            keeper.add_checkpoint(request(10, 10, OTHER), NOW)
        (fork,) = reopened(tmp_path / "w").forks()
        texts = [note.verify(note.parse(octets), {LOG}).text for octets in (fork.first, fork.second)]
        assert texts == [checkpoint(10, tree).decode().partition("\n\n")[0] + "\n" for tree in (TREE, OTHER)]

    def test_newest(self, tmp_path: Path) -> None:
        """The newest cosigned checkpoint has the log's signature and its own; there is none before the first."""
        keeper = made(tmp_path / "w")
        name = witness.origin_hash(ORIGIN)
        assert keeper.newest(name) is None
        keeper.add_checkpoint(request(0, 10), NOW)
        newest = keeper.newest(name)
        assert newest is not None
        assert len(note.verify(note.parse(newest), {LOG, keeper.signer.verifier}).signatures) == 2
        assert keeper.newest(witness.origin_hash("other.example")) is None

    def test_race(self, tmp_path: Path) -> None:
        """Requests that race for one old size: one is cosigned, the others are told its size."""
        keeper = made(tmp_path / "w")
        keeper.add_checkpoint(request(0, 10), NOW)
        barrier, answers = threading.Barrier(8), []

        def ask(new: int) -> None:
            own = reopened(tmp_path / "w")
            barrier.wait()
            answers.append((new, own.add_checkpoint(request(10, new), NOW).answer))

        threads = [threading.Thread(target=ask, args=(20 + number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (won,) = [new for new, answer in answers if isinstance(answer, Cosigned)]
        assert [answer for _, answer in answers if not isinstance(answer, Cosigned)] == [Stale(won)] * 7

    def test_nothing_is_answered_before_it_is_stored(self, tmp_path: Path) -> None:
        """A state that can't be written gives no cosignature."""
        keeper = made(tmp_path / "w")
        with sqlite3.connect(tmp_path / "w" / program.STATE) as connection:
            connection.execute("CREATE TRIGGER full BEFORE INSERT ON witnessed BEGIN SELECT RAISE(FAIL, 'full'); END")
        with pytest.raises(sqlite3.Error):
            keeper.add_checkpoint(request(0, 10), NOW)

    def test_malformed(self, tmp_path: Path) -> None:
        """What isn't a request is refused as such."""
        with pytest.raises(Malformed):
            made(tmp_path / "w").add_checkpoint(b"old 0\n", NOW)


class TestSetUp:
    """programs.witness.initialise and open_keeper."""

    @pytest.mark.parametrize("left", [program.FILE, program.KEY, program.STATE])
    def test_never_reuses(self, tmp_path: Path, left: str) -> None:
        """A directory that holds a witness, or a part of one, isn't used again: after a restore comes a new key."""
        made(tmp_path / "w")
        for name in {program.FILE, program.KEY, program.STATE} - {left}:
            (tmp_path / "w" / name).unlink()
        with pytest.raises(ConfigurationError, match="takes a new key"):
            made(tmp_path / "w")

    def test_key_without_its_state(self, tmp_path: Path) -> None:
        """A key whose state is gone, or is another key's, isn't used."""
        made(tmp_path / "w")
        (tmp_path / "w" / program.STATE).unlink()
        with pytest.raises(ConfigurationError, match="don't use the key again"):
            reopened(tmp_path / "w")
        initialise(tmp_path / "v", name="v", logs=[LOG.encode()], seen=[], draw_key=b"v" * 32, port=0)
        (tmp_path / "v" / program.STATE).rename(tmp_path / "w" / program.STATE)
        with pytest.raises(ConfigurationError, match="state of another key"):
            reopened(tmp_path / "w")

    def test_damaged_state(self, tmp_path: Path) -> None:
        """A state that is no database is said to be so."""
        made(tmp_path / "w")
        (tmp_path / "w" / program.STATE).write_bytes(b"x" * 8192)
        with pytest.raises(ConfigurationError, match="can't be used"):
            reopened(tmp_path / "w")

    def test_catches_up_first(self, tmp_path: Path) -> None:
        """A new witness that was shown what others saw cosigns nothing older and no fork, and serves nothing yet."""
        keeper = made(tmp_path / "w", checkpoint(10), checkpoint(40), checkpoint(30))
        assert keeper.newest(witness.origin_hash(ORIGIN)) is None
        assert keeper.add_checkpoint(request(0, 30), NOW).answer == Stale(40)
        assert isinstance(keeper.add_checkpoint(request(40, 50, OTHER), NOW).answer, Refused)
        assert isinstance(keeper.add_checkpoint(request(40, 50), NOW).answer, Cosigned)

    def test_seen_checkpoints_are_verified(self, tmp_path: Path) -> None:
        """A checkpoint that the log didn't sign, or that is of another log, teaches nothing."""
        stranger = sign_checkpoint(Checkpoint(ORIGIN, 3, TREE.root_at(3)), Ed25519PrivateKey.generate())
        other = sign_checkpoint(Checkpoint("o.example", 3, TREE.root_at(3)), KEY)
        for octets in (stranger, other, b"nothing"):
            with pytest.raises(ConfigurationError):
                made(tmp_path / "w", octets)

    def test_a_witness_for_a_log_key(self, tmp_path: Path) -> None:
        """Only keys of logs can be witnessed."""
        for key in (Ed25519PrivateKey.generate().public_key(),):
            vkey = verifier_key("w", KeyType.COSIGNATURE, key).encode()
            for text in (vkey, "nonsense"):
                with pytest.raises(ConfigurationError, match="logs"):
                    initialise(tmp_path / "w", name="w", logs=[text], seen=[], draw_key=bytes(32), port=0)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[httpx.Client, str, subprocess.Popen[str]]]:
    """Run the two commands of an operator; return a client, the vkey that was printed, and the process."""
    command = [sys.executable, "-m", "shared.cli", "ledger", "witness"]
    arguments = ["--name", "w.example/one", "--log", LOG.encode(), "--port", "0"]
    init = [*command, "init", "--dir", str(tmp_path / "w"), *arguments]
    vkey = subprocess.run(init, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    process = subprocess.Popen([*command, "serve", "--dir", str(tmp_path / "w")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = json.loads(process.stdout.readline())["port"]
    with process, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        yield client, vkey, process
        process.kill()


class TestServed:
    """`secmtp ledger witness`."""

    def test_over_http(self, served: tuple[httpx.Client, str, subprocess.Popen[str]], tmp_path: Path) -> None:
        """A log talks to it as C2SP says: 200, 409 with the size, 4xx; and it ends with exit code 0 when told to."""
        client, vkey, process = served
        answer = client.post("/add-checkpoint", content=request(0, 10))
        assert answer.status_code == 200
        verified = note.verify(note.parse(checkpoint(10) + answer.content), {LOG, decode_vkey(vkey)})
        assert len(verified.signatures) == 2
        stale = client.post("/add-checkpoint", content=request(0, 20))
        assert (stale.status_code, stale.text) == (409, "10\n")
        assert stale.headers["content-type"] == "text/x.tlog.size"
        bad = request(10, 20).replace(b"\n\n", b"\n" + b"A" * 43 + b"=\n\n", 1)
        expected = [(b"", 400), (bad, 422), (b"x" * 100_000, 400), (request(10, 10, OTHER), 422)]
        assert [(body, client.post("/add-checkpoint", content=body).status_code) for body, _ in expected] == expected
        newest = client.get(f"/{witness.origin_hash(ORIGIN)}/checkpoint")
        assert newest.content == checkpoint(10) + answer.content
        assert client.get(f"/{'0' * 64}/checkpoint").status_code == 404
        assert client.get("/add-checkpoint").status_code == 405
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        forks = [sys.executable, "-m", "shared.cli", "ledger", "witness", "forks", "--dir", str(tmp_path / "w")]
        done = subprocess.run(forks, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert checkpoint(10, OTHER).decode() in done.stdout

    def test_killed(self, served: tuple[httpx.Client, str, subprocess.Popen[str]], tmp_path: Path) -> None:
        """After kill -9 it knows what it answered."""
        client, _vkey, process = served
        assert client.post("/add-checkpoint", content=request(0, 10)).status_code == 200
        os.kill(process.pid, signal.SIGKILL)
        process.wait(20)
        assert reopened(tmp_path / "w").add_checkpoint(request(0, 20), NOW).answer == Stale(10)

    def test_over_https(self, tmp_path: Path) -> None:
        """With a certificate in its settings it speaks HTTPS only."""
        made(tmp_path / "w")
        names = ["-subj", "/CN=w", "-addext", "subjectAltName=IP:127.0.0.1"]
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(tmp_path / "key.pem")]
        request_one = [
            shutil.which("openssl") or "openssl",
            "req",
            "-x509",
            *key,
            *names,
            "-out",
            str(tmp_path / "tls.pem"),
        ]
        subprocess.run(request_one, check=True, timeout=60)
        text = (tmp_path / "w" / program.FILE).read_text()
        text = text.replace('certificate = ""', f'certificate = "{tmp_path / "tls.pem"}"')
        text = text.replace('private_key = ""', f'private_key = "{tmp_path / "key.pem"}"')
        (tmp_path / "w" / program.FILE).write_text(text)
        serve = [sys.executable, "-m", "shared.cli", "ledger", "witness", "serve", "--dir", str(tmp_path / "w")]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            port = json.loads(process.stdout.readline())["port"]
            context = ssl.create_default_context(cafile=str(tmp_path / "tls.pem"))
            url = f"https://127.0.0.1:{port}/add-checkpoint"
            assert httpx.post(url, content=request(0, 10), verify=context).status_code == 200
            with pytest.raises(httpx.HTTPError):
                httpx.post(url.replace("https", "http"), content=request(10, 20))
            process.kill()
