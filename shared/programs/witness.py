"""An external witness in a directory: its settings, its key, and its state in SQLite (docs/protocols/witness.md).

Refuses to be set up over an older one, and to run without the state that belongs to its key: a witness that
forgot what it cosigned could cosign a second history.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.crypto.keys import ED25519, decode_signing, encode_signing
from shared.errors import ConfigurationError, EvidenceFault, Malformed
from shared.ledger import note, witness
from shared.ledger.checkpoint import open_checkpoint
from shared.ledger.note import KeyType, VerifierKey, decode_vkey
from shared.ledger.witness import Cosigned, Decision, Signer, Witnessed
from shared.programs.files import private_directory, read_secret, write_public, write_secret
from shared.programs.settings import read_settings

FILE, KEY, STATE = "witness.toml", "witness.pem", "witness.sqlite"
MAX_KEY = 4096
MAX_FORKS = 1000
BUSY = 15.0
_SCHEMA = """
CREATE TABLE owner (public BLOB PRIMARY KEY);
CREATE TABLE witnessed (origin TEXT PRIMARY KEY, note BLOB NOT NULL, cosigned INTEGER NOT NULL);
CREATE TABLE forks (digest BLOB PRIMARY KEY, first BLOB NOT NULL, second BLOB NOT NULL, time INTEGER NOT NULL);
"""


class Settings(BaseSettings):
    """What an operator may set."""

    model_config = SettingsConfigDict(env_prefix="SECMTP_WITNESS_", extra="forbid", frozen=True)

    name: Annotated[str, Field(description="The name it signs with: the organisation's domain, or domain/more.")]
    logs: Annotated[list[str], Field(description="Verifier keys (vkey) of the logs that it knows.")]
    listen: Annotated[str, Field(description="The address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(description="The port to listen on; 0 takes a free one.", ge=0, le=65535)] = 8453
    certificate: Annotated[str, Field(description="TLS certificate chain (PEM); empty for HTTP without TLS.")] = ""
    private_key: Annotated[str, Field(description="The certificate's private key (PEM).")] = ""

    def keys(self) -> tuple[VerifierKey, ...]:
        """Return the logs' keys. Raises ConfigurationError."""
        try:
            keys = tuple(decode_vkey(text) for text in self.logs)
        except Malformed as error:
            raise ConfigurationError(f"logs: {error.message}") from error
        for key in keys:
            if key.type is not KeyType.LOG:
                raise ConfigurationError(f"logs: the key of {key.name} is a witness's, expected a log's (type 01)")
        return keys


@dataclass(frozen=True)
class Fork:
    """Two signed checkpoints of one size with two roots, and when the second came."""

    first: bytes
    second: bytes
    time: int


