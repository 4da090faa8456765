"""Where a log is read from: an HTTP server or a mirror's directory, both with the layout of ledger.md section 7.

Nothing that comes from here is believed: the audit holds it against a signature. Refused: what is larger
than the thing asked for can be, before it is held in memory.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

import httpx

from shared.errors import ConfigurationError, EvidenceFault, NotFound, TooLarge, Unavailable
from shared.ledger import tiles
from shared.ledger.tiles import ENTRIES, WIDTH, TileName

SECONDS = 30.0
AHEAD = 8


class Source(Protocol):
    """Reads a file of the log by its path below the log's prefix."""

    def read(self, path: str, limit: int) -> bytes:
        """Return at most `limit` octets. Raises NotFound, TooLarge, or Unavailable."""


class Directory:
    """A mirror's directory."""

    def __init__(self, place: Path) -> None:
        if not place.is_dir():
            raise ConfigurationError(f"{place} is no directory and no https:// address of a log")
        self.place = place

    def read(self, path: str, limit: int) -> bytes:
        """Read a file."""
        try:
            with (self.place / path).open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError as error:
            raise NotFound(f"{self.place / path} doesn't exist") from error
        except OSError as error:
            raise Unavailable(f"{self.place / path} can't be read: {error.strerror}") from error
        _require(len(data), path, limit)
        return data


class Server:
    """A log's prefix on a web server. TLS keeps listeners out; what is served is checked by signatures."""

    def __init__(self, prefix: str, client: httpx.Client) -> None:
        self._prefix = prefix.rstrip("/")
        self._client = client

    def read(self, path: str, limit: int) -> bytes:
        """Get a file."""
        url = f"{self._prefix}/{path}"
        data = bytearray()
        try:
            with self._client.stream("GET", url) as response:
                if response.status_code == httpx.codes.NOT_FOUND:
                    raise NotFound(f"{url} doesn't exist")
                if response.status_code != httpx.codes.OK:
                    raise Unavailable(f"{url} answers {response.status_code}")
                for piece in response.iter_bytes():
                    data += piece
                    _require(len(data), path, limit)
        except httpx.HTTPError as error:
            raise Unavailable(f"{url} can't be fetched: {str(error) or type(error).__name__}") from error
        return bytes(data)


def source(place: str, trust: Path | None) -> AbstractContextManager[Source]:
    """Return the source at an address or in a directory. `trust` may certify the server, as public CAs may."""
    if place.startswith(("https://", "http://")):
        return _server(place, trust)
    return nullcontext(Directory(Path(place)))


class Fetcher:
    """Fetches tiles and bundles, and the next ones before they are asked for.

    A partial one that isn't there any more is cut out of the full one. What isn't there at all is the
    log's fault, `ledger.missing`: it signed a root over it.
    """

    def __init__(self, origin: Source, size: int, pool: ThreadPoolExecutor) -> None:
        self._source = origin
        self._size = size
        self._pool = pool
        self._coming: dict[TileName, Future[bytes]] = {}

    def __call__(self, name: TileName) -> bytes:
        """Return the octets of a tile or bundle."""
        future = self._coming.pop(name, None)
        data = self._fetch(name) if future is None else future.result()
        if name.level == ENTRIES:
            self._look_ahead(name.number)
        return data

    def _look_ahead(self, number: int) -> None:
        """Start what a walk asks for next. Full tiles only: those at the edge were fetched first."""
        for coming in range(number + 1, number + 1 + AHEAD):
            width = tiles.width_at(ENTRIES, coming, self._size)
            names = [TileName(ENTRIES, coming, width)] if width else []
            if width == WIDTH:
                names.append(TileName(0, coming))
            for name in names:
                if name not in self._coming:
                    self._coming[name] = self._pool.submit(self._fetch, name)

    def _fetch(self, name: TileName) -> bytes:
        try:
            return self._read(name)
        except TooLarge as error:
            raise EvidenceFault("ledger.entries" if name.level == ENTRIES else "ledger.tile", error.message) from error
        except NotFound:
            if name.width == WIDTH:
                raise EvidenceFault("ledger.missing", f"{tiles.path(*name)} isn't served") from None
        try:
            return tiles.cut(name, self._read(TileName(name.level, name.number)))
        except NotFound:
            raise EvidenceFault("ledger.missing", f"{tiles.path(*name)} isn't served, nor the full one") from None

    def _read(self, name: TileName) -> bytes:
        return self._source.read(tiles.path(*name), tiles.MAX_BUNDLE if name.level == ENTRIES else tiles.FULL)


@contextmanager
def fetcher(origin: Source, size: int) -> Iterator[Fetcher]:
    """Return a fetcher for a tree of this size; its threads end with the block."""
    with ThreadPoolExecutor(max_workers=AHEAD, thread_name_prefix="fetch") as pool:
        try:
            yield Fetcher(origin, size, pool)
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _server(prefix: str, trust: Path | None) -> Iterator[Source]:
    context = ssl.create_default_context()
    if trust is not None:
        context.load_verify_locations(cafile=trust)
    with httpx.Client(verify=context, timeout=SECONDS, trust_env=False) as client:
        yield Server(prefix, client)


def _require(octets: int, path: str, limit: int) -> None:
    if octets > limit:
        raise TooLarge(f"{path} has more than {limit} octets, which is more than it can have")
