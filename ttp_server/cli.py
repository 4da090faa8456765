"""`secmtp ttp`: set up and run the trusted third party. Heavy imports stand inside the commands."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ttp_server.services.findings import Findings

app = typer.Typer(help="Set up and run a trusted third party.", no_args_is_help=True)
db = typer.Typer(help="Move the TTP's database.", no_args_is_help=True)
app.add_typer(db, name="db")
Directory = Annotated[Path, typer.Option("--dir", help="The TTP's directory.")]
DAY = 24 * 3600


@app.command()
def init(
    directory: Directory,
    name: Annotated[str, typer.Option(help="The name that manifests will hold, for example ttp.example.")],
    host: Annotated[list[str], typer.Option(help="A host name or address of the service; may be repeated.")],
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8443,
) -> None:
    """Make keys, settings and database, and the request for the CA."""
    from ttp_server.setup import initialise  # noqa: PLC0415

    request = initialise(directory, name=name, hosts=host, now=int(time.time()), port=port)
    typer.echo(f"Made {directory}. Have the CA certify {request} (`secmtp ca issue`), then run `secmtp ttp certify`.")


@app.command()
def certify(
    file: Annotated[Path, typer.Argument(help="What the CA issued.")],
    directory: Directory,
    root: Annotated[Path, typer.Option(help="The root certificate (PEM).")],
) -> None:
    """Check and install the certificates that the CA issued."""
    from ttp_server.setup import install_certificates  # noqa: PLC0415

    install_certificates(directory, file, root, now=int(time.time()))
    typer.echo(f"The certificates fit. Run `secmtp ttp serve --dir {directory}`.")


@app.command()
def token(
    directory: Directory,
    domain: Annotated[list[str], typer.Option(help="A mail domain that the node may enrol; may be repeated.")],
    days: Annotated[int, typer.Option(help="How long the token is good for.", min=1, max=90)] = 7,
) -> None:
    """Print a one-time token with which a node may enrol."""
    from ttp_server.setup import create_enrolment_token  # noqa: PLC0415

    typer.echo(create_enrolment_token(directory, domains=domain, now=int(time.time()), lifetime=days * DAY))


@app.command()
def serve(directory: Directory) -> None:
    """Serve HTTPS until SIGTERM. Prints a line of JSON when it listens; logs JSON lines to standard error."""
    from ttp_server.server import serve as run  # noqa: PLC0415
    from ttp_server.settings import load  # noqa: PLC0415

    run(directory, load(directory))


@app.command()
def vkey(directory: Directory) -> None:
    """Print the ledger's verifier key (C2SP vkey), for witnesses, mirrors and policies."""
    from shared.crypto.certificates import Purpose  # noqa: PLC0415
    from shared.ledger.note import KeyType, verifier_key  # noqa: PLC0415
    from ttp_server.custody.keys import load_signing  # noqa: PLC0415
    from ttp_server.settings import load  # noqa: PLC0415

    log = load(directory).log
    public = load_signing(directory, Purpose.LEDGER).public_key()
    typer.echo(verifier_key(log, KeyType.LOG, public).encode())


@app.command()
def epochs(directory: Directory) -> None:
    """List the escrow epochs."""
    from ttp_server.app import database_url  # noqa: PLC0415
    from ttp_server.settings import load  # noqa: PLC0415
    from ttp_server.store.database import open_engine, upgrade  # noqa: PLC0415
    from ttp_server.store.epochs import SqlEpochRows  # noqa: PLC0415

    engine = open_engine(database_url(directory, load(directory)))
    upgrade(engine)
    for row in SqlEpochRows(engine).all():
        until = datetime.fromtimestamp(row.open_until, UTC).date()
        state = "open" if row.destroyed is None else "destroyed"
        typer.echo(f"{row.epoch:>4}  {row.kind:<16} {state:<10} open until {until}")


@app.command()
def fsck(directory: Directory) -> None:
    """Check everything that the database holds; a TTP may go on serving. Exits 1 when anything is wrong."""
    from ttp_server.maintenance import check  # noqa: PLC0415

    _conclude(check(directory, typer.echo, now=int(time.time())))


@app.command()
def recover(
    directory: Directory,
    archive: Annotated[
        Path | None, typer.Option(help="The second copy; by default that of the settings.", show_default=False)
    ] = None,
) -> None:
    """Bring back what a stopped TTP's database lacks from the second copy, and check it. May be repeated."""
    from ttp_server.maintenance import recover as bring_back  # noqa: PLC0415

    def told(what: str, count: int) -> None:
        typer.echo(f"{count:>12}  {what}", err=True)

    added, findings = bring_back(directory, archive, told, typer.echo, now=int(time.time()))
    typer.echo(f"{added} entries came back.")
    typer.echo(
        "Not in the ledger, so look after it yourself (docs/recovery.md): enrolled nodes and their witness keys,"
    )
    typer.echo(
        "enrolment tokens, domain records, what refusals were of, cosignatures, until when escrow epochs are open."
    )
    _conclude(findings)


@db.command()
def copy(
    directory: Directory,
    to: Annotated[str, typer.Option("--to", help="URL of an empty database: postgresql://… or sqlite:///….")],
    source: Annotated[str, typer.Option("--from", help="URL of the database; by default that of the settings.")] = "",
) -> None:
    """Copy the database of a stopped TTP into an empty one, and check what arrived. Exits 1 when anything is wrong.

    A password needn't stand in a URL: PGPASSWORD and ~/.pgpass are used too.
    """
    from ttp_server.maintenance import copy as copy_database  # noqa: PLC0415

    def told(table: str, count: int) -> None:
        typer.echo(f"{count:>12}  {table}", err=True)

    _conclude(copy_database(directory, source, to, told, typer.echo, now=int(time.time())))
    typer.echo(f"Now set `database` in {directory / 'ttp.toml'} to the new URL. Never start a TTP on the old database")
    typer.echo("again: the two would be two ledgers under one key, and every witness would call that a fork.")


def _conclude(findings: Findings) -> None:
    for what, count in sorted(findings.counts.items()):
        typer.echo(f"{count:>12}  {what}")
    typer.echo("Everything holds." if not findings.violations else f"{findings.violations} violations.")
    if findings.violations:
        raise typer.Exit(1)
