"""A TTP served over real HTTPS in this process, with a clock to push, and nodes that ask it."""

from __future__ import annotations

import asyncio
import atexit
import secrets
import shutil
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ed25519

from shared.api import messages
from shared.api.authorization import Request, authorize
from shared.api.messages import AbortRequest, CompleteRequest, Enrolment, RefuseRequest, StatusRequest
from shared.crypto import requests
from shared.crypto.certificates import Purpose, TrustRoot
from shared.crypto.keys import HpkePublicKey
from shared.crypto.shares import Shares
from shared.crypto.stream import encrypt
from shared.encoding.labels import blob_digest
from shared.evidence.binding import BindingContent, sign_binding
from shared.evidence.composition import Secrets, compose
from shared.evidence.manifest import NamedTTP
from shared.evidence.records import DomainRecord, sign_domain, verify_ttp
from shared.evidence.revocation import Revocation, sign_revocation
from shared.ledger import anchor as anchors
from shared.programs.files import write_public
from shared.programs.log import configure_log
from tests.doubles.parties import NOW, Domain, Exchange, Parties, User
from tests.doubles.postgres import Server
from ttp_server import settings as settings_module
from ttp_server import setup
from ttp_server.app import TTP, build
from ttp_server.server import _Server, configuration
from ttp_server.settings import load
from ttp_server.store.database import open_engine, upgrade
from ttp_server.store.epochs import SqlEpochRows
from ttp_server.store.sql import SqlStore


class PushedClock:
    """A clock that moves when it is pushed; `wrong` seconds stand between what it shows and the true time."""

    def __init__(self, now: int = NOW) -> None:
        self.time = now
        self.wrong = 0

    def now(self) -> int:
        """Return the time it was pushed to."""
        return self.time + self.wrong

    def monotonic(self) -> float:
        """Return the true time."""
        return float(self.time)

    def random(self, octets: int) -> bytes:
        """Return fresh octets."""
        return secrets.token_bytes(octets)


