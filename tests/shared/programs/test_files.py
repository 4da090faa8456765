"""Files of commands: nothing is overwritten, secrets stay the owner's, and errors say what to do."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from shared.errors import ConfigurationError
from shared.programs import files
from shared.programs.files import (
    append_lines,
    private_directory,
    read_bounded,
    read_secret,
    replace_public,
    write_public,
    write_secret,
)


def mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


class TestWrite:
    """write_secret and write_public."""

    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
    def test_modes(self, tmp_path: Path, umask: int) -> None:
        """A secret is the owner's alone and a public file is everybody's, whatever the umask."""
        before = os.umask(umask)
        try:
            write_secret(tmp_path / "secret", b"s")
            write_public(tmp_path / "public", b"p")
        finally:
            os.umask(before)
        assert (mode(tmp_path / "secret"), mode(tmp_path / "public")) == (0o600, 0o644)

    @pytest.mark.parametrize("umask", [0o000, 0o077])
    def test_replaced(self, tmp_path: Path, umask: int) -> None:
        """What replaces a file is whole and everybody's, also over what a crash left; a link isn't followed."""
        (tmp_path / "old").write_bytes(b"older and longer")
        (tmp_path / "there").symlink_to(tmp_path / "old")
        (tmp_path / ".there.new").write_bytes(b"left by a crash, and long")
        before = os.umask(umask)
        try:
            replace_public(tmp_path / "there", b"new")
        finally:
            os.umask(before)
        assert (tmp_path / "there").read_bytes() == b"new"
        assert mode(tmp_path / "there") == 0o644
        assert (tmp_path / "old").read_bytes() == b"older and longer"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "there"]

    @pytest.mark.parametrize("write", [write_secret, write_public])
    def test_never_overwrites(self, tmp_path: Path, write: type) -> None:
        """A file that exists, or a link that leads to one, keeps its octets."""
        (tmp_path / "there").write_bytes(b"first")
        (tmp_path / "link").symlink_to(tmp_path / "there")
        for name in ("there", "link"):
            with pytest.raises(ConfigurationError, match="exists already"):
                write(tmp_path / name, b"second")
        assert (tmp_path / "there").read_bytes() == b"first"

    def test_no_directory(self, tmp_path: Path) -> None:
        """A directory that isn't there is named."""
        with pytest.raises(ConfigurationError, match="can't be written: No such file"):
            write_secret(tmp_path / "missing" / "key", b"s")


class TestRead:
    """read_bounded and read_secret."""

    def test_bound(self, tmp_path: Path) -> None:
        """A file of exactly the bound is read, one octet more isn't."""
        write_public(tmp_path / "file", bytes(10))
        assert read_bounded(tmp_path / "file", 10) == bytes(10)
        with pytest.raises(ConfigurationError, match="more than 9 octets"):
            read_bounded(tmp_path / "file", 9)

    def test_endless(self) -> None:
        """A device that never ends is read up to the bound only."""
        with pytest.raises(ConfigurationError, match="more than 1000 octets"):
            read_bounded(Path("/dev/zero"), 1000)

    def test_missing(self, tmp_path: Path) -> None:
        """A missing file, or a directory in its place, is named."""
        for path in (tmp_path / "missing", tmp_path):
            with pytest.raises(ConfigurationError, match="can't be read"):
                read_bounded(path, 10)

    @pytest.mark.parametrize("wide", [0o640, 0o604, 0o660, 0o644, 0o610])
    def test_secret_for_others(self, tmp_path: Path, wide: int) -> None:
        """A secret that others may use isn't used, and the message says how to mend it."""
        write_secret(tmp_path / "key", b"s")
        assert read_secret(tmp_path / "key", 10) == b"s"
        (tmp_path / "key").chmod(wide)
        with pytest.raises(ConfigurationError, match=f"mode {wide:04o}.*chmod go="):
            read_secret(tmp_path / "key", 10)


class TestAppendLines:
    """append_lines."""

    def test_grows(self, tmp_path: Path) -> None:
        """Lines are added behind those that are there, in a file of the owner's."""
        path = tmp_path / "record"
        append_lines(path, [b"one", b"two"])
        append_lines(path, [b"three"])
        assert path.read_bytes() == b"one\ntwo\nthree\n"
        assert mode(path) == 0o600

    @pytest.mark.parametrize("torn", [b"", b"one\n", b"one\ntw", b"on"])
    def test_after_a_crash(self, tmp_path: Path, torn: bytes) -> None:
        """A line that was cut off goes, and whole ones stay."""
        path = tmp_path / "record"
        path.write_bytes(torn)
        append_lines(path, [b"new"])
        assert path.read_bytes() == torn[: torn.rfind(b"\n") + 1] + b"new\n"

    def test_no_line_end(self, tmp_path: Path) -> None:
        """A file whose end isn't a record of ours is left as it is."""
        path = tmp_path / "record"
        foreign = b"one\n" + b"x" * (files.MAX_LINE + 1)
        path.write_bytes(foreign)
        with pytest.raises(ConfigurationError, match="backup"):
            append_lines(path, [b"new"])
        assert path.read_bytes() == foreign


class TestPrivateDirectory:
    """private_directory."""

    def test_made(self, tmp_path: Path) -> None:
        """A new directory is the owner's alone, and making it again changes nothing."""
        for _ in range(2):
            private_directory(tmp_path / "a" / "b")
        assert mode(tmp_path / "a" / "b") == 0o700

    def test_too_wide(self, tmp_path: Path) -> None:
        """A directory that others may enter isn't used."""
        (tmp_path / "wide").mkdir(mode=0o755)
        with pytest.raises(ConfigurationError, match="used by others"):
            private_directory(tmp_path / "wide")
