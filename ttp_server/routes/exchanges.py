"""`complete`, `abort`, `refuse`, `status`, `anchor`, evidence and the feed."""

from __future__ import annotations

import asyncio
from collections import Counter

from starlette.responses import Response

from shared.api import messages
from shared.api.endpoints import JSON_TYPE, MAX_PAGE, MAX_WAIT
from shared.errors import Malformed
from shared.evidence.bundle import Bundle
from shared.evidence.refusal import RefusalFile
from ttp_server.routes.http import Call, in_thread
from ttp_server.services import anchors, exchanges, feed, statements
from ttp_server.services.desk import Desk
from ttp_server.services.feed import Bell

MAX_CURSOR = 2**53
WAITING = 4


class ExchangeRoutes:
    """Routes that hand out bundles."""

    def __init__(self, desk: Desk, bell: Bell, stopping: asyncio.Event) -> None:
        self._desk = desk
        self._bell = bell
        self._stopping = stopping
        self._waiting: Counter[tuple[str, ...]] = Counter()

    async def complete(self, call: Call) -> Response:
        """Trade (online.md T1 to T9)."""
        request = messages.decode_complete(call.body)
        call.exchange = request.manifest.exchange.hex()
        with self._desk.sequencer.expecting():
            return _answer(await in_thread(exchanges.complete, self._desk, request))

    async def abort(self, call: Call) -> Response:
        """End an exchange at its sender's word (offline.md T2, T3)."""
        request = messages.decode_abort(call.body)
        call.exchange = request.manifest.exchange.hex()
        with self._desk.sequencer.expecting():
            return _answer(await in_thread(statements.abort, self._desk, request, call.domains))

    async def refuse(self, call: Call) -> Response:
        """Record that the recipient refuses (offline.md T4)."""
        request = messages.decode_refuse(call.body)
        call.exchange = request.manifest.exchange.hex()
        with self._desk.sequencer.expecting():
            return _answer(await in_thread(statements.refuse, self._desk, request, call.domains))

    async def anchor(self, call: Call) -> Response:
        """Give digests a time in the ledger (offline.md T5)."""
        batch = messages.decode_anchor(call.body)
        with self._desk.sequencer.expecting():
            lodged = await in_thread(anchors.anchor, self._desk, batch)
        return Response(messages.encode_lodged(lodged), media_type=JSON_TYPE)

    async def status(self, call: Call) -> Response:
        """What became of an exchange."""
        request = messages.decode_status(call.body)
        call.exchange = request.manifest.exchange.hex()
        with self._desk.sequencer.expecting():
            return _answer(await in_thread(exchanges.status, self._desk, request, call.domains))

    async def evidence(self, call: Call) -> Response:
        """Evidence of one exchange for its parties."""
        text = call.request.path_params["exchange"]
        try:
            exchange = bytes.fromhex(text)
        except ValueError:
            exchange = b""
        if len(exchange) != 32 or text != exchange.hex():
            raise Malformed("an exchange is named by hM as 64 lower-case hexadecimal digits")
        call.exchange = text
        return _answer(await in_thread(exchanges.evidence, self._desk, exchange, call.domains))

    async def feed(self, call: Call) -> Response:
        """A page of the feed; waits up to `wait` seconds for the first bundle."""
        cursor = call.number("cursor", 0, MAX_CURSOR)
        limit = max(1, call.number("limit", MAX_PAGE, MAX_PAGE))
        loop, rung = asyncio.get_running_loop(), asyncio.Event()
        seconds = call.number("wait", 0, MAX_WAIT)
        # Each wait holds a connection. A node needs one; what is over the bound is answered without waiting.
        end = loop.time() + (seconds if self._waiting[call.domains] < WAITING else 0)

        def ring() -> None:
            loop.call_soon_threadsafe(rung.set)

        self._bell.listen(ring)
        self._waiting[call.domains] += 1
        try:
            while True:
                rung.clear()  # before looking: what is committed after the look rings again
                page = await in_thread(feed.page, self._desk, call.domains, cursor, limit)
                left = end - loop.time()
                if page.bundles or left <= 0 or self._stopping.is_set():
                    return Response(messages.encode_page(page), media_type=JSON_TYPE)
                await self._wait(rung, left)
        finally:
            self._waiting[call.domains] -= 1
            self._bell.forget(ring)

    async def _wait(self, rung: asyncio.Event, seconds: float) -> None:
        waits = [asyncio.ensure_future(rung.wait()), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _answer(answer: Bundle | RefusalFile) -> Response:
    return Response(messages.encode_answer(answer), media_type=JSON_TYPE)
