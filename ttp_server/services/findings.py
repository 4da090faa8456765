"""What a check of the stored ledger finds: violations, told one by one and never kept, and counts of what was seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shared.errors import EvidenceFault, SecMTPError


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that doesn't hold: the step that found it, where, and what is wrong."""

    step: str
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.step}: {self.place}: {self.message}"


class Findings:
    """Collects. `report` is called for each violation at once."""

    def __init__(self, report: Callable[[Violation], None]) -> None:
        self._report = report
        self.counts: Counter[str] = Counter()
        self.violations = 0

    def found(self, step: str, place: str, message: str) -> None:
        """Tell a violation."""
        self.violations += 1
        self._report(Violation(step, place, message))

    def require(self, condition: bool, step: str, place: str, message: str) -> None:  # noqa: FBT001  (as a sentence)
        """Tell a violation unless the condition holds."""
        if not condition:
            self.found(step, place, message)

    @contextmanager
    def judging(self, step: str, place: str) -> Iterator[None]:
        """Make a violation of what is raised inside: a named step of a verification, or what can't be read."""
        try:
            yield
        except EvidenceFault as fault:
            self.found(step, place, f"{fault.step}: {fault.reason}")
        except SecMTPError as error:
            self.found(step, place, error.message)
        except (TypeError, ValueError, AttributeError) as error:  # a column can hold anything, on SQLite of any type
            self.found(step, place, f"it can't be read: {type(error).__name__}")
