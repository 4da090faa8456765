"""The node's durable memory: transactions over letters, exchanges, jobs and evidence.

`Store.transaction()` is one serialised transaction: all of it is durable when the block has ended, or
none of it happened. Whatever a use case must not lose is written in one block, and answered after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from secmtp_node.ports.values import (
    Alarm,
    CachedListing,
    Evidence,
    Incoming,
    Job,
    Letter,
    Outgoing,
    OwnBinding,
    Pin,
    SeenCheckpoint,
    SenderFault,
    ShownCheckpoint,
    Task,
    User,
    UserKey,
)
from shared.exchange import recipient, sender


class Letters(Protocol):
    """Accepted submissions and the exchanges made of them."""

    def find(self, fingerprint: bytes, since: int) -> Letter | None:
        """Return the letter of this fingerprint that was accepted at or after `since`."""

    def add(self, letter: Letter) -> None:
        """Add a letter."""

    def get(self, letter: bytes) -> Letter:
        """Return a letter. Raises NotFound."""


class OutgoingExchanges(Protocol):
    """The sender's side."""

    def add(self, exchange: Outgoing) -> None:
        """Add an exchange. Raises Conflict when hM is there."""

    def find(self, exchange: bytes) -> Outgoing | None:
        """Return an exchange, None when there is none."""

    def of_letter(self, letter: bytes) -> Sequence[Outgoing]:
        """Return the exchanges of a letter in the order of submission."""

    def move(self, exchange: bytes, state: sender.State, **more: str) -> None:
        """Set the state; and `reply` (the peer's), `nrr`, `ack` where they are given."""

    def in_states(self, states: Collection[sender.State]) -> Sequence[bytes]:
        """Return the ids of exchanges that are in one of these states."""


class IncomingExchanges(Protocol):
    """The recipient's side."""

    def add(self, exchange: Incoming) -> None:
        """Add an exchange. Raises Conflict when hM is there."""

    def find(self, exchange: bytes) -> Incoming | None:
        """Return an exchange, None when there is none."""

    def move(self, exchange: bytes, state: recipient.State, **more: str | bytes) -> None:
        """Set the state; and `sealed_share`, `ack` where they are given."""

    def in_states(self, states: Collection[recipient.State]) -> Sequence[bytes]:
        """Return the ids of exchanges that are in one of these states."""


class Jobs(Protocol):
    """What is to be done, and when. One job for each task and exchange."""

    def add(self, task: Task, exchange: bytes, due: int) -> None:
        """Have it done at `due`, or earlier if it is there already with an earlier time."""

    def take(self, now: int, lease: int) -> Job | None:
        """Take the job that is due longest, hide it from others for `lease` seconds and count the attempt.

        What is done in batches (anchors) isn't taken here.
        """

    def due(self, task: Task, now: int, limit: int) -> Sequence[Job]:
        """Return the jobs of one task that are due longest. They stay due: one worker alone asks for them."""

    def recover(self, now: int) -> None:
        """Make every job due that was tried before: at start, whoever took it is dead. Trying early is harmless."""

    def postpone(self, job: Job, due: int, reason: str) -> None:
        """Have a taken job done again at `due`."""

    def finish(self, task: Task, exchange: bytes) -> None:
        """Forget a job."""

    def next_due(self) -> int | None:
        """Return when the next job is due, None without jobs."""

    def waiting(self) -> Mapping[str, tuple[int, int]]:
        """Return how many jobs of each task there are, and how many of them failed before."""


