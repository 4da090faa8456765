"""`secmtp ledger witness`: set up and run an external witness of ledgers. Heavy imports stand inside the commands."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Set up and run an external witness (C2SP tlog-witness).", no_args_is_help=True)
Directory = Annotated[Path, typer.Option("--dir", help="The witness's directory.")]
KEY_OCTETS = 32


@app.command()
def init(
    directory: Directory,
    name: Annotated[str, typer.Option(help="The name to sign with: your domain, or domain/more.")],
    log: Annotated[list[str], typer.Option(help="Verifier key (vkey) of a log; may be repeated.")],
    seen: Annotated[
        list[Path] | None,
        typer.Option(
            help="A signed checkpoint that others saw (a file): cosign only what extends it; may be repeated."
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8453,
) -> None:
    """Make a key and an empty state, and print the vkey to publish.

    Never reuses a directory. A witness that was restored from a copy, or lost its state, takes a new key in a
    new directory; give it, with --seen, checkpoints that other witnesses saw, so that it catches up first.
    """
    from shared.ledger.note import MAX_NOTE  # noqa: PLC0415
    from shared.programs.files import read_bounded  # noqa: PLC0415
    from shared.programs.witness import initialise  # noqa: PLC0415

    checkpoints = [read_bounded(path, MAX_NOTE) for path in seen or []]
    drawn = secrets.token_bytes(KEY_OCTETS)
    typer.echo(initialise(directory, name=name, logs=log, seen=checkpoints, draw_key=drawn, port=port))


@app.command()
def serve(directory: Directory) -> None:
    """Serve until SIGTERM. Prints a line of JSON when it listens; logs JSON lines to standard error."""
    from shared.programs.witness_server import serve as run  # noqa: PLC0415

    run(directory, lambda: int(time.time()))


@app.command()
def forks(directory: Directory) -> None:
    """Print the proofs of forks that this witness saw: pairs of signed checkpoints. Exits 1 if there are any."""
    from shared.programs.witness import load, open_keeper  # noqa: PLC0415

    found = open_keeper(directory, load(directory)).forks()
    for fork in found:
        typer.echo(f"# seen at {fork.time}\n{fork.first.decode()}\n{fork.second.decode()}")
    raise typer.Exit(1 if found else 0)
