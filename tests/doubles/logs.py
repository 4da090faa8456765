"""Logs to audit: in memory, written as the files that a server serves, and served over HTTP on loopback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.ledger import tiles
from shared.ledger.checkpoint import Checkpoint, VerifiedCheckpoint, open_checkpoint, sign_checkpoint
from shared.ledger.entry import ExchangeEntry, encode
from shared.ledger.merkle import leaf_hash
from shared.ledger.note import KeyType, verifier_key
from shared.ledger.tiles import ENTRIES, WIDTH, TileName
from tests.doubles.tree import Tree

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
ORIGIN = "ttp.example/ledger"
LOG = verifier_key(ORIGIN, KeyType.LOG, KEY.public_key())


def octets(number: int) -> bytes:
    """Return 32 octets that stand for a number."""
    return number.to_bytes(32, "big")


def exchange(number: int, outcome: str = "EXPIRED", time: int = 5) -> bytes:
    """Return the entry of an exchange that came to an outcome."""
    masked = octets(9) if outcome == "COMPLETED" else None
    return encode(ExchangeEntry(octets(number), outcome, masked, octets(7), time))


class Log:
    """A log in memory, served as tiles. `altered` is served instead of what it has."""

    def __init__(self, entries: Sequence[bytes], origin: str = ORIGIN) -> None:
        self.entries = list(entries)
        self.origin = origin
        self.tree = Tree(map(leaf_hash, self.entries))
        extended = tiles.Edge().extend(map(leaf_hash, self.entries))
        self.edge = extended.edge
        self.full = {(tile.level, tile.number): tile.hashes for tile in extended.tiles}
        self.fetched: list[TileName] = []
        self.altered: dict[TileName, bytes] = {}

    def fetch(self, name: TileName) -> bytes:
        """Serve a tile or bundle."""
        self.fetched.append(name)
        if name in self.altered:
            return self.altered[name]
        if name.level == ENTRIES:
            first = name.number * WIDTH
            return tiles.encode_entries(self.entries[first : first + name.width])
        hashes = self.edge.read(*name)
        return self.full[name.level, name.number] if hashes is None else hashes

    def at(self, size: int | None = None) -> VerifiedCheckpoint:
        """Return the checkpoint of a size."""
        size = len(self.entries) if size is None else size
        key = verifier_key(self.origin, KeyType.LOG, KEY.public_key())
        return open_checkpoint(sign_checkpoint(Checkpoint(self.origin, size, self.tree.root_at(size)), KEY), key)

    def names(self) -> list[TileName]:
        """List all tiles and bundles of the newest size."""
        size = len(self.entries)
        counts = [(ENTRIES, size), *((level, row.stop) for level, row in enumerate(tiles.edge_ranges(size)))]
        return [
            TileName(level, number, min(WIDTH, count - number * WIDTH))
            for level, count in counts
            for number in range(-(-count // WIDTH))
        ]

    def write(self, place: Path) -> Path:
        """Write the log as a server that keeps no old partial tiles serves it."""
        for name in self.names():
            path = place / tiles.path(*name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.fetch(name))
        place.mkdir(parents=True, exist_ok=True)
        (place / "checkpoint").write_bytes(self.at().signed)
        return place


class QuietFiles(SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def over_http(place: Path, handler: Callable[..., SimpleHTTPRequestHandler] = QuietFiles) -> Iterator[str]:
    """Serve a directory with nothing but a web server for files, and return its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(place)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
