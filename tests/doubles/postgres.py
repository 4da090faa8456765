"""A real PostgreSQL for the tests: the one that SECMTP_TEST_POSTGRES_URL names, else one started for them.

What is started here listens on 127.0.0.1 alone, asks for a password, and ends with the tests, however they end.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url

VARIABLE = "SECMTP_TEST_POSTGRES_URL"
MISSING = (
    "the tests need a PostgreSQL server: install it (Debian: apt-get install postgresql), or name the URL of one in "
    f"{VARIABLE} (postgresql+psycopg://user:password@host/postgres, whose user may create databases)"
)
DEADLINE = 30.0
OPTIONS = ("unix_socket_directories=", "listen_addresses=127.0.0.1", "max_connections=200", "log_min_messages=fatal")


class Server:
    """A server on which tests make databases. Removes at the end what it made."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._made: list[str] = []

    def create(self, template: str | None = None, encoding: str = "UTF8") -> str:
        """Make a database, a copy of that at the URL `template` if there is one, and return its URL."""
        name = f"secmtp_test_{secrets.token_hex(8)}"
        like = make_url(template).database if template else "template0"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(like or ""), sql.Literal(encoding)))
        self._made.append(name)
        return self.url.set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is still connected to it."""
        name = make_url(url).database or ""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        self._made.remove(name)

    def close(self) -> None:
        """Remove every database that was made here."""
        for name in list(self._made):
            self.drop(self.url.set(database=name).render_as_string(hide_password=False))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(conninfo(self.url), autocommit=True) as connection:
            connection.execute(statement)


def conninfo(url: URL | str) -> str:
    """Return what psycopg itself takes for a URL of SQLAlchemy's."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def running() -> Iterator[Server]:
    """Give the tests' server. Raises LookupError, saying what to install, if there is none to be had."""
    named = os.environ.get(VARIABLE)
    if named:
        server = Server(make_url(named))
        yield server
        server.close()
        return
    with _cluster(_programs()) as url:
        yield Server(url)


def _programs() -> Path:
    """Find the folder of the newest server's programs; Debian keeps them out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    elsewhere = shutil.which("initdb")
    if not found and elsewhere is None:
        raise LookupError(MISSING)
    return found[-1].parent if found else Path(str(elsewhere)).resolve().parent


@contextmanager
def _cluster(programs: Path) -> Iterator[URL]:
    """Make and run a cluster in a directory of its own. PostgreSQL refuses to be run by root."""
    user = _unprivileged()
    place = Path(tempfile.mkdtemp(prefix="secmtp-postgres-"))
    password = secrets.token_hex(16)
    (place / "password").write_text(password)
    if user is not None:
        for path in (place, place / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
    data = place / "data"
    made = subprocess.run(
        [*_as(user), str(programs / "initdb"), "-D", str(data), "-U", "secmtp", "-E", "UTF8", "--locale=C", "--no-sync",
         "--auth=scram-sha-256", f"--pwfile={place / 'password'}"],
        cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    url = URL.create("postgresql+psycopg", "secmtp", password, "127.0.0.1", _free_port(), "postgres")
    options = [word for option in (*OPTIONS, f"port={url.port}") for word in ("-c", option)]
    # Killed tests must leave no server behind: it gets SIGINT, its "fast shutdown", when this process ends.
    command = [*_as(user, "--pdeathsig", "INT"), str(programs / "postgres"), "-D", str(data), *options]
    with subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _wait(url, process)
            yield url
        finally:
            process.send_signal(SIGINT)
            process.communicate(timeout=DEADLINE)
            shutil.rmtree(place)


def _unprivileged() -> pwd.struct_passwd | None:
    """Return the user who is to run the server when we are root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


def _as(user: pwd.struct_passwd | None, *more: str) -> list[str]:
    change = [] if user is None else [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return ["setpriv", *change, *more, "--"] if change or more else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait(url: URL, process: subprocess.Popen[bytes]) -> None:
    """Poll until the server answers."""
    deadline = time.monotonic() + DEADLINE
    while not _answers(url):
        assert process.poll() is None, f"the server ended: {process.communicate()[1].decode()}"
        assert time.monotonic() < deadline, "the server didn't start in time"
        time.sleep(0.02)


def _answers(url: URL) -> bool:
    try:
        psycopg.connect(conninfo(url)).close()
    except psycopg.OperationalError:
        return False
    return True
