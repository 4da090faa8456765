"""`secmtp demo`: a real mail from an ordinary SMTP client to a proven receipt, before your eyes.

Sets up a CA, a TTP and two nodes in one directory, starts the three as processes of their own that
speak HTTPS and SMTP over TLS on loopback, submits a message, waits for letter and receipt, verifies
the bundle offline, and ends what it started. Set-up steps are function calls, since a dozen program
starts would take longer than everything else; what is shown runs in separate processes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from shared.commands import demo_faults
from shared.commands.demo_faults import Fault
from shared.commands.demo_processes import DemoFailed
from shared.commands.demo_report import Outcome, report
from shared.commands.demo_world import World
from shared.errors import SecMTPError

app = typer.Typer(help="Watch a certified mail go from a mail program to a proven receipt.")

MODES_BUILT = ("online", "offline")
FAILED = 1
UNUSABLE = 2


@app.callback(invoke_without_command=True)
def demo(
    mail: Annotated[Path | None, typer.Option(help="A message file (*.eml) to send as it is.")] = None,
    mode: Annotated[str, typer.Option(help="online | offline")] = "online",
    fault: Annotated[
        str,
        typer.Option(help="In offline mode: sender-keeps-key | recipient-withholds-ack | recipient-silent | ttp-down"),
    ] = "",
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where everything is put; kept afterwards. Must be new or empty.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Run the demo."""
    if mode not in MODES_BUILT:
        typer.echo(f"mode {mode!r} isn't built in this version; built: {', '.join(MODES_BUILT)}", err=True)
        raise typer.Exit(UNUSABLE)
    broken = _fault(mode, fault)
    place = _place(directory)
    try:
        with World(place, typer.echo, mode=mode, fault=broken, fault_name=fault) as world:
            outcome = world.run(mail)
    except (DemoFailed, SecMTPError) as error:
        typer.echo(f"the demo failed: {error}\nlogs are in {place}", err=True)
        raise typer.Exit(FAILED) from error
    report(outcome, typer.echo)
    if broken is not None:
        typer.echo(f"\nFault: {broken.shows}.\nRecovery: {broken.ends}.")
    if as_json:
        sys.stdout.write(json.dumps(_json(outcome)) + "\n")
    expected = "valid" if broken is None or broken.delivers else "aborted"
    raise typer.Exit(0 if outcome.verdict == expected else FAILED)


def _fault(mode: str, name: str) -> Fault | None:
    if not name:
        return None
    if mode != "offline":
        typer.echo(f"--fault {name} shows a recovery of offline mode: add --mode offline", err=True)
        raise typer.Exit(UNUSABLE)
    try:
        return demo_faults.find(name)
    except DemoFailed as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(UNUSABLE) from error


def _place(directory: Path | None) -> Path:
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="secmtp-demo-"))
    if directory.exists() and any(directory.iterdir()):
        typer.echo(f"{directory} isn't empty; name a new directory", err=True)
        raise typer.Exit(UNUSABLE)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory.resolve()


def _json(outcome: Outcome) -> dict[str, object]:
    return {
        "exchange": outcome.exchange,
        "mode": outcome.mode,
        "submitted_sha256": outcome.submitted_sha256,
        "delivered_sha256": outcome.delivered_sha256,
        "delivered": None if outcome.delivered is None else str(outcome.delivered),
        "receipt": str(outcome.receipt),
        "bundle": str(outcome.bundle),
        "trust": str(outcome.trust),
        "checkpoint": outcome.checkpoint,
        "ttp_requests": outcome.ttp_requests,
        "seconds": round(outcome.seconds, 2),
        "verdict": outcome.verdict,
    }
