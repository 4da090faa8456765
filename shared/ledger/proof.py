"""C2SP tlog-proof files (ledger.md L3, L4): that an entry stands in a log, in one text, checked offline.

    c2sp.org/tlog-proof@v1
    [extra <base64>]
    index <n>
    <base64 hash>            from the leaf's sibling to the root's child

    <signed checkpoint>

A path alone proves nothing: `verify` checks it against the root of a checkpoint whose signature it
has checked, and against no other. `extra` is authenticated by nobody.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from shared.errors import EvidenceFault, Malformed, TooLarge
from shared.ledger import merkle, note
from shared.ledger.checkpoint import VerifiedCheckpoint, decode_number, open_checkpoint
from shared.ledger.entry import MAX_ENTRY
from shared.ledger.note import VerifierKey

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF = 128 * 1024
MAX_EXTRA = 32 * 1024


@dataclass(frozen=True, slots=True)
class Proof:
    """A well-formed proof that nobody checked. `path` holds 32-octet hashes, `checkpoint` a note's octets."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        """Return the file's octets. Raises Malformed or TooLarge for what `decode` wouldn't take."""
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {note.encode_base64(self.extra)}")
        lines += [f"index {self.index}", *map(note.encode_base64, self.path), "", ""]
        data = "\n".join(lines).encode("ascii") + self.checkpoint
        if decode(data) != self:
            raise Malformed("the proof can't be written: an absent extra is None, not empty")
        return data


@dataclass(frozen=True, slots=True)
class VerifiedInclusion:
    """An entry stands at `index` in the log that signed `checkpoint`."""

    index: int
    checkpoint: VerifiedCheckpoint

    @property
    def witnessed(self) -> int:
        """How many known witnesses cosigned the checkpoint; 0 means "not witnessed", never "fine"."""
        return len(self.checkpoint.cosignatures)


def decode(data: bytes) -> Proof:
    """Parse a proof file, bounds first; the checkpoint must be a note. Raises Malformed; checks no signature."""
    if len(data) > MAX_PROOF:
        raise TooLarge(f"the proof has {len(data)} octets, at most {MAX_PROOF} are allowed")
    head, separator, checkpoint = data.partition(b"\n\n")
    if not separator:
        raise Malformed("the proof has no empty line before its checkpoint")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise Malformed("the proof isn't ASCII before its checkpoint") from error
    if lines.pop(0) != HEADER:
        raise Malformed(f"the proof doesn't begin with {HEADER}: another version or no proof")
    extra = _extra(lines.pop(0)) if lines and lines[0].startswith("extra ") else None
    if not lines or not lines[0].startswith("index "):
        raise Malformed("the proof doesn't say the entry's index")
    index = decode_number(lines.pop(0).removeprefix("index "), what="the index")
    if len(lines) > merkle.MAX_PATH:
        raise TooLarge(f"the proof has {len(lines)} hashes, at most {merkle.MAX_PATH} are possible")
    note.parse(checkpoint)
    return Proof(index, tuple(_hash(line) for line in lines), checkpoint, extra)


def verify(
    proof: Proof, entry: bytes, log_key: VerifierKey, witnesses: Collection[VerifierKey] = ()
) -> VerifiedInclusion:
    """Verify that the log of `log_key` holds the octets `entry` at the index that the proof says.

    Raises EvidenceFault at the first step that fails: `checkpoint.syntax`, `checkpoint.origin`,
    `checkpoint.signature`, `ledger.inclusion`. No number of witnesses is demanded here: the caller's
    policy compares `witnessed` with its quorum.
    """
    checkpoint = open_checkpoint(proof.checkpoint, log_key, witnesses)
    if len(entry) > MAX_ENTRY:
        raise EvidenceFault("ledger.inclusion", f"the entry has {len(entry)} octets, over {MAX_ENTRY}: in no log")
    leaf = merkle.leaf_hash(entry)
    merkle.verify_inclusion(leaf, proof.index, checkpoint.size, proof.path, checkpoint.root)
    return VerifiedInclusion(proof.index, checkpoint)


def _extra(line: str) -> bytes:
    extra = note.decode_base64(line.removeprefix("extra "), what="the extra data")
    if not 0 < len(extra) <= MAX_EXTRA:
        raise Malformed(f"the extra data has {len(extra)} octets, expected 1 to {MAX_EXTRA}, or no such line")
    return extra


def _hash(line: str) -> bytes:
    digest = note.decode_base64(line, what="a hash of the path")
    if len(digest) != merkle.HASH:
        raise Malformed(f"a hash of the path has {len(digest)} octets, expected {merkle.HASH}")
    return digest
