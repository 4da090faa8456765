"""A TCP proxy that counts connections, and stops one of them at a given turn.

A turn is all that one side sends before the other side answers. Under TLS nobody sees what is said, but who speaks
when is plain, and so is where the client sends something large: that is turn 0, which is stopped in its middle; the
server's reply is turn 1, and so on. Turns before it don't count: TLS may or may not send tickets there.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

READ = 4 * 1024
LARGE = 5 * 1024  # no certificate's flight, and every envelope
SECONDS = 60.0


class Proxy:
    """Listens on a free port of 127.0.0.1 and passes everything on to `target`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.target = 0
        self.connections = 0
        self.turns: list[int] = []
        self.stopped = threading.Event()
        self._stop_at: int | None = None
        self._held: _Connection | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def stop_at(self, turn: int) -> None:
        """Have the next connection that comes so far held before this turn."""
        self.stopped.clear()
        self._stop_at = turn

    def wait(self) -> None:
        """Wait until a connection is held."""
        assert self.stopped.wait(SECONDS), "no connection came so far"

    def cut(self) -> None:
        """Cut the connection that is held."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def close(self) -> None:
        """Stop listening, and cut what is held."""
        self._listener.close()
        self.cut()

    def due(self, connection: _Connection, turn: int) -> bool:
        """Whether a connection is to be held at its turn; it is then the one."""
        if turn != self._stop_at:
            return False
        self._stop_at, self._held = None, connection
        self.stopped.set()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            _Connection(self, client).start()


class _Connection:
    """One connection; two threads carry octets, one lock says whose turn it is."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._lock = threading.Lock()
        self._turn = -1
        self._sent = 0
        self._speaking = 0
        self._held = False

    def start(self) -> None:
        """Connect and carry, in threads of their own."""
        try:
            self._server = socket.create_connection(("127.0.0.1", self._proxy.target), timeout=SECONDS)
        except OSError:
            self._client.close()
            return
        self._server.settimeout(None)
        for source, sink, parity in ((self._client, self._server, 1), (self._server, self._client, 0)):
            threading.Thread(target=self._carry, args=(source, sink, parity), daemon=True).start()

    def close(self) -> None:
        """Cut it on both sides."""
        for end in (self._client, self._server):
            with suppress(OSError):  # the other side may be gone already
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _carry(self, source: socket.socket, sink: socket.socket, parity: int) -> None:
        try:
            while octets := source.recv(READ):
                if self._is_held(parity, len(octets)):
                    return
                sink.sendall(octets)
        except OSError:
            pass
        with self._lock:
            if not self._held:
                if parity:
                    self._proxy.turns.append(self._turn)
                self.close()

    def _is_held(self, client: int, octets: int) -> bool:
        with self._lock:
            if self._held:
                return True
            new = client != self._speaking
            self._sent = octets if new else self._sent + octets
            self._speaking = client
            begins = self._turn < 0 and client and self._sent >= LARGE
            if begins or (new and self._turn >= 0):
                self._turn += 1
                self._held = self._proxy.due(self, self._turn)
            return self._held
