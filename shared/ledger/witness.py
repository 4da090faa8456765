"""C2SP tlog-witness (witness.md W1 to W5): what a log sends to a witness, and how the witness decides.

Pure: the caller holds the lock on the witness's state, stores the new one, and only then answers.
`decide` never cosigns a checkpoint that doesn't extend the newest one it cosigned of that log.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import EvidenceFault, Malformed, TooLarge
from shared.ledger import merkle, note
from shared.ledger.checkpoint import Checkpoint, decode_number
from shared.ledger.note import KeyType, Note, Signature, VerifiedSignature, VerifierKey

MAX_PATH = 63
MAX_REQUEST = note.MAX_NOTE + 4096
_FIRST = 3  # origin, size, root; what stands behind them is the log's own business


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """The body of add-checkpoint. Unverified: `checkpoint` is a note's octets, `path` proves that it extends `old`."""

    old: int
    path: tuple[bytes, ...]
    checkpoint: bytes

    def encode(self) -> bytes:
        """Return the body's octets. Raises Malformed for what `decode` wouldn't take."""
        lines = [f"old {self.old}", *map(note.encode_base64, self.path), "", ""]
        data = "\n".join(lines).encode("ascii") + self.checkpoint
        if decode(data) != self:
            raise Malformed("the request can't be written: at most 63 hashes, and a note")
        return data


@dataclass(frozen=True, slots=True)
class Witnessed:
    """The newest checkpoint that a witness cosigned of a log. `note` has the log's signatures and its own."""

    checkpoint: Checkpoint
    note: bytes


@dataclass(frozen=True, slots=True)
class Signer:
    """A witness's name and its key, which signs nothing else."""

    name: str
    key: Ed25519PrivateKey = field(repr=False)

    @property
    def verifier(self) -> VerifierKey:
        """What others check its cosignatures with."""
        return note.verifier_key(self.name, KeyType.COSIGNATURE, self.key.public_key())


@dataclass(frozen=True, slots=True)
class Cosigned:
    """200: `line` is the cosignature."""

    line: bytes


@dataclass(frozen=True, slots=True)
class Stale:
    """409: the log named another old size than `size`, the newest that was cosigned. It asks again with that."""

    size: int


@dataclass(frozen=True, slots=True)
class Refused:
    """400, 403, 404, 422 or 503, and why."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to store (None: nothing of this log yet), what to answer then, and two notes that prove a fork, if any."""

    state: Witnessed | None
    answer: Cosigned | Stale | Refused
    fork: tuple[bytes, bytes] | None = None


def decode(data: bytes) -> AddCheckpoint:
    """Parse the body of add-checkpoint, bounds first. Raises Malformed or TooLarge (400); checks no signature."""
    if len(data) > MAX_REQUEST:
        raise TooLarge(f"the request has {len(data)} octets, at most {MAX_REQUEST} are allowed")
    head, separator, checkpoint = data.partition(b"\n\n")
    if not separator or not head.isascii():
        raise Malformed("the request isn't an old size, hashes, an empty line and a checkpoint")
    first, *lines = head.decode("ascii").split("\n")
    if not first.startswith("old "):
        raise Malformed("the request doesn't begin with the old size")
    if len(lines) > MAX_PATH:
        raise TooLarge(f"the request has {len(lines)} hashes, at most {MAX_PATH} are possible")
    note.parse(checkpoint)
    return AddCheckpoint(decode_number(first[4:], what="the old size"), tuple(map(_hash, lines)), checkpoint)


def decode_state(octets: bytes) -> Witnessed:
    """Read a witness's own stored note again. Raises Malformed."""
    return Witnessed(_head(note.parse(octets).text), octets)


def decide(
    state: Witnessed | None, request: AddCheckpoint, logs: Collection[VerifierKey], signer: Signer, now: int
) -> Decision:
    """Decide on a request: the new state and the answer (W2). `state` is the newest of this log.

    `logs` are the keys of all logs that this witness knows; `now` is UTC seconds, over 0. The caller stores
    the state durably, under the lock under which it read it, before the answer leaves (W3).
    """
    parsed = note.parse(request.checkpoint)
    origin = origin_of(request)
    known = {key for key in logs if key.name == origin}
    if not known:
        return Decision(state, Refused(404, f"this witness doesn't know the log {origin!r}"))
    try:
        signed = note.verify(parsed, known, step="checkpoint.signature")
        checkpoint = _head(parsed.text)
    except EvidenceFault as fault:
        return Decision(state, Refused(403, fault.reason))
    except Malformed as error:
        return Decision(state, Refused(400, error.message))
    fork = _fork(state, checkpoint, request.checkpoint)
    refusal = _refusal(state, checkpoint, request)
    if refusal is None and state is not None and now < _last_time(state, signer):
        # Its cosignatures say which tree was the largest at a time: they must not contradict each other.
        refusal = Refused(503, "this witness's clock is before its last cosignature")
    if refusal is not None:
        return Decision(state, refusal, fork)
    line = note.cosign(parsed.text, signer.name, signer.key, max(now, 1))
    own = {(signature.key.name, signature.key.key_id) for signature in signed.signatures}
    lines = dict.fromkeys(one for one in parsed.signatures if (one.name, one.key_id) in own)
    kept = Note(parsed.text, (*lines, line)).encode()
    return Decision(Witnessed(checkpoint, kept), Cosigned(line.encode().encode("utf-8")))


