"""What the demo shows at the end: where everything lies and what was proven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened. Digests are hexadecimal; `checkpoint` is the note under which the receipt lies."""

    exchange: str
    mode: str
    submitted_sha256: str
    delivered_sha256: str
    delivered: Path | None
    receipt: Path
    bundle: Path
    trust: Path
    checkpoint: str
    ttp_requests: int
    seconds: float
    verdict: str
    answers: str


def report(outcome: Outcome, say: Callable[[str], None]) -> None:
    """Print the summary."""
    same = "the same octets" if outcome.submitted_sha256 == outcome.delivered_sha256 else "NOT THE SAME OCTETS"
    origin, size, _ = outcome.checkpoint.split("\n", 2)
    say("")
    say(f"Exchange   {outcome.exchange}")
    if outcome.delivered is None:
        say("Letter     not delivered")
        say(f"Report     {outcome.receipt}")
    else:
        say(f"Letter     {outcome.delivered}")
        say(f"           {same} as submitted: SHA-256 {outcome.delivered_sha256}")
        say(f"Receipt    {outcome.receipt}")
    say(f"Bundle     {outcome.bundle}: {outcome.verdict}")
    say(f"           {outcome.answers}")
    say(f"Trust      {outcome.trust}")
    say(f"Ledger     {origin}, {size} entries under the checkpoint, not witnessed")
    say(f"TTP        answered {outcome.ttp_requests} request(s) about this exchange")
    say(f"Time       {outcome.seconds:.1f} s from an empty directory to verified evidence")
    say("")
    if outcome.delivered is None:
        return
    say("Check the receipt yourself, with the root certificate alone:")
    say(f"  secmtp evidence verify {outcome.bundle} --trust {outcome.trust}")
