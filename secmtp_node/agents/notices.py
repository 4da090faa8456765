"""What a recipient is told when a letter that was signed for doesn't open: that it came, from whom, and why not."""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import formatdate

from secmtp_node.agents.desk import Desk
from secmtp_node.ports.services import Delivery
from secmtp_node.ports.values import Incoming
from shared.errors import EvidenceFault


def notice(desk: Desk, incoming: Incoming, fault: EvidenceFault) -> Delivery:
    """Return the notice as a delivery; its name is the exchange's, so a repetition is seen."""
    return Delivery(incoming.recipient, f"{incoming.exchange.hex()}.notice", _pieces(desk, incoming, fault))


def _pieces(desk: Desk, incoming: Incoming, fault: EvidenceFault) -> Iterator[bytes]:
    host, name = desk.policy.domains[0], incoming.exchange.hex()
    sender = incoming.manifest.core.sender.address
    lines = (
        "Return-Path: <>",
        f"From: Certified mail at {host} <postmaster@{host}>",
        f"To: <{incoming.recipient}>",
        "Subject: A certified message that can't be opened",
        f"Date: {formatdate(desk.now())}",
        f"Message-ID: <{name}.notice@{host}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        f"A certified message from {sender} came for you, and a receipt was signed for it.",
        f"It doesn't open with its own key ({fault.step}): the sender made it so that nobody can read it.",
        "Your node keeps the proof of that; ask its operator. Nothing of the message can be shown.",
        "",
        f"Exchange: {name}",
        "",
    )
    yield "\r\n".join(lines).encode("utf-8")
