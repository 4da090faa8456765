"""Periodic work of the TTP: escrow epochs; what other processes on the same database published."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

END = 5.0


class Upkeep:
    """Runs a task again and again, with a pause, until it is stopped. A failure is logged and tried again."""

    def __init__(self, name: str, task: Callable[[], None], seconds: float) -> None:
        self._name = name
        self._task = task
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
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
                self._log.error("periodic work failed", work=self._name, error=str(error), exc_info=error)
