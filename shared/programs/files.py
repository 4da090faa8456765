"""Files that programs read and write: bounded, durable when they return, secrets for the owner only.

Nothing but `replace_public` overwrites: a key that exists is never replaced by one that was just made.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from shared.errors import ConfigurationError

OWNER_ONLY = 0o600
EVERYBODY_READS = 0o644
MAX_LINE = 64 * 1024
_PRIVATE_DIRECTORY = 0o700
_OTHERS = 0o077


def write_secret(path: Path, data: bytes) -> None:
    """Create a file that only its owner may read (0600). Raises ConfigurationError if there is one already."""
    _create(path, data, OWNER_ONLY)


def write_public(path: Path, data: bytes) -> None:
    """Create a file that everybody may read (0644). Raises ConfigurationError if there is one already."""
    _create(path, data, EVERYBODY_READS)


def keep_public(path: Path, data: bytes) -> None:
    """Create a file that everybody may read, or find it there with the same octets: a crash may have come between."""
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(data) + 1) == data:
                return
    write_public(path, data)


def replace_public(path: Path, data: bytes) -> None:
    """Put a file that everybody may read (0644) in the place of whatever was there, whole or not at all.

    The octets are on disk when this returns, the name only after `sync_directory`.
    """
    temporary = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, EVERYBODY_READS), "wb") as file:
        os.fchmod(file.fileno(), EVERYBODY_READS)  # whatever the umask says
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the whole of a file of at most `limit` octets. Raises ConfigurationError."""
    return _read(path, limit, secret=False)


def read_secret(path: Path, limit: int) -> bytes:
    """Return the whole of a secret file. Raises ConfigurationError if others than its owner may use it."""
    return _read(path, limit, secret=True)


def append_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Append lines to a file of records (0600) in one write, and return when they are on disk.

    A last line without its end was cut off by a crash: it was never reported as written, and goes.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY), "r+b") as file:
        file.truncate(_end_of_last_line(file))
        file.seek(0, os.SEEK_END)
        file.write(b"".join(line + b"\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)


def private_directory(path: Path) -> None:
    """Make a directory, with parents, that only its owner may use (0700); an existing one must be so."""
    path.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    _refuse_others(path, path.stat())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process is inside with the same path (0600, made if missing)."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, OWNER_ONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # lets go of the lock


def sync_directory(path: Path) -> None:
    """Make new names in a directory durable: without this a crash may lose a file whose octets were synced."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _end_of_last_line(file: BinaryIO) -> int:
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - MAX_LINE)
    file.seek(start)
    found = file.read(MAX_LINE).rfind(b"\n")
    if found < 0 < start:
        raise ConfigurationError("the file of records ends in a line of unknown origin; restore it from a backup")
    return start + found + 1


def _create(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise ConfigurationError(f"{path} exists already and isn't overwritten; move it away first") from error
    except OSError as error:
        raise ConfigurationError(f"{path} can't be written: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask says
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    sync_directory(path.parent)


def _read(path: Path, limit: int, *, secret: bool) -> bytes:
    try:
        with path.open("rb") as file:
            if secret:
                _refuse_others(path, os.fstat(file.fileno()))
            data = file.read(limit + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from error
    if len(data) > limit:
        raise ConfigurationError(f"{path} has more than {limit} octets; is it the right file?")
    return data


def _refuse_others(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS:
        raise ConfigurationError(f"{path} may be used by others (mode {mode:04o}); run: chmod go= {path}")
