"""Which mode an exchange has: the message's wish, else the user's, the domain's, the node's (smtp.md M10, M11).

What the recipient's node doesn't offer, or this node doesn't know, is replaced by the configured fallback or
refused in words: a letter never goes silently in a mode that nobody chose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from secmtp_node.agents.addresses import Addressee
from shared.encoding.address import domain_of
from shared.errors import Forbidden

REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class ModePolicy:
    """What the operator set. `named` is by own user address or own mail domain; `fallback` a mode, or `refuse`.

    `built` are the modes that this version of the node can send in.
    """

    default: str = "online"
    named: Mapping[str, str] = field(default_factory=dict)
    fallback: str = "online"
    built: tuple[str, ...] = ("online", "offline")

    def wanted(self, sender: str, wish: str) -> str:
        """Return the mode that a sender's message is to have. `wish` is what the message asks for, or empty."""
        of_domain = self.named.get(domain_of(sender), self.default)
        return wish or self.named.get(sender, of_domain)

    def for_peer(self, wanted: str, offered: Sequence[str]) -> str | None:
        """Return the mode with a node that offers these; None: the letter must be refused."""
        for mode in (wanted, self.fallback):
            if mode in self.built and mode in offered:
                return mode
        return None


def choose(policy: ModePolicy, sender: str, wish: str, addressees: Sequence[Addressee]) -> list[str]:
    """Return the mode for each addressee. Raises Forbidden naming who can't be reached so, and why."""
    wanted = policy.wanted(sender, wish)
    chosen = [policy.for_peer(wanted, addressee.domain.modes) for addressee in addressees]
    found = [mode for mode in chosen if mode is not None]
    if len(found) == len(addressees):
        return found
    reasons = [
        _reason(policy, wanted, addressee) for addressee, mode in zip(addressees, chosen, strict=True) if not mode
    ]
    raise Forbidden("; ".join(reasons), code="mode-not-offered")


def _reason(policy: ModePolicy, wanted: str, addressee: Addressee) -> str:
    address = addressee.binding.address
    if wanted not in policy.built:
        return f"{address}: this node has no mode {wanted!r}, it has {', '.join(policy.built)}"
    offered = ", ".join(addressee.domain.modes)
    return f"{address}: mode {wanted} was asked for, the recipient's node offers {offered}"
