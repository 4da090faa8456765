"""The feed: what both parties' nodes are to know, in an order that never changes (docs/protocols/services.md)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from shared.api.messages import FeedPage
from ttp_server.services.desk import Desk


def page(desk: Desk, domains: Sequence[str], cursor: int, limit: int) -> FeedPage:
    """Return up to `limit` bundles after a cursor, only of what is under a signed checkpoint."""
    below = desk.ledger.snapshot.size
    with desk.store.reading() as stored:
        items = stored.feed(domains, cursor, below, limit)
    bundles = tuple(desk.bundle(item.exchange) for item in items)
    return FeedPage(bundles, items[-1].cursor if items else cursor)


class Bell:
    """Rings after each commit, so that long polls needn't look again and again."""

    def __init__(self) -> None:
        self._listeners: set[Callable[[], None]] = set()
        self._lock = threading.Lock()

    def ring(self) -> None:
        """Wake everybody who listens. Called by the writer's thread."""
        with self._lock:
            listeners = tuple(self._listeners)
        for listener in listeners:
            with suppress(RuntimeError):  # a loop that was closed a moment ago must not take the writer down
                listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener`, which must be quick and may come from any thread, at each commit."""
        with self._lock:
            self._listeners.add(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """Stop calling a listener."""
        with self._lock:
            self._listeners.discard(listener)
