"""Periodic work: it goes on after any failure, and ends when it is told to."""

from __future__ import annotations

import json
import threading

import pytest

from shared.errors import Unavailable
from shared.programs.log import configure_log
from ttp_server.workers import Upkeep


@pytest.mark.parametrize("error", [Unavailable("the database is busy"), OSError("disk full"), ValueError("a mistake")])
def test_goes_on_after_a_failure(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    """A failure of any kind is logged and the work is tried again: epochs must go on being made."""
    configure_log()
    done, runs = threading.Event(), 0

    def task() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise error
        done.set()

    upkeep = Upkeep("test", task, 0.001)
    upkeep.start()
    assert done.wait(10)
    upkeep.stop()
    first = json.loads(capfd.readouterr().err.splitlines()[0])
    assert (first["event"], first["level"], str(error) in first["error"]) == ("periodic work failed", "error", True)


def test_ends() -> None:
    """After it is stopped nothing is run any more."""
    ran = threading.Event()
    upkeep = Upkeep("test", ran.set, 3600)
    upkeep.start()
    upkeep.stop()
    assert not upkeep._thread.is_alive()
    assert not ran.is_set()
