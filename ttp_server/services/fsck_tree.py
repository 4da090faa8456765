"""The tree of `fsck`: entries against their leaf hashes, those against tiles, and tiles against every checkpoint.

It is grown from the stored leaf hashes, so that one changed entry is one violation and not a flood of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from shared.errors import EvidenceFault
from shared.ledger import note as notes
from shared.ledger.checkpoint import VerifiedCheckpoint, open_checkpoint
from shared.ledger.merkle import HASH, leaf_hash
from shared.ledger.note import Note, VerifierKey, decode_vkey
from shared.ledger.tiles import HEIGHT, Edge, Tile, tile_root
from ttp_server.ports.store import Inspection
from ttp_server.ports.values import CosignatureRow, StoredEntry
from ttp_server.services.findings import Findings

MAX_GAP = 1 << 16


class TreeCheck:
    """Takes the entries in order. `log` is the key that must have signed every checkpoint."""

    def __init__(self, stored: Inspection, log: VerifierKey, findings: Findings) -> None:
        self._stored = stored
        self._log = log
        self._findings = findings
        self._edge = Edge()
        self._expected = 0
        self._grows = True
        self._checkpoints = self._opened()
        self._next = next(self._checkpoints, None)
        self._wrong: tuple[int, int, int] | None = None
        self._compare_checkpoints()

    @property
    def size(self) -> int:
        """The number of entries, missing ones included."""
        return self._expected

    def add(self, entry: StoredEntry) -> None:
        """Take the next entry."""
        if entry.index < self._expected:
            self._findings.found("entry.index", f"entry {entry.index}", f"expected {self._expected}")
            return
        if entry.index > self._expected:
            self._fill(entry.index)
        right = leaf_hash(entry.entry) == entry.leaf_hash
        place = f"entry {entry.index}"
        self._findings.require(right, "entry.hash", place, "its octets don't have the stored leaf hash")
        self._grow(entry.leaf_hash if len(entry.leaf_hash) == HASH else leaf_hash(entry.entry))
        self._expected = entry.index + 1

    def finish(self) -> None:
        """Compare what only the end tells: checkpoints over more entries than there are, and tiles too many."""
        self._flush()
        while self._next is not None:
            size, self._next = self._next.size, next(self._checkpoints, None)
            if self._grows or size > self._expected:
                message = f"the ledger has only {self._expected} entries: newer ones are missing"
                self._findings.found("checkpoint.size", f"checkpoint over {size}", message)
        for tile in self._stored.tiles():
            self._findings.counts["tiles"] += 1
            full = tile.number < self._expected >> HEIGHT * (tile.level + 1)
            place = f"tile {tile.level}/{tile.number}"
            self._findings.require(full, "tile.extra", place, "so many entries aren't there")
        self._check_cosignatures()

    def _fill(self, end: int) -> None:
        """Put nothing in the place of what is missing, so that what follows stands where it stood."""
        missing = end - self._expected
        self._grows = self._grows and missing <= MAX_GAP
        rest = "" if self._grows else "; so many that tiles and checkpoints from there on can't be compared"
        place = f"entries {self._expected} to {end - 1}"
        self._findings.found("entry.missing", place, f"they aren't there{rest}")
        for _ in range(missing if self._grows else 0):
            self._grow(bytes(HASH))

    def _grow(self, leaf: bytes) -> None:
        if not self._grows:
            return
        extended = self._edge.extend([leaf])
        self._edge = extended.edge
        for tile in extended.tiles:
            self._compare_tile(tile)
        self._compare_checkpoints()

    def _compare_tile(self, tile: Tile) -> None:
        place = f"tile {tile.level}/{tile.number}"
        row = self._stored.tile_row(tile.level, tile.number)
        if row is None:
            self._findings.found("tile.missing", place, "it is full and isn't there")
            return
        right = row.hashes == tile.hashes
        self._findings.require(right, "tile.hashes", place, "it doesn't hold the hashes of what is below it")
        root = row.root == tile_root(tile.hashes)
        self._findings.require(root, "tile.root", place, "its root isn't that of the hashes below it")

    def _compare_checkpoints(self) -> None:
        while self._next is not None and self._next.size == self._edge.size:
            size = self._next.size
            if self._next.root == self._edge.root():
                self._flush()
            else:
                first, _, count = self._wrong or (size, size, 0)
                self._wrong = (first, size, count + 1)
            self._next = next(self._checkpoints, None)

    def _flush(self) -> None:
        """Tell a run of checkpoints that aren't of this tree as one: every one after a changed leaf isn't."""
        if self._wrong is not None:
            first, last, count = self._wrong
            place = f"{count} checkpoints over {first} to {last}"
            self._findings.found(
                "checkpoint.root", place, "they are of another tree: leaves were changed or the log forked"
            )
            self._wrong = None

    def _opened(self) -> Iterator[VerifiedCheckpoint]:
        """Yield the checkpoints that are what they should be; the others are told and can't be compared."""
        for size, note in self._stored.checkpoints():
            self._findings.counts["checkpoints"] += 1
            with self._findings.judging("checkpoint.signature", f"checkpoint over {size}"):
                verified = open_checkpoint(note, self._log)
                if verified.size == size:
                    yield verified
                else:
                    message = f"it is stored as one over {size} entries"
                    self._findings.found("checkpoint.row", f"checkpoint over {verified.size}", message)

    def _check_cosignatures(self) -> None:
        for row in self._stored.cosignatures_of_all():
            with self._findings.judging("cosignature", f"cosignature of {row.name} over {row.size}"):
                self._check_cosignature(row)

    def _check_cosignature(self, row: CosignatureRow) -> None:
        self._findings.counts["cosignatures"] += 1
        line = notes.parse_line(row.line)
        if row.note is None or line.name != row.name:
            raise EvidenceFault("cosignature.row", f"it is of {line.name}, or of no stored checkpoint")
        if row.vkey is None:
            self._findings.counts["cosignatures of witnesses whose keys aren't stored"] += 1
            return
        alone = Note(notes.parse(row.note).text, (line,))
        verified = notes.verify(alone, {decode_vkey(row.vkey)}, step="cosignature.signature").signatures[0]
        if verified.time != row.time:
            raise EvidenceFault("cosignature.row", f"it says {verified.time}, the row {row.time}")
