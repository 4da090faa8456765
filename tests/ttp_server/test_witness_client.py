"""The way to witnesses: bounded in octets and time, over HTTP and HTTPS."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from shared.errors import Unavailable
from ttp_server.ports.values import WitnessReply
from ttp_server.witness_client import MAX_ANSWER, HttpWitnesses


@contextmanager
def answering(status: int, body: bytes, hold: threading.Event | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """Serve one answer again and again; return the address and what was sent."""
    sent: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["Content-Length"])))
            if hold is not None:
                hold.wait(5)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/prefix/", sent
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def client() -> Iterator[HttpWitnesses]:
    """A client that waits half a second."""
    made = HttpWitnesses(0.5)
    yield made
    made.close()


def test_whatever_it_answers(client: HttpWitnesses) -> None:
    """Status and body come back as they are, whichever they are."""
    for status, body in ((200, b"a line\n"), (409, b"5\n"), (503, b"")):
        with answering(status, body) as (url, sent):
            assert client.add_checkpoint(url, b"the body") == WitnessReply(status, body)
            assert sent == [b"the body"]


def test_too_much(client: HttpWitnesses) -> None:
    """An endless answer is cut off at its bound."""
    with answering(200, b"x" * MAX_ANSWER) as (url, _):
        assert len(client.add_checkpoint(url, b"").body) == MAX_ANSWER
    with answering(200, b"x" * (MAX_ANSWER + 1)) as (url, _), pytest.raises(Unavailable, match="more than 65536"):
        client.add_checkpoint(url, b"")


def test_too_slow(client: HttpWitnesses) -> None:
    """A witness that doesn't answer is unavailable in time; so is one that isn't there."""
    hold = threading.Event()
    with answering(200, b"", hold) as (url, _):
        with pytest.raises(Unavailable, match="ReadTimeout"):
            client.add_checkpoint(url, b"")
        hold.set()
    with pytest.raises(Unavailable, match="ConnectError"):
        client.add_checkpoint(url, b"")
