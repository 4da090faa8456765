"""`secmtp ttp fsck`: every invariant of a TTP's database, from stored octets (docs/protocols/services.md).

It reads one snapshot in pages, so a TTP may go on serving meanwhile, and tells all violations, not the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from shared.errors import ConfigurationError, Malformed
from shared.ledger import entry as codec
from shared.ledger import note as notes
from shared.ledger.checkpoint import open_checkpoint
from shared.ledger.entry import Entry
from shared.ledger.note import VerifierKey
from ttp_server.ports.store import Inspection
from ttp_server.ports.values import StoredEntry
from ttp_server.services.findings import Findings, Violation
from ttp_server.services.fsck_rows import RowCheck, Trust
from ttp_server.services.fsck_tree import TreeCheck

LOWEST = -(2**63)
_KINDS = {
    codec.ExchangeEntry: "exchange",
    codec.BindingEntry: "binding",
    codec.RevocationEntry: "revocation",
    codec.AnchorEntry: "anchor",
    codec.KeyEntry: "key",
}


def check(
    stored: Inspection,
    trust: Trust,
    log: VerifierKey,
    report: Callable[[Violation], None],
    published: bytes | None = None,
    copy: Iterable[StoredEntry] | None = None,
) -> Findings:
    """Check everything that is stored. Beside it: the published checkpoint and the second copy of the entries."""
    findings = Findings(report)
    tree, rows = TreeCheck(stored, log, findings), RowCheck(stored, trust, findings)
    second = None if copy is None else _Copy(copy, findings)
    time = 0
    for found in stored.entries(LOWEST):
        findings.counts["entries"] += 1
        place = f"entry {found.index}"
        with findings.judging("entry.row", place):
            findings.require(found.time >= time, "entry.time", place, f"its time {found.time} is before {time}")
            time = max(time, found.time)
            tree.add(found)
            entry = _decoded(found, findings)
            if entry is not None:
                rows.add(found, entry)
        if second is not None:
            second.compare(found)
    tree.finish()
    rows.finish()
    _check_published(stored, log, published, findings)
    if second is not None:
        second.finish(stored, tree.size)
    return findings


def _decoded(found: StoredEntry, findings: Findings) -> Entry | None:
    """Decode an entry and compare it with its columns and its body."""
    place = f"entry {found.index}"
    try:
        entry = codec.decode(found.entry)
    except Malformed as error:
        findings.found("entry.syntax", place, error.message)
        return None
    columns = (_KINDS[type(entry)], entry.time) == (found.kind, found.time)
    findings.require(columns, "entry.row", place, "kind or time aren't those in its octets")
    whole = codec.body_digest(found.salt, found.body) == entry.body
    findings.require(whole, "entry.body", place, "salt or body aren't those that its hash is over")
    return entry


def _check_published(stored: Inspection, log: VerifierKey, published: bytes | None, findings: Findings) -> None:
    """Require that the checkpoint that was shown last is stored: else the database is older, or another."""
    if published is None:
        return
    with findings.judging("checkpoint.published", "the published checkpoint"):
        verified = open_checkpoint(published, log)
        kept = stored.checkpoint(verified.size)
        if kept is None or notes.parse(kept).text != notes.parse(published).text:
            message = f"the one over {verified.size} entries that was published isn't in the database"
            raise ConfigurationError(message)


class _Copy:
    """The second copy, which must hold the same entries, all that are under a checkpoint. It may be ahead."""

    def __init__(self, copy: Iterable[StoredEntry], findings: Findings) -> None:
        self._copy: Iterator[StoredEntry] = iter(copy)
        self._findings = findings
        self._size = 0
        self._next = self._take()

    def compare(self, found: StoredEntry) -> None:
        """Compare the next entry with its copy."""
        while self._next is not None and self._next.index < found.index:
            self._next = self._take()
        if self._next is not None and self._next.index == found.index:
            message = "the database and the second copy differ"
            self._findings.require(self._next == found, "copy.entry", f"entry {found.index}", message)

    def finish(self, stored: Inspection, size: int) -> None:
        """Require that no entry is missing in the copy that is under a checkpoint."""
        newest = stored.newest_checkpoint()
        under = 0 if newest is None else min(newest[0], size)
        message = f"it holds {self._size} entries of {under} that are under a checkpoint"
        self._findings.require(self._size >= under, "copy.missing", "the second copy", message)

    def _take(self) -> StoredEntry | None:
        second: StoredEntry | None = None
        with self._findings.judging("copy.entry", f"entry {self._size} of the second copy"):
            second = next(self._copy, None)
        self._size += second is not None
        return second