def origin_of(request: AddCheckpoint) -> str:
    """Return the log that the request says it is of: under which the state is kept."""
    return note.parse(request.checkpoint).text.partition("\n")[0]


def origin_hash(origin: str) -> str:
    """Return the name under which a witness serves a log's newest checkpoint: hex of SHA-256 of the origin (W5)."""
    # C2SP's own hash, not a labelled protocol value.
    return hashlib.sha256(origin.encode("utf-8")).hexdigest()


def decode_size(body: bytes) -> int:
    """Parse the body of a 409: the size that a witness cosigned last. Raises Malformed."""
    text = body[:32].decode("ascii", "replace")
    if not text.endswith("\n"):
        raise Malformed("the answer isn't a size and a line end")
    return decode_number(text[:-1], what="the size that a witness answered")


def find_cosignature(octets: bytes, body: bytes, key: VerifierKey) -> tuple[Signature, VerifiedSignature]:
    """Find a witness's line in the body of a 200 and verify it over the checkpoint that was sent (W2).

    Lines of other keys are ignored. Raises Malformed, or EvidenceFault `witness.cosignature`.
    """
    if len(body) > note.MAX_NOTE or not body.endswith(b"\n"):
        raise Malformed("the answer isn't signature lines")
    try:
        lines = [note.parse_line(line + "\n") for line in body.decode("utf-8").split("\n")[:-1]]
    except UnicodeDecodeError as error:
        raise Malformed("the answer isn't UTF-8") from error
    own = tuple(line for line in lines if (line.name, line.key_id) == (key.name, key.key_id))[:1]
    verified = note.verify(Note(note.parse(octets).text, own), {key}, step="witness.cosignature")
    return own[0], verified.signatures[0]


def _last_time(state: Witnessed, signer: Signer) -> int:
    """Return the time of the witness's own cosignature, 0 if there is none."""
    own = signer.name, signer.verifier.key_id
    lines = (line for line in note.parse(state.note).signatures if (line.name, line.key_id) == own)
    return max((note.time_of(line) for line in lines), default=0)


def _refusal(state: Witnessed | None, checkpoint: Checkpoint, request: AddCheckpoint) -> Refused | Stale | None:
    """The checks of tlog-witness behind the signature, in the order in which its text has them."""
    if request.old > checkpoint.size:
        return Refused(400, f"the old size {request.old} is over the checkpoint's, {checkpoint.size}")
    size = 0 if state is None else state.checkpoint.size
    if request.old != size:
        return Stale(size)
    root = merkle.EMPTY_ROOT if state is None else state.checkpoint.root
    try:
        merkle.verify_consistency(size, root, checkpoint.size, checkpoint.root, request.path)
    except EvidenceFault as fault:
        return Refused(422, fault.reason)
    return None


def _fork(state: Witnessed | None, checkpoint: Checkpoint, octets: bytes) -> tuple[bytes, bytes] | None:
    """Two roots for one size, both signed by the log: proof for everybody, whatever old size was named."""
    if state is None or state.checkpoint.size != checkpoint.size:
        return None
    same = hmac.compare_digest(state.checkpoint.root, checkpoint.root)
    return None if same else (state.note, octets)


@dataclass(frozen=True, slots=True)
class _Head(Checkpoint):
    """A checkpoint of a stranger's log. An empty one with a wrong root is for the checks to refuse: 422, not 400."""

    def __post_init__(self) -> None:
        if len(self.root) != merkle.HASH:
            raise Malformed(f"the root of a checkpoint has {len(self.root)} octets, expected {merkle.HASH}")


def _head(text: str) -> Checkpoint:
    lines = text.split("\n")[:-1]
    if len(lines) < _FIRST:
        raise Malformed("a checkpoint begins with three lines: origin, size and root")
    root = note.decode_base64(lines[2], what="the root")
    return _Head(lines[0], decode_number(lines[1], what="the size"), root)


def _hash(line: str) -> bytes:
    digest = note.decode_base64(line, what="a hash of the consistency proof")
    if len(digest) != merkle.HASH:
        raise Malformed(f"a hash of the consistency proof has {len(digest)} octets, expected {merkle.HASH}")
    return digest
