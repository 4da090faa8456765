"""The node's surroundings besides the store: files, keys, the TTP, the way to a peer, mailboxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secmtp_node.ports.values import StoredFile, UserKey, Verifier
from shared.api.messages import (
    AbortRequest,
    CompleteRequest,
    Cosignature,
    Enrolment,
    FeedPage,
    Listing,
    RefuseRequest,
    StatusRequest,
)
from shared.api.verbs import Answer, Verb
from shared.crypto.keys import HpkePrivateKey
from shared.evidence.anchored import Lodged
from shared.evidence.bundle import AnyBundle, Bundle
from shared.evidence.refusal import RefusalFile
from shared.ledger.anchor import Batch

Clock = Callable[[], int]
Draw = Callable[[int], bytes]


class Files(Protocol):
    """Large octets beside the database. A file is durable when `write` returns; a row names it afterwards."""

    def write(self, pieces: Iterable[bytes]) -> StoredFile:
        """Write a new file and make it durable (file and folder fsynced)."""

    def read(self, file: StoredFile) -> Iterator[bytes]:
        """Yield the octets in pieces. Raises Unavailable when the file isn't there."""

    def discard(self, file: StoredFile) -> None:
        """Remove a file that no row names."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submitted message: its content (the octets without top-level Bcc fields) and what is known of it.

    `content` gives the octets anew each time it is called; `digest` is their SHA-256. `visible` holds the
    addresses in To and Cc, as far as they can be read; `headers` is the bounded head of the content; `mode` is
    what the message asks for, or empty.
    """

    content: Callable[[], Iterable[bytes]]
    octets: int
    digest: bytes
    visible: frozenset[str]
    headers: bytes = field(repr=False)
    mode: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """A user who proved the password. `client_key` opens the origin key and lives as long as the session."""

    address: str
    client_key: bytes = field(repr=False)


class AtRest(Protocol):
    """Seals short secrets in the database under the master key, which isn't in the database."""

    def seal(self, secret: bytes, what: str, about: bytes) -> bytes:
        """Seal a secret; `what` and `about` must be the same to open it."""

    def open(self, sealed: bytes, what: str, about: bytes) -> bytes:
        """Open what `seal` gave. Raises ConfigurationError under another master key."""

    def fingerprint(self, *parts: bytes) -> bytes:
        """Return a keyed digest: 32 octets that tell nothing without the master key."""


@dataclass(frozen=True, slots=True)
class SigningPair:
    """A private key that signs tokens, and its chain (DER, leaf first, without the root)."""

    key: Ed25519PrivateKey = field(repr=False)
    chain: tuple[bytes, ...]


class Vault(Protocol):
    """Opens users' keys. What only the login opens can't be opened with anything the node stores."""

    def origin(self, key: UserKey, client_key: bytes) -> SigningPair:
        """Open an origin key with the ClientKey that a login yielded."""

    def receipt(self, key: UserKey) -> SigningPair:
        """Open a delegated receipt key. Raises Forbidden without delegation."""

    def hpke(self, key: UserKey) -> HpkePrivateKey:
        """Open a delegated HPKE key. Raises Forbidden without delegation."""


class Passwords(Protocol):
    """Checks passwords and SCRAM proofs against verifiers, at the same cost for unknown users."""

    def fake(self, address: str) -> Verifier:
        """Return the verifier of an unknown address: always the same one, fitting no password."""

    def by_password(self, password: str, verifier: Verifier) -> bytes | None:
        """Return the ClientKey of a right password."""

    def by_proof(self, proof: bytes, auth_message: bytes, verifier: Verifier) -> bytes | None:
        """Return the ClientKey of a right SCRAM proof (RFC 5802 §3)."""

    def answer(self, auth_message: bytes, verifier: Verifier) -> bytes:
        """Return the ServerSignature."""