class Keeper:
    """Decides on requests and keeps what was decided. Safe for threads and processes: the database has the lock."""

    def __init__(self, signer: Signer, logs: Collection[VerifierKey], state: Path) -> None:
        self.signer = signer
        self.logs = logs
        self._state = state

    def add_checkpoint(self, body: bytes, now: int) -> Decision:
        """Decide on the body of add-checkpoint (W2, W3). Raises Malformed for another form."""
        request = witness.decode(body)
        origin = witness.origin_of(request)
        with self._transaction() as connection:
            row = connection.execute("SELECT note FROM witnessed WHERE origin = ?", (origin,)).fetchone()
            state = None if row is None else witness.decode_state(row[0])
            decision = witness.decide(state, request, self.logs, self.signer, now)
            if isinstance(decision.answer, Cosigned) and decision.state is not None:
                _put(connection, decision.state, cosigned=True)
            if decision.fork is not None:
                _put_fork(connection, Fork(*decision.fork, now))
        # Commit point: the block has ended, state and lock were one transaction. Only now may the answer leave.
        return decision

    def newest(self, origin_hash: str) -> bytes | None:
        """Return the newest checkpoint that it cosigned, by the hash of the log's origin (W5)."""
        origins = {witness.origin_hash(key.name): key.name for key in self.logs}
        query = "SELECT note FROM witnessed WHERE origin = ? AND cosigned"
        with self._transaction() as connection:
            row = connection.execute(query, (origins.get(origin_hash, ""),)).fetchone()
        return None if row is None else bytes(row[0])

    def forks(self) -> list[Fork]:
        """Return the proofs of forks that were seen."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT first, second, time FROM forks ORDER BY time").fetchall()
        return [Fork(*row) for row in rows]

    def owns(self, public: bytes) -> bool:
        """Whether the state is the one of this key."""
        with self._transaction() as connection:
            return connection.execute("SELECT 1 FROM owner WHERE public = ?", (public,)).fetchone() is not None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(_connect(self._state)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            with connection:  # commits, or rolls back what raised
                yield connection


def initialise(
    directory: Path, *, name: str, logs: Sequence[str], seen: Sequence[bytes], draw_key: bytes, port: int
) -> str:
    """Make a witness in a new directory and return its vkey. Raises ConfigurationError over an older one.

    `seen` are signed checkpoints that others saw: it cosigns nothing that doesn't extend the newest of them.
    """
    for taken in (FILE, KEY, STATE):
        if (directory / taken).exists():
            raise ConfigurationError(
                f"{directory} holds a witness already, or the rest of one. A witness that was restored or lost its "
                "state takes a new key: make a new one in another directory, with --seen, and publish its vkey"
            )
    settings = Settings(name=name, logs=list(logs), port=port)
    key = Ed25519PrivateKey.from_private_bytes(draw_key)
    signer, states = Signer(name, key), _newest(seen, settings.keys())
    vkey = signer.verifier.encode()
    private_directory(directory)
    write_secret(directory / KEY, encode_signing(key))
    write_secret(directory / STATE, b"")
    with closing(_connect(directory / STATE)) as connection:
        connection.executescript(_SCHEMA)
        with connection:
            connection.execute("INSERT INTO owner (public) VALUES (?)", (signer.verifier.public,))
            for state in states:
                _put(connection, state, cosigned=False)
    write_public(directory / FILE, _render(settings).encode())
    return vkey


def load(directory: Path) -> Settings:
    """Read the settings of a directory. Raises ConfigurationError naming each key that is wrong."""
    return read_settings(Settings, directory / FILE, f"secmtp ledger witness init --dir {directory}")


def open_keeper(directory: Path, settings: Settings) -> Keeper:
    """Open what `initialise` made. Raises ConfigurationError when key or state are missing or damaged."""
    key = decode_signing(read_secret(directory / KEY, MAX_KEY), ED25519)
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{directory / KEY} isn't an Ed25519 key")
    keeper = Keeper(Signer(settings.name, key), settings.keys(), directory / STATE)
    if not (directory / STATE).is_file():
        raise ConfigurationError(
            f"{directory / STATE} is missing, and with it what this key cosigned: don't use the key again; make a "
            "new witness in another directory"
        )
    try:
        owned = keeper.owns(keeper.signer.verifier.public)
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(f"{directory / STATE} can't be used: {error}") from error
    if not owned:
        raise ConfigurationError(f"{directory / STATE} is the state of another key than {directory / KEY}")
    return keeper


def _newest(seen: Sequence[bytes], logs: Collection[VerifierKey]) -> list[Witnessed]:
    """Return the newest of the checkpoints for each log, all verified. Raises ConfigurationError."""
    newest: dict[str, Witnessed] = {}
    for octets in seen:
        try:
            text = note.parse(octets).text
            key = next((one for one in logs if text.startswith(f"{one.name}\n")), None)
            if key is None:
                raise ConfigurationError(
                    f"a checkpoint that was seen is of {text.partition(chr(10))[0]!r}: no such log"
                )
            state = Witnessed(open_checkpoint(octets, key).checkpoint, octets)
        except (Malformed, EvidenceFault) as error:
            raise ConfigurationError(f"a checkpoint that was seen can't be used: {error.message}") from error
        if key.name not in newest or newest[key.name].checkpoint.size < state.checkpoint.size:
            newest[key.name] = state
    return list(newest.values())


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: a database that is missing must never be made anew behind the operator's back.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _put(connection: sqlite3.Connection, state: Witnessed, *, cosigned: bool) -> None:
    values = (state.checkpoint.origin, state.note, cosigned)
    connection.execute("INSERT OR REPLACE INTO witnessed (origin, note, cosigned) VALUES (?, ?, ?)", values)


def _put_fork(connection: sqlite3.Connection, fork: Fork) -> None:
    # A name for the row, not a value of the protocol. The table is bounded: one proof would be enough.
    digest = hashlib.sha256(fork.first + b"\0" + fork.second).digest()
    if connection.execute("SELECT count(*) FROM forks").fetchone()[0] < MAX_FORKS:
        values = (digest, fork.first, fork.second, fork.time)
        connection.execute("INSERT OR IGNORE INTO forks (digest, first, second, time) VALUES (?, ?, ?, ?)", values)


def _render(settings: Settings) -> str:
    """Return the text of the settings file. JSON's strings and lists are TOML's too."""
    lines = (
        "# Settings of the witness; unknown keys are refused.",
        f"name = {json.dumps(settings.name)}",
        "# Verifier keys (vkey) of the logs that it knows.",
        f"logs = {json.dumps(settings.logs)}",
        '# The address to listen on; "" or "0.0.0.0" for all.',
        f"listen = {json.dumps(settings.listen)}",
        f"port = {settings.port}",
        "# TLS certificate chain and private key (PEM); empty for HTTP, behind something that does TLS.",
        'certificate = ""',
        'private_key = ""',
        "",
    )
    return "\n".join(lines)
