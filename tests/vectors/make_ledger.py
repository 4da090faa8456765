"""Makes ledger/ledger.json: entries, tiles, bundles, checkpoints, proofs and anchors, good ones and wrong ones.

    python -m tests.vectors.make_ledger > tests/vectors/ledger/ledger.json

Everything is fixed, so it gives the same octets again; tests/shared/ledger/test_ledger_vectors.py compares, and
tests/interop has others verify what it made.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.encoding.labels import H, blob_digest
from shared.ledger import anchor, note, tiles
from shared.ledger import entry as codec
from shared.ledger.checkpoint import Checkpoint, sign_checkpoint
from shared.ledger.entry import BindingEntry, Entry, ExchangeEntry, KeyEntry, RevocationEntry, body_digest
from shared.ledger.merkle import HASH, leaf_hash
from shared.ledger.note import KeyType, verifier_key
from shared.ledger.proof import Proof
from shared.ledger.tiles import ENTRIES, WIDTH, TileName

ORIGIN, WITNESS = "ttp.example/ledger", "witness.example/w1"
LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WITNESS_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
TIME = 1_764_000_000
SIZE = 600
SALT = bytes(range(64, 96))
DIGESTS = [H("token", bytes([number])) for number in range(7)]

Vectors = dict[str, Any]


def octets(number: int) -> bytes:
    """Return 32 octets that are all this number."""
    return bytes([number]) * 32


def samples() -> list[Entry]:
    """Return an entry of each kind, and of each outcome."""
    binding, key = b"binding token", octets(5)
    return [
        ExchangeEntry(octets(1), "COMPLETED", codec.mask(octets(2), octets(3), octets(1)), octets(4), TIME),
        *(ExchangeEntry(octets(10 + at), name, None, octets(4), TIME + at) for at, name in enumerate(REFUSALS, 1)),
        BindingEntry(H("binding", SALT, H("token", binding)), body_digest(SALT, binding), TIME + 4),
        RevocationEntry(H("revocation", SALT, key), key, TIME + 259_205, body_digest(SALT, b"revocation"), TIME + 5),
        anchor.batch(DIGESTS).entry(SALT, TIME + 6),
        KeyEntry(key, "escrow", "introduced", body_digest(SALT, b"{}"), TIME + 7),
    ]


REFUSALS = ("EXPIRED", "INVALID", "ABORTED")


class Log:
    """The log that the vectors are of: the samples, then `entry 8`, `entry 9` and so on, which are no entries."""

    def __init__(self) -> None:
        first = [codec.encode(entry) for entry in samples()]
        self.entries = [*first, *(f"entry {number}".encode() for number in range(len(first), SIZE))]
        extended = tiles.Edge().extend(map(leaf_hash, self.entries))
        self.edge = extended.edge
        self.full = {(tile.level, tile.number): tile.hashes for tile in extended.tiles}

    def read(self, level: int, number: int, width: int) -> bytes:
        """Read a tile, or the first hashes of it."""
        hashes = self.edge.read(level, number, width)
        return self.full[level, number][: width * HASH] if hashes is None else hashes

    def octets(self, name: TileName) -> bytes:
        """Return what is served at a tile's path."""
        if name.level == ENTRIES:
            first = name.number * WIDTH
            return tiles.encode_entries(self.entries[first : first + name.width])
        return self.read(*name)

    def checkpoint(self, size: int, origin: str = ORIGIN) -> bytes:
        """Return the checkpoint of a size, cosigned by the witness."""
        signed = sign_checkpoint(Checkpoint(origin, size, tiles.root_at(size, self.read)), LOG_KEY)
        text = note.parse(signed).text
        return signed + note.cosign(text, WITNESS, WITNESS_KEY, TIME + size).encode().encode()

    def proof(self, index: int, size: int) -> Proof:
        """Return the proof of an entry."""
        return Proof(index, tiles.inclusion(index, size, self.read), self.checkpoint(size))