class NodeClient:
    """A node as the TTP sees it: a request key, certified for its mail domains."""

    def __init__(self, served: Served, *domains: str) -> None:
        self._served = served
        self.domains = domains
        self.key = ed25519.Ed25519PrivateKey.generate()
        self.certificate = served.parties.root.leaf(Purpose.NODE_REQUEST, domains, self.key)

    def authorization(self, method: str, target: str, body: bytes, **changed: Any) -> str:
        """Sign a request."""
        now = changed.get("now", self._served.clock.now())
        serial = changed.get("serial", secrets.token_bytes(16))
        audience = changed.get("audience", "ttp.example")
        return authorize(Request(method, target, body), audience, now, serial, self.key, [self.certificate])

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> httpx.Response:
        """Send a signed request."""
        signed = {"Authorization": self.authorization(method, target, body)}
        if method == "POST":
            signed["Content-Type"] = "application/json"
        return self._served.client.request(method, target, content=body, headers={**signed, **headers})

    def enrol(self, authority: Domain) -> httpx.Response:
        """Enrol with a fresh token."""
        token = setup.create_enrolment_token(
            self._served.directory, domains=self.domains, now=self._served.clock.now(), lifetime=3600
        )
        enrolment = Enrolment(token, self.certificate, (authority.certificate,))
        return self.ask("POST", "/v1/nodes", messages.encode_enrolment(enrolment))

    def publish(self, user: User, authority: Domain) -> httpx.Response:
        """Publish a domain record and a user's binding."""
        record = DomainRecord(authority.name, "localhost", 2525, user.hpke.public, ("online",), NOW)
        signed = sign_domain(record, authority.key, authority.certificate)
        assert self.ask("POST", "/v1/domains", messages.encode_signed(signed)).status_code == 201
        return self.ask("POST", "/v1/bindings", messages.encode_signed(binding_of(user, authority)))

    def post_signed(self, path: str, token: str) -> httpx.Response:
        """Publish a signed record."""
        return self.ask("POST", path, messages.encode_signed(token))

    def revoke(self, address: str, key: bytes, authority: Domain) -> httpx.Response:
        """Revoke a key of an address with the authority's word."""
        revocation = Revocation(address, key, "key-compromise", self._served.clock.now())
        return self.post_signed("/v1/revocations", sign_revocation(revocation, authority.key, authority.certificate))

    def look_up(self, address: str) -> httpx.Response:
        """Look an address up."""
        return self.ask("POST", "/v1/directory", messages.encode_address(address))

    def complete(self, exchange: Exchange, **changed: Any) -> httpx.Response:
        """Ask for the trade."""
        values = {"nro": exchange.nro, "nrr": exchange.nrr, "escrow": exchange.sealed.escrow, **changed}
        body = messages.encode_complete(CompleteRequest(values.pop("manifest", exchange.manifest), **values))
        return self.ask("POST", "/v1/exchanges/complete", body)

    def status(self, exchange: Exchange) -> httpx.Response:
        """Ask for the status."""
        body = messages.encode_status(StatusRequest(exchange.manifest, exchange.nro))
        return self.ask("POST", "/v1/exchanges/status", body)

    def abort(self, exchange: Exchange, abort: str | None = None) -> httpx.Response:
        """Ask for the abort with the sender's statement, or with another."""
        statement = self._served.parties.abort(exchange) if abort is None else abort
        body = messages.encode_abort(AbortRequest(exchange.manifest, exchange.nro, statement))
        return self.ask("POST", "/v1/exchanges/abort", body)

    def refuse(self, exchange: Exchange, refuse: str | None = None) -> httpx.Response:
        """Lodge the recipient's refusal, or another."""
        statement = self._served.parties.refuse(exchange) if refuse is None else refuse
        body = messages.encode_refuse(RefuseRequest(exchange.manifest, exchange.nro, statement))
        return self.ask("POST", "/v1/exchanges/refuse", body)

    def anchor(self, digests: Iterable[bytes]) -> httpx.Response:
        """Anchor digests."""
        return self.ask("POST", "/v1/anchors", messages.encode_anchor(anchors.batch(digests)))

    def feed(self, cursor: int = 0, wait: int = 0, limit: int = 100) -> messages.FeedPage:
        """Ask for a page of the feed."""
        answer = self.ask("GET", f"/v1/feed?cursor={cursor}&wait={wait}&limit={limit}")
        assert answer.status_code == 200, answer.text
        return messages.decode_page(answer.content, limit=limit)


def binding_of(user: User, authority: Domain, predecessor: bytes | None = None, issued: int = NOW) -> str:
    """Sign a user's binding."""
    content = BindingContent(
        user.address,
        user.origin_chain[0],
        user.receipt_chain[0],
        user.hpke.public,
        "on_delivery",
        issued,
        predecessor,
    )
    return sign_binding(content, authority.key, authority.certificate)


class _QuickServer(_Server):
    """The real server, which looks for its end more often: there are hundreds of them in a test run."""

    async def main_loop(self) -> None:
        """Serve until told to end."""
        await self.on_tick(0)
        while not self.should_exit:  # noqa: ASYNC110  (uvicorn has a flag, no event)
            await asyncio.sleep(0.005)


@cache
def _template() -> tuple[Path, Parties]:
    """Make a TTP's directory and its world once; each test serves a copy."""
    place = Path(mkdtemp())
    atexit.register(shutil.rmtree, place)
    parties, directory = Parties(), place / "ttp"
    setup.initialise(directory, name="ttp.example", hosts=["localhost"], now=NOW)
    request = requests.decode_request((directory / setup.REQUEST).read_bytes())
    serials = range(100, 100 + requests.count(request))
    issued = requests.issue(request, parties.root.issuer, list(serials), NOW)
    (place / "root.pem").write_text(ssl.DER_cert_to_PEM_cert(parties.root.certificate))
    write_public(place / "issued.json", requests.encode_certificates(issued))
    setup.install_certificates(directory, place / "issued.json", place / "root.pem", now=NOW)
    return place, parties


@cache
def _postgres_template(server: Server) -> str:
    """Make that TTP's database on PostgreSQL once; each test serves a clone of it."""
    url = server.create()
    fill_database(url)
    return url


