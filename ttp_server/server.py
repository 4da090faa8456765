"""Serves the TTP over HTTPS with uvicorn: TLS 1.2 or newer, bounded, and gone in time when told to go."""

from __future__ import annotations

import signal
import ssl
import tempfile
from pathlib import Path
from socket import socket

import uvicorn
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from shared.crypto.certificates import Purpose
from shared.programs.http import AnnouncedServer, bounded
from shared.programs.log import configure_log
from ttp_server.app import TTP, build
from ttp_server.custody.keys import key_file
from ttp_server.settings import Settings

GRACE = 2
KEEP_ALIVE = 75
BACKLOG = 512


def serve(directory: Path, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Prints one line of JSON when it listens."""
    configure_log()
    # uvicorn raises the signals that it caught once more when it has finished; without a handler of our own
    # SIGTERM would then end the process before the writer is closed.
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    uvloop.run(_serve(directory, settings))


async def _serve(directory: Path, settings: Settings) -> None:
    ttp = build(directory, settings)
    try:
        server = _Server(configuration(directory, settings, ttp), ttp)
        await server.serve()
    finally:
        ttp.close()


class _Server(AnnouncedServer):
    """One that ends long polls when it is told to stop."""

    def __init__(self, config: uvicorn.Config, ttp: TTP) -> None:
        super().__init__(config)
        self._ttp = ttp

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Let long polls answer first: uvicorn would wait for them."""
        self._ttp.stopping.set()
        await super().shutdown(sockets)


def configuration(directory: Path, settings: Settings, ttp: TTP) -> uvicorn.Config:
    """Return how uvicorn is to serve it."""
    config = bounded(
        ttp.app,
        settings.listen,
        settings.port,
        connections=settings.connections,
        grace=GRACE,
        timeout_keep_alive=KEEP_ALIVE,
        backlog=BACKLOG,
    )
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
