from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from secmtp_node.delivery.maildir import Maildirs
from secmtp_node.ports.services import Delivery
from shared.errors import Unavailable

NAME = "ab" * 32
LETTER = [b"SecMTP-Exchange: x\r\n", b"From: a@a.example\r\n\r\n", b"Dear Bob\r\n"]
WHOLE = b"".join(LETTER)

# Dies at the n-th step that touches the mailbox, for n = 1, 2, … until a delivery comes through, and prints
# for each: what was visible after the crash, and what after the repetition.
CRASHES = """
import json, os, pathlib, sys
from secmtp_node.delivery.maildir import Maildirs
from secmtp_node.ports.services import Delivery

place, name = pathlib.Path(sys.argv[1]), "ab" * 32
letter = [b"SecMTP-Exchange: x\\r\\n", b"From: a@a.example\\r\\n\\r\\n", b"Dear Bob\\r\\n"]

def visible(box):
    files = [path for part in ("new", "cur") for path in (box / part).glob("*")]
    return [path.read_bytes().decode() for path in files]

left = [0]

def count():
    left[0] -= 1
    if left[0] == 0:
        os._exit(9)

def pieces():
    for piece in letter:
        yield piece
        count()

def deliver(root):
    Maildirs(root).deliver(Delivery("bob@b.example", name, pieces()))

def crash_at(step):
    left[0] = step
    fsync = os.fsync
    def counted(descriptor):
        count()
        fsync(descriptor)
    os.fsync = counted
    def hook(event, arguments):
        if event in ("open", "os.mkdir", "os.rename") and str(place) in str(arguments[0]):
            count()
    sys.addaudithook(hook)

seen, step, code = [], 0, 9
while code == 9:
    step += 1
    root = place / str(step)
    child = os.fork()
    if child == 0:
        crash_at(step)
        deliver(root)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    after = visible(root / "bob@b.example")
    deliver(root)
    seen.append([after, visible(root / "bob@b.example")])
print(json.dumps({"code": code, "seen": seen}))
"""


def box_of(place: Path) -> Path:
    """Return Bob's Maildir."""
    return place / "mail" / "bob@b.example"


def deliver(place: Path, pieces: Iterator[bytes] | list[bytes] | None = None, name: str = NAME) -> None:
    """Deliver to Bob, as a node that just started would."""
    Maildirs(place / "mail").deliver(Delivery("bob@b.example", name, LETTER if pieces is None else pieces))


class TestDeliver:
    def test_octets(self, tmp_path: Path) -> None:
        """A message is in `new` as it is, line ends too, and nothing is left in `tmp`."""
        deliver(tmp_path)
        assert (box_of(tmp_path) / "new" / NAME).read_bytes() == WHOLE
        assert list((box_of(tmp_path) / "tmp").iterdir()) == []

    def test_for_the_owner_only(self, tmp_path: Path) -> None:
        """Directories are 0700 and messages 0600."""
        deliver(tmp_path)
        for path in [tmp_path / "mail", *(tmp_path / "mail").rglob("*")]:
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path

    def test_repeated(self, tmp_path: Path) -> None:
        """The same name is delivered once, and the first message stands."""
        deliver(tmp_path)
        deliver(tmp_path, [b"another"])
        assert [path.read_bytes() for path in (box_of(tmp_path) / "new").iterdir()] == [WHOLE]

    @pytest.mark.parametrize("flags", ["", ":2,", ":2,S", ":2,FRS"])
    def test_read_meanwhile(self, tmp_path: Path, flags: str) -> None:
        """A message that a mail program has moved to `cur`, under any flags, isn't delivered again."""
        deliver(tmp_path)
        box = box_of(tmp_path)
        (box / "new" / NAME).rename(box / "cur" / (NAME + flags))
        deliver(tmp_path)
        assert list((box / "new").iterdir()) == []

    def test_names_that_begin_alike(self, tmp_path: Path) -> None:
        """A receipt's name begins with the exchange's and is another message."""
        deliver(tmp_path, name=NAME + ".receipt")
        deliver(tmp_path)
        assert {path.name for path in (box_of(tmp_path) / "new").iterdir()} == {NAME, NAME + ".receipt"}

    @pytest.mark.parametrize("name", ["", "../" + NAME, NAME + "/x", NAME + ":2,S", NAME.upper(), NAME + ".a.b"])
    def test_other_names(self, tmp_path: Path, name: str) -> None:
        """A name that could be a path or carry flags is refused."""
        with pytest.raises(ValueError, match="can't name a message"):
            deliver(tmp_path, name=name)

    @pytest.mark.parametrize(
        "address", ["../x@b.example", "a/b@b.example", ".@b.example", "x" * 300 + "@b", "é@b.example"]
    )
    def test_addresses_as_paths(self, tmp_path: Path, address: str) -> None:
        """Every address has a directory of its own directly below, whatever is in it."""
        boxes = Maildirs(tmp_path / "mail")
        boxes.deliver(Delivery(address, NAME, LETTER))
        assert boxes.path(address).parent == tmp_path / "mail"
        assert (boxes.path(address) / "new" / NAME).read_bytes() == WHOLE


class TestFaults:
    def test_pieces_that_fail(self, tmp_path: Path) -> None:
        """What fails while a message is written leaves nothing, and the fault goes on to the caller."""

        def pieces() -> Iterator[bytes]:
            yield LETTER[0]
            raise KeyError("the digest doesn't fit")

        with pytest.raises(KeyError):
            deliver(tmp_path, pieces())
        assert [path for path in box_of(tmp_path).rglob("*") if path.is_file()] == []

    def test_disk_that_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that can't sync is Unavailable at each step, never a success, and later the message is there once."""
        real, left = os.fsync, [0]

        def fsync(descriptor: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        for good in range(4):
            left[0] = good
            with pytest.raises(Unavailable):
                deliver(tmp_path / str(good))
        left[0] = 100
        for good in range(4):
            deliver(tmp_path / str(good))
            assert [path.read_bytes() for path in (box_of(tmp_path / str(good)) / "new").iterdir()] == [WHOLE]

    def test_repetition_after_a_failed_sync(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A repetition that finds the message doesn't say that it is delivered before its name is durable."""
        deliver(tmp_path)

        def fsync(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(Unavailable):
            deliver(tmp_path)

    def test_crash_at_every_step(self, tmp_path: Path) -> None:
        """A process that dies at any step shows all of a message or nothing, and the repetition delivers it once."""
        done = subprocess.run(
            [sys.executable, "-c", CRASHES, str(tmp_path)], capture_output=True, text=True, timeout=50, check=True
        )
        found = json.loads(done.stdout)
        text = WHOLE.decode()
        assert found["code"] == 0
        assert len(found["seen"]) > 8
        assert all(after in ([], [text]) and repeated == [text] for after, repeated in found["seen"])
        assert [] in [after for after, _ in found["seen"]]