def fill_database(url: str) -> None:
    """Put into an empty database what that TTP's holds."""
    source, target = open_engine(f"sqlite:///{_template()[0] / 'ttp' / 'data' / 'ttp.sqlite'}"), open_engine(url)
    upgrade(target)
    with SqlStore(source).reading() as stored:
        assert stored.size() == 0, "the template holds more than its escrow epochs"
    rows = SqlEpochRows(target)
    for row in SqlEpochRows(source).all():
        rows.add(row)
    for engine in (source, target):
        engine.dispose()


def client_of(port: int) -> httpx.Client:
    """A client of a TTP of this world.

    Certificates in this world are of its clock's time, which TLS doesn't know: only the name of the root is
    left to TLS here; tests of TLS itself have certificates of today.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return httpx.Client(base_url=f"https://localhost:{port}", verify=context, timeout=40)


class Served:
    """Everything around one TTP in a directory. `restart` serves the same directory anew.

    Its database is SQLite in the directory, or the one at `database`, which must hold what the template's holds.
    """

    def __init__(self, directory: Path, database: str = "") -> None:
        self.directory = directory / "ttp"
        self.clock = PushedClock()
        template, parties = _template()
        shutil.copytree(template, directory, dirs_exist_ok=True)
        settings = self.directory / settings_module.FILE
        settings.write_text(settings.read_text().replace('database = ""', f'database = "{database}"'))
        self.parties = copy(parties)
        self.ttp: TTP
        self.client: httpx.Client
        self._server: _QuickServer
        self._thread: threading.Thread

    def start(self) -> None:
        """Build and serve."""
        configure_log()
        self.ttp = build(self.directory, load(self.directory), self.clock)
        self._server = _QuickServer(configuration(self.directory, load(self.directory), self.ttp), self.ttp)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()), daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the TTP didn't start"
            threading.Event().wait(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.client = client_of(port)

    def stop(self) -> None:
        """End serving and writing."""
        self.client.close()
        self._server.should_exit = True
        self._thread.join(10)
        self.ttp.close()

    def restart(self) -> None:
        """Serve the same directory anew, as after a crash or an upgrade."""
        self.stop()
        self.start()

    def named(self, kem: str = "X25519") -> NamedTTP:
        """This TTP as a sender would name it, from its own signed record."""
        token = messages.decode_signed(self.client.get("/v1/ttp").content, "TTP record")
        verified = verify_ttp(token, self.parties.trust, self.clock.now())
        epoch = verified.epoch_for(NOW, kem)
        record = verified.record
        return NamedTTP(
            record.name, record.log, verified.nrd.key_id, verified.ledger.key_id, epoch.key.key_id, epoch.epoch
        )

    def exchange(self, content: bytes, **core: Any) -> Exchange:
        """Make an exchange from Alice to Bob that names this TTP."""
        parties = self.parties
        made = replace(parties.core(content), **{"ttp": self.named(), "nonce": secrets.token_bytes(32), **core})
        drawn = Secrets(Shares.draw(), secrets.token_bytes(32))
        ciphertext = b"".join(encrypt(drawn.content_key, [content]))
        manifest, sealed = compose(made, drawn, blob_digest(ciphertext), parties.bob.hpke.public, self.escrow())
        return parties.signed(manifest, sealed, drawn, ciphertext)

    def escrow(self) -> HpkePublicKey:
        """The X25519 escrow key that is offered."""
        return next(epoch.key for epoch in self.ttp.desk.custody.epochs() if epoch.key.kind == "X25519")

    @property
    def trust(self) -> TrustRoot:
        """The trust root."""
        return self.parties.trust


@contextmanager
def served(directory: Path, database: str = "") -> Iterator[Served]:
    """Serve a TTP, nobody enrolled."""
    world = Served(directory, database)
    world.start()
    try:
        yield world
    finally:
        world.stop()


@contextmanager
def served_on(kind: str, directory: Path, postgres: Callable[[], Server]) -> Iterator[Served]:
    """Serve a TTP on a database of this kind. `postgres` gives the server, and is asked only when one is needed."""
    if kind == "sqlite":
        with served(directory) as world:
            yield world
        return
    server = postgres()
    database = server.create(_postgres_template(server))
    with served(directory, database) as world:
        yield world
    server.drop(database)
