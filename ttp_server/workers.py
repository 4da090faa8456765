"""Periodic work of the TTP: the upkeep of escrow epochs."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

UPKEEP = 3600.0
END = 5.0


class Upkeep:
    """Runs a task every hour until it is stopped. A failure is logged and tried again."""

    def __init__(self, task: Callable[[], None], seconds: float = UPKEEP) -> None:
        self._task = task
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._log = structlog.get_logger()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stop.set()
        self._thread.join(END)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self._task()
            except Exception as error:  # noqa: BLE001  (a thread that ended would make no epochs any more, silently)
                self._log.error("upkeep failed", error=str(error), exc_info=error)
