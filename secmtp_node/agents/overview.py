"""What an operator wants to know of a node at a glance: the queue, alarms, ledgers; for people and for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from secmtp_node.ports.store import Unit
from secmtp_node.ports.values import Alarm, SeenCheckpoint

NEWEST = 5


@dataclass(frozen=True, slots=True)
class Overview:
    """A node at one moment. `jobs` holds for each task how many there are, and how many of them failed before."""

    jobs: Mapping[str, tuple[int, int]]
    alarm_counts: Mapping[str, int]
    alarms: Sequence[Alarm]
    ledgers: Sequence[SeenCheckpoint]

    @property
    def stopped(self) -> bool:
        """Whether new trades are refused anywhere."""
        return any(ledger.stopped for ledger in self.ledgers)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "stopped": self.stopped,
            "jobs": {task: {"waiting": count, "failed": failed} for task, (count, failed) in self.jobs.items()},
            "alarms": [
                {"time": alarm.time, "kind": alarm.kind, "reason": alarm.reason, **_exchange(alarm)}
                for alarm in self.alarms
            ],
            "alarm_counts": dict(self.alarm_counts),
            "ledgers": [
                {
                    "ttp": ledger.ttp,
                    "log": ledger.origin,
                    "size": ledger.size,
                    "seen": ledger.time,
                    "cosignature_brought": ledger.brought,
                    "stopped": ledger.stopped,
                }
                for ledger in self.ledgers
            ],
        }

    def as_text(self) -> Iterator[str]:
        """Return it for people, line by line."""
        waiting = sum(count for count, _failed in self.jobs.values())
        yield f"queue    {waiting} jobs"
        for task, (count, failed) in self.jobs.items():
            yield f"         {count:>6} {task}" + (f", {failed} failed before" if failed else "")
        for ledger in self.ledgers:
            yield f"ledger   {ledger.origin}: {ledger.size} entries, seen {_utc(ledger.time)}"
            if ledger.stopped:
                yield f"         NO NEW TRADES at {ledger.ttp}: {ledger.stopped}"
        if not self.ledgers:
            yield "ledger   none seen yet"
        yield f"alarms   {sum(self.alarm_counts.values())}"
        for alarm in self.alarms:
            about = f" {alarm.exchange.hex()}" if alarm.exchange else ""
            yield f"         {_utc(alarm.time)}{about} {alarm.kind}: {alarm.reason}"

    def as_metrics(self) -> Iterator[str]:
        """Return it as Prometheus text, for a textfile collector."""
        jobs = [({"task": task}, count) for task, (count, _failed) in self.jobs.items()]
        failed = [({"task": task}, count) for task, (_count, count) in self.jobs.items()]
        yield from _gauge("secmtp_node_jobs", "Jobs that wait", jobs)
        yield from _gauge("secmtp_node_jobs_failed", "Jobs that failed before", failed)
        alarms = [({"kind": kind}, count) for kind, count in self.alarm_counts.items()]
        yield from _gauge("secmtp_node_alarms", "Alarms that were raised", alarms)
        labels = [({"ttp": ledger.ttp, "log": ledger.origin}, ledger) for ledger in self.ledgers]
        sizes = [(label, ledger.size) for label, ledger in labels]
        yield from _gauge("secmtp_node_ledger_size", "Entries under the newest checkpoint that was seen", sizes)
        times = [(label, ledger.time) for label, ledger in labels]
        yield from _gauge("secmtp_node_ledger_seen_timestamp_seconds", "When it was seen", times)
        stopped = [(label, int(bool(ledger.stopped))) for label, ledger in labels]
        yield from _gauge("secmtp_node_trades_stopped", "1 where new trades are refused", stopped)


def overview(unit: Unit) -> Overview:
    """Look at everything in one transaction."""
    return Overview(
        jobs=unit.jobs.waiting(),
        alarm_counts=unit.evidence.alarm_counts(),
        alarms=unit.evidence.alarms(NEWEST),
        ledgers=unit.checkpoints.all(),
    )


def _gauge(name: str, about: str, samples: Sequence[tuple[Mapping[str, str], int]]) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} gauge"
    for labels, value in samples:
        yield f"{name}{{{','.join(f'{key}={_quoted(text)}' for key, text in labels.items())}}} {value}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _exchange(alarm: Alarm) -> dict[str, str]:
    return {"exchange": alarm.exchange.hex()} if alarm.exchange else {}


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
