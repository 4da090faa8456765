"""Listeners: sockets, TLS contexts, and the one thread with the loop that they run on."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from secmtp_node.smtp.application import WORK
from secmtp_node.smtp.protocol import SmtpConnection
from secmtp_node.smtp.session import Listening

THREADS = 32
START = 30.0
END = 8.0
GRACE = 5.0  # for what the application is at when a stop comes
REPLYING = 0.1  # for its reply to leave
Result = TypeVar("Result")


@dataclass(frozen=True)
class Address:
    """Where to listen; port 0 takes a free one."""

    host: str
    port: int


class Listeners:
    """A loop in a thread of its own, and the servers on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="smtp"))
        self._servers: list[asyncio.AbstractServer] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp", daemon=True)
        self._thread.start()

    def listen(
        self, address: Address, listening: Listening, context: ssl.SSLContext | None, *, implicit_tls: bool = False
    ) -> int:
        """Listen and return the port. Without a context there is no TLS, which only tests may want."""

        def connection() -> SmtpConnection:
            starttls = None if implicit_tls else context
            return SmtpConnection(listening, implicit_tls=implicit_tls, tls_context=starttls, loop=self._loop)

        async def start() -> int:
            tls = context if implicit_tls else None
            server = await self._loop.create_server(connection, address.host, address.port, ssl=tls)
            self._servers.append(server)
            port: int = server.sockets[0].getsockname()[1]
            return port

        return self._run(start(), START)

    def close(self) -> None:
        """Stop listening, let what is being committed end, and stop the loop."""

        async def stop() -> None:
            for server in self._servers:
                server.close()
            await _ended()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._loop.shutdown_default_executor()

        self._run(stop(), END)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Result], seconds: float) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)


async def _ended() -> None:
    """Wait in bounds until the application is at nothing, so that clients hear of what was committed."""
    until = asyncio.get_running_loop().time() + GRACE
    while working := [task for task in asyncio.all_tasks() if task.get_name() == WORK]:
        left = until - asyncio.get_running_loop().time()
        if left <= 0:
            return
        await asyncio.wait(working, timeout=left)
        await asyncio.sleep(REPLYING)


def server_context(certificate: bytes, key: Path, clients: Path | None = None) -> ssl.SSLContext:
    """Return a TLS server context; with `clients` (root certificate) a client certificate is required."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _prepare(context, certificate, key)
    if clients is not None:
        context.load_verify_locations(str(clients))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(certificate: bytes, key: Path, root: Path) -> ssl.SSLContext:
    """Return a TLS client context that trusts the root alone and shows our certificate."""
    context = ssl.create_default_context(cafile=str(root))
    _prepare(context, certificate, key)
    return context


def _prepare(context: ssl.SSLContext, certificate: bytes, key: Path) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:  # the ssl module wants files
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name, str(key))
