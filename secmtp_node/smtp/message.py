"""A submitted message as octets: its content without top-level Bcc fields, and the little that is known of it.

The header section is scanned, never parsed and written again: what isn't a Bcc field, or the wish for a mode, is
handed on octet for octet (smtp.md M4, M10).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.utils import getaddresses
from pathlib import Path

from secmtp_node.ports.services import Submitted
from shared.encoding.address import normal_address
from shared.encoding.labels import BlobDigest
from shared.errors import Malformed

PIECE = 64 * 1024
MAX_HEADER = 1024 * 1024
MAX_SHOWN = 16 * 1024
MAX_RECEIVED = 100
# obs-bcc (RFC 5322 §4.5.3) allows blanks before the colon; resent fields are blind just as well.
_BLIND = re.compile(rb"(?:resent-)?bcc[ \t]*:", re.IGNORECASE)
_VISIBLE = re.compile(rb"(?:to|cc)[ \t]*:", re.IGNORECASE)
_MODE = re.compile(rb"x-secmtp-mode[ \t]*:", re.IGNORECASE)
_MODE_NAME = re.compile(r"[a-z]{1,20}")
_RECEIVED = re.compile(rb"received[ \t]*:", re.IGNORECASE)


class Loop(Malformed):
    """The message has been through too many servers."""

    code = "mail-loop"


def read_message(path: Path) -> Submitted:
    """Scan a spooled message. Raises Malformed for a header over 1 MiB or a beginning that can't be delivered."""
    header, end = _header(path)
    if header[:1] in (b" ", b"\t"):
        raise Malformed("the message begins with a blank: it would continue a header put in front of it")
    fields = _fields(header)
    if sum(bool(_RECEIVED.match(field)) for field in fields) > MAX_RECEIVED:
        raise Loop(f"the message has been through more than {MAX_RECEIVED} servers: a loop")
    kept = b"".join(field for field in fields if not _BLIND.match(field) and not _MODE.match(field))

    def content() -> Iterator[bytes]:
        yield kept
        with path.open("rb") as file:
            file.seek(end)
            while piece := file.read(PIECE):
                yield piece

    digest = BlobDigest()
    for piece in content():
        digest.update(piece)
    return Submitted(content, digest.octets, digest.digest(), _visible(fields), kept[:MAX_SHOWN], _mode(fields))


def _header(path: Path) -> tuple[bytes, int]:
    """Return the header section with the line that ends it, and where the rest begins."""
    with path.open("rb") as file:
        head = file.read(MAX_HEADER)
        if head.startswith(b"\r\n"):
            return b"", 0
        end = head.find(b"\r\n\r\n")
        if end >= 0:
            return head[: end + 2], end + 2
        if file.read(1):
            raise Malformed(f"the header has more than {MAX_HEADER} octets: Bcc fields couldn't be found in it")
        return head, len(head)


def _fields(header: bytes) -> list[bytes]:
    """Split into fields with their continuation lines. Lines that are no fields are kept like fields."""
    fields: list[bytes] = []
    for line in header.split(b"\r\n"):
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1] += line + b"\r\n"
        else:
            fields.append(line + b"\r\n")
    if fields and header.endswith(b"\r\n"):
        fields.pop()  # what stands behind the last CRLF is no line
    elif fields:
        fields[-1] = fields[-1][:-2]
    return fields


def _mode(fields: list[bytes]) -> str:
    """Return the mode that the message asks for, empty if it asks for none. Raises Malformed."""
    asked = [
        field.partition(b":")[2].decode("utf-8", "replace").strip().lower() for field in fields if _MODE.match(field)
    ]
    if len(asked) > 1 or (asked and not _MODE_NAME.fullmatch(asked[0])):
        raise Malformed("X-SecMTP-Mode stands at most once, and is the name of a mode")
    return asked[0] if asked else ""


def _visible(fields: list[bytes]) -> frozenset[str]:
    """Return addresses in To and Cc as far as they can be read: who isn't found is treated as blind."""
    values = [field.partition(b":")[2].decode("utf-8", "replace") for field in fields if _VISIBLE.match(field)]
    found = set()
    for value in values:
        for address in _addresses(" ".join(value.split())):
            try:
                found.add(normal_address(address))
            except Malformed:
                continue
    return frozenset(found)


def _addresses(value: str) -> list[str]:
    try:
        return [address for _name, address in getaddresses([value])]
    except RecursionError:  # comments or groups nested by the thousand: nobody's list of recipients
        return []
