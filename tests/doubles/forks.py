"""Children of a process without threads: what they tell arrives in whole messages, also when they are killed."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

KILLED = -9
LAST = "."
_HEADER = 8


@dataclass(frozen=True, slots=True)
class Message:
    """One thing that was told: a letter for its kind, and octets."""

    kind: str
    body: bytes


class Pipe:
    """One end of a pipe of messages. Any thread may tell."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def tell(self, kind: str, body: bytes = b"") -> None:
        """Send a message."""
        with self._lock:
            rest = kind.encode() + len(body).to_bytes(_HEADER - 1, "big") + body
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def messages(self) -> Iterator[Message]:
        """Yield messages until the last, or until the other end is closed. One that was cut off never arrived."""
        with os.fdopen(self._descriptor, "rb") as stream:
            while len(header := stream.read(_HEADER)) == _HEADER:
                length = int.from_bytes(header[1:], "big")
                body = stream.read(length)
                if chr(header[0]) == LAST or len(body) < length:
                    return
                yield Message(chr(header[0]), body)


class Child:
    """A forked process that does some work. It gets messages by `go`."""

    def __init__(self, work: Callable[[Pipe, Pipe], None]) -> None:
        down, self._down = os.pipe()
        self._up, up = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            os.close(self._down)
            os.close(self._up)
            _work(work, Pipe(down), Pipe(up))
        os.close(down)
        os.close(up)
        self._messages = Pipe(self._up).messages()
        self._told: list[Message] = []

    def first(self, kind: str) -> None:
        """Wait for a message, and put it by."""
        for message in self._messages:
            self._told.append(message)
            if message.kind == kind:
                return

    def go(self, *messages: Message) -> None:
        """Send all that it is to get."""
        down = Pipe(self._down)
        for message in messages:
            down.tell(message.kind, message.body)
        down.tell(LAST)  # its end isn't seen: a process that was forked meanwhile holds the pipe too
        os.close(self._down)

    def end(self) -> tuple[list[Message], bool]:
        """Wait for the end; return what it told, and whether it was killed. Raises what it raised."""
        told = self._told + list(self._messages)
        code = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        failures = [message.body.decode() for message in told if message.kind == "!"]
        assert not failures, failures[0]
        assert code in {0, KILLED}, f"a child ended with {code}"
        return told, code == KILLED


def _work(work: Callable[[Pipe, Pipe], None], down: Pipe, up: Pipe) -> None:
    """Do the work and end, whatever happens: nothing of the parent may go on in the child."""
    try:
        work(down, up)
        os._exit(0)
    except BaseException:  # noqa: BLE001  (told to the parent, which raises it)
        up.tell("!", traceback.format_exc().encode())
    finally:
        os._exit(1)
