"""One SMTP connection: aiosmtpd's transport and TLS, our own command loop, parameters and streaming DATA.

aiosmtpd's own loop takes commands ended by bare LF, passes bare CR on, and holds a message in memory as
a list of lines; what is in the tables below is what this server does instead (docs/protocols/smtp.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, TLSSetupException

from secmtp_node.smtp import replies as r
from secmtp_node.smtp.address import parse_mailbox, parse_parameters, split_path
from secmtp_node.smtp.application import Application
from secmtp_node.smtp.credentials import MECHANISMS
from secmtp_node.smtp.data import receive
from secmtp_node.smtp.lines import BareLineEnd, Input, LineTooLong
from secmtp_node.smtp.login import LOGIN_LINE, Logins
from secmtp_node.smtp.message import Loop
from secmtp_node.smtp.ports import CertifiedPeer, PeerService
from secmtp_node.smtp.replies import Reply
from secmtp_node.smtp.session import Closing, Listening, Transaction, parameter_refusal
from secmtp_node.smtp.spool import SpoolFile
from secmtp_node.smtp.verbs import PeerVerbs
from shared.api import verbs
from shared.errors import Malformed, SecMTPError, Unauthenticated

COMMAND = 512
LINGER = 5.0  # how long a client may take to read the last reply


class SmtpConnection(SMTP):
    """One connection. `implicit_tls` says that TLS began with the first octet."""

    line_length_limit = 64 * 1024

    def __init__(self, listening: Listening, *, implicit_tls: bool = False, **more: Any) -> None:
        idle = listening.limits.idle
        super().__init__(object(), hostname=listening.hostname, ident="ESMTP SecMTP", timeout=idle, **more)
        self._l = listening
        self._implicit_tls = implicit_tls
        self._input: Input
        self._greeted = False
        self.application = Application(listening, self._reset_timeout)
        self._logins = Logins(self, listening)
        self._peer: CertifiedPeer | None = None
        self._transaction: Transaction | None = None
        self._errors = 0
        self._commands: dict[bytes, Callable[[str], Awaitable[None]]] = {
            b"EHLO": self._ehlo,
            b"HELO": self._helo,
            b"STARTTLS": self._starttls,
            b"AUTH": self._logins.auth,
            b"MAIL": self._mail,
            b"RCPT": self._rcpt,
            b"DATA": self._data,
            b"RSET": self._rset,
            b"NOOP": self._noop,
            b"VRFY": self._vrfy,
            b"QUIT": self._quit,
        }
        self._verbs = None if listening.peers is None else PeerVerbs(self, listening.peers)
        if self._verbs is not None:
            self._commands.update(self._verbs.commands)

    @property
    def peer(self) -> CertifiedPeer | None:
        """The node that was admitted."""
        return self._peer

    @property
    def between_messages(self) -> bool:
        """Whether EHLO was said, and no mail transaction is open."""
        return self._greeted and self._transaction is None

    def waiting(self) -> bool:
        """Whether the client has sent more than the line that is being answered."""
        return self._input.waiting

    async def line(self) -> str:
        """Return the next line of a token."""
        return await self.read_line(COMMAND - 2)

    async def read_line(self, limit: int) -> str:
        """Return the next line, whatever it is."""
        self._reset_timeout()
        return (await self._input.line(limit)).decode("ascii", "replace")

    async def push_lines(self, lines: list[str]) -> None:
        """Send the lines of a reply."""
        await self.push("\r\n".join(lines))

    @property
    def secure(self) -> bool:
        """Whether TLS is on."""
        return self._implicit_tls or self._tls_protocol is not None

    @property
    def client(self) -> str:
        """The client's IP address."""
        session: Any = self.session  # None before a connection, which aiosmtpd's types don't say
        peer = None if session is None else session.peer
        return str(peer[0]) if isinstance(peer, tuple) else "local"

    def eof_received(self) -> bool | None:
        """Let the loop come to the end of what was sent; aiosmtpd would cancel it half-way through a message."""
        self._reader.feed_eof()
        return not self.secure

    def _timeout_cb(self) -> None:
        """Say why before closing (smtp.md M9): aiosmtpd closes without a word. Who doesn't read is cut off."""
        transport: Any = self.transport
        if transport is not None:
            transport.write(r.TOO_SLOW.line().encode("ascii") + b"\r\n")
            transport.close()
            self.loop.call_later(LINGER, transport.abort)

    async def _handle_client(self) -> None:
        """Greet, then take commands until the end. Whatever happens, the connection is closed and counted off."""
        address = self.client
        if not self._l.guard.enter(address):
            await self._say(r.TOO_MANY_CONNECTIONS)
            self._close()
            return
        self._input = Input(self._reader)
        try:
            await self.push(f"220 {self.hostname} ESMTP SecMTP")
            await self._serve()
        except Closing as closing:
            await self._say(closing.reply)
        except (EOFError, ConnectionError, TLSSetupException):
            pass  # the client went away, or couldn't agree on TLS: theirs to notice
        except Exception as error:  # noqa: BLE001  (a connection must not take others along)
            self._l.failed("smtp connection", error)
        finally:
            self._l.guard.leave(address)
            self._cut()
            self._close()

    async def _serve(self) -> None:
        while True:
            self._reset_timeout()
            try:
                line = await self._input.line(COMMAND - 2 if not self._greeted else LOGIN_LINE)
                await self._command(line)
            except LineTooLong:
                await self.refuse(r.LINE_TOO_LONG)
            except BareLineEnd:
                await self.refuse(r.BARE_LINE_END)

    async def _command(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        command = self._commands.get(verb.upper())
        if command is None:
            await self.refuse(r.UNKNOWN_COMMAND)
            return
        if len(line) > COMMAND * 2 and verb.upper() != b"AUTH":  # RFC 6531 and parameters make lines longer
            await self.refuse(r.LINE_TOO_LONG)
            return
        try:
            argument = rest.strip(b" ").decode("utf-8")
        except UnicodeDecodeError:
            await self.refuse(r.BAD_UTF8)
            return
        await command(argument)

    async def _ehlo(self, argument: str) -> None:
        if not argument:
            await self.refuse(r.BAD_SYNTAX)
            return
        self._cut()
        self._greeted, self._transaction = True, None
        lines = [self.hostname, f"SIZE {self._l.limits.octets}", "8BITMIME", "SMTPUTF8", "PIPELINING"]
        lines.append("ENHANCEDSTATUSCODES")
        if self.tls_context is not None and not self.secure:
            lines.append("STARTTLS")
        if self._l.mail is not None and (self.secure or not self._l.require_tls):
            lines.append("AUTH " + " ".join(MECHANISMS))
        if self.secure:
            lines.append(verbs.KEYWORD if self._verbs is None else f"{verbs.KEYWORD} {verbs.OFFLINE}")
        await self.push("\r\n".join(f"250{'-' if line is not lines[-1] else ' '}{line}" for line in lines))

    async def _helo(self, argument: str) -> None:
        if not argument:
            await self.refuse(r.BAD_SYNTAX)
            return
        self._greeted, self._transaction = True, None
        await self.push(f"250 {self.hostname}")

    async def _starttls(self, argument: str) -> None:
        if argument or self.secure or self.tls_context is None:
            await self.refuse(r.BAD_SYNTAX if argument else r.BAD_SEQUENCE)
            return
        self._input.forget()
        await self.smtp_STARTTLS("")
        # A new session (RFC 3207 §4.2): nothing that was said before TLS counts.
        self._input.forget()
        self._greeted, self._transaction, self._logins.login = False, None, None
        if self._l.peers is not None:
            await self._admit(self._l.peers)

    async def _admit(self, peers: PeerService) -> None:
        tls = self.transport.get_extra_info("ssl_object") if self.transport is not None else None
        certificate = tls.getpeercert(True) if tls is not None else None
        if not certificate:
            raise Closing(r.PEER_REFUSED)
        try:
            self._peer = await self.application.run(peers.admit, certificate)
        except SecMTPError as error:
            raise Closing(r.PEER_REFUSED.saying(f"certificate refused: {error.message}")) from error

    def _cut(self) -> None:
        if self._verbs is not None:
            self._verbs.cut()

    async def _mail(self, argument: str) -> None:
        self._cut()
        refusal = self._mail_refusal()
        if refusal is None:
            refusal = await self._begin(argument)
        await (self._say(r.SENDER_OK) if refusal is None else self.refuse(refusal))

    def _mail_refusal(self) -> Reply | None:
        if self._l.require_tls and not self.secure:
            return r.NEED_TLS
        if self._l.mail is not None and self._l.require_login and self._logins.login is None:
            return r.NEED_LOGIN
        if self._l.peers is not None and self._peer is None and self._l.require_tls:
            return r.PEER_REFUSED
        return None if self._greeted and self._transaction is None else r.BAD_SEQUENCE

    async def _begin(self, argument: str) -> Reply | None:
        try:
            path, rest = split_path(argument, "FROM")
            parameters = parse_parameters(rest)
        except Malformed as error:
            return r.BAD_SYNTAX.saying(error.message)
        refusal = parameter_refusal(parameters, self._l.limits.octets)
        if refusal is not None:
            return refusal
        smtputf8 = "SMTPUTF8" in parameters
        if not path.isascii() and not smtputf8:
            return r.NOT_ASCII
        try:
            sender = parse_mailbox(path, home=self._l.home) if path else ""
            if self._l.mail is not None:
                await self.application.run(self._l.mail.check_sender, self._logins.login, sender)
        except Malformed as error:
            return r.BAD_ADDRESS.saying(error.message)
        except SecMTPError as error:
            return r.of_error(error)
        self._transaction = Transaction(sender, smtputf8)
        return None

    async def _rcpt(self, argument: str) -> None:
        transaction = self._transaction
        if transaction is None:
            await self.refuse(r.BAD_SEQUENCE)
            return
        refusal = await self._add_recipient(transaction, argument)
        await (self._say(r.RECIPIENT_OK) if refusal is None else self.refuse(refusal))

    async def _add_recipient(self, transaction: Transaction, argument: str) -> Reply | None:
        most = 1 if self._l.peers is not None else self._l.limits.recipients
        if len(transaction.recipients) >= most:
            return r.TOO_MANY_RECIPIENTS
        try:
            path, rest = split_path(argument, "TO")
            parameters = parse_parameters(rest)
        except Malformed as error:
            return r.BAD_SYNTAX.saying(error.message)
        if parameters:
            return r.UNKNOWN_PARAMETER.saying(f"the parameter {next(iter(parameters))[:40]} isn't known here")
        return await self._recipient_at(transaction, path)

    async def _recipient_at(self, transaction: Transaction, path: str) -> Reply | None:
        if not path.isascii() and not transaction.smtputf8:
            return r.NOT_ASCII
        try:
            recipient = parse_mailbox(path, home=self._l.home)
            await self._check_recipient(recipient)
        except Malformed as error:
            return r.BAD_ADDRESS.saying(error.message)
        except SecMTPError as error:
            return r.of_error(error)
        transaction.recipients.append(recipient)
        return None

    async def _check_recipient(self, recipient: str) -> None:
        if self._l.mail is not None:
            await self.application.run(self._l.mail.check_recipient, self._logins.login, recipient)
        elif self._l.peers is not None:
            await self.application.run(self._l.peers.check_recipient, recipient)

    async def _data(self, argument: str) -> None:
        if argument:
            await self.refuse(r.BAD_SYNTAX)
            return
        transaction = self._transaction
        if transaction is None or not transaction.recipients:
            await self.refuse(r.BAD_SEQUENCE if transaction is None else r.NO_RECIPIENTS)
            return
        await self.push("354 send the message, end it with <CRLF>.<CRLF>")
        self._transaction = None
        spooled = self._l.spool.begin()
        try:
            async with asyncio.timeout(self._l.limits.data):
                refusal = await self._receive(spooled)
            reply = refusal or await self._hand_over(transaction, spooled)
        except TimeoutError:
            raise Closing(r.TOO_SLOW) from None
        finally:
            self.application.afterwards(spooled.remove)  # the client may have gone while it is still being read
        await self._say(reply)

    async def _receive(self, spooled: SpoolFile) -> Reply | None:
        refusal = await receive(self._input, spooled, self._l.limits.octets, self._reset_timeout)
        if refusal is None:
            await self.application.run(spooled.finish)
        return refusal

    async def _hand_over(self, transaction: Transaction, spooled: SpoolFile) -> Reply:
        """Give the durable message to the application; 250 only when it says that all is committed."""
        try:
            return r.STORED.saying(await self.application.run(self._take, transaction, spooled.path))
        except Loop:
            return r.LOOP
        except SecMTPError as error:
            return r.of_error(error)

    def _take(self, transaction: Transaction, message: Path) -> str:
        if self._l.peers is not None and self._peer is not None:
            return self._accept(self._l.peers, self._peer, transaction, message)
        if self._l.mail is not None:
            return self._l.mail.submit(self._logins.login, transaction.sender, transaction.recipients, message)
        raise Unauthenticated("this listener takes no mail")

    def _accept(self, peers: PeerService, peer: CertifiedPeer, transaction: Transaction, message: Path) -> str:
        accepted = peers.accept(peer, transaction.sender, transaction.recipients[0], message)
        if self._verbs is not None:
            self._verbs.stored(accepted.exchange)
        return accepted.text

    async def _rset(self, argument: str) -> None:
        self._cut()
        self._transaction = None
        await self._say(r.OK)

    async def _noop(self, argument: str) -> None:
        await self._say(r.OK)

    async def _vrfy(self, argument: str) -> None:
        await self._say(r.CANT_VERIFY)

    async def _quit(self, argument: str) -> None:
        raise Closing(r.BYE)

    async def _say(self, reply: Reply) -> None:
        await self.push(reply.line())

    async def refuse(self, reply: Reply) -> None:
        """Count an error, and say no."""
        self._errors += 1
        if self._errors > self._l.limits.errors:
            raise Closing(r.TOO_MANY_ERRORS)
        await self._say(reply)

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.close()
