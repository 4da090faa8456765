"""`secmtp node`: set up and run a node. Heavy imports stand inside the commands."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from shared.errors import ConfigurationError, Malformed

app = typer.Typer(help="Set up and run a node.", no_args_is_help=True)
users = typer.Typer(help="Users of this node.", no_args_is_help=True)
app.add_typer(users, name="user")
Directory = Annotated[Path, typer.Option("--dir", help="The node's directory.")]
MAX_PASSWORD_FILE = 4096
EXCHANGE_OCTETS = 32
MAX_ALARMS = 10_000


@app.command()
def init(
    directory: Directory,
    domain: Annotated[list[str], typer.Option(help="A mail domain of this node; may be repeated.")],
    host: Annotated[list[str], typer.Option(help="A host name of this node; may be repeated.")],
    submission: Annotated[int, typer.Option(help="Port for mail programs, STARTTLS.")] = 587,
    submissions: Annotated[int, typer.Option(help="Port for mail programs, TLS.")] = 465,
    peer: Annotated[int, typer.Option(help="Port for other nodes.")] = 25,
) -> None:
    """Make keys, settings and database, and the request for the CA."""
    from secmtp_node.setup import initialise  # noqa: PLC0415

    ports = (submission, submissions, peer)
    request = initialise(directory, domains=domain, hosts=host, now=int(time.time()), ports=ports)
    typer.echo(f"Made {directory}. Have the CA certify {request} (`secmtp ca issue`), then run `secmtp node certify`.")


@app.command()
def certify(
    file: Annotated[Path, typer.Argument(help="What the CA issued.")],
    directory: Directory,
    root: Annotated[Path, typer.Option(help="The root certificate (PEM).")],
) -> None:
    """Check and install the certificates that the CA issued."""
    from secmtp_node.setup import install_certificates  # noqa: PLC0415

    install_certificates(directory, file, root, now=int(time.time()))
    typer.echo(f"The certificates fit. Now enrol at a TTP: `secmtp node enrol --dir {directory}`.")


@app.command()
def enrol(
    directory: Directory,
    ttp: Annotated[str, typer.Option(help="The TTP's address, https://host:port.")],
    name: Annotated[str, typer.Option(help="The TTP's name, as it is certified.")],
    token_file: Annotated[Path | None, typer.Option(help="A file with the token; otherwise it is asked for.")] = None,
) -> None:
    """Enrol at a TTP with a one-time token of its operator."""
    from secmtp_node.setup import enrol as run  # noqa: PLC0415

    token = _secret(token_file, "Enrolment token")
    run(directory, ttp_url=ttp, ttp_name=name, token=token, now=int(time.time()))
    typer.echo(f"Enrolled at {name}. Add users, then run `secmtp node serve --dir {directory}`.")


@app.command()
def serve(
    directory: Directory,
    fault: Annotated[
        str,
        typer.Option(
            help="For rehearsals only: break a rule of offline mode, sender-keeps-key or recipient-withholds-ack."
        ),
    ] = "",
) -> None:
    """Serve until SIGTERM. Prints a line of JSON when it listens; logs JSON lines to standard error."""
    from secmtp_node.server import serve as run  # noqa: PLC0415
    from secmtp_node.settings import load, load_ttp  # noqa: PLC0415

    raise typer.Exit(run(directory, load(directory), load_ttp(directory), fault))


@app.command()
def evidence(
    exchange: Annotated[str, typer.Argument(help="The exchange id (hM), 64 hexadecimal digits.")],
    directory: Directory,
    out: Annotated[Path, typer.Option(help="Where to put the bundle. Must not exist.")],
) -> None:
    """Export the bundle of an exchange, sent or received, without openings."""
    from secmtp_node.app import database_url  # noqa: PLC0415
    from secmtp_node.settings import load  # noqa: PLC0415
    from secmtp_node.store.database import SqlStore, open_engine, upgrade  # noqa: PLC0415
    from shared.evidence import bundle as bundles  # noqa: PLC0415
    from shared.programs.files import write_secret  # noqa: PLC0415

    name = _exchange(exchange)
    engine = open_engine(database_url(directory, load(directory)))
    upgrade(engine)
    with SqlStore(engine).transaction() as unit:
        found = unit.evidence.find(name)
    if found is None:
        raise ConfigurationError("this node has no evidence of that exchange (yet)")
    write_secret(out, bundles.encode(found.bundle))
    typer.echo(f"{found.outcome}: {out}")


@app.command()
def fault(
    exchange: Annotated[str, typer.Argument(help="The exchange id (hM), 64 hexadecimal digits.")],
    directory: Directory,
    out: Annotated[Path, typer.Option(help="A new directory for bundle and ciphertext.")],
) -> None:
    """Export the proof that a sender made a letter that nobody can read. It is confidential."""
    from secmtp_node.setup import export_fault  # noqa: PLC0415

    typer.echo(f"{export_fault(directory, _exchange(exchange), out)}: {out}")


@app.command()
def alarms(
    directory: Directory, limit: Annotated[int, typer.Option(help="How many, newest first.", min=1)] = 20
) -> None:
    """List what an operator must look at."""
    from secmtp_node.app import database_url  # noqa: PLC0415
    from secmtp_node.settings import load  # noqa: PLC0415
    from secmtp_node.store.database import SqlStore, open_engine, upgrade  # noqa: PLC0415

    engine = open_engine(database_url(directory, load(directory)))
    upgrade(engine)
    with SqlStore(engine).transaction() as unit:
        for alarm in unit.evidence.alarms(limit):
            when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(alarm.time))
            typer.echo(f"{when}  {alarm.exchange.hex() if alarm.exchange else '-'}  {alarm.kind}: {alarm.reason}")


@app.command()
def status(
    directory: Directory,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Print Prometheus text, for a textfile collector.")
    ] = False,
) -> None:
    """Say how the node is: its queue, alarms, the ledgers it watches. Exits 1 where new trades are refused."""
    from secmtp_node.agents.overview import overview  # noqa: PLC0415
    from secmtp_node.app import database_url  # noqa: PLC0415
    from secmtp_node.settings import load  # noqa: PLC0415
    from secmtp_node.store.database import SqlStore, open_engine, upgrade  # noqa: PLC0415

    engine = open_engine(database_url(directory, load(directory)))
    upgrade(engine)
    with SqlStore(engine).transaction() as unit:
        found = overview(unit)
    engine.dispose()
    if as_json:
        typer.echo(json.dumps(found.as_json(), ensure_ascii=False))
    else:
        typer.echo("\n".join(found.as_metrics() if metrics else found.as_text()))
    raise typer.Exit(1 if found.stopped else 0)


@app.command()
def forks(directory: Directory) -> None:
    """Print what proves that a ledger forked or was set back: pairs of signed checkpoints. Exits 1 if there are any."""
    from secmtp_node.agents.witnessing import LEDGER_ALARMS  # noqa: PLC0415
    from secmtp_node.app import database_url  # noqa: PLC0415
    from secmtp_node.settings import load  # noqa: PLC0415
    from secmtp_node.store.database import SqlStore, open_engine, upgrade  # noqa: PLC0415

    engine = open_engine(database_url(directory, load(directory)))
    upgrade(engine)
    with SqlStore(engine).transaction() as unit:
        found = [alarm for alarm in unit.evidence.alarms(MAX_ALARMS) if alarm.kind in LEDGER_ALARMS]
    engine.dispose()
    for alarm in found:
        typer.echo(f"# {alarm.kind}, seen at {alarm.time}: {alarm.reason}\n{alarm.data.decode()}")
    raise typer.Exit(1 if found else 0)


@app.command()
def resume(directory: Directory) -> None:
    """Trade again after an alarm about the ledger. The next look stops it again if the reason is still there."""
    from secmtp_node.app import database_url  # noqa: PLC0415
    from secmtp_node.settings import load  # noqa: PLC0415
    from secmtp_node.store.database import SqlStore, open_engine, upgrade  # noqa: PLC0415

    engine = open_engine(database_url(directory, load(directory)))
    upgrade(engine)
    with SqlStore(engine).transaction() as unit:
        for seen in unit.checkpoints.all():
            if seen.stopped:
                unit.checkpoints.put(replace(seen, stopped="", behind=0))
                typer.echo(f"New trades at {seen.ttp} again; the alarm and its proof stay.")
    engine.dispose()


@app.command()
def vkey(directory: Directory) -> None:
    """Print the key with which this node cosigns its TTP's ledger (C2SP vkey), for policies."""
    from secmtp_node.custody.witness import load_witness  # noqa: PLC0415
    from secmtp_node.settings import load  # noqa: PLC0415

    typer.echo(load_witness(directory / "keys", load(directory).domains[0]).verifier.encode())


