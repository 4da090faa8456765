"""Serving HTTP with uvicorn: says when it listens; request heads bounded in octets and time, bodies in octets."""

from __future__ import annotations

import asyncio
import json
import sys
from socket import socket
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.errors import TooLarge

HEAD_SECONDS = 15.0
MAX_HEAD = 32 * 1024


class AnnouncedServer(uvicorn.Server):
    """uvicorn, printing one line of JSON when it listens."""

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            sys.stdout.write(json.dumps({"ready": True, "port": self.port}) + "\n")
            sys.stdout.flush()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port


def bounded(app: Starlette, host: str, port: int, *, connections: int, grace: int, **more: Any) -> uvicorn.Config:
    """Return how uvicorn is to serve an application: `connections` requests at once, `grace` seconds at its end."""
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=connections,
        timeout_graceful_shutdown=grace,
        **more,
    )
    config.load()
    return config


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose request heads have bounds: uvicorn leaves both their octets and their time to the client."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._in_head = True
        self._head_octets = 0
        self._late = self.loop.call_later(HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._late.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; what is still a head after that counts as one. The rest is bounded where bodies are read."""
        self._completed = False
        super().data_received(data)
        if self._completed:  # these octets held the end of a request, and hardly more
            return
        self._head_octets += len(data)
        if self._in_head and self._head_octets > MAX_HEAD and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 431 Head Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._late.cancel()
        self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def on_headers_complete(self) -> None:
        """The head is over."""
        self._late.cancel()
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next octets are a head's again."""
        self._in_head = self._completed = True
        self._head_octets = 0
        super().on_message_complete()


async def read_body(request: Request, limit: int) -> bytes:
    """Read a body of at most `limit` octets. The announced length is checked first, the real one on the way."""
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise TooLarge(f"the body has {announced} octets, at most {limit} are allowed here")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise TooLarge(f"the body has more than {limit} octets, which is the bound here")
    return bytes(body)
