"""The command `secmtp`: finds its groups and imports only the one that is called.

Verifying evidence must start fast, and on a machine that runs no server: nothing of the other groups,
of settings, databases or HTTP is imported before it is needed. An error of ours ends the command with
one line on stderr and exit code 2, never with a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from shared.errors import ConfigurationError, SecMTPError

ENTRY_POINTS = "secmtp.commands"
UNUSABLE = 2


@dataclass(frozen=True, slots=True)
class GroupAt:
    """Where a group's typer app is ("module:attribute"), and what it is for in a few words."""

    target: str
    summary: str


# The groups of this distribution, so that a plain checkout works too and nothing is searched for a
# known name. Others may add theirs as entry points. tests/shared/test_cli.py compares with pyproject.toml.
GROUPS = {
    "ca": GroupAt("shared.commands.ca:app", "Keep a root certification authority."),
    "demo": GroupAt("shared.commands.demo:app", "Watch a certified mail go from a mail program to a proven receipt."),
    "evidence": GroupAt("shared.commands.evidence:app", "Verify and show evidence, offline."),
    "ledger": GroupAt("shared.commands.ledger:app", "Audit, mirror, monitor and witness ledgers."),
    "node": GroupAt("secmtp_node.cli:app", "Set up and run a node."),
    "ttp": GroupAt("ttp_server.cli:app", "Set up and run a trusted third party."),
}


class LazyGroups(TyperGroup):
    """A group of groups that are imported when they are called, and listed without being imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all groups."""
        return sorted({*GROUPS, *_others()})

    def get_command(self, ctx: Any, cmd_name: str) -> TyperGroup | None:
        """Import the group of that name; None if there is none."""
        group = GROUPS.get(cmd_name) or _others().get(cmd_name)
        return None if group is None else _load(cmd_name, group)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of groups for --help."""
        groups = {**_others(), **GROUPS}
        with formatter.section("Commands"):
            formatter.write_dl([(name, groups[name].summary) for name in sorted(groups)])


app = typer.Typer(cls=LazyGroups, add_completion=False, rich_markup_mode=None, no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"secmtp {_version()}")
        raise typer.Exit


@app.callback()
def secmtp(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Certified electronic mail: fair exchange of message for receipt, with a trusted third party."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments (default: the process's) and exit."""
    try:
        get_group(app).main(args=arguments, prog_name="secmtp")
    except SecMTPError as error:
        _fail(error.message)
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        _fail(f"{error.strerror or type(error).__name__}{place}")


def _fail(message: str) -> None:
    sys.stderr.write(f"secmtp: {' '.join(message.split())}\n")
    sys.exit(UNUSABLE)


def _load(name: str, group: GroupAt) -> TyperGroup:
    module, _, attribute = group.target.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ConfigurationError(f"`secmtp {name}` isn't installed here: the module {module} is missing") from error
    command = get_group(found)
    command.name = name
    return command


def _others() -> dict[str, GroupAt]:
    """Return the groups that other installed packages add."""
    return {
        point.name: GroupAt(point.value, f"From the package {point.dist.name}." if point.dist else "")
        for point in _points()
        if point.name not in GROUPS
    }


def _points() -> Iterable[Any]:
    from importlib.metadata import entry_points  # noqa: PLC0415  (searching takes longer than a known group)

    return entry_points(group=ENTRY_POINTS)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("secmtp")
    except PackageNotFoundError:
        return "(not installed: run from a checkout)"


if __name__ == "__main__":
    main()
