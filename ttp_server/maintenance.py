"""What an operator does with a TTP's database beside serving it: check it, move it. The command line calls this."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shared.errors import ConfigurationError
from shared.ledger.note import KeyType, verifier_key
from shared.programs.files import private_directory, read_bounded
from ttp_server.app import HEAD, archive_directory, database_url
from ttp_server.custody.escrow import Escrow
from ttp_server.custody.keys import Keys, load_keys
from ttp_server.services import fsck
from ttp_server.services.findings import Findings, Violation
from ttp_server.services.fsck_rows import Trust
from ttp_server.services.recovery import Recovery
from ttp_server.settings import load
from ttp_server.store import transfer
from ttp_server.store.archive import FileArchive
from ttp_server.store.database import open_engine, require_head, upgrade
from ttp_server.store.epochs import SqlEpochRows
from ttp_server.store.head import BLOCK, HeadFile
from ttp_server.store.inspection import inspecting
from ttp_server.store.sql import SqlStore
from ttp_server.store.transfer import Told

Report = Callable[[Violation], None]


def check(directory: Path, report: Report, *, now: int, url: str = "", archive: Path | None = None) -> Findings:
    """Check a TTP's database (or the one at `url`) with its second copy. Changes nothing; may run beside the TTP.

    Raises ConfigurationError when there is nothing that could be checked.
    """
    settings = load(directory)
    engine = open_engine(url or database_url(directory, settings))
    try:
        require_head(engine)
        head = directory / HEAD
        # Read before the snapshot is taken: a TTP that goes on serving only adds to what is then in the database.
        published = read_bounded(head, BLOCK).rstrip(b"\x00") if head.is_file() else b""
        archive = archive or archive_directory(directory, settings)
        with inspecting(engine) as stored:
            keys = load_keys(directory, settings.name, settings.log, stored.last_time() or now)
            copy = FileArchive(archive).entries() if archive.is_dir() else None
            log = verifier_key(settings.log, KeyType.LOG, keys.checkpoint.public_key())
            return fsck.check(stored, trust_of(keys), log, report, published or None, copy)
    finally:
        engine.dispose()


def copy(directory: Path, source: str, target: str, told: Told, report: Report, *, now: int) -> Findings:
    """Copy a stopped TTP's database (or the one at `source`) into the empty one at `target`, and check that.

    Raises ConfigurationError when the TTP runs, or the target isn't empty; then nothing was changed.
    """
    settings = load(directory)
    head = HeadFile(directory / HEAD)  # nobody serves this directory from here on
    engines = old, new = open_engine(source or database_url(directory, settings)), open_engine(target)
    try:
        sent = transfer.copy(old, new, told)
        arrived = transfer.digests(new)
        findings = check(directory, report, now=now, url=target)
        for table, digest in sent.items():
            same = arrived[table] == digest
            findings.require(same, "db.rows", table, "the rows that arrived aren't those that were sent")
    finally:
        for engine in engines:
            engine.dispose()
        head.close()
    return findings


def recover(directory: Path, archive: Path | None, told: Told, report: Report, *, now: int) -> tuple[int, Findings]:
    """Bring back from the second copy what the database of a stopped TTP lacks, and check it.

    Returns how many entries came back. Raises ConfigurationError when the copy must not be used.
    """
    settings = load(directory)
    place = archive or archive_directory(directory, settings)
    if not place.is_dir():
        raise ConfigurationError(f"there is no archive {place}: name the second copy with --archive")
    head = HeadFile(directory / HEAD)  # nobody serves this directory from here on
    private_directory(directory / "data")  # it may have gone with its disk
    engine = open_engine(database_url(directory, settings))
    try:
        upgrade(engine)
        store = SqlStore(engine)
        # First: when all entries are back a start is let through, and would offer new keys only.
        told("escrow epochs", Escrow(directory, SqlEpochRows(engine)).restore_rows(now))
        keys = load_keys(directory, settings.name, settings.log, now)
        log = verifier_key(settings.log, KeyType.LOG, keys.checkpoint.public_key())
        added = Recovery(store, FileArchive(place).entries, trust_of(keys), log, head.newest(), told).run()
        return added, check(directory, report, now=now, archive=place)
    finally:
        engine.dispose()
        head.close()


def trust_of(keys: Keys) -> Trust:
    """Against what a TTP's own evidence is checked."""
    return Trust(keys.root, keys.identity)
