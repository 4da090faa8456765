"""The octets after DATA: found to their end, dots unstuffed, in flat memory, at any cut of the input.

Only CRLF . CRLF ends a message (smtp.md M1): whatever else a client sends as an end is content, and is
refused for its bare CR or LF. Nothing of this looks at lines as text.
"""

from __future__ import annotations

from collections.abc import Callable

from secmtp_node.smtp import replies as r
from secmtp_node.smtp.lines import Input
from secmtp_node.smtp.replies import Reply
from secmtp_node.smtp.session import Closing
from secmtp_node.smtp.spool import SpoolFile

OVER = 2  # how many times the size bound is read and dropped before the connection is closed
_END = b"\r\n.\r\n"
_HELD = len(_END) - 1
_START = b"\r\n"  # the DATA command's own line end: a message may begin with its final dot


class DataReader:
    """Fed with what comes; gives content. `rest` is what came behind the end: the next commands."""

    def __init__(self) -> None:
        self._raw = _START
        self._before = b""
        self._skip = len(_START)
        self._last = b""
        self.ended = False
        self.rest = b""
        self.bare = False
        self.nul = False

    def feed(self, piece: bytes) -> bytes:
        """Return the content that is known after this piece. Call it until `ended`."""
        data = self._raw + piece
        end = data.find(_END)
        if end >= 0:
            self.ended, self.rest = True, data[end + len(_END) :]
            return self._content(data[: end + 2])
        # What may still turn out to be the beginning of the end is held back.
        self._raw = data[-_HELD:]
        return self._content(data[:-_HELD])

    def _content(self, raw: bytes) -> bytes:
        if not raw:
            return b""
        self._look(raw)
        joined = self._before + raw
        content = joined.replace(b"\r\n.", b"\r\n")[len(self._before) :]
        self._before = joined[-2:]
        if self._skip:
            skipped = min(self._skip, len(content))
            self._skip -= skipped
            content = content[skipped:]
        return content

    def _look(self, raw: bytes) -> None:
        """Note bare CR, bare LF and NUL, across the cuts."""
        joined = self._last + raw
        pairs = joined.count(b"\r\n")
        if raw.count(b"\n") != pairs or joined.count(b"\r", 0, len(joined) - 1) != pairs:
            self.bare = True
        if b"\0" in raw:
            self.nul = True
        self._last = raw[-1:]


async def receive(incoming: Input, spooled: SpoolFile, bound: int, alive: Callable[[], None]) -> Reply | None:
    """Read a message to its end, into its file while it may be taken; return why it may not. Memory stays flat.

    `alive` is called for each piece: the client still sends.
    """
    reader = DataReader()
    received = 0
    while not reader.ended:
        alive()
        content = reader.feed(await incoming.piece())
        received += len(content)
        if received > bound * OVER:
            raise Closing(r.TOO_LARGE)
        if received <= bound and not reader.bare and not reader.nul:
            spooled.write(content)
    incoming.give_back(reader.rest)
    if reader.bare or reader.nul:
        return r.BARE_OCTETS
    return r.TOO_LARGE if received > bound else None
