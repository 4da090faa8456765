"""Starting, watching and ending the demo's programs, each with a log file of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar

POLL = 0.05
END = 15.0
Found = TypeVar("Found")


class DemoFailed(Exception):
    """A step of the demo failed; the message says which and where to look."""


def load_setup(program: str) -> ModuleType:
    """Load a program's set-up functions. By name: shared/ must not import the programs."""
    found = entry_points(group="secmtp.setup", name=program)
    if not found:
        raise DemoFailed(f"the package isn't installed with its {program}; run `make demo`, or `pip install .`")
    return import_module(next(iter(found)).value)


class Program:
    """One `secmtp …` process. Its standard output is read for the readiness line, its log goes to a file."""

    def __init__(
        self, name: str, arguments: Sequence[str], place: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.killed = False
        self.log = place / f"{name}.log"
        command = [sys.executable, "-m", "shared.cli", *arguments]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  (our own command)
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )
        self._line: bytes | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ready(self, deadline: float) -> dict[str, int]:
        """Wait for the readiness line and return what it says. Raises DemoFailed."""
        wait_for(lambda: self._line, deadline, f"{self.name} to be ready", [self])
        try:
            line: dict[str, int] = json.loads(self._line or b"")
        except ValueError as error:
            raise DemoFailed(f"{self.name} said {self._line!r} instead of being ready") from error
        return line

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def died(self) -> bool:
        """Whether the process isn't running any more."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """End the process at once, as a power failure would."""
        self.killed = True
        self._process.kill()
        self._process.wait(END)
        self._reader.join(END)

    def tell_to_end(self) -> None:
        """Ask the process to end; `end` waits for it."""
        self._process.terminate()

    def end(self) -> None:
        """End the process: politely, then for good."""
        self.tell_to_end()
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END)
        self._reader.join(END)

    def _read(self) -> None:
        output = self._process.stdout
        if output is None:
            return
        with output:
            self._line = output.readline() or None
            while output.read(65536):  # nothing more is expected; a full pipe must not stop the program
                pass


def wait_for(look: Callable[[], Found | None], deadline: float, what: str, programs: Sequence[Program]) -> Found:
    """Look until there is something. Raises DemoFailed at the deadline or when a program has died."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        for program in programs:
            if program.died():
                raise DemoFailed(f"{program.name} ended while waiting for {what}; see {program.log}")
        time.sleep(POLL)
    raise DemoFailed(f"{what} didn't come within {deadline:.0f} s")
