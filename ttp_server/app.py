"""Wiring of the TTP: the only module that knows which part is made of what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from shared.api import endpoints as e
from shared.errors import ConfigurationError, Malformed
from shared.evidence.records import TTPRecord, sign_ttp
from shared.ledger.checkpoint import Checkpoint, sign_checkpoint
from shared.ledger.merkle import EMPTY_ROOT
from shared.ledger.note import decode_vkey
from ttp_server.clock import SystemClock
from ttp_server.custody.escrow import Escrow
from ttp_server.custody.keys import Keys, load_keys
from ttp_server.ports.services import Clock
from ttp_server.ports.store import Store
from ttp_server.routes import openapi
from ttp_server.routes.directory import DirectoryRoutes
from ttp_server.routes.exchanges import ExchangeRoutes
from ttp_server.routes.http import Call, Handler, Telemetry, route
from ttp_server.routes.ledger import LedgerRoutes
from ttp_server.routes.problems import problem
from ttp_server.services import cosignatures
from ttp_server.services.desk import Desk, Signer
from ttp_server.services.directory import Directory
from ttp_server.services.feed import Bell
from ttp_server.services.ledger import Ledger
from ttp_server.services.nodes import Gate, RateLimit, ReplayGuard
from ttp_server.services.publisher import Publisher
from ttp_server.services.sequencer import Sequencer
from ttp_server.services.witnesses import NoWitnesses, Quorum, Terms, WitnessAt
from ttp_server.settings import Settings
from ttp_server.store.archive import FileArchive
from ttp_server.store.database import open_engine, upgrade
from ttp_server.store.epochs import SqlEpochRows
from ttp_server.store.head import HeadFile
from ttp_server.store.sql import SqlStore
from ttp_server.witness_client import HttpWitnesses
from ttp_server.workers import Upkeep

HEAD = "published-checkpoint"
HOUR = 3600.0
FOLLOW = 0.25


@dataclass
class TTP:
    """A TTP that is ready to be served. `close` ends the writer after it has finished what waits."""

    app: Starlette
    desk: Desk
    directory: Directory
    keys: Keys
    stopping: asyncio.Event
    workers: Sequence[Upkeep]
    engine: Engine
    head: HeadFile
    witnesses: Quorum | NoWitnesses

    def close(self) -> None:
        """Stop the writer and periodic work, and let go of database and directory."""
        for worker in self.workers:
            worker.stop()
        self.desk.sequencer.close()
        self.witnesses.close()
        self.engine.dispose()
        self.head.close()


def database_url(directory: Path, settings: Settings) -> str:
    """Return the database's URL: SQLite beside the keys unless the operator says otherwise."""
    return settings.database or f"sqlite:///{directory / 'data' / 'ttp.sqlite'}"


def archive_directory(directory: Path, settings: Settings) -> Path:
    """Return where the second copy of entries and bodies is kept."""
    return Path(settings.archive) if settings.archive else directory / "archive"


def build(directory: Path, settings: Settings, clock: Clock | None = None) -> TTP:
    """Build everything, check the ledger, start the writer. Raises ConfigurationError rather than run wrongly."""
    with ExitStack() as undo:
        ttp = _build(directory, settings, clock or SystemClock(), undo)
        undo.pop_all()  # it is whole: from here on its `close` lets go
    return ttp


def _build(directory: Path, settings: Settings, clock: Clock, undo: ExitStack) -> TTP:
    several = not database_url(directory, settings).startswith("sqlite")
    head = HeadFile(directory / HEAD, shared=several)
    undo.callback(head.close)
    keys = load_keys(directory, settings.name, settings.log, clock.now())
    engine = open_engine(database_url(directory, settings))
    undo.callback(engine.dispose)
    upgrade(engine)
    store, bell = SqlStore(engine), Bell()
    escrow = Escrow(directory, SqlEpochRows(engine))
    ledger = Ledger(settings.log, lambda checkpoint: sign_checkpoint(checkpoint, keys.checkpoint), store)
    archive = FileArchive(archive_directory(directory, settings))
    witnesses = _witnesses(settings, keys, store, clock, undo)
    publisher = Publisher(store, ledger, head, archive, witnesses, bell.ring)
    sequencer = Sequencer(store, publisher, clock)
    sequencer.open()
    undo.callback(sequencer.close)
    # Only now: a database that isn't this ledger's was refused, and gets no epochs.
    escrow.upkeep(clock.now())
    signer = Signer(keys.nrd, [keys.identity.nrd_certificate])
    desk = Desk(keys.identity, keys.root, signer, escrow, store, ledger, sequencer, clock)
    directory_desk = Directory(store, sequencer, keys.root, clock, settings.notice)
    gate = Gate(
        settings.name, store, keys.root, clock, ReplayGuard(clock.now()), RateLimit(settings.requests_per_second)
    )
    workers = [Upkeep("escrow", lambda: escrow.upkeep(clock.now()), HOUR)]
    if several:
        workers.append(Upkeep("follow", publisher.follow, FOLLOW))
    for worker in workers:
        worker.start()
    stopping = asyncio.Event()
    app = _application(_Parts(desk, directory_desk, gate, bell, stopping, keys, settings, witnesses))
    return TTP(app, desk, directory_desk, keys, stopping, workers, engine, head, witnesses)


