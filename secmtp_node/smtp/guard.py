"""Bounds that concern all connections: how many there are, and who fails to log in too often."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

MAX_TRACKED = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a listener. Times are seconds, sizes octets."""

    octets: int
    connections: int = 200
    connections_each: int = 50
    recipients: int = 100
    idle: float = 300.0
    data: float = 3600.0
    service: float = 600.0
    errors: int = 20
    failed_logins: int = 3
    failed_logins_each: int = 30
    login_window: float = 600.0


class Guard:
    """Counts connections and failed logins by address. Bounded: old entries go first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: Counter[str] = Counter()
        self._failed: dict[str, list[float]] = {}

    def enter(self, address: str) -> bool:
        """Count a connection; False if it is one too many."""
        if self._open.total() >= self._limits.connections or self._open[address] >= self._limits.connections_each:
            return False
        self._open[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Forget a connection."""
        self._open[address] -= 1
        if self._open[address] <= 0:
            del self._open[address]

    def blocked(self, address: str, now: float) -> bool:
        """Whether an address has failed too often lately."""
        recent = [moment for moment in self._failed.get(address, ()) if now - moment < self._limits.login_window]
        return len(recent) >= self._limits.failed_logins_each

    def failed(self, address: str, now: float) -> None:
        """Count a failed login."""
        recent = [moment for moment in self._failed.pop(address, ()) if now - moment < self._limits.login_window]
        self._failed[address] = [*recent, now][-self._limits.failed_logins_each :]
        while len(self._failed) > MAX_TRACKED:
            self._failed.pop(next(iter(self._failed)))
