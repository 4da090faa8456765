"""One lock for each exchange, for as long as somebody holds it: a second session about one hM waits for the first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary


class _Held:
    def __init__(self) -> None:
        self.lock = threading.RLock()


class Locks:
    """Locks by exchange. They outlive no process: what must be kept is in the database."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held: WeakValueDictionary[bytes, _Held] = WeakValueDictionary()

    @contextmanager
    def of(self, exchange: bytes) -> Iterator[None]:
        """Wait until nobody else is inside with this exchange."""
        with self._guard:
            held = self._held.get(exchange) or _Held()
            self._held[exchange] = held
        with held.lock:
            yield
