"""What the use cases need beside the database: witnesses, custody of keys, second copy, published head, clock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from shared.errors import Unavailable
from shared.evidence.composition import DoesNotOpen, Opened
from shared.evidence.manifest import Manifest
from shared.evidence.records import EscrowEpoch
from ttp_server.ports.store import Reading
from ttp_server.ports.values import EpochRow, WitnessReply


class Overtaken(Unavailable):
    """Witnesses have cosigned a tree of `size` entries, larger than the one they were shown: look again."""

    def __init__(self, size: int) -> None:
        super().__init__(f"witnesses have cosigned a checkpoint over {size} entries already")
        self.size = size


class Head(Protocol):
    """Where the newest published checkpoint is kept outside the database."""

    def newest(self) -> bytes | None:
        """Return the note that was published last, None before the first."""

    def remember(self, note: bytes) -> None:
        """Keep a note that is about to be published."""


class Archive(Protocol):
    """The second copy of entries and their bodies, outside the database."""

    def size(self) -> int:
        """Return how many entries are in it."""

    def copy(self, stored: Reading, size: int) -> None:
        """Copy the entries below a tree size that aren't in it yet. Durable when it returns."""


class Witnesses(Protocol):
    """Those who must have seen a checkpoint before anybody is answered under it (witness.md T1 to T6)."""

    def check_start(self, size: int) -> None:
        """Require that no witness has seen more than the `size` entries that are here.

        Raises ConfigurationError, or Unavailable when too few answer.
        """

    def check_clock(self) -> None:
        """Require that our clock is that of the witnesses. Raises Unavailable."""

    def check_parties(self, domains: Collection[str]) -> None:
        """Require that a quorum can be had without the parties' own witnesses. Raises Unavailable."""

    def cosign(
        self,
        size: int,
        note: bytes,
        prove: Callable[[int], tuple[bytes, ...]],
        parties: Collection[Sequence[str]] = (),
    ) -> bytes:
        """Return the note with a quorum's cosignatures. Raises Unavailable when there is none, or Overtaken.

        `prove` gives the consistency proof from an older size; `parties` are the mail domains of each exchange
        that waits for this.
        """

    def cosigned(self, size: int, note: bytes) -> bytes | None:
        """Return the note with the cosignatures that are stored, None below the quorum."""

    def enough(self, note: bytes, domains: Collection[str]) -> bool:
        """Whether a note has the quorum's cosignatures for an exchange between these domains."""


class WitnessClient(Protocol):
    """The way to witnesses."""

    def close(self) -> None:
        """Let go of connections."""

    def add_checkpoint(self, url: str, body: bytes) -> WitnessReply:
        """Ask the witness of this submission prefix. Raises Unavailable when there is no answer in time."""


class EpochRows(Protocol):
    """The table of escrow epochs. Each change is durable when it returns."""

    def all(self) -> list[EpochRow]:
        """Return all epochs in order, destroyed ones too."""

    def add(self, row: EpochRow) -> None:
        """Write a new epoch."""

    def destroyed(self, epoch: int, now: int) -> None:
        """Note that an epoch's private key is gone."""


class EscrowCustody(Protocol):
    """Keeper of the escrow keys. Their octets never leave it."""

    def epochs(self) -> tuple[EscrowEpoch, ...]:
        """Return the epochs that are offered."""

    def epoch(self, number: int) -> EscrowEpoch | None:
        """Return an epoch that was ever offered, also when its private key is destroyed."""

    def open(self, manifest: Manifest, escrow: bytes) -> Opened | DoesNotOpen:
        """Open E_T with the key that M names. Raises EvidenceFault, or OurFault if that key is gone."""


class Clock(Protocol):
    """Where time and randomness come from."""

    def now(self) -> int:
        """Return UTC seconds."""

    def random(self, octets: int) -> bytes:
        """Return fresh random octets."""

    def monotonic(self) -> float:
        """Return seconds that never jump, from any beginning."""
