"""Threads that do what is due: jobs, the feed, upkeep. A worker that dies unexpectedly ends the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from secmtp_node.ports.services import Events
from shared.errors import SecMTPError

END = 5.0
LONGEST_WAIT = 1.0


class Workers:
    """Runs functions again and again until stopped. Each returns how many seconds to wait before the next time."""

    def __init__(self, tell: Events) -> None:
        self._tell = tell
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.died = threading.Event()

    def start(self, name: str, work: Callable[[], float]) -> None:
        """Start a worker."""
        thread = threading.Thread(target=self._run, args=(name, work), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Tell all to stop. What is under way goes on to its end, or is done again after the next start."""
        self._stop.set()

    def join(self) -> None:
        """Wait a while for all to end; what they had committed is kept."""
        end = time.monotonic() + END
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _run(self, name: str, work: Callable[[], float]) -> None:
        try:
            while not self._stop.is_set():
                self._stop.wait(self._once(name, work))
        except BaseException as error:  # noqa: BLE001  (told, and the supervisor starts the node again)
            if self._stop.is_set():
                # Connections are closed under those that work on: what they did is done again at the next start.
                self._tell("worker stopped half-way", worker=name, error=type(error).__name__)
                return
            self._tell("worker died", worker=name, error=f"{type(error).__name__}: {error}")
            self.died.set()

    def _once(self, name: str, work: Callable[[], float]) -> float:
        try:
            return work()
        except SecMTPError as error:
            self._tell("worker waits", worker=name, reason=error.message)
            return LONGEST_WAIT


def sequence(works: Sequence[Callable[[], None]], seconds: float) -> Callable[[], float]:
    """Return a work that does several things and then rests."""

    def work() -> float:
        for one in works:
            one()
        return seconds

    return work
