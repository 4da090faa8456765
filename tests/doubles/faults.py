"""A database that dies where a test says: around the nth transaction that writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from ttp_server.ports.store import Reading, Store, Transaction


class Crash(BaseException):
    """The process is gone. Not an Exception: no code of ours may catch it and go on."""


def nothing() -> None:
    """No fault."""


class FaultyStore:
    """The store behind it, with something happening before or after the commit of the nth writing from now on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.writings = 0
        self._at = 0
        self.before: Callable[[], None] = nothing
        self.after: Callable[[], None] = nothing

    def inject(self, nth: int, *, before: Callable[[], None] = nothing, after: Callable[[], None] = nothing) -> None:
        """Call `before` or `after` around the commit of the nth writing from now on (1 is the next)."""
        self._at = self.writings + nth
        self.before, self.after = before, after

    def reading(self) -> AbstractContextManager[Reading]:
        """Read as ever."""
        return self._store.reading()

    def immutable(self) -> AbstractContextManager[Reading]:
        """Read as ever."""
        return self._store.immutable()

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Write, with the fault at its place."""
        self.writings += 1
        due = self.writings == self._at
        with self._store.writing() as transaction:
            yield transaction
            if due:
                self.before()
        if due:
            self.after()


def crash() -> None:
    """Die here."""
    raise Crash