@app.command("new-witness-key")
def new_witness_key(directory: Directory) -> None:
    """Make a new witness key: after a restore from a backup, before the node runs again (witness.md N3)."""
    from secmtp_node.custody.witness import new_witness  # noqa: PLC0415
    from secmtp_node.settings import load  # noqa: PLC0415

    typer.echo(new_witness(directory / "keys", load(directory).domains[0]).verifier.encode())


@users.command("add")
def add(
    address: Annotated[str, typer.Argument(help="The mail address.")],
    directory: Directory,
    password_file: Annotated[
        Path | None, typer.Option(help="A file with the password; otherwise it is asked for.")
    ] = None,
) -> None:
    """Make a user with keys of their own. The password opens the key that signs what they send."""
    from secmtp_node.setup import add_user  # noqa: PLC0415

    password = _secret(password_file, "Password", confirm=True)
    typer.echo(f"Added {add_user(directory, address, password, now=int(time.time()))}.")


@users.command("list")
def list_users(directory: Directory) -> None:
    """List the users."""
    from secmtp_node.app import database_url  # noqa: PLC0415
    from secmtp_node.settings import load  # noqa: PLC0415
    from secmtp_node.store.database import SqlStore, open_engine, upgrade  # noqa: PLC0415

    engine = open_engine(database_url(directory, load(directory)))
    upgrade(engine)
    with SqlStore(engine).transaction() as unit:
        for address in unit.users.addresses():
            typer.echo(address)


def _exchange(text: str) -> bytes:
    try:
        name = bytes.fromhex(text)
    except ValueError:
        name = b""
    if len(name) != EXCHANGE_OCTETS:
        raise Malformed("an exchange id is 64 hexadecimal digits")
    return name


def _secret(file: Path | None, prompt: str, *, confirm: bool = False) -> str:
    if file is None:
        asked: str = typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm)
        return asked
    from shared.programs.files import read_bounded  # noqa: PLC0415

    return read_bounded(file, MAX_PASSWORD_FILE).decode("utf-8").rstrip("\r\n")
