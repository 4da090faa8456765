"""The server's end of the SECMTP extension on a peer listener (docs/protocols/offline.md V1 to V6).

Refused: a verb inside a mail transaction, a verb with anything behind it in the same flight (KEY above all, which
would come before its sender can have checked the NRR), and whoever isn't a certified node.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from secmtp_node.smtp import replies as r
from secmtp_node.smtp.application import Application
from secmtp_node.smtp.ports import CertifiedPeer, PeerService
from secmtp_node.smtp.replies import Reply
from secmtp_node.smtp.session import Closing
from shared.api import verbs
from shared.api.verbs import Answer, Command, Kind, Verb
from shared.errors import Conflict, Malformed, SecMTPError

PIPELINED = Reply(503, "5.5.1", "this verb is the last of its flight: wait for its reply")
GO_ON = f"{verbs.GO_ON} send the token, end it with a dot on a line of its own"


class Connection(Protocol):
    """What the verbs need of the connection that they run on."""

    @property
    def peer(self) -> CertifiedPeer | None:
        """Who was admitted."""

    @property
    def between_messages(self) -> bool:
        """Whether EHLO was said under TLS, and no mail transaction is open."""

    def waiting(self) -> bool:
        """Whether the client has sent more already."""

    async def line(self) -> str:
        """Return the next line. Raises Malformed for one that isn't ASCII in its bounds."""

    async def push_lines(self, lines: list[str]) -> None:
        """Send lines."""

    async def refuse(self, reply: Reply) -> None:
        """Count an error and send a reply."""

    @property
    def application(self) -> Application:
        """What runs use cases."""


@dataclass
class PeerVerbs:
    """The verbs on one connection. `open` are exchanges whose NRR this session may still trade for a key."""

    connection: Connection
    peers: PeerService
    open: set[bytes] = field(default_factory=set)

    @property
    def commands(self) -> dict[bytes, Callable[[str], Awaitable[None]]]:
        """What the connection's command loop calls."""
        return {b"NRR": self.nrr, b"KEY": self.key, b"SIGNED": self.signed, b"ACK": self.ack}

    async def nrr(self, argument: str) -> None:
        """V1: the sender's node asks for the NRR."""
        await self._asked(Verb.NRR, argument)

    async def key(self, argument: str) -> None:
        """V2: the sender's node gives s_T for the ACK."""
        await self._asked(Verb.KEY, argument)

    async def signed(self, argument: str) -> None:
        """V3: the recipient's node brings the NRR and gets s_T."""
        await self._brought(Verb.SIGNED, argument)

    async def ack(self, argument: str) -> None:
        """V4: the recipient's node brings the ACK."""
        await self._brought(Verb.ACK, argument)

    def stored(self, exchange: bytes) -> None:
        """Note that an envelope was accepted in this session."""
        self.open.add(exchange)

    def cut(self) -> None:
        """The session goes on to something else, or ends: whoever signed in it needn't wait for the key (V5)."""
        left, self.open = self.open, set()
        if left:
            self.connection.application.background(self.peers.left, tuple(left))

    async def _asked(self, verb: Verb, argument: str) -> None:
        command = await self._command(verb, argument)
        if command is None:
            return
        answer = await self._answered(verb, command, command.share)
        if verb is Verb.NRR and answer.kind is Kind.GIVEN:
            self.open.add(command.exchange)
        if verb is Verb.KEY and answer.kind is Kind.GIVEN:
            self.open.discard(command.exchange)
        await self.connection.push_lines(verbs.answer_lines(answer))

    async def _brought(self, verb: Verb, argument: str) -> None:
        command = await self._command(verb, argument)
        if command is None:
            return
        await self.connection.push_lines([GO_ON])
        token = await self._token()
        if token is None:
            await self.connection.refuse(r.BAD_SYNTAX.saying(f"{command.exchange.hex()} that isn't a token in lines"))
            return
        answer = await self._answered(verb, command, token)
        await self.connection.push_lines(verbs.answer_lines(answer))

    async def _command(self, verb: Verb, argument: str) -> Command | None:
        """Return the verb's arguments, None when it was refused."""
        if self.connection.waiting():
            raise Closing(PIPELINED)
        if self.connection.peer is None or not self.connection.between_messages:
            await self.connection.refuse(r.BAD_SEQUENCE if self.connection.peer else r.PEER_REFUSED)
            return None
        try:
            return verbs.parse_command(verb, argument)
        except Malformed as error:
            await self.connection.refuse(r.BAD_SYNTAX.saying(error.message))
            return None

    async def _token(self) -> str | None:
        """Read a token to its end; None for one over its bounds, which is read to its end too."""
        lines: list[str] = []
        for _ in range(verbs.MAX_PIECES * 2):
            line = await self.connection.line()
            if line == verbs.END:
                try:
                    return verbs.join_lines(lines)
                except Malformed:
                    return None
            lines.append(line)
        raise Closing(r.TOO_LARGE)

    async def _answered(self, verb: Verb, command: Command, more: bytes | str | None) -> Answer:
        """Ask the application. What it raises on purpose is an answer; only our own fault is for later."""
        call: Callable[..., Answer] = getattr(self.peers, verb.lower())
        arguments = () if more is None else (more,)
        try:
            answer: Answer = await self.connection.application.run(
                call, self.connection.peer, command.exchange, *arguments
            )
        except SecMTPError as error:
            return Answer(kind_of(error), command.exchange, _words(error))
        return answer


def kind_of(error: SecMTPError) -> Kind:
    """Return the answer that an error is."""
    code = r.of_error(error).code
    if code < 500:
        return Kind.LATER
    if isinstance(error, Conflict):
        return Kind.ENDED
    return Kind.UNKNOWN if code == 550 else Kind.WRONG


def _words(error: SecMTPError) -> str:
    return r.of_error(error).text[: verbs.MAX_PIECE]
