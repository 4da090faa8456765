"""Settings of the node: DIR/node.toml, overridden by SECMTP_NODE_…; an unknown key is an error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.encoding.address import domain_of
from shared.errors import ConfigurationError
from shared.programs.settings import read_settings

FILE = "node.toml"
TTP_FILE = "ttp.json"
DAY = 24 * 3600
MIB = 1024 * 1024
Port = Annotated[int, Field(ge=0, le=65535)]
Mode = Literal["online", "offline"]


class Settings(BaseSettings):
    """What an operator may set. Times are seconds, sizes octets. Port 0 takes a free one."""

    model_config = SettingsConfigDict(env_prefix="SECMTP_NODE_", extra="forbid", frozen=True)

    domains: Annotated[list[str], Field(min_length=1)]
    hosts: list[str]
    listen: str = "127.0.0.1"
    submission: Port = 587
    submissions: Port = 465
    peer: Port = 25
    peer_host: Annotated[str, Field(description="The host name that other nodes connect to.")] = ""
    peer_port: Annotated[Port, Field(description="The port that other nodes connect to; 0 for `peer`.")] = 0
    mail: Annotated[str, Field(description="The directory of Maildirs; empty for DIR/mail.")] = ""
    database: Annotated[str, Field(description="SQLAlchemy URL; empty for SQLite in the data directory.")] = ""
    mode: Annotated[Mode, Field(description="The mode of what this node sends, if nothing below says more.")] = "online"
    mode_for: Annotated[dict[str, Mode], Field(description="Modes of own mail domains and own users, by name.")] = {}
    mode_fallback: Annotated[
        Mode | Literal["refuse"],
        Field(description="The mode where the recipient's node doesn't offer the wanted one; or `refuse` the letter."),
    ] = "online"
    expiry: Annotated[int, Field(description="How long a recipient may take.", ge=60, le=90 * DAY)] = 5 * DAY
    direct: Annotated[
        int, Field(description="Offline mode: how long the key may go directly; 0 for two fifths of expiry.", ge=0)
    ] = 0
    margin: Annotated[
        int, Field(description="Offline mode: least time between that and expiry; 0 for three fifths of expiry.", ge=0)
    ] = 0
    anchor_pause: Annotated[int, Field(description="How long evidence is gathered before it is anchored.", ge=1)] = 30
    message_octets: Annotated[int, Field(ge=1024)] = 256 * MIB
    first_pause: Annotated[int, Field(ge=1)] = 5
    longest_pause: Annotated[int, Field(ge=1)] = 3600
    quorum: Annotated[int, Field(description="How many witnesses of its ledger a TTP must wait for.", ge=0)] = 0
    behind: Annotated[int, Field(description="How long a ledger may show less than was seen of it.", ge=0)] = 60
    witness_pause: Annotated[int, Field(description="Between two looks at the ledger.", ge=1)] = 30
    couriers: Annotated[int, Field(description="Jobs done at once.", ge=1, le=32)] = 4

    @model_validator(mode="after")
    def _check_modes(self) -> Self:
        """A margin must not shrink unseen: who can't reach the TTP for the whole of it loses its fairness."""
        if self.direct_window + self.direct_margin > self.expiry:
            raise ValueError(f"direct + margin must be at most expiry ({self.expiry} s)")
        strange = [name for name in self.mode_for if domain_of(name) not in self.domains]
        if strange:
            raise ValueError(f"mode_for: {', '.join(strange)} isn't of this node's domains ({', '.join(self.domains)})")
        return self

    @property
    def direct_window(self) -> int:
        """How long after submission the key may go directly."""
        return self.direct or self.expiry * 2 // 5

    @property
    def direct_margin(self) -> int:
        """The least time between the end of that window and `expires`."""
        return self.margin or self.expiry * 3 // 5


class TTPAddress(BaseSettings):
    """The TTP that this node is enrolled at."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    name: str
    url: str


def load(directory: Path) -> Settings:
    """Read the settings of a directory. Raises ConfigurationError naming each key that is wrong."""
    return read_settings(Settings, directory / FILE, f"secmtp node init --dir {directory}")


def load_ttp(directory: Path) -> TTPAddress:
    """Read which TTP this node is enrolled at. Raises ConfigurationError."""
    path = directory / TTP_FILE
    if not path.is_file():
        raise ConfigurationError(f"this node isn't enrolled yet: run `secmtp node enrol --dir {directory}`")
    try:
        return TTPAddress(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path} isn't what `secmtp node enrol` wrote: enrol again") from error


def render(domains: Sequence[str], hosts: Sequence[str], ports: tuple[int, int, int]) -> str:
    """Return the text of a new settings file. JSON's strings and lists are TOML's too."""
    submission, submissions, peer = ports
    lines = (
        "# Settings of the node; unknown keys are refused. `secmtp node serve --help` says more.",
        f"domains = {json.dumps(list(domains))}",
        f"hosts = {json.dumps(list(hosts))}",
        '# The address to listen on; "" or "0.0.0.0" for all.',
        'listen = "127.0.0.1"',
        "# For mail programs: STARTTLS and implicit TLS. For other nodes: STARTTLS with certificates.",
        f"submission = {submission}",
        f"submissions = {submissions}",
        f"peer = {peer}",
        "# What other nodes connect to, if it isn't the first host and the port above.",
        'peer_host = ""',
        "peer_port = 0",
        "# How many independent witnesses of its ledger the TTP must wait for; with fewer nothing is sent.",
        "quorum = 0",
        "# Online: every exchange goes through the TTP. Offline: directly between the nodes, and the TTP only helps.",
        "# Where the recipient's node doesn't offer the mode: the fallback, a mode or `refuse`.",
        'mode = "online"',
        'mode_fallback = "online"',
        '# Other modes for some of the own domains or users: { "alice@a.example" = "offline" }',
        "mode_for = {}",
        "",
    )
    return "\n".join(lines)
