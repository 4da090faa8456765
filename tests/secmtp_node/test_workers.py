"""Workers: what makes them wait, what ends the process, and that a stop is no death."""

from __future__ import annotations

import threading

import pytest

from secmtp_node import workers
from secmtp_node.workers import Workers, sequence
from shared.errors import ConfigurationError, Unavailable

SECONDS = 10.0


class Told:
    """Holds what was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.any = threading.Event()

    def __call__(self, event: str, **facts: object) -> None:
        """Hold an event."""
        self.events.append((event, facts))
        self.any.set()


@pytest.fixture
def told() -> Told:
    """Nothing yet."""
    return Told()


class TestWorkers:
    """One worker."""

    def test_again_and_again(self, told: Told) -> None:
        """A worker works until it is stopped, and then ends."""
        enough, made = threading.Event(), Workers(told)
        count = iter(range(1000))

        def work() -> float:
            if next(count) >= 5:
                enough.set()
            return 0.001

        made.start("w", work)
        assert enough.wait(SECONDS)
        made.stop()
        made.join()
        assert not any(thread.is_alive() for thread in made._threads)
        assert not made.died.is_set()

    @pytest.mark.parametrize("error", [Unavailable("away"), ConfigurationError("wrong")])
    def test_expected_trouble(self, told: Told, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        """An error of ours is told, and the worker tries again after a while."""
        monkeypatch.setattr(workers, "LONGEST_WAIT", 0.001)
        again, made = threading.Event(), Workers(told)
        left = [error, error]

        def work() -> float:
            if left:
                raise left.pop()
            again.set()
            return 0.001

        made.start("w", work)
        assert again.wait(SECONDS)
        made.stop()
        made.join()
        assert [event for event, _ in told.events] == ["worker waits"] * 2
        assert not made.died.is_set()

    @pytest.mark.parametrize("error", [KeyError("bug"), MemoryError(), SystemExit(3)])
    def test_death(self, told: Told, error: BaseException) -> None:
        """Anything else ends the worker, is told by its kind, and is seen by who runs the process."""
        made = Workers(told)

        def work() -> float:
            raise error

        made.start("w", work)
        assert made.died.wait(SECONDS)
        ((event, facts),) = told.events
        assert event == "worker died"
        assert type(error).__name__ in str(facts["error"])

    def test_stopped_half_way(self, told: Told) -> None:
        """What fails because everything is being closed is no death: the process ends well."""
        entered, closed, made = threading.Event(), threading.Event(), Workers(told)

        def work() -> float:
            entered.set()
            closed.wait(SECONDS)
            raise RuntimeError("Cannot send a request, as the client has been closed.")

        made.start("w", work)
        assert entered.wait(SECONDS)
        made.stop()
        closed.set()
        made.join()
        assert not made.died.is_set()
        assert [event for event, _ in told.events] == ["worker stopped half-way"]

    def test_sequence(self) -> None:
        """Several works are done in their order, then there is a rest."""
        done: list[int] = []
        assert sequence([lambda: done.append(1), lambda: done.append(2)], 7.5)() == 7.5
        assert done == [1, 2]
