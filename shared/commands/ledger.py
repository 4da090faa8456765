"""`secmtp ledger`: what anybody may do with a ledger. Its groups are imported when they are called."""

from __future__ import annotations

import typer

from shared.commands.witness import app as witness

app = typer.Typer(help="Check, mirror and witness ledgers.", no_args_is_help=True)
app.add_typer(witness, name="witness")
