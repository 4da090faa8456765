"""What can go wrong in offline mode, on purpose: who misbehaves in the demo, and how each side gets what it is due.

A fault of a node is a rule that its own program breaks (`secmtp node serve --fault`); a silent node and a TTP that is
down are processes that are killed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from shared.commands.demo_processes import DemoFailed, Program

SECONDS = 15  # until direct_until, where a fault ends only by that timer
_DAYS = {"SECMTP_NODE_EXPIRY": str(5 * 24 * 3600)}
_SECONDS = {"SECMTP_NODE_EXPIRY": "3600", "SECMTP_NODE_DIRECT": str(SECONDS), "SECMTP_NODE_MARGIN": "3000"}


class Stage(Protocol):
    """What a fault needs of the demo's world."""

    programs: dict[str, Program]

    def say(self, line: str) -> None:
        """Tell who watches."""

    def send_first(self) -> None:
        """Send a letter and wait for letter and receipt."""

    def start_again(self, name: str) -> None:
        """Start a program again on the ports that it had."""


def _nothing(stage: Stage) -> None:
    """Let things take their course."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: what is shown, how it ends, which node's program breaks a rule, what is done before and meanwhile."""

    shows: str
    ends: str
    domain: str = ""
    times: tuple[tuple[str, str], ...] = tuple(_DAYS.items())
    before: Callable[[Stage], None] = _nothing
    meanwhile: Callable[[Stage], None] = _nothing
    delivers: bool = True


def find(name: str) -> Fault:
    """Return a fault by name. Raises DemoFailed naming those that there are."""
    try:
        return FAULTS[name]
    except KeyError:
        raise DemoFailed(f"there is no fault {name!r}; there are: {', '.join(FAULTS)}") from None


def environment(mode: str, fault: Fault | None) -> dict[str, str]:
    """Return the settings of the demo's nodes: days as in earnest, seconds where a timer is to be seen."""
    if mode == "online":
        return {}
    times = _DAYS if fault is None else dict(fault.times)
    return {"SECMTP_NODE_MODE": mode, "SECMTP_NODE_ANCHOR_PAUSE": "1", "SECMTP_NODE_FIRST_PAUSE": "1", **times}


def _kill_recipient(stage: Stage) -> None:
    stage.programs["node-b.example"].kill()
    stage.say("The recipient's node is gone: it answers nobody")


def _kill_ttp(stage: Stage) -> None:
    stage.send_first()
    stage.programs["ttp"].kill()
    stage.say("The TTP is down")


def _bring_ttp_back(stage: Stage) -> None:
    stage.say("The letter was delivered and acknowledged without the TTP; now it comes back, to anchor the evidence")
    stage.start_again("ttp")


FAULTS = {
    "sender-keeps-key": Fault(
        "the sender's node takes the NRR and keeps the key",
        "the recipient's node completes at the TTP when the session has ended, and reads",
        domain="a.example",
    ),
    "recipient-withholds-ack": Fault(
        "the recipient's node takes the key, delivers, and gives no ACK",
        f"the sender's node completes at the TTP with the NRR that it holds, here after {SECONDS} s",
        domain="b.example",
        times=tuple(_SECONDS.items()),
    ),
    "recipient-silent": Fault(
        "the recipient's node is silent",
        f"the sender's node aborts at the TTP, here after {SECONDS} s, and reports from the TTP's token",
        times=tuple(_SECONDS.items()),
        before=_kill_recipient,
        delivers=False,
    ),
    "ttp-down": Fault(
        "the TTP is down while a letter is sent",
        "the nodes don't need it: letter and ACK go directly, and the receipt is reported when it is anchored",
        before=_kill_ttp,
        meanwhile=_bring_ttp_back,
    ),
}
