"""Serves a witness over HTTP or HTTPS: add-checkpoint and the newest checkpoint (witness.md W1 to W5)."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Callable
from pathlib import Path

import structlog
import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from shared.errors import Malformed
from shared.ledger import witness
from shared.ledger.witness import Cosigned, Decision, Refused, Stale
from shared.programs.http import AnnouncedServer, bounded, read_body
from shared.programs.log import configure_log
from shared.programs.witness import Keeper, Settings, load, open_keeper

BODY_SECONDS = 20.0
GRACE = 2
CONNECTIONS = 256
NOTE_TYPE = "text/plain; charset=utf-8"
SIZE_TYPE = "text/x.tlog.size"  # what tlog-witness prescribes, letter for letter


def serve(directory: Path, now: Callable[[], int]) -> None:
    """Serve until SIGTERM or SIGINT. Prints one line of JSON when it listens."""
    configure_log()
    settings = load(directory)
    server = AnnouncedServer(configuration(settings, application(open_keeper(directory, settings), now)))
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)  # uvicorn raises what it caught once more
    server.run()


def configuration(settings: Settings, app: Starlette) -> uvicorn.Config:
    """Return how uvicorn is to serve it."""
    config = bounded(app, settings.listen, settings.port, connections=CONNECTIONS, grace=GRACE)
    if settings.certificate:
        config.ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        config.ssl.load_cert_chain(settings.certificate, settings.private_key or None)
    return config


def application(keeper: Keeper, now: Callable[[], int]) -> Starlette:
    """Return the witness as a web application."""
    log = structlog.get_logger()

    async def add_checkpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await read_body(request, witness.MAX_REQUEST)
            decision = await to_thread.run_sync(lambda: keeper.add_checkpoint(body, now()))
        except TimeoutError:
            return _text(408, f"the body didn't come within {BODY_SECONDS:.0f} s")
        except ClientDisconnect:
            return _text(400, "the client went away before its body had come")
        except Malformed as error:
            return _text(400, error.message)
        if decision.fork is not None:
            log.error("the log shows two histories; both signed checkpoints are kept", origin=_origin(decision))
        response = _answer(decision)
        log.info("add-checkpoint", status=response.status_code, origin=_origin(decision))
        return response

    async def checkpoint(request: Request) -> Response:
        newest = await to_thread.run_sync(lambda: keeper.newest(request.path_params["hash"]))
        if newest is None:
            return _text(404, "this witness never cosigned a checkpoint of that log")
        return Response(newest, headers={"Content-Type": NOTE_TYPE, "Cache-Control": "no-cache"})

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{hash:str}/checkpoint", checkpoint, methods=["GET"]),
        ]
    )


def _answer(decision: Decision) -> Response:
    match decision.answer:
        case Cosigned(line):
            return Response(line, headers={"Content-Type": NOTE_TYPE})
        case Stale(size):
            return Response(f"{size}\n", 409, headers={"Content-Type": SIZE_TYPE})
        case Refused(status, reason):
            return _text(status, reason)


def _origin(decision: Decision) -> str | None:
    return None if decision.state is None else decision.state.checkpoint.origin


def _text(status: int, message: str) -> Response:
    return Response(f"{message}\n", status, headers={"Content-Type": NOTE_TYPE})