class TTP(Protocol):
    """A TTP's HTTP API. Raises Unavailable for whatever may work later, else the fault that it answered."""

    @property
    def name(self) -> str:
        """The TTP's name, which is in its certificates and in manifests."""

    def record(self) -> str:
        """Return its signed record."""

    def enrol(self, enrolment: Enrolment) -> None:
        """Enrol this node."""

    def put_domain(self, token: str) -> None:
        """Publish a domain record."""

    def put_binding(self, token: str) -> None:
        """Publish a key binding."""

    def look_up(self, address: str) -> Listing:
        """Return the binding and domain record of an address. Raises NotFound."""

    def complete(self, request: CompleteRequest) -> Bundle:
        """Trade; the answer may also be EXPIRED or INVALID."""

    def abort(self, request: AbortRequest) -> Bundle:
        """Abort; the answer may be any outcome, a receipt too."""

    def refuse(self, request: RefuseRequest) -> Bundle | RefusalFile:
        """Lodge the recipient's refusal; the answer is the one that is stored, or the outcome."""

    def anchor(self, batch: Batch) -> Lodged:
        """Anchor digests. The answer is unverified, as every answer."""

    def status(self, request: StatusRequest) -> Bundle | RefusalFile:
        """Return the outcome, or a refusal. Raises NotFound while there is none, which is no evidence."""

    def checkpoint(self) -> bytes:
        """Return the newest checkpoint that the ledger shows: a note's octets."""

    def consistency(self, old: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that the ledger of `size` entries continues that of `old`."""

    def put_cosignature(self, cosignature: Cosignature) -> None:
        """Bring this node's cosignature of a checkpoint."""

    def feed(self, cursor: int, wait: int) -> FeedPage:
        """Return what happened after `cursor`; waits up to `wait` seconds for the first item."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Where to bring envelopes for a mail domain."""

    domain: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is brought to a peer. `ciphertext` gives the octets anew each time it is called."""

    exchange: bytes
    sender: str
    recipient: str
    head: bytes
    ciphertext: Callable[[], Iterable[bytes]]
    octets: int
    date: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The peer answered 250: it has the envelope."""

    reply: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The peer answered 5yz: the same envelope won't be taken later either."""

    reply: str


class PeerSession(Protocol):
    """One connection with a peer. Each call raises Unavailable for 4yz to mail, no reply, or what is no answer."""

    @property
    def direct(self) -> bool:
        """Whether the peer offers the verbs of the direct exchange."""

    def carry(self, envelope: Envelope) -> Stored | Rejected:
        """Bring one envelope."""

    def ask(self, verb: Verb, exchange: bytes, share: bytes | None = None) -> Answer:
        """Ask for an NRR, or give s_T for an ACK (offline.md V1, V2)."""

    def bring(self, verb: Verb, exchange: bytes, token: str) -> Answer:
        """Bring an NRR or an ACK (offline.md V3, V4)."""


class Carrier(Protocol):
    """Talks to peers over SMTP and TLS with certificates on both sides."""

    def carry(self, peer: Peer, envelope: Envelope) -> Stored | Rejected:
        """Bring one envelope, and nothing else. Raises Unavailable for 4yz, no connection or no reply."""

    def open(self, peer: Peer) -> AbstractContextManager[PeerSession]:
        """Open a session; it ends with the block. Raises Unavailable, also for what breaks inside the block."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message for a mailbox; `name` decides the file name, so that a repetition is seen."""

    address: str
    name: str
    pieces: Iterable[bytes]


class Mailboxes(Protocol):
    """Users' mailboxes. A message is visible in whole or not at all."""

    def deliver(self, delivery: Delivery) -> None:
        """Put a message into a mailbox, once for each name. What `pieces` raises leaves nothing visible."""


@dataclass(frozen=True, slots=True)
class Report:
    """Facts of a report to a sender. `bundle` is set for a receipt, or for a failure proven by a token."""

    exchange: bytes
    sender: str
    recipient: str
    outcome: str
    reason: str
    accepted: int
    time: int
    bundle: AnyBundle | None
    headers: bytes


class Reports(Protocol):
    """Writes reports as messages."""

    def receipt(self, report: Report) -> Iterable[bytes]:
        """Return the multipart/report of a receipt, with the bundle attached."""

    def failure(self, report: Report) -> Iterable[bytes]:
        """Return the delivery status notification of a failure (RFC 3464)."""


class Events(Protocol):
    """Tells operators. Nothing secret and no message content is ever handed in."""

    def __call__(self, event: str, **facts: object) -> None:
        """Log an event."""