def _witnesses(settings: Settings, keys: Keys, store: Store, clock: Clock, undo: ExitStack) -> Quorum | NoWitnesses:
    if not settings.witnesses and not settings.quorum:
        return NoWitnesses(store)
    try:
        found = [WitnessAt(decode_vkey(one.vkey), one.url) for one in settings.witnesses]
    except Malformed as error:
        raise ConfigurationError(f"witnesses: {error.message}") from error
    client = HttpWitnesses(settings.witness_seconds, settings.witness_trust)
    terms = Terms(settings.quorum, settings.faulty, settings.witness_seconds)
    empty = sign_checkpoint(Checkpoint(settings.log, 0, EMPTY_ROOT), keys.checkpoint)
    quorum = Quorum(found, terms, empty, store, client, clock, structlog.get_logger().warning)
    undo.callback(quorum.close)
    return quorum


@dataclass(frozen=True)
class _Parts:
    desk: Desk
    directory: Directory
    gate: Gate
    bell: Bell
    stopping: asyncio.Event
    keys: Keys
    settings: Settings
    witnesses: Quorum | NoWitnesses

    def record(self) -> str:
        """Sign the TTP's record as it is now."""
        desk = self.desk
        record = TTPRecord(
            name=self.settings.name,
            log=self.settings.log,
            ledger=self.keys.identity.ledger_certificate,
            epochs=desk.custody.epochs(),
            notice=self.settings.notice,
            issued=desk.clock.now(),
            witnesses=self.witnesses.keys,
            quorum=self.settings.quorum,
        )
        return sign_ttp(record, self.keys.nrd, self.keys.identity.nrd_certificate)


def _application(parts: _Parts) -> Starlette:
    registry = CollectorRegistry()
    telemetry = Telemetry(registry)
    size = Gauge("secmtp_ttp_ledger_size", "Entries in the ledger", registry=registry)
    size.set_function(lambda: parts.desk.ledger.size)
    offset = Gauge("secmtp_ttp_clock_offset_seconds", "Our clock before the witnesses'", registry=registry)
    offset.set_function(parts.witnesses.offset)
    failures = Gauge("secmtp_ttp_witness_failures", "Times a witness didn't help", ("witness",), registry=registry)
    for key in parts.witnesses.keys:
        failures.labels(key.name).set_function(partial(parts.witnesses.failures.__getitem__, key.name))
    desk = parts.desk
    exchanges = ExchangeRoutes(parts.desk, parts.bell, parts.stopping)
    directory = DirectoryRoutes(
        parts.directory,
        parts.record,
        partial(cosignatures.take, desk.store, desk.ledger, desk.clock, parts.witnesses.keys),
    )
    ledger = LedgerRoutes(parts.desk.ledger, parts.keys.identity.ledger_certificate)
    status = _StatusRoutes(parts.desk.sequencer, registry)
    handlers: dict[e.Endpoint, Handler] = {
        e.TTP_RECORD: directory.ttp,
        e.ENROL: directory.enrol,
        e.PUT_DOMAIN: directory.put_domain,
        e.PUT_BINDING: directory.put_binding,
        e.REVOKE: directory.revoke,
        e.PUT_COSIGNATURE: directory.put_cosignature,
        e.LOOK_UP: directory.look_up,
        e.COMPLETE: exchanges.complete,
        e.ABORT: exchanges.abort,
        e.REFUSE: exchanges.refuse,
        e.ANCHOR: exchanges.anchor,
        e.STATUS: exchanges.status,
        e.EVIDENCE: exchanges.evidence,
        e.FEED: exchanges.feed,
        e.CHECKPOINT: ledger.checkpoint,
        e.LEDGER_CERTIFICATE: ledger.certificate,
        e.TILE: ledger.tile,
        e.INCLUSION: ledger.inclusion,
        e.CONSISTENCY: ledger.consistency,
        e.OPENAPI: status.openapi,
        e.HEALTH: status.health,
        e.READY: status.ready,
        e.METRICS: status.metrics,
    }
    # COMPLETE, ABORT, REFUSE and STATUS stand before the path with a parameter, which would take their names for an hM.
    routes = [route(endpoint, parts.gate, telemetry, handlers[endpoint]) for endpoint in e.ALL]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        parts.stopping.set()

    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http_error})


class _StatusRoutes:
    """Health, readiness, metrics, and the API's own description."""

    def __init__(self, sequencer: Sequencer, registry: CollectorRegistry) -> None:
        self._sequencer = sequencer
        self._registry = registry
        self._document = json.dumps(openapi.document(version("secmtp")))

    async def openapi(self, call: Call) -> Response:
        """The OpenAPI document."""
        return Response(self._document, media_type=e.JSON_TYPE)

    async def health(self, call: Call) -> Response:
        """Alive."""
        return Response("alive\n", media_type="text/plain")

    async def ready(self, call: Call) -> Response:
        """Ready while the writer writes."""
        if not self._sequencer.alive:
            return problem(503, "not-ready", "Not ready", "the ledger's writer isn't running; restart the TTP")
        return Response("ready\n", media_type="text/plain")

    async def metrics(self, call: Call) -> Response:
        """Prometheus text."""
        return Response(generate_latest(self._registry), media_type="text/plain")


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own refusals (no such path, wrong method) as problem documents."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    names = {404: ("no-such-path", "No such path"), 405: ("method", "Wrong method")}
    code, title = names.get(status, ("http", "Refused"))
    answer = problem(status, code, title, f"{request.method} {request.url.path} isn't offered; see {e.OPENAPI.path}")
    if isinstance(error, HTTPException) and error.headers:
        answer.headers.update(error.headers)  # Allow, which a 405 must have (RFC 9110 section 15.5.6)
    return answer
