"""The application behind one SMTP connection: use cases in threads, in bounded time, ended even if the client goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from secmtp_node.smtp import replies as r
from secmtp_node.smtp.session import Closing, Listening
from shared.errors import SecMTPError

WORK = "smtp application"  # the name of tasks that a stop waits for
Answer = TypeVar("Answer")


class Application:
    """Runs one use case at a time; `allow` gives the client that many seconds until it must say something again."""

    def __init__(self, listening: Listening, allow: Callable[[float], None]) -> None:
        self._l = listening
        self._allow = allow
        self._under_way: asyncio.Future[Any] | None = None

    async def run(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Run a use case in a thread. A client that goes away doesn't stop it half-way."""
        work = asyncio.create_task(asyncio.to_thread(function, *arguments), name=WORK)
        work.add_done_callback(lambda done: done.cancelled() or done.exception())  # looked at, whoever waits
        self._under_way = work
        self._allow(self._l.limits.service + self._l.limits.idle)
        try:
            return await asyncio.wait_for(asyncio.shield(work), self._l.limits.service)
        except TimeoutError:
            raise Closing(r.NOT_NOW.saying("that took too long; try again later")) from None
        except (SecMTPError, asyncio.CancelledError):
            raise
        except Exception as error:
            self._l.failed(WORK, error)
            raise Closing(r.NOT_NOW) from error

    def background(self, function: Callable[..., None], *arguments: Any) -> None:
        """Do something that nobody waits for, but a stop of the program."""
        work = asyncio.create_task(asyncio.to_thread(function, *arguments), name=WORK)
        work.add_done_callback(self._looked_at)

    def afterwards(self, function: Callable[[], None]) -> None:
        """Call a function now, or when the use case that is under way has ended."""
        work = self._under_way
        if work is None or work.done():
            function()
        else:
            work.add_done_callback(lambda _: function())

    def _looked_at(self, work: asyncio.Task[None]) -> None:
        error = None if work.cancelled() else work.exception()
        if error is not None and not isinstance(error, SecMTPError):
            self._l.failed(WORK, error)
