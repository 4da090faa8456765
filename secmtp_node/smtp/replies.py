"""Every reply by name, and the one mapping from the error tree to SMTP (RFC 5321, RFC 3463, RFC 2034)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared import errors
from shared.errors import EvidenceFault, SecMTPError

MAX_LINE = 500


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: code, enhanced status code, text."""

    code: int
    enhanced: str
    text: str

    def saying(self, text: str) -> Reply:
        """Return the same reply with another text."""
        return replace(self, text=text)

    def line(self) -> str:
        """Return the line to send, printable ASCII of at most 500 octets."""
        text = "".join(char if " " <= char <= "~" else "?" for char in self.text)
        return f"{self.code} {self.enhanced} {text}"[:MAX_LINE]


OK = Reply(250, "2.0.0", "OK")
SENDER_OK = Reply(250, "2.1.0", "sender OK")
RECIPIENT_OK = Reply(250, "2.1.5", "recipient OK")
STORED = Reply(250, "2.0.0", "stored")
BYE = Reply(221, "2.0.0", "closing the connection")
CANT_VERIFY = Reply(252, "2.5.0", "addresses aren't told; send, and see")
AUTHENTICATED = Reply(235, "2.7.0", "authenticated")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "too many connections; come again later")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "too many errors on this connection")
TOO_SLOW = Reply(421, "4.4.2", "nothing came for too long")
NOT_NOW = Reply(451, "4.3.0", "try again later")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "too many recipients in one transaction")
LOGIN_BLOCKED = Reply(454, "4.7.0", "too many failed logins from your address; try again later")
LINE_TOO_LONG = Reply(500, "5.5.6", "the command line is too long")
BARE_LINE_END = Reply(500, "5.5.2", "a command ends with CRLF; bare CR, bare LF and NUL aren't allowed in it")
UNKNOWN_COMMAND = Reply(500, "5.5.1", "this command isn't known here")
BAD_SYNTAX = Reply(501, "5.5.4", "the command's arguments are wrong")
BAD_UTF8 = Reply(501, "5.5.2", "the command isn't UTF-8")
BAD_BASE64 = Reply(501, "5.5.2", "that isn't base64")
CANCELLED = Reply(501, "5.7.0", "authentication was cancelled")
BAD_SEQUENCE = Reply(503, "5.5.1", "not in this place; begin with EHLO, then MAIL, RCPT, DATA")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "this mechanism isn't offered: it would need your password in the clear here")
NEED_TLS = Reply(530, "5.7.0", "STARTTLS first")
NEED_LOGIN = Reply(530, "5.7.0", "authenticate first")
BAD_LOGIN = Reply(535, "5.7.8", "the address or the password is wrong")
ENCRYPTION_REQUIRED = Reply(538, "5.7.11", "authentication needs TLS: STARTTLS first")
BARE_OCTETS = Reply(550, "5.6.0", "the message holds a bare CR, a bare LF or a NUL, which SMTP can't carry")
PEER_REFUSED = Reply(550, "5.7.1", "this listener is for certified nodes")
TOO_LARGE = Reply(552, "5.3.4", "the message is too large")
NOT_ASCII = Reply(553, "5.6.7", "an address beyond ASCII needs SMTPUTF8")
BAD_ADDRESS = Reply(553, "5.1.3", "that isn't a mail address")
NO_RECIPIENTS = Reply(554, "5.5.1", "no valid recipients")
LOOP = Reply(554, "5.4.6", "the message has been through too many servers: a loop")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "this parameter isn't known here")

_DIGESTS = ("digest", "length", "size")
_BY_ERROR: tuple[tuple[type[SecMTPError], Reply], ...] = (
    (errors.TooLarge, TOO_LARGE),
    (errors.Malformed, Reply(554, "5.6.0", "malformed")),
    (errors.Unauthenticated, BAD_LOGIN),
    (errors.Forbidden, Reply(550, "5.7.1", "not allowed")),
    (errors.NotFound, Reply(550, "5.1.1", "no such recipient")),
    (errors.Conflict, Reply(554, "5.5.0", "conflict")),
    (errors.PeerFault, Reply(554, "5.5.0", "refused")),
    (errors.Unavailable, NOT_NOW),
)


def of_error(error: SecMTPError) -> Reply:
    """Return the reply to an error of ours. Our own faults give no details away, and may be tried again."""
    if isinstance(error, EvidenceFault):
        enhanced = "5.7.7" if error.step.endswith(_DIGESTS) else "5.7.5"
        return Reply(554, enhanced, f"{error.step}: {error.reason}")
    for kind, reply in _BY_ERROR:
        if isinstance(error, kind):
            return reply.saying(error.message)
    return NOT_NOW
