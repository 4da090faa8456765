"""Setting up a TTP: keys and request, certificates, enrolment tokens. The command line and the demo call this."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from shared.crypto import requests
from shared.crypto.certificates import TrustRoot
from shared.crypto.requests import TTPNames
from shared.encoding import base64url
from shared.encoding.address import normal_domain
from shared.errors import ConfigurationError
from shared.programs.files import keep_public, private_directory, read_bounded, write_public
from ttp_server import settings as settings_module
from ttp_server.app import database_url
from ttp_server.custody.escrow import Escrow
from ttp_server.custody.keys import CERTIFICATES, MAX_ROOT, ROOT, check_certificates, make_keys
from ttp_server.services.nodes import token_digest
from ttp_server.store.database import open_engine, upgrade
from ttp_server.store.epochs import SqlEpochRows
from ttp_server.store.sql import SqlStore

REQUEST = "request.json"
TOKEN_OCTETS = 32


def initialise(directory: Path, *, name: str, hosts: Sequence[str], now: int, port: int = 0) -> Path:
    """Make keys, settings, database and the CA's request in a new directory; return the request's path."""
    if (directory / settings_module.FILE).exists():
        raise ConfigurationError(f"{directory} holds a TTP already; name another directory")
    names = TTPNames(name, f"{name}/ledger", tuple(hosts))
    for place in (directory, directory / "keys", directory / "data"):
        private_directory(place)
    request = requests.make_request(names, make_keys(directory))
    write_public(directory / REQUEST, request)
    write_public(directory / settings_module.FILE, settings_module.render(name, list(hosts), port).encode())
    engine = open_engine(database_url(directory, settings_module.load(directory)))
    upgrade(engine)
    Escrow(directory, SqlEpochRows(engine)).upkeep(now)
    engine.dispose()
    return directory / REQUEST


def install_certificates(directory: Path, file: Path, root_file: Path, *, now: int) -> None:
    """Check what the CA issued against the keys here and the root, and keep it."""
    root_pem = read_bounded(root_file, MAX_ROOT)
    data = read_bounded(file, requests.MAX_FILE)
    check_certificates(directory, requests.decode_certificates(data), TrustRoot.from_pem(root_pem), now)
    keep_public(directory / ROOT, root_pem)
    # Written last, it says that all is there: after a crash before it the same command goes on.
    write_public(directory / CERTIFICATES, data)


def create_enrolment_token(directory: Path, *, domains: Sequence[str], now: int, lifetime: int) -> str:
    """Make a one-time token with which a node of these domains may enrol. Only its digest is stored."""
    token = base64url.encode(secrets.token_bytes(TOKEN_OCTETS))
    engine = open_engine(database_url(directory, settings_module.load(directory)))
    upgrade(engine)
    with SqlStore(engine).writing() as transaction:
        normal = [normal_domain(domain) for domain in domains]
        transaction.put_enrolment_token(token_digest(token), normal, now + lifetime)
    engine.dispose()
    return token
