"""Input of one connection: command lines and DATA from one buffer, so that nothing is lost between them."""

from __future__ import annotations

import asyncio

READ = 64 * 1024
MAX_SKIP = 1024 * 1024


class LineTooLong(Exception):
    """A line over its limit, which was read to its end and dropped."""


class BareLineEnd(Exception):
    """A line with a bare CR, bare LF or NUL in it."""


class Input:
    """Reads from a stream reader. Bounded: a line over the limit is dropped, an endless one ends the connection."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._held = bytearray()

    def forget(self) -> None:
        """Drop what came already: what was sent before TLS began must not be run inside it (RFC 3207 §6)."""
        self._held.clear()

    @property
    def waiting(self) -> bool:
        """Whether more has come than was taken."""
        return bool(self._held) or bool(getattr(self._reader, "_buffer", b""))

    def give_back(self, octets: bytes) -> None:
        """Put octets in front of what is to be read."""
        self._held[:0] = octets

    async def piece(self) -> bytes:
        """Return what there is. Raises EOFError at the end."""
        if self._held:
            piece = bytes(self._held)
            self._held.clear()
            return piece
        piece = await self._reader.read(READ)
        if not piece:
            raise EOFError
        return piece

    async def line(self, limit: int) -> bytes:
        """Return one line without its CRLF. Raises EOFError, LineTooLong, BareLineEnd."""
        start = 0
        while (end := self._held.find(b"\n", start)) < 0:
            if len(self._held) > limit + READ:
                await self._drop_line()
                raise LineTooLong
            start = len(self._held)
            piece = await self._reader.read(READ)
            if not piece:
                raise EOFError
            self._held += piece
        line = bytes(self._held[: end + 1])
        del self._held[: end + 1]
        if len(line) > limit + 2:
            raise LineTooLong
        if not line.endswith(b"\r\n") or b"\r" in line[:-2] or b"\0" in line:
            raise BareLineEnd
        return line[:-2]

    async def _drop_line(self) -> None:
        dropped = len(self._held)
        self._held.clear()
        while dropped < MAX_SKIP:
            piece = await self._reader.read(READ)
            if not piece:
                raise EOFError
            end = piece.find(b"\n")
            if end >= 0:
                self._held += piece[end + 1 :]
                return
            dropped += len(piece)
        raise EOFError
