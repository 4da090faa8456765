"""Where a process touches database and files: found by the interpreter's own call events, not by a list of places.

Counted is every call of a C function of the modules that change files (posix, fcntl, io, sqlite3) and of psycopg's
methods that speak to the server, but for those named here as harmless: what is new is counted until someone says
that it changes nothing.
"""

from __future__ import annotations

import fcntl
import io
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import BuiltinMethodType, FrameType, ModuleType
from typing import Any

import psycopg

_MODULES = {os.open.__module__, fcntl.__name__, "io", "_io"}
_HARMLESS = {
    *("stat", "lstat", "fstat", "access", "scandir", "listdir", "getcwd", "readlink", "read", "pread", "lseek"),
    *(
        "fspath",
        "_path_normpath",
        "getpid",
        "getuid",
        "geteuid",
        "cpu_count",
        "urandom",
        "isatty",
        "get_terminal_size",
        "text_encoding",
    ),
    *("seek", "tell", "fileno", "readline", "readlines", "readinto", "readable", "writable", "seekable", "getvalue"),
    "open",  # counted by the audit event, which says what for
    *("fetchone", "fetchmany", "fetchall", "cursor", "close", "__enter__", "__iter__", "__next__", "create_function"),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_SERVER = {
    method.__code__: f"{method.__module__.partition('.')[0]}.{method.__qualname__}"
    for method in (
        *(psycopg.Cursor.execute, psycopg.Cursor.executemany),
        *(psycopg.Connection.commit, psycopg.Connection.rollback, psycopg.Connection.close),
    )
}


class Points:
    """Counts the operations of this thread and of those that it starts, and kills the process before number `at`."""

    def __init__(self, at: int = 0) -> None:
        self._at = at
        self._lock = threading.Lock()
        self._quiet = threading.local()
        self._armed = False
        self.names: list[str] = []
        sys.addaudithook(self._opened)

    def arm(self) -> None:
        """Begin to count."""
        self._armed = True
        threading.setprofile(self._look)
        self.join()

    def join(self) -> None:
        """Count in this thread too, which ran already."""
        sys.setprofile(self._look)

    def disarm(self) -> None:
        """Count no more."""
        self._armed = False

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Don't count what this thread does inside: it is the test's own work."""
        self._quiet.now = True
        try:
            yield
        finally:
            self._quiet.now = False

    def _look(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            name = _operation(argument)
        elif event == "call":
            name = _SERVER.get(frame.f_code)
        else:
            return
        if name is not None:
            self._count(name)

    def _opened(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            self._count("open")

    def _count(self, name: str) -> None:
        if not self._armed or getattr(self._quiet, "now", False):
            return
        with self._lock:
            self.names.append(name)
            if len(self.names) == self._at:
                os.kill(os.getpid(), signal.SIGKILL)


def _operation(function: BuiltinMethodType) -> str | None:
    """Name the operation if a C function may change a file or speak to SQLite."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, ModuleType):
        counts = owner.__name__ in _MODULES and owner.__name__ != "builtins"
        where = owner.__name__
    else:
        files = isinstance(owner, io.IOBase) and not isinstance(owner, io.BytesIO | io.StringIO | io.BufferedReader)
        counts = files or isinstance(owner, sqlite3.Connection | sqlite3.Cursor)
        where = type(owner).__qualname__
    return f"{where}.{function.__name__}" if counts and function.__name__ not in _HARMLESS else None
