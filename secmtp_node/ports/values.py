"""The durable values of a node: letters, exchanges of both directions, jobs, evidence, users.

They are what the store holds and the use cases decide on. Times are UTC seconds, digests and ids 32
octets. Nothing here is secret in the clear: `sealed_secret` opens only with the node's master key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from shared.crypto.keys import HpkePublicKey
from shared.evidence.bundle import AnyBundle
from shared.evidence.composition import Sealed
from shared.evidence.manifest import Manifest
from shared.exchange import recipient, sender


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A whole file beside the database: its name, the plain SHA-256 and the number of its octets."""

    name: str
    digest: bytes
    octets: int


@dataclass(frozen=True, slots=True)
class Letter:
    """One accepted submission. `reports` is where reports go, None for a null reverse path.

    `headers` is the head of the content, bounded and sealed at rest, for reports to the sender.
    `fingerprint` is a keyed digest of login, envelope and octets, by which a repetition is recognised.
    """

    id: bytes
    login: str
    reports: str | None
    accepted: int
    fingerprint: bytes
    headers: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The sender's side of one exchange. In offline mode it keeps s_T and its ABORT, sealed, and what R signed."""

    exchange: bytes
    letter: bytes
    state: sender.State
    manifest: Manifest
    nro: str
    sealed: Sealed
    sealed_secret: bytes = field(repr=False)
    ciphertext: StoredFile
    reply: str = ""
    sealed_share: bytes = field(default=b"", repr=False)
    sealed_abort: bytes = field(default=b"", repr=False)
    nrr: str = ""
    ack: str = ""

    @property
    def recipient(self) -> str:
        """The address that the exchange is with."""
        return self.manifest.core.recipient.address


@dataclass(frozen=True, slots=True)
class Incoming:
    """The recipient's side of one exchange. `peer` says who brought the envelope, in words.

    `sealed_share` is s_T that came directly, sealed; with an NRD it stands in the evidence.
    """

    exchange: bytes
    state: recipient.State
    manifest: Manifest
    nro: str
    nrr: str
    sealed: Sealed
    sealed_secret: bytes = field(repr=False)
    ciphertext: StoredFile
    accepted: int
    peer: str = ""
    sealed_share: bytes = field(default=b"", repr=False)
    ack: str = ""

    @property
    def recipient(self) -> str:
        """The address that the exchange is with."""
        return self.manifest.core.recipient.address


class Task(StrEnum):
    """What a job does to one exchange. Doing it twice does no harm."""

    CARRY = "carry the envelope to the peer"
    STATUS = "ask the TTP for the outcome"
    REPORT_RECEIPT = "report the receipt"
    REPORT_FAILURE = "report the failure"
    TRADE = "trade at the TTP"
    DELIVER = "open and deliver"
    SETTLE = "settle a direct exchange"
    BRING = "bring the ACK to the sender's node"
    ANCHOR = "anchor what was exchanged directly"


@dataclass(frozen=True, slots=True)
class Job:
    """One task on one exchange, due at a time. `attempts` counts the ones begun before this one."""

    task: Task
    exchange: bytes
    due: int
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """A verified bundle as it is kept: without openings."""

    bundle: AnyBundle
    outcome: str
    time: int


@dataclass(frozen=True, slots=True)
class SenderFault:
    """The proof that a sender made a letter nobody can read (evidence.md section 6).

    `proof` is the bundle with its openings, sealed at rest: with the ciphertext's file it shows that the
    commitments open and decryption fails.
    """

    exchange: bytes
    step: str
    proof: bytes = field(repr=False)
    time: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that an operator must look at; `data` is kept as it came."""

    kind: str
    exchange: bytes | None
    reason: str
    data: bytes = field(repr=False)
    time: int


@dataclass(frozen=True, slots=True)
class SeenCheckpoint:
    """The newest verified checkpoint of a TTP's log: the note, with this node's cosignature if it gave one.

    `brought`: the TTP has the cosignature, or there is none to bring. `time` is when it was seen. `behind` is
    since when the log shows less, 0 if it doesn't; `stopped` why no new trades are made there, empty if they are.
    """

    ttp: str
    origin: str
    size: int
    note: bytes = field(repr=False)
    brought: bool
    time: int
    behind: int = 0
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class ShownCheckpoint:
    """The checkpoint of a bundle, and when the bundle came. It isn't compared with the log yet."""

    origin: str
    size: int
    note: bytes = field(repr=False)
    time: int


@dataclass(frozen=True, slots=True)
class Pin:
    """The newest binding of an address that was used: its digest, and a digest of the keys it binds."""

    digest: bytes
    keys: bytes


@dataclass(frozen=True, slots=True)
class CachedListing:
    """What the directory answered for an address, and when."""

    binding: str
    domain: str
    fetched: int


@dataclass(frozen=True, slots=True)
class Verifier:
    """A SCRAM-SHA-256 verifier (RFC 5802 §2.2): what a server keeps of a password."""

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class User:
    """A mail user of this node. `delegated`: the node may sign receipts on delivery."""

    address: str
    verifier: Verifier
    delegated: bool
    created: int


class KeyUse(StrEnum):
    """The three keys of a user; no key has two uses."""

    ORIGIN = "origin"
    RECEIPT = "receipt"
    HPKE = "hpke"


@dataclass(frozen=True, slots=True)
class UserKey:
    """One key of a user, private half wrapped. `certificate` is DER, empty for HPKE keys.

    `by_login` opens only with the user's ClientKey; `by_node` with the master key, None without delegation.
    """

    address: str
    use: KeyUse
    version: int
    key_id: bytes
    public: HpkePublicKey | None
    certificate: bytes
    by_login: bytes = field(repr=False)
    by_node: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class OwnBinding:
    """The current binding of an own user, and whether the TTP has it."""

    address: str
    compact: str
    digest: bytes
    issued: int
    published: bool
