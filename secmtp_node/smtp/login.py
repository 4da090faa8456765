"""AUTH on one connection (RFC 4954): over TLS only, after EHLO, once; who fails too often waits, then goes."""

from __future__ import annotations

import asyncio
import base64
from typing import Protocol

from secmtp_node.ports.services import Login
from secmtp_node.smtp import replies as r
from secmtp_node.smtp.application import Application
from secmtp_node.smtp.credentials import MECHANISMS, credentials
from secmtp_node.smtp.replies import Reply
from secmtp_node.smtp.session import Closing, Listening
from shared.errors import Malformed, SecMTPError, Unauthenticated

LOGIN_LINE = 12288  # RFC 4954 §4
FAILED_PAUSE = 1.0


class Connection(Protocol):
    """What logging in needs of the connection that it runs on."""

    @property
    def secure(self) -> bool:
        """Whether TLS is on."""

    @property
    def client(self) -> str:
        """The client's IP address."""

    @property
    def between_messages(self) -> bool:
        """Whether EHLO was said, and no mail transaction is open."""

    async def read_line(self, limit: int) -> str:
        """Return the next line."""

    async def push_lines(self, lines: list[str]) -> None:
        """Send lines."""

    async def refuse(self, reply: Reply) -> None:
        """Count an error and send a reply."""

    @property
    def application(self) -> Application:
        """What runs use cases."""


class Logins:
    """Who logged in on a connection; `login` is None before, and again after STARTTLS."""

    def __init__(self, connection: Connection, listening: Listening) -> None:
        self._connection = connection
        self._l = listening
        self._failed = 0
        self.login: Login | None = None

    async def auth(self, argument: str) -> None:
        """The AUTH command."""
        mechanism, _, initial = argument.partition(" ")
        refusal = self._refusal(mechanism.upper())
        if refusal is not None or self._l.mail is None:
            await self._connection.refuse(refusal or r.UNKNOWN_COMMAND)
            return
        try:
            address, password = await credentials(mechanism.upper(), initial, self._challenge)
        except Malformed as error:
            await self._connection.refuse(r.CANCELLED if error.code == "cancelled" else r.BAD_BASE64)
            return
        try:
            self.login = await self._connection.application.run(self._l.mail.log_in, address, password)
        except Unauthenticated:
            await self._fail()
        except SecMTPError as error:
            await self._connection.refuse(r.of_error(error))
        else:
            await self._connection.push_lines([r.AUTHENTICATED.line()])

    def _refusal(self, mechanism: str) -> Reply | None:
        if self._l.require_tls and not self._connection.secure:
            return r.ENCRYPTION_REQUIRED
        if self.login is not None or not self._connection.between_messages:
            return r.BAD_SEQUENCE
        if mechanism not in MECHANISMS:
            return r.UNKNOWN_MECHANISM if mechanism else r.BAD_SYNTAX
        if self._l.guard.blocked(self._connection.client, _now()):
            return r.LOGIN_BLOCKED
        return None

    async def _challenge(self, prompt: str) -> str:
        await self._connection.push_lines(["334 " + base64.b64encode(prompt.encode("ascii")).decode("ascii")])
        answer = await self._connection.read_line(LOGIN_LINE)
        if answer == "*":
            raise Malformed("cancelled", code="cancelled")
        return answer

    async def _fail(self) -> None:
        self._failed += 1
        self._l.guard.failed(self._connection.client, _now())
        await asyncio.sleep(FAILED_PAUSE * self._failed)
        if self._failed >= self._l.limits.failed_logins:
            raise Closing(r.TOO_MANY_ERRORS)
        await self._connection.refuse(r.BAD_LOGIN)


def _now() -> float:
    return asyncio.get_running_loop().time()
