"""Reports to senders: multipart/report with a delivery status (RFC 3464, RFC 6522) and the bundle attached.

They have a null return path and are marked as automatic, so nothing answers them (RFC 3834).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate

from secmtp_node.ports.services import Report
from shared.evidence import bundle as bundles
from shared.evidence.bundle import AnyBundle

BUNDLE_TYPE = "application/vnd.secmtp.bundle+json"
FILE_NAME = "receipt.secmtp.json"
_MESSAGE_ID = re.compile(rb"^message-id[ \t]*:[ \t]*(<[\x21-\x7e]{1,900}>)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_ACTIONS = {
    "COMPLETED": ("delivered", "2.0.0"),
    "ACKNOWLEDGED": ("delivered", "2.0.0"),
    "ABORTED": ("failed", "5.4.7"),
    "EXPIRED": ("failed", "5.4.7"),
    "INVALID": ("failed", "5.7.5"),
    "REFUSED": ("failed", "5.0.0"),
}
_CARRIED_BY = {
    "COMPLETED": "signed for it, and could read it from then on: the trusted third party gave it the key.",
    "ACKNOWLEDGED": "signed for it, and acknowledged that it opened it: the receipt is carried by that ACK.",
}


@dataclass(frozen=True)
class MailReports:
    """Writes reports in the name of `host` (a mail domain of this node)."""

    host: str

    def receipt(self, report: Report) -> Iterator[bytes]:
        """Yield the report of a receipt, with the bundle attached."""
        lines = (
            f"Your message to {report.recipient} was received.",
            "",
            f"The node of {report.recipient.rpartition('@')[2]} {_CARRIED_BY[report.outcome]}",
            "The attached bundle proves that to anybody who has the root certificate:",
            "",
            f"    secmtp evidence verify {FILE_NAME} --trust root.pem",
            "",
            "The bundle is as confidential as the message: keep it as you keep the message.",
        )
        return self._message(report, "Receipt", lines)

    def failure(self, report: Report) -> Iterator[bytes]:
        """Yield the delivery status notification of a failure."""
        lines = [
            f"Your message to {report.recipient} was not delivered as certified mail.",
            "",
            # On one line: a peer's reply of several could write parts of this report.
            f"Reason: {_one_line(report.reason)}",
        ]
        if report.bundle is not None:
            lines += ["", "The attached bundle is the TTP's signed word that no trade happened. It isn't a receipt."]
        return self._message(report, "Not delivered", lines)

    def _message(self, report: Report, subject: str, lines: list[str] | tuple[str, ...]) -> Iterator[bytes]:
        boundary = f"=_report_{report.exchange.hex()[:32]}"
        kind = "receipt" if report.outcome in _CARRIED_BY else "failure"
        yield _text(
            "Return-Path: <>",
            f"From: Certified mail at {self.host} <postmaster@{self.host}>",
            f"To: <{report.sender}>",
            f"Subject: {subject}: {report.recipient}",
            f"Date: {formatdate(report.time)}",
            f"Message-ID: <{report.exchange.hex()}.{kind}@{self.host}>",
            *_threading(report.headers),
            "Auto-Submitted: auto-replied",
            "MIME-Version: 1.0",
            f'Content-Type: multipart/report; report-type=delivery-status; boundary="{boundary}"',
            "",
        )
        yield _text(f"--{boundary}", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "")
        yield _text(*lines, "", f"Exchange: {report.exchange.hex()}", "")
        yield _text(f"--{boundary}", *_status_type(report.recipient), "", *self._status(report), "")
        if report.headers:
            yield _text(f"--{boundary}", "Content-Type: text/rfc822-headers", "Content-Transfer-Encoding: 8bit", "")
            yield report.headers + b"\r\n"
        if report.bundle is not None:
            yield from _attachment(boundary, report.bundle)
        yield _text(f"--{boundary}--")

    def _status(self, report: Report) -> list[str]:
        action, status = _ACTIONS[report.outcome]
        found = re.match(r"\d{3}[ -](\d\.\d{1,3}\.\d{1,3})", report.reason)
        return [
            f"Reporting-MTA: dns; {self.host}",
            f"Arrival-Date: {formatdate(report.accepted)}",
            "",
            f"Final-Recipient: {_kind(report.recipient)}; {report.recipient}",
            f"Action: {action}",
            f"Status: {found.group(1) if found and action == 'failed' else status}",
            *([f"Diagnostic-Code: smtp; {_ascii(_one_line(report.reason))}"] if action == "failed" else []),
            f"Last-Attempt-Date: {formatdate(report.time)}",
        ]


def _attachment(boundary: str, bundle: AnyBundle) -> Iterator[bytes]:
    yield _text(
        f"--{boundary}",
        f"Content-Type: {BUNDLE_TYPE}",
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment; filename="{FILE_NAME}"',
        "",
    )
    yield base64.encodebytes(bundles.encode(bundle)).replace(b"\n", b"\r\n") + b"\r\n"


def _threading(headers: bytes) -> list[str]:
    found = _MESSAGE_ID.search(headers)
    if found is None:
        return []
    name = found.group(1).decode("ascii")
    return [f"In-Reply-To: {name}", f"References: {name}"]


def _kind(address: str) -> str:
    return "rfc822" if address.isascii() else "utf-8"  # RFC 6533 §3


def _status_type(address: str) -> list[str]:
    """Return the fields of the status part: with UTF-8 in it it is of a type of its own (RFC 6533 §4)."""
    if address.isascii():
        return ["Content-Type: message/delivery-status"]
    return ["Content-Type: message/global-delivery-status", "Content-Transfer-Encoding: 8bit"]


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400]


def _text(*lines: str) -> bytes:
    return "".join(line + "\r\n" for line in lines).encode("utf-8")