def vectors() -> Vectors:
    """Return all of them."""
    log = Log()
    return {
        "origin": ORIGIN,
        "log": key_of(LOG_KEY, ORIGIN, KeyType.LOG),
        "witness": key_of(WITNESS_KEY, WITNESS, KeyType.COSIGNATURE),
        "entries": [described(entry) for entry in samples()],
        "mask": {"share": octets(2).hex(), "nonce": octets(3).hex(), "exchange": octets(1).hex()},
        "roots": {size: tiles.root_at(size, log.read).hex() for size in SIZES},
        "paths": {tiles.path(*name): list(name) for name in NAMES},
        "tiles": [served(log, name) for name in SERVED],
        "checkpoints": {size: log.checkpoint(size).decode() for size in (0, 1, 8, 256, SIZE)},
        "inclusion": [inclusion(log, index, size) for index, size in INCLUSIONS],
        "consistency": [
            {"old": old, "new": new, "path": [one.hex() for one in tiles.consistency(old, new, log.read)]}
            for old, new in CONSISTENCIES
        ],
        "anchor": anchored(),
        "refused": {**refused_notes(log), **refused_proofs(log), **refused_entries(), **refused_tiles()},
    }


SIZES = (0, 1, 2, 3, 8, 255, 256, 257, 511, 512, 513, SIZE)
INCLUSIONS = ((0, 1), (0, 8), (7, 8), (0, 255), (255, 256), (256, 257), (100, SIZE), (512, SIZE), (599, SIZE))
CONSISTENCIES = (
    (0, 8),
    (1, 8),
    (8, 8),
    (3, 7),
    (8, 256),
    (255, 257),
    (256, SIZE),
    (257, SIZE),
    (511, SIZE),
    (512, SIZE),
)
NAMES = (
    TileName(0, 0),
    TileName(0, 1_234_067),
    TileName(1, 999, 17),
    TileName(63, 1000, 255),
    TileName(ENTRIES, 0, 1),
    TileName(ENTRIES, 2**63 - 1),
)
SERVED = (
    TileName(0, 0, 3),
    TileName(0, 0),
    TileName(0, 1),
    TileName(0, 2, 88),
    TileName(1, 0, 1),
    TileName(1, 0, 2),
    TileName(ENTRIES, 0, 3),
    TileName(ENTRIES, 0),
    TileName(ENTRIES, 2, 88),
)


def key_of(key: Ed25519PrivateKey, name: str, kind: KeyType) -> Vectors:
    """Return a key: its seed is the raw Ed25519 private key."""
    return {"seed": key.private_bytes_raw().hex(), "vkey": verifier_key(name, kind, key.public_key()).encode()}


def described(entry: Entry) -> Vectors:
    """Return an entry's octets, which are ASCII, and its leaf hash."""
    data = codec.encode(entry)
    return {"entry": data.decode("ascii"), "leaf": leaf_hash(data).hex()}


def served(log: Log, name: TileName) -> Vectors:
    """Return a tile or bundle: its octets if they are few, else their SHA-256."""
    data = log.octets(name)
    told = {"octets": data.hex()} if name.width <= 3 else {"sha256": blob_digest(data).hex()}
    return {"path": tiles.path(*name), "length": len(data), **told}


def inclusion(log: Log, index: int, size: int) -> Vectors:
    """Return a proof file and the entry that it is of."""
    return {"entry": log.entries[index].decode("ascii"), "proof": log.proof(index, size).encode().decode()}


def anchored() -> Vectors:
    """Return a batch, its entry, and the proof of one digest."""
    batch = anchor.batch(DIGESTS)
    shown = batch.prove(DIGESTS[3], SALT)
    return {
        "digests": [digest.hex() for digest in DIGESTS],
        "salt": SALT.hex(),
        "time": TIME + 6,
        "root": batch.root.hex(),
        "body": batch.body.decode("ascii"),
        "entry": codec.encode(batch.entry(SALT, TIME + 6)).decode("ascii"),
        "shown": {"digest": DIGESTS[3].hex(), "index": shown.index, "path": [one.hex() for one in shown.path]},
    }


