"""Serves the TTP over HTTPS with uvicorn: TLS 1.2 or newer, bounded, and gone in time when told to go."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import tempfile
from pathlib import Path
from socket import socket

import structlog
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from shared.crypto.certificates import Purpose
from ttp_server.app import TTP, build
from ttp_server.custody.keys import key_file
from ttp_server.settings import Settings

GRACE = 2
KEEP_ALIVE = 75
BACKLOG = 512


def serve(directory: Path, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Prints one line of JSON when it listens."""
    configure_log()
    asyncio.run(_serve(directory, settings))


def configure_log() -> None:
    """Log JSON lines to standard error."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


async def _serve(directory: Path, settings: Settings) -> None:
    ttp = build(directory, settings)
    try:
        server = _Server(_configuration(directory, settings, ttp), ttp)
        await server.serve()
    finally:
        ttp.close()


class _Server(uvicorn.Server):
    """uvicorn, saying when it listens, and ending long polls when it is told to stop."""

    def __init__(self, config: uvicorn.Config, ttp: TTP) -> None:
        super().__init__(config)
        self._ttp = ttp

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            sys.stdout.write(json.dumps({"ready": True, "port": port}) + "\n")
            sys.stdout.flush()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Let long polls answer first: uvicorn would wait for them."""
        self._ttp.stopping.set()
        await super().shutdown(sockets)


def _configuration(directory: Path, settings: Settings, ttp: TTP) -> uvicorn.Config:
    config = uvicorn.Config(
        ttp.app,
        host=settings.listen,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.connections,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        backlog=BACKLOG,
    )
    config.load()
    config.ssl = tls_context(ttp.keys.tls_certificate, key_file(directory, Purpose.TTP))
    return config


def tls_context(certificate: bytes, key: Path) -> ssl.SSLContext:
    """Return a server context. The ssl module wants the certificate in a file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name, str(key))
    return context
