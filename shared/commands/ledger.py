"""`secmtp ledger`: audit, mirror and monitor a log, believing nobody (docs/protocols/ledger.md section 9).

Witnessing is a group of its own (shared/commands/witness.py).

Exit codes: 0 all is well, 1 the log or its server was caught (the failed step is named), 2 an input can't be
used or the server can't be reached.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.commands.witness import app as witness
from shared.errors import EvidenceFault, SecMTPError
from shared.ledger import audit, note
from shared.ledger.audit import Finding, Replay, Rollback, SignedTree
from shared.ledger.checkpoint import Fork, VerifiedCheckpoint, open_checkpoint

if TYPE_CHECKING:
    from shared.commands.ledger_log import OpenLog
    from shared.commands.ledger_store import Mirror

app = typer.Typer(help="Audit, mirror, monitor and witness ledgers.", no_args_is_help=True)
app.add_typer(witness, name="witness")

CAUGHT = 1
UNUSABLE = 2
MAX_ROOT = 64 * 1024
MAX_CERTIFICATE = 16 * 1024
MAX_FINDINGS = 100

Place = Annotated[str, typer.Argument(metavar="SOURCE", help="https://HOST/ledger, or the directory of a mirror.")]
Trust = Annotated[
    Path | None, typer.Option(help="The root certificate (PEM) that certifies the log's key, and its server.")
]
Key = Annotated[str | None, typer.Option(help="The log's key itself: name+id+base64.")]
Policy = Annotated[
    Path | None, typer.Option(help="A tlog-policy file: demand that its quorum of witnesses saw the checkpoint.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]


@app.command()
def verify(place: Place, trust: Trust = None, key: Key = None, policy: Policy = None, as_json: AsJson = False) -> None:
    """Audit a whole log: every entry, every tile, and every checkpoint that a mirror holds."""
    from shared.commands.ledger_log import opened  # noqa: PLC0415
    from shared.commands.ledger_store import Memory  # noqa: PLC0415

    with _answering(as_json) as answer, opened(place, trust, key, policy) as log:
        memory = Memory(None)
        try:
            replay = Replay(memory.repeats)
            known = Counted(log.history())
            findings = _read(log, 0, known, replay, quiet=as_json)
        finally:
            memory.close()
        answer.update(_facts(log, replay, findings), checkpoints=known.count)


@app.command()
def monitor(
    place: Place,
    state: Annotated[Path, typer.Option(help="Where the monitor remembers what it has checked.")],
    trust: Trust = None,
    key: Key = None,
    policy: Policy = None,
    as_json: AsJson = False,
) -> None:
    """Check what is new in a log since the last time. Run it regularly; what it exits with 1 for is an alarm."""
    from shared.commands.ledger_log import opened  # noqa: PLC0415
    from shared.commands.ledger_store import Memory  # noqa: PLC0415

    with _answering(as_json) as answer, opened(place, trust, key, policy) as log:
        memory = Memory(state)
        try:
            noted, since = memory.checked() or (None, 0)
            known = [] if noted is None else [open_checkpoint(noted, log.key)]
            start = known[0].size if known else 0
            for old in known:
                audit.compare(old, log.checkpoint)
            replay = Replay(memory.repeats, since)
            findings = _read(log, start, known, replay, quiet=as_json)
            if not findings:
                memory.move(log.checkpoint, replay.time)
        except (Fork, Rollback) as fault:
            _keep_beside(state, fault)
            raise
        finally:
            memory.close()
        answer.update(_facts(log, replay, findings), since=start)


@app.command()
def mirror(
    place: Place,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The mirror; new, or to be brought up to date.")],
    trust: Trust = None,
    key: Key = None,
    policy: Policy = None,
    as_json: AsJson = False,
) -> None:
    """Copy what is new in a log, checked, into a directory that any web server can serve as the log."""
    from shared.commands.ledger_log import opened  # noqa: PLC0415
    from shared.commands.ledger_store import Mirror  # noqa: PLC0415

    copy = Mirror(directory)
    with _answering(as_json) as answer, opened(place, trust, key, policy) as log, copy.locked():
        if copy.has_fork():
            raise EvidenceFault("ledger.fork", f"{directory}/fork holds proof against this log; look at it first")
        old = copy.newest(log.key)
        try:
            if old is not None:
                copy.remember(old)
                audit.compare(old, log.checkpoint)
            _copy(log, copy, old, quiet=as_json)
        except (Fork, Rollback) as fault:
            copy.keep(fault)
            raise
        start = 0 if old is None else old.size
        answer.update(_names(log), ok=True, mirrored=log.checkpoint.size - start)


class Counted:
    """An iterable that knows how many it gave."""

    def __init__(self, items: Iterable[VerifiedCheckpoint]) -> None:
        self._items = items
        self.count = 0

    def __iter__(self) -> Iterator[VerifiedCheckpoint]:
        for item in self._items:
            self.count += 1
            yield item


def _read(
    log: OpenLog, start: int, known: Iterable[VerifiedCheckpoint], replay: Replay, *, quiet: bool
) -> list[Finding]:
    """Check all from entry `start` on, and return what is wrong with entries that the log signed."""
    findings: list[Finding] = []
    with _tree(log, start, quiet=quiet) as (tree, advance):
        for checked in audit.walk(tree, start, known):
            tree.take()
            findings += replay.read(checked)
            del findings[MAX_FINDINGS:]
            advance(len(checked.entries))
    return findings


def _copy(log: OpenLog, copy: Mirror, old: VerifiedCheckpoint | None, *, quiet: bool) -> None:
    """Bring a mirror up to date; what is written was checked, and the checkpoint comes last."""
    start = 0 if old is None else old.size
    with _tree(log, start, quiet=quiet) as (tree, advance):
        for checked in audit.walk(tree, start, [] if old is None else [old]):
            copy.put(tree.take())
            advance(len(checked.entries))
        copy.put(tree.take())
    if log.certificate is not None:
        copy.put_certificate(log.certificate)
    copy.publish(log.checkpoint)
    copy.drop_partials(start, log.checkpoint.size)


@contextmanager
def _tree(log: OpenLog, start: int, *, quiet: bool) -> Iterator[tuple[SignedTree, Any]]:
    """Open the log's tree with a progress bar on stderr, if that is a terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    from shared.commands.ledger_source import fetcher  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=console, disable=quiet or not console.is_terminal))
        task = progress.add_task(f"{log.checkpoint.origin}: entries", total=max(0, log.checkpoint.size - start))
        fetch = stack.enter_context(fetcher(log.source, log.checkpoint.size))
        yield SignedTree(log.checkpoint, fetch), lambda count: progress.advance(task, count)


