from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage

import pytest

from secmtp_node.delivery.report import BUNDLE_TYPE, FILE_NAME, MailReports
from secmtp_node.ports.services import Report
from shared.evidence import bundle as bundles
from shared.evidence.bundle import Bundle
from tests.doubles.parties import NOW, parties

EXCHANGE = bytes(range(32))
HEADERS = b"From: alice@a.example\r\nSubject: hello\r\nMessage-ID: <1@a.example>\r\n"
REPORT = Report(
    exchange=EXCHANGE,
    sender="alice@a.example",
    recipient="bob@b.example",
    outcome="REFUSED",
    reason="550 5.1.1 no such recipient",
    accepted=NOW,
    time=NOW + 60,
    bundle=None,
    headers=HEADERS,
)


def receipt_bundle() -> Bundle:
    """Return the bundle of a trade."""
    world = parties()
    exchange = world.exchange()
    return world.ttp.trade(exchange).opened(exchange.openings)


def written(report: Report) -> bytes:
    """Return a report's octets."""
    reports = MailReports("a.example")
    return b"".join(reports.receipt(report) if report.outcome == "COMPLETED" else reports.failure(report))


def parsed(report: Report) -> EmailMessage:
    """Return a report as an independent parser reads it."""
    message = email.message_from_bytes(written(report), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def status(message: EmailMessage) -> tuple[EmailMessage, EmailMessage]:
    """Return the fields of the message and of the recipient."""
    (part,) = [part for part in message.iter_parts() if part.get_content_type() == "message/delivery-status"]
    payload = part.get_payload()
    assert isinstance(payload, list)
    whole, recipient = payload
    assert isinstance(whole, EmailMessage)
    assert isinstance(recipient, EmailMessage)
    return whole, recipient


class TestOutside:
    def test_fields(self) -> None:
        """A report has a null return path, is automatic, and belongs to the thread of its message."""
        message = parsed(REPORT)
        assert message["return-path"] == "<>"
        assert message["auto-submitted"] == "auto-replied"
        assert message["to"] == "alice@a.example"
        assert message["from"].addresses[0].addr_spec == "postmaster@a.example"
        assert message["in-reply-to"] == message["references"] == "<1@a.example>"
        assert message["date"].datetime.timestamp() == NOW + 60
        assert message["message-id"] == f"<{EXCHANGE.hex()}.failure@a.example>"

    def test_type(self) -> None:
        """A report is a multipart/report of a delivery status (RFC 6522)."""
        message = parsed(REPORT)
        assert message.get_content_type() == "multipart/report"
        assert message.get_param("report-type") == "delivery-status"
        assert [part.get_content_type() for part in message.iter_parts()] == [
            "text/plain",
            "message/delivery-status",
            "text/rfc822-headers",
        ]

    def test_the_same_each_time(self) -> None:
        """A report that is written again is the same, so that a repeated delivery is one message."""
        assert written(REPORT) == written(REPORT)

    @pytest.mark.parametrize(
        "headers", [b"", b"Subject: x\r\n", b"Message-ID: broken\r\n", b"Subject: \xff\xfe cut of"]
    )
    def test_headers_as_they_come(self, headers: bytes) -> None:
        """A message without Message-ID, without header or with any octets in it gets its report too."""
        message = parsed(replace(REPORT, headers=headers))
        assert message["in-reply-to"] is None
        assert ("text/rfc822-headers" in [part.get_content_type() for part in message.iter_parts()]) is bool(headers)

    def test_lines(self) -> None:
        """Every line of a report ends with CRLF."""
        report = replace(REPORT, outcome="COMPLETED", bundle=receipt_bundle())
        for octets in (written(REPORT), written(report)):
            assert octets.endswith(b"\r\n")
            left = octets.replace(b"\r\n", b"")
            assert b"\n" not in left
            assert b"\r" not in left


class TestStatus:
    @pytest.mark.parametrize(
        ("outcome", "reason", "action", "code"),
        [
            ("REFUSED", "550 5.1.1 no such recipient", "failed", "5.1.1"),
            ("REFUSED", "no code here", "failed", "5.0.0"),
            ("EXPIRED", "nobody signed in time", "failed", "5.4.7"),
            ("INVALID", "the TTP couldn't open it", "failed", "5.7.5"),
        ],
    )
    def test_failure(self, outcome: str, reason: str, action: str, code: str) -> None:
        """A failure has the fields of RFC 3464: who reports, about whom, what happened, and why."""
        whole, recipient = status(parsed(replace(REPORT, outcome=outcome, reason=reason)))
        assert whole["reporting-mta"] == "dns; a.example"
        assert whole["arrival-date"] == "Fri, 15 Jan 2027 08:00:00 -0000"
        assert recipient["final-recipient"] == "rfc822; bob@b.example"
        assert (recipient["action"], recipient["status"]) == (action, code)
        assert recipient["diagnostic-code"] == f"smtp; {reason}"
        assert recipient["last-attempt-date"] == "Fri, 15 Jan 2027 08:01:00 -0000"

    def test_receipt(self) -> None:
        """A receipt says delivered, and has nothing to diagnose."""
        _, recipient = status(parsed(replace(REPORT, outcome="COMPLETED", reason="", bundle=receipt_bundle())))
        assert (recipient["action"], recipient["status"]) == ("delivered", "2.0.0")
        assert recipient["diagnostic-code"] is None

    def test_reason_of_many_lines(self) -> None:
        """A peer that answers in several lines can't write parts or fields of the report."""
        boundary = f"--=_report_{EXCHANGE.hex()[:32]}"
        reason = f"554 5.0.0 no\n{boundary}\r\nContent-Type: {BUNDLE_TYPE}\r\n\r\nforged\r\nStatus: 2.0.0"
        message = parsed(replace(REPORT, reason=reason))
        assert len(list(message.iter_parts())) == 3
        assert status(message)[1].get_all("status") == ["5.0.0"]

    def test_reason_beyond_ascii(self) -> None:
        """A delivery status is ASCII (RFC 3464 §2.1), whatever a peer says."""
        report = written(replace(REPORT, reason="550 5.1.1 unbekannter Empfänger"))
        part = report.split(b"Content-Type: message/delivery-status")[1].split(b"\r\n--")[0]
        assert part.isascii()

    def test_utf8_recipient(self) -> None:
        """A recipient beyond ASCII stands as it is, in the part that RFC 6533 has for it."""
        report = written(replace(REPORT, recipient="jos\u00e9@b.example"))
        (part,) = [part for part in report.split(b"\r\n--") if b"message/global-delivery-status" in part]
        assert "Final-Recipient: utf-8; jos\u00e9@b.example\r\n".encode() in part
        assert b"message/delivery-status" not in report
        parsed(replace(REPORT, recipient="jos\u00e9@b.example"))


class TestBundle:
    def test_attached(self) -> None:
        """A receipt has its bundle attached, and what is attached is the bundle."""
        bundle = receipt_bundle()
        message = parsed(replace(REPORT, outcome="COMPLETED", reason="", bundle=bundle))
        (part,) = [part for part in message.iter_parts() if part.get_content_type() == BUNDLE_TYPE]
        assert part.get_filename() == FILE_NAME
        assert part.get_content_disposition() == "attachment"
        attached = part.get_payload(decode=True)
        assert isinstance(attached, bytes)
        assert bundles.decode(attached) == bundle

    def test_failure_with_proof(self) -> None:
        """A failure that a token proves has it attached, and says that it isn't a receipt."""
        world = parties()
        bundle = world.ttp.refuse(world.exchange(), "EXPIRED", NOW + 7 * 24 * 3600)
        message = parsed(replace(REPORT, outcome="EXPIRED", bundle=bundle))
        assert BUNDLE_TYPE in [part.get_content_type() for part in message.iter_parts()]
        text = next(iter(message.iter_parts())).get_content()
        assert "It isn't a receipt." in text
