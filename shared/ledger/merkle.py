"""RFC 6962 Merkle trees: their hashes, and verifying proofs without the tree (ledger.md L1, L4).

What makes proofs (`tiles.py`) and the verifiers here share nothing but the two hash functions, so that one
mistake can't hide in both. Nothing here knows what an entry means or who signed a root.

The hashes are RFC 6962's own, with its 00 and 01 prefixes, so that strangers' tools can check them.
They are the one place besides shared/encoding/labels.py that calls SHA-256: they aren't labelled
protocol values, and their prefixes never begin a labelled frame ("SecMTP v1 …").
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from shared.errors import EvidenceFault

HASH = 32
MAX_SIZE = 2**63 - 1
MAX_PATH = 64
EMPTY_ROOT = hashlib.sha256().digest()
_NODE = b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry as a leaf: SHA-256(00 ‖ entry), 32 octets (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: SHA-256(01 ‖ left ‖ right), 32 octets (RFC 6962 §2.1)."""
    return hashlib.sha256(_NODE + left + right).digest()


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Verify that leaf hash `leaf` stands at `index` in the tree of `size` leaves under `root`.

    RFC 9162 §2.1.3.2. Raises EvidenceFault("ledger.inclusion"). It says nothing of who signed the root:
    take it from a `VerifiedCheckpoint` only.
    """
    step = "ledger.inclusion"
    _require(0 <= index < size <= MAX_SIZE, step, f"index {index} isn't inside a tree of {size} entries")
    _require_hashes((leaf, root, *path), step)
    position, last, computed = index, size - 1, leaf
    for sibling in path:  # at most 63 times: `last` halves
        _require(last > 0, step, "the path is longer than the tree is high")
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            position, last = _skip_missing(position, last)
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1
    _require(last == 0, step, "the path is shorter than the tree is high")
    _require(hmac.compare_digest(computed, root), step, f"the path of entry {index} doesn't lead to the root")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Verify that the tree (`new`, `new_root`) begins with all leaves of (`old`, `old_root`).

    RFC 9162 §2.1.4.2; from size 0, which is the first run (pass EMPTY_ROOT), and between equal sizes the
    proof must be empty. Raises EvidenceFault("ledger.consistency").
    """
    step = "ledger.consistency"
    _require(0 <= old <= new <= MAX_SIZE, step, f"a tree of {new} entries can't extend one of {old}")
    _require_hashes((old_root, new_root, *path), step)
    for size, root in ((old, old_root), (new, new_root)):
        _require(size > 0 or hmac.compare_digest(root, EMPTY_ROOT), step, "the root of size 0 isn't SHA-256 of nothing")
    if old in (0, new):
        _require(not path, step, "from size 0 and between equal sizes the proof is empty")
        _require(old == 0 or hmac.compare_digest(old_root, new_root), step, f"two roots for size {old}")
        return
    _require(len(path) > 0, step, f"the proof from size {old} to size {new} is empty")
    _extend(old, old_root, new, new_root, path)


def _extend(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Steps 2–7 of RFC 9162 §2.1.4.2, for 0 < old < new."""
    step = "ledger.consistency"
    whole = old & (old - 1) == 0  # then the old tree is one subtree of the new one, and its root isn't sent
    first, *rest = (old_root, *path) if whole else tuple(path)
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_computed = new_computed = first
    for sibling in rest:
        _require(last > 0, step, "the proof is longer than the tree is high")
        if position & 1 or position == last:
            old_computed, new_computed = node_hash(sibling, old_computed), node_hash(sibling, new_computed)
            position, last = _skip_missing(position, last)
        else:
            new_computed = node_hash(new_computed, sibling)
        position, last = position >> 1, last >> 1
    _require(last == 0, step, "the proof is shorter than the tree is high")
    _require(hmac.compare_digest(old_computed, old_root), step, f"the proof doesn't lead to the root of size {old}")
    _require(hmac.compare_digest(new_computed, new_root), step, f"the proof doesn't lead to the root of size {new}")


def _skip_missing(position: int, last: int) -> tuple[int, int]:
    """Climb to the level where a left sibling was hashed: on the right edge levels without one have no node."""
    while position and not position & 1:
        position, last = position >> 1, last >> 1
    return position, last


def _require_hashes(hashes: Sequence[bytes], step: str) -> None:
    _require(all(len(digest) == HASH for digest in hashes), step, f"a hash hasn't {HASH} octets")


def _require(condition: bool, step: str, message: str) -> None:  # noqa: FBT001  (reads as the sentence it is)
    if not condition:
        raise EvidenceFault(step, message)