def _keep_beside(state: Path, fault: Fork | Rollback) -> None:
    from shared.commands.ledger_store import Mirror  # noqa: PLC0415

    Mirror(state.parent).keep(fault)


@contextmanager
def _answering(as_json: bool) -> Iterator[dict[str, Any]]:
    """Collect the answer, print it, and exit with what it means."""
    answer: dict[str, Any] = {}
    code = 0
    try:
        yield answer
        code = 0 if answer["ok"] else CAUGHT
    except EvidenceFault as fault:
        answer |= {"ok": False, "step": fault.step, "reason": fault.reason}
        code = CAUGHT
        if isinstance(fault, Fork | Rollback):
            answer["notes"] = [fault.first.signed.decode(), fault.second.signed.decode()]
    except SecMTPError as error:
        answer |= {"ok": False, "step": "input", "reason": error.message}
        code = UNUSABLE
    sys.stdout.write((json.dumps(answer, ensure_ascii=False) if as_json else _sentence(answer)) + "\n")
    raise typer.Exit(code)


def _names(log: OpenLog) -> dict[str, Any]:
    checkpoint = log.checkpoint
    root = note.encode_base64(checkpoint.root)
    return {"log": checkpoint.origin, "size": checkpoint.size, "root": root, "witnessed": str(log.witnessing)}


def _facts(log: OpenLog, replay: Replay, findings: list[Finding]) -> dict[str, Any]:
    told = [{"step": one.step, "entry": one.index, "reason": one.reason} for one in findings]
    return {"ok": not findings, **_names(log), "counts": dict(replay.counts), "findings": told}


def _sentence(answer: dict[str, Any]) -> str:
    if "reason" in answer:
        proof = "".join(f"\n\n{text}" for text in answer.get("notes", ()))
        return f"NOT VALID at step {answer['step']}: {answer['reason']}{proof}"
    lines = [f"  {one['step']} in entry {one['entry']}: {one['reason']}" for one in answer.get("findings", ())]
    if lines:
        return "\n".join([f"ALARM: the log {answer['log']} has signed what it must not hold", *lines])
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(answer.get("counts", {}).items()))
    done = {
        "mirrored": "{mirrored} new entries mirrored",
        "since": "all entries from {since} on were checked; no exchange has two outcomes",
        "checkpoints": "all entries and tiles were checked, and {checkpoints} older checkpoints; "
        "no exchange has two outcomes",
    }
    told = [text.format(**answer) for name, text in done.items() if name in answer]
    return "\n  ".join(
        [
            f"OK {answer['log']}: {answer['size']} entries, root {answer['root']}",
            f"witnessed: {answer['witnessed']}",
            *told,
            *filter(None, [counts]),
        ]
    )
