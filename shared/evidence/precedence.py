"""What several pieces of evidence about one exchange say together (evidence.md, Precedence).

Positive evidence stands, whatever else is shown: a token of no trade says only that the TTP didn't trade,
never that nobody read or sent. Nothing is concluded from what is absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.evidence.receipt import NoTrade, Receipt
from shared.evidence.tokens import NRD
from shared.evidence.verification import require


@dataclass(frozen=True, slots=True)
class Standing:
    """`receipt` stands if there is one. `no_trade` are the TTP's words that it didn't trade.

    `ttp_fault` says that the TTP signed two different outcomes of one exchange, which proves its fault.
    """

    receipt: Receipt | None
    no_trade: tuple[NoTrade, ...]
    ttp_fault: bool


def weigh(receipts: Sequence[Receipt], no_trades: Sequence[NoTrade]) -> Standing:
    """Return what verified evidence of one exchange says together, in whatever order it came.

    Raises EvidenceFault `precedence.exchange` when it is of several exchanges.
    """
    exchanges = {one.manifest.exchange for one in receipts} | {one.manifest.exchange for one in no_trades}
    require(len(exchanges) <= 1, "precedence.exchange", f"the evidence is of {len(exchanges)} exchanges, not of one")
    outcomes = {one.completion.compact for one in receipts if isinstance(one.completion, NRD)}
    outcomes |= {one.refusal.compact for one in no_trades}
    # The earliest, so that the order in which evidence is shown makes no difference.
    first = min(receipts, key=lambda receipt: (receipt.time, receipt.completion.compact), default=None)
    kept = {one.refusal.compact: one for one in no_trades}
    in_order = sorted(kept.values(), key=lambda one: (one.refusal.time, one.refusal.compact))
    return Standing(first, tuple(in_order), len(outcomes) > 1)
