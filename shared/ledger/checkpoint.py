"""Checkpoints (ledger.md L2, c2sp.org/tlog-checkpoint): what a log signs of itself, and what two of them prove.

Strict: exactly the three lines origin, size, root. Extension lines are refused, because nobody audits
them and nothing of ours would read them.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import ConfigurationError, EvidenceFault, Malformed
from shared.ledger import merkle, note
from shared.ledger.note import KeyType, Note, VerifiedSignature, VerifierKey

_LINES = 4  # three, and the nothing behind the last line end
_MAX_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Origin (the log's name), number of entries, RFC 6962 root (32 octets). Nobody's word yet."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        note.require_name(self.origin)
        if not 0 <= self.size <= merkle.MAX_SIZE:
            raise Malformed(f"a checkpoint can't have the size {self.size}")
        if len(self.root) != merkle.HASH:
            raise Malformed(f"the root of a checkpoint has {len(self.root)} octets, expected {merkle.HASH}")
        if self.size == 0 and not hmac.compare_digest(self.root, merkle.EMPTY_ROOT):
            raise Malformed("the root of an empty log isn't SHA-256 of nothing")

    def encode(self) -> str:
        """Return the note's text: three lines, each with its line end."""
        return f"{self.origin}\n{self.size}\n{note.encode_base64(self.root)}\n"


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint that its log signed. `signed` are the note's octets, to be kept: two may prove a fork.

    `cosignatures` are those of known witnesses, one a key, the log's own key never among them.
    """

    checkpoint: Checkpoint
    signed: bytes
    cosignatures: tuple[VerifiedSignature, ...]

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.checkpoint.origin

    @property
    def size(self) -> int:
        """The number of entries."""
        return self.checkpoint.size

    @property
    def root(self) -> bytes:
        """The root over them: 32 octets."""
        return self.checkpoint.root


class Fork(EvidenceFault):
    """The log signed two roots for one size. Both notes are the proof: keep them and raise the alarm."""

    def __init__(self, first: VerifiedCheckpoint, second: VerifiedCheckpoint) -> None:
        super().__init__("ledger.fork", f"{first.origin} signed two roots for size {first.size}")
        self.first = first
        self.second = second


def decode(text: str) -> Checkpoint:
    """Parse a checkpoint's text, only in the form that `Checkpoint.encode` gives. Raises Malformed."""
    lines = text.split("\n")
    if len(lines) != _LINES or lines[-1]:
        raise Malformed("a checkpoint isn't the three lines origin, size and root")
    origin, size, root, _ = lines
    return Checkpoint(origin, decode_number(size, what="the size"), note.decode_base64(root, what="the root"))


def decode_number(text: str, *, what: str) -> int:
    """Parse an ASCII decimal below 2^63 without leading zeros, as C2SP formats have it. Raises Malformed."""
    # int() alone would take blanks, signs, underscores and the digits of other scripts.
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS) or str(int(text)) != text:
        raise Malformed(f"{what} isn't a decimal number without leading zeros")
    if int(text) > merkle.MAX_SIZE:
        raise Malformed(f"{what} is over 2^63 − 1")
    return int(text)


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> bytes:
    """Sign under the origin as key name and return the note's octets. Deterministic.

    The caller has recomputed the root and holds the lock on the last signed checkpoint: a log that signs
    two trees for one size can't take it back.
    """
    text = checkpoint.encode()
    return Note(text, (note.sign(text, checkpoint.origin, key),)).encode()


def open_checkpoint(data: bytes, log_key: VerifierKey, witnesses: Collection[VerifierKey] = ()) -> VerifiedCheckpoint:
    """Verify a signed checkpoint: its form, that it is this log's, its signature, and known witnesses'.

    Raises EvidenceFault `checkpoint.syntax`, `checkpoint.origin` or `checkpoint.signature`, in this order;
    unknown signers are ignored, a bad line of a known one refuses the whole. Raises ConfigurationError
    when a key is given for a use that isn't its own.
    """
    _require_uses(log_key, witnesses)
    try:
        parsed = note.parse(data)
        checkpoint = decode(parsed.text)
    except Malformed as error:
        raise EvidenceFault("checkpoint.syntax", error.message) from error
    if checkpoint.origin != log_key.name:
        message = f"the checkpoint is of the log {checkpoint.origin!r}, expected {log_key.name!r}"
        raise EvidenceFault("checkpoint.origin", message)
    verified = note.verify(parsed, {log_key, *witnesses}, step="checkpoint.signature")
    if log_key not in {signature.key for signature in verified.signatures}:
        raise EvidenceFault("checkpoint.signature", f"the log {log_key.name} itself didn't sign the checkpoint")
    return VerifiedCheckpoint(checkpoint, data, _cosignatures(verified.signatures, log_key))


def check_extension(older: VerifiedCheckpoint, newer: VerifiedCheckpoint, path: Sequence[bytes]) -> None:
    """Verify that a log only grew between two of its checkpoints; `path` is the consistency proof.

    Raises Fork when both have one size and two roots, else EvidenceFault `checkpoint.origin` or
    `ledger.consistency`: a proof that fails may be the messenger's fault, a fork is the log's.
    """
    if older.origin != newer.origin:
        raise EvidenceFault("checkpoint.origin", f"{newer.origin} is another log than {older.origin}")
    if older.size == newer.size and not hmac.compare_digest(older.root, newer.root):
        raise Fork(older, newer)
    merkle.verify_consistency(older.size, older.root, newer.size, newer.root, path)


def _require_uses(log_key: VerifierKey, witnesses: Collection[VerifierKey]) -> None:
    if log_key.type is not KeyType.LOG:
        raise ConfigurationError(f"the key of {log_key.name} is a witness's, expected a log's (type 01)")
    for witness in witnesses:
        if witness.type is not KeyType.COSIGNATURE:
            raise ConfigurationError(f"the key of {witness.name} is a log's, expected a witness's (type 04)")


def _cosignatures(signatures: Sequence[VerifiedSignature], log_key: VerifierKey) -> tuple[VerifiedSignature, ...]:
    """Keep one line a public key: a cosignature doesn't hold its signer's name, so a second name costs nothing."""
    by_public: dict[bytes, VerifiedSignature] = {}
    for signature in signatures:
        if signature.key.public != log_key.public:
            by_public.setdefault(signature.key.public, signature)
    return tuple(by_public.values())
