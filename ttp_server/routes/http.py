"""What every route does: bounded body, request token, thread, one log line, errors as problem documents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from anyio import to_thread
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from shared.api.authorization import Request as AuthorizedRequest
from shared.api.endpoints import JSON_TYPE, Endpoint
from shared.errors import Malformed, OurFault, SecMTPError, Unavailable
from shared.programs.http import read_body
from ttp_server.ports.values import Node
from ttp_server.routes.problems import of_error, problem
from ttp_server.services.nodes import Gate

BODY_SECONDS = 20.0
Result = TypeVar("Result")


@dataclass
class Call:
    """One request as routes see it. `exchange` is noted for the log as soon as it is known."""

    request: Request
    endpoint: Endpoint
    gate: Gate
    body: bytes = b""
    node: Node | None = None
    exchange: str | None = None
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def signed(self) -> AuthorizedRequest:
        """What the request token must be made for."""
        url = self.request.url
        target = f"{url.path}?{url.query}" if url.query else url.path
        return AuthorizedRequest(self.request.method, target, self.body)

    @property
    def authorization(self) -> str:
        """The Authorization header."""
        return self.request.headers.get("authorization", "")

    @property
    def domains(self) -> tuple[str, ...]:
        """The mail domains of the node that asks."""
        return self.node.domains if self.node else ()

    def number(self, name: str, default: int, most: int) -> int:
        """Return an integer query parameter between 0 and `most`. Raises Malformed."""
        text = self.request.query_params.get(name, str(default))
        if not text.isascii() or not text.isdigit() or len(text) > 16:
            raise Malformed(f"query parameter {name!r} is {text!r}, expected an integer from 0 to {most}")
        return min(int(text), most)


Handler = Callable[[Call], Awaitable[Response]]


class Telemetry:
    """Counters of requests and their times, and the log."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("endpoint", "status")
        self._requests = Counter("secmtp_ttp_requests", "Requests answered", labels, registry=registry)
        self._seconds = Histogram("secmtp_ttp_request_seconds", "Time to answer", ("endpoint",), registry=registry)
        self._log = structlog.get_logger()

    def answered(self, call: Call, status: int, seconds: float) -> None:
        """Note an answer: never tokens, bodies or addresses."""
        self._requests.labels(call.endpoint.name, str(status)).inc()
        self._seconds.labels(call.endpoint.name).observe(seconds)
        known = {} if call.exchange is None else {"exchange": call.exchange}
        self._log.info(
            "request", endpoint=call.endpoint.name, status=status, ms=round(seconds * 1000, 1), **known, **call.notes
        )

    def failed(self, call: Call, error: BaseException) -> None:
        """Note a fault of ours."""
        self._log.error("fault", endpoint=call.endpoint.name, error=type(error).__name__, exc_info=error)


def route(endpoint: Endpoint, gate: Gate, telemetry: Telemetry, handler: Handler) -> Route:
    """Return the Starlette route of an endpoint."""

    async def serve(request: Request) -> Response:
        call = Call(request, endpoint, gate)
        started = time.monotonic()
        response = await _answer(call, handler, telemetry)
        telemetry.answered(call, response.status_code, time.monotonic() - started)
        return response

    return Route(endpoint.path, serve, methods=[endpoint.method], name=endpoint.name)


async def in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """Run a use case in a worker thread: it may wait for the database or the writer."""
    return await to_thread.run_sync(function, *arguments)


async def _answer(call: Call, handler: Handler, telemetry: Telemetry) -> Response:
    try:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                call.body = await read_body(call.request, call.endpoint.limit)
        except TimeoutError:
            return problem(408, "slow-body", "Too slow", f"the body didn't come within {BODY_SECONDS:.0f} s")
        if call.endpoint.method == "POST" and not _is_json(call.request):
            return problem(415, "content-type", "Wrong content type", f"expected {JSON_TYPE}")
        if call.endpoint.admits == "nodes":
            call.node = await in_thread(call.gate.node, call.authorization, call.signed)
        return await handler(call)
    except ClientDisconnect:
        return problem(400, "disconnected", "Bad request", "the client went away before its body had come")
    except HTTPException:
        raise
    except SecMTPError as error:
        if isinstance(error, OurFault) and not isinstance(error, Unavailable):
            telemetry.failed(call, error)
        return of_error(error)
    except Exception as error:  # noqa: BLE001  (the edge: nothing of it may reach the client)
        telemetry.failed(call, error)
        return of_error(OurFault("unexpected"))


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON_TYPE
