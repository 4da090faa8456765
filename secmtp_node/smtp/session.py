"""What a connection is made of: what all connections of a listener share, one mail transaction, and its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from secmtp_node.smtp import replies as r
from secmtp_node.smtp.guard import Guard, Limits
from secmtp_node.smtp.ports import MailService, PeerService
from secmtp_node.smtp.replies import Reply
from secmtp_node.smtp.spool import Spool


@dataclass(frozen=True)
class Listening:
    """What all connections of one listener share. `peers` or `mail` is set, never both."""

    hostname: str
    home: str
    spool: Spool
    limits: Limits
    guard: Guard
    failed: Callable[[str, BaseException], None]
    mail: MailService | None = None
    peers: PeerService | None = None
    require_tls: bool = True
    require_login: bool = True


@dataclass
class Transaction:
    """One mail transaction."""

    sender: str
    smtputf8: bool
    recipients: list[str] = field(default_factory=list)


class Closing(Exception):
    """The connection is to be closed after this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


def parameter_refusal(parameters: dict[str, str], most: int) -> Reply | None:
    """Return why the parameters of MAIL are refused, None if they aren't. `most` bounds SIZE, in octets."""
    for keyword, value in parameters.items():
        match keyword:
            case "SIZE" if value.isdigit() and len(value) <= 20:
                if int(value) > most:
                    return r.TOO_LARGE
            case "BODY" if value.upper() in {"7BIT", "8BITMIME"}:
                continue
            case "SMTPUTF8" if not value:
                continue
            case "AUTH" if value:
                continue
            case "SIZE" | "BODY" | "SMTPUTF8" | "AUTH":
                return r.BAD_SYNTAX.saying(f"the parameter {keyword} has a wrong value")
            case _:
                return r.UNKNOWN_PARAMETER.saying(f"the parameter {keyword[:40]} isn't known here")
    return None
