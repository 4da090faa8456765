"""Settings of the TTP: DIR/ttp.toml, overridden by SECMTP_TTP_…; an unknown key is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.programs.settings import read_settings

FILE = "ttp.toml"
NOTICE = 72 * 3600


class WitnessAddress(BaseModel):
    """An external witness of the ledger (C2SP tlog-witness)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vkey: Annotated[str, Field(description="Its verifier key, as it published it.")]
    url: Annotated[str, Field(description="Its submission prefix.", pattern="^https?://")]


class Settings(BaseSettings):
    """What an operator may set. Times are seconds."""

    model_config = SettingsConfigDict(env_prefix="SECMTP_TTP_", extra="forbid", frozen=True)

    name: Annotated[str, Field(description="The TTP's name, as certified.", max_length=200)]
    hosts: Annotated[list[str], Field(description="Host names and addresses in the TLS certificate.")]
    listen: Annotated[str, Field(description="The address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(description="The port to listen on; 0 takes a free one.", ge=0, le=65535)] = 8443
    database: Annotated[str, Field(description="SQLAlchemy URL; empty for SQLite in the data directory.")] = ""
    archive: Annotated[str, Field(description="Directory of the second copy; empty for `archive` beside data.")] = ""
    notice: Annotated[int, Field(description="How long a revocation is announced before it counts.", ge=0)] = NOTICE
    requests_per_second: Annotated[int, Field(description="For each enrolled node.", ge=1)] = 500
    connections: Annotated[int, Field(description="Requests served at once.", ge=1)] = 512

    quorum: Annotated[int, Field(description="How many witnesses must cosign before an answer leaves.", ge=0)] = 0
    faulty: Annotated[int, Field(description="How many of them may lie; less than the quorum.", ge=0)] = 0
    witness_seconds: Annotated[float, Field(description="How long witnesses may take.", gt=0, le=20)] = 10.0
    witness_trust: Annotated[str, Field(description="Root certificates (PEM) for witnesses; empty: the system's.")] = ""
    witnesses: Annotated[list[WitnessAddress], Field(description="External witnesses.", max_length=31)] = []

    @property
    def log(self) -> str:
        """The origin of the ledger."""
        return f"{self.name}/ledger"


def load(directory: Path) -> Settings:
    """Read the settings of a directory. Raises ConfigurationError naming each key that is wrong."""
    return read_settings(Settings, directory / FILE, f"secmtp ttp init --dir {directory}")


def render(name: str, hosts: list[str], port: int) -> str:
    """Return the text of a new settings file. JSON's strings and lists are TOML's too."""
    lines = (
        "# Settings of the TTP. `secmtp ttp serve --help` says more; unknown keys are refused.",
        f"name = {json.dumps(name)}",
        f"hosts = {json.dumps(hosts)}",
        '# The address to listen on; "" or "0.0.0.0" for all.',
        'listen = "127.0.0.1"',
        f"port = {port}",
        "# SQLAlchemy URL, for example postgresql+psycopg://…; empty for SQLite in the data directory.",
        'database = ""',
        "# Where entries and bodies are copied to before anybody is answered: best on another disk.",
        'archive = ""',
        "# How many external witnesses must have cosigned the ledger before an answer leaves, and how many of them",
        "# may be faulty; then one table for each witness:",
        "#   [[witnesses]]",
        '#   vkey = "witness.example+…"',
        '#   url = "https://witness.example"',
        "quorum = 0",
        "faulty = 0",
        "",
    )
    return "\n".join(lines)
