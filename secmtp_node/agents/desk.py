"""What the use cases work with, and the policy of this node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from secmtp_node.agents.addresses import AddressBook
from secmtp_node.agents.locks import Locks
from secmtp_node.agents.modes import ModePolicy
from secmtp_node.ports.services import (
    TTP,
    AtRest,
    Carrier,
    Clock,
    Draw,
    Events,
    Files,
    Mailboxes,
    Passwords,
    Reports,
    Vault,
)
from secmtp_node.ports.store import Store
from secmtp_node.ports.values import KeyUse, UserKey
from shared.crypto.certificates import TrustRoot
from shared.crypto.keys import HpkePrivateKey
from shared.errors import NotFound

DAY = 24 * 3600
# What this node can do as a recipient; its domain record says so to senders.
MODES = ("online", "offline")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides. Times are seconds; `quorum` is how many witnesses a TTP must wait for."""

    domains: tuple[str, ...]
    expiry: int = 5 * DAY
    repeat_window: int = DAY
    first_pause: int = 5
    longest_pause: int = 3600
    skew: int = 300
    quorum: int = 0
    behind: int = 60
    modes: ModePolicy = field(default_factory=ModePolicy)
    direct: int = 2 * DAY
    margin: int = 3 * DAY
    anchor_pause: int = 30
    notice: str = "A certified message. It can be read only against a signed receipt."


@dataclass(frozen=True)
class Desk:
    """The surroundings, in one place. `ttps` are the TTPs that this node allows, by name."""

    policy: Policy
    root: TrustRoot
    store: Store
    files: Files
    at_rest: AtRest
    vault: Vault
    passwords: Passwords
    book: AddressBook
    ttps: Mapping[str, TTP]
    carrier: Carrier
    mailboxes: Mailboxes
    reports: Reports
    node_key: HpkePrivateKey = field(repr=False)
    now: Clock
    draw: Draw
    tell: Events
    locks: Locks = field(default_factory=Locks)

    def ttp(self, name: str) -> TTP:
        """Return a TTP that this node allows. Raises NotFound for any other."""
        try:
            return self.ttps[name]
        except KeyError:
            raise NotFound(f"{name} isn't one of the TTPs that this node allows") from None

    def user_key(self, address: str, use: KeyUse) -> UserKey:
        """Return a user's live key. Raises NotFound."""
        with self.store.transaction() as unit:
            for key in unit.users.keys(address):
                if key.use is use:
                    return key
        raise NotFound(f"{address} has no {use} key here")