def flipped(line: str) -> str:
    """Change a character in the middle of a signature line's base64."""
    at = len(line) - 40
    return line[:at] + ("B" if line[at] == "A" else "A") + line[at + 1 :]


def resigned(text: str) -> str:
    """Return a note of any text that the log's key signed."""
    return f"{text}\n{note.sign(text, ORIGIN, LOG_KEY).encode()}"


def refused_notes(log: Log) -> Vectors:
    """Return checkpoints that aren't the log's, or no checkpoints, with the step that refuses them."""
    good = log.checkpoint(8).decode()
    text, _, lines = good.rpartition("\n\n")
    signed, cosigned = lines.splitlines(keepends=True)
    origin, _, root = text.split("\n")
    wrong = {
        "checkpoint.signature": [
            f"{origin}\n9\n{root}\n\n{signed}",
            f"{text}\n\n{flipped(signed)}",
            f"{text}\n\n{cosigned}",
            f"{text}\n\n{signed}{flipped(signed)}",
            f"{text}\n\n{signed}{flipped(cosigned)}",
        ],
        "checkpoint.origin": [log.checkpoint(8, "other.example/ledger").decode()],
        "checkpoint.syntax": [
            text + "\n",
            f"{text}\n\n{signed.rstrip()}",
            resigned(f"{text}\nextension\n"),
            resigned(f"{origin}\n08\n{root}\n"),
            resigned(f"{origin}\n+8\n{root}\n"),
            resigned(f"{origin}\n8\n{root.rstrip('=')}\n"),
            f"{text}\n\n{signed}".replace("\n", "\r\n"),
            f"{text}\n\n{signed.replace('— ', '- ')}",
        ],
    }
    return {"checkpoints": [{"note": data, "step": step} for step, notes in wrong.items() for data in notes]}


def refused_proofs(log: Log) -> Vectors:
    """Return proofs of entry 3 in 8, and consistency proofs of 3 and 7, that prove nothing."""
    good = log.proof(3, 8)
    others = [
        replace(good, index=2),
        replace(good, index=8),
        replace(good, path=good.path[1:]),
        replace(good, path=good.path[:-1]),
        replace(good, path=(*good.path, good.path[0])),
        replace(good, path=(good.path[1], good.path[0], good.path[2])),
        replace(good, path=(octets(0), *good.path[1:])),
        replace(good, checkpoint=log.checkpoint(7)),
    ]
    path = tiles.consistency(3, 7, log.read)
    paths = [path[1:], path[:-1], (*path, path[0]), (path[1], path[0], *path[2:]), (octets(0), *path[1:]), ()]
    return {
        "inclusion": {"entry": log.entries[3].decode("ascii"), "proofs": [one.encode().decode() for one in others]},
        "consistency": {"old": 3, "new": 7, "paths": [[one.hex() for one in other] for other in paths]},
    }


def refused_entries() -> Vectors:
    """Return octets that are no entry."""
    good = codec.encode(samples()[1]).decode("ascii")
    changed = [
        good.replace('"exchange",', '"other",', 1),
        good.replace("EXPIRED", "OPEN"),
        good.replace("EXPIRED", "COMPLETED"),
        good.replace('"v":1', '"v":2'),
        good.replace('"v":1', '"v":1,"x":1'),
        good.replace(",", ", ", 1),
        good.replace(f"{TIME + 1}", f"{TIME + 1}.0"),
        good.replace('"time"', '"Time"'),
        good + "\n",
        "{}",
        "",
    ]
    return {"entries": changed}


def refused_tiles() -> Vectors:
    """Return paths that name no tile, and octets that are no bundle of two entries."""
    paths = [
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/0/x000/000",
        "tile/0/000.p/256",
        "tile/0/000.p/0",
        "/tile/0/000",
    ]
    bundles = ["", "00", "000161", "00016100", "000161000162000163", "0001610002"]
    return {"paths": paths, "bundles": bundles}


if __name__ == "__main__":
    json.dump(vectors(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