class EvidenceRecords(Protocol):
    """Verified bundles, proofs of faults, alarms."""

    def add(self, evidence: Evidence) -> None:
        """Keep a bundle. The first one of an exchange stands."""

    def put(self, evidence: Evidence) -> None:
        """Keep a bundle in the place of the one that is there: a receipt in that of a token of no trade."""

    def find(self, exchange: bytes) -> Evidence | None:
        """Return the evidence of an exchange."""

    def add_fault(self, fault: SenderFault) -> None:
        """Keep the proof of a sender's fault. The first one of an exchange stands."""

    def find_fault(self, exchange: bytes) -> SenderFault | None:
        """Return the proof of a sender's fault."""

    def alarm(self, alarm: Alarm) -> None:
        """Keep an alarm. The same one again changes nothing."""

    def alarms(self, limit: int) -> Sequence[Alarm]:
        """Return the newest alarms."""

    def alarm_counts(self) -> Mapping[str, int]:
        """Return how many alarms of each kind there are."""


class DirectoryRecords(Protocol):
    """What was seen in the directory, and values that outlive the process."""

    def pin(self, address: str) -> Pin | None:
        """Return the pin of an address."""

    def set_pin(self, address: str, pin: Pin) -> None:
        """Pin a binding."""

    def listing(self, address: str) -> CachedListing | None:
        """Return the newest answer for an address."""

    def set_listing(self, address: str, listing: CachedListing) -> None:
        """Keep an answer."""

    def value(self, name: str) -> str | None:
        """Return a named value of the node (feed cursor, a TTP's record)."""

    def set_value(self, name: str, value: str) -> None:
        """Keep a named value."""


class Checkpoints(Protocol):
    """What was seen of ledgers (witness.md N1, N6)."""

    def newest(self, ttp: str) -> SeenCheckpoint | None:
        """Return the newest verified checkpoint of a TTP's log."""

    def all(self) -> Sequence[SeenCheckpoint]:
        """Return the newest checkpoint of every TTP's log."""

    def put(self, seen: SeenCheckpoint) -> None:
        """Make a checkpoint the newest of a TTP's log."""

    def show(self, shown: ShownCheckpoint) -> None:
        """Keep the checkpoint of a bundle until it is checked; 1000 at most, and each once."""

    def shown(self, origin: str, limit: int) -> Sequence[ShownCheckpoint]:
        """Return checkpoints of bundles that aren't checked yet, the smallest first."""

    def checked(self, shown: ShownCheckpoint) -> None:
        """Forget one that was checked."""


class Users(Protocol):
    """Mail users, their keys and bindings."""

    def add(self, user: User, keys: Collection[UserKey]) -> None:
        """Add a user with keys. Raises Conflict when the address is there."""

    def find(self, address: str) -> User | None:
        """Return a user."""

    def addresses(self) -> Sequence[str]:
        """Return all addresses, sorted."""

    def keys(self, address: str) -> Sequence[UserKey]:
        """Return the live keys of a user, one for each use."""

    def renew(self, key: UserKey) -> None:
        """Replace the certificate of a live key."""

    def binding(self, address: str) -> OwnBinding | None:
        """Return the current binding of a user."""

    def set_binding(self, binding: OwnBinding) -> None:
        """Keep a binding as the current one."""


class Unit(Protocol):
    """One transaction."""

    def mark(self, least: int = 0) -> None:
        """Count a step that a database from before it must not take back: something leaves after this commit."""

    def mark_of_database(self) -> int:
        """Return how many such steps the database knows."""

    @property
    def letters(self) -> Letters:
        """Accepted submissions."""

    @property
    def outgoing(self) -> OutgoingExchanges:
        """The sender's side."""

    @property
    def incoming(self) -> IncomingExchanges:
        """The recipient's side."""

    @property
    def jobs(self) -> Jobs:
        """What is to be done."""

    @property
    def evidence(self) -> EvidenceRecords:
        """Bundles, faults, alarms."""

    @property
    def directory(self) -> DirectoryRecords:
        """Pins, listings, named values."""

    @property
    def checkpoints(self) -> Checkpoints:
        """What was seen of ledgers."""

    @property
    def users(self) -> Users:
        """Users and their keys."""


class Store(Protocol):
    """Makes transactions. Raises Unavailable when the database is busy or gone."""

    def transaction(self) -> AbstractContextManager[Unit]:
        """Begin a transaction that is committed when the block ends and rolled back when it raises."""
