"""What a TTP is asked before it is killed, and the state that must be found afterwards, whoever comes next.

Nothing here leaves a thread or a connection behind: the process that uses it forks.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Engine, create_engine, func, select

from shared.api.messages import CompleteRequest
from shared.crypto.keys import HpkePublicKey
from shared.crypto.shares import Shares
from shared.crypto.signing import token_digest
from shared.crypto.stream import encrypt
from shared.encoding.labels import H, blob_digest
from shared.evidence import bundle as bundles
from shared.evidence import manifest as manifests
from shared.evidence.bundle import Bundle
from shared.evidence.composition import Secrets, compose
from shared.evidence.manifest import NamedTTP
from shared.evidence.receipt import verify_bundle
from shared.evidence.tokens import LedgerPlace
from shared.ledger import anchor
from shared.ledger.checkpoint import open_checkpoint
from shared.ledger.entry import body_digest
from shared.ledger.entry import decode as decode_entry
from shared.ledger.entry import encode as encode_entry
from shared.ledger.merkle import leaf_hash
from shared.ledger.note import KeyType, VerifierKey, verifier_key
from shared.ledger.tiles import WIDTH, tile_root
from tests.doubles.parties import LETTER, NOW, Exchange, Parties
from tests.doubles.served import PushedClock, Served, binding_of, fill_database
from tests.doubles.tree import Tree
from ttp_server import maintenance
from ttp_server.app import HEAD, TTP, archive_directory, build, database_url
from ttp_server.custody.escrow import Escrow
from ttp_server.custody.keys import load_keys
from ttp_server.ports.values import Identity, StoredEntry
from ttp_server.services import directory as directories
from ttp_server.services import exchanges
from ttp_server.services.findings import Violation
from ttp_server.settings import Settings, load
from ttp_server.store import tables
from ttp_server.store.archive import FileArchive
from ttp_server.store.database import open_engine
from ttp_server.store.epochs import SqlEpochRows

BEFORE_FULL = WIDTH - 2
ENTRIES = 4  # of a round


@dataclass(frozen=True)
class Round:
    """Two trades and a binding in one batch, and a trade behind it. `number` moves the clock.

    With a filling, the batch begins two entries before a tile is full.
    """

    number: int
    filling: range
    exchanges: tuple[Exchange, ...]
    binding: str

    @property
    def start(self) -> int:
        """The number of entries before it."""
        return self.filling.stop

    def fillers(self) -> list[tuple[StoredEntry, bytes]]:
        """Return the anchors that fill the tile, with their roots."""
        made = []
        for index in self.filling:
            batch, salt = anchor.Batch((H("token", b"%d" % index),)), index.to_bytes(32, "big")
            octets = encode_entry(batch.entry(salt, NOW + self.number))
            place = LedgerPlace(index, NOW + self.number)
            made.append((StoredEntry.of("anchor", octets, place, salt, batch.body), batch.root))
        return made


class Ground:
    """Directory and database of the TTPs that follow each other, and the log as it must be."""

    def __init__(self, place: Path, database: str) -> None:
        served = Served(place, database)
        if database:
            fill_database(database)
        self.directory, self._parties = served.directory, served.parties
        self.settings: Settings = load(self.directory)
        self.tree = Tree()  # what was found after each round; the reference for everything that was shown
        self._number = self._size = 0
        self._bound: bytes | None = None
        keys = load_keys(self.directory, self.settings.name, self.settings.log, NOW)
        self.log_key: VerifierKey = verifier_key(self.settings.log, KeyType.LOG, keys.checkpoint.public_key())
        engine = open_engine(database_url(self.directory, self.settings))
        self._offered = offered(self.directory, engine, keys.identity)
        engine.dispose()

    def build(self, number: int) -> TTP:
        """Start a TTP at the time of a round."""
        return build(self.directory, self.settings, PushedClock(NOW + number))

    def next_round(self, *, full: bool) -> Round:
        """Make what is asked next. With `full` the batch is to fill a tile."""
        self._number += 1
        start = self._size + ((BEFORE_FULL - self._size) % WIDTH if full else 0)
        filling, self._size = range(self._size, start), start + ENTRIES
        binding = binding_of(self._parties.bob, self._parties.b, self._bound, NOW + self._number)
        self._bound = token_digest(binding)
        letters = tuple(letter(self._parties, *self._offered) for _ in range(ENTRIES - 1))
        return Round(self._number, filling, letters, binding)

    def fill(self, engine: Engine, asked: Round) -> list[bytes]:
        """Append a round's anchors as another process would, all at once, and return their leaf hashes."""
        made = asked.fillers()
        entries = [{name: getattr(entry, name) for name in entry.__slots__} for entry, _ in made]
        if made:
            with engine.execution_options(writing=True).begin() as connection:
                connection.execute(tables.entries.insert(), entries)
                roots = [{"root": root, "index": entry.index} for entry, root in made]
                connection.execute(tables.anchors.insert(), roots)
        return [entry.leaf_hash for entry, _ in made]

    def check(self, ttp: TTP, asked: Round, notes: list[bytes], answers: list[Bundle]) -> list[bytes]:
        """Ask everything again; require that what was shown holds, and the round's rows, each. Return leaf hashes.

        To be called in a child: it lets the reference grow.
        """
        again = {one.manifest.exchange: complete(ttp, one) for one in asked.exchanges}
        bind(ttp, asked)
        for bundle in again.values():
            verify_bundle(bundle, self._parties.trust)
        for shown in answers:
            kept = again[shown.manifest.exchange]
            assert (shown.token, shown.nrr, shown.salt) == (kept.token, kept.nrr, kept.salt), "evidence was lost"
            verify_bundle(shown, self._parties.trust)
        return self._check_stored(ttp, asked, [*notes, ttp.desk.ledger.snapshot.note])

    def _check_stored(self, ttp: TTP, asked: Round, notes: list[bytes]) -> list[bytes]:
        archive = FileArchive(archive_directory(self.directory, self.settings))
        shown = {open_checkpoint(note, self.log_key).size for note in notes}
        with ttp.desk.store.reading() as stored:
            entries = list(stored.entries(asked.start))
            rows = [stored.exchange(one.manifest.exchange) for one in asked.exchanges]
            number = (asked.start + ENTRIES) // WIDTH - 1  # the newest full tile
            tile, root = stored.tile(0, number), next(iter(stored.tile_roots(0, number)))
            signed = stored._connection.execute(  # type: ignore[attr-defined]
                select(tables.checkpoints).where(tables.checkpoints.c.size >= min(shown))
            ).all()
        assert [entry.index for entry in entries] == list(range(asked.start, asked.start + ENTRIES))
        assert list(archive.entries(asked.start)) == entries
        leaves = [self.tree.append(leaf_hash(entry.entry)) for entry in entries]
        assert [self.tree.leaf(index) for index in leaves] == [entry.leaf_hash for entry in entries]
        for entry in entries:
            assert body_digest(entry.salt, entry.body) == decode_entry(entry.entry).body
        for row in rows:
            assert row is not None
            assert entries[row.index - asked.start].body == bundles.body(
                manifests.decode(row.manifest), row.nro, row.nrr, row.token
            )
        assert tile == b"".join(self.tree.leaf(number * WIDTH + index) for index in range(WIDTH))
        assert root == tile_root(tile)
        assert {row.size for row in signed} >= shown
        for note in [*notes, *(row.note for row in signed)]:
            self.check_note(note)
        return [entry.leaf_hash for entry in entries]

    def state(self) -> tuple[list[int | None], object]:
        """Return the newest entry's index and the newest checkpoint's size, and what changes with any file.

        SQLite is left as a death left it.
        """
        url = database_url(self.directory, self.settings)
        if url.startswith("sqlite"):
            url = f"sqlite:///file:{self.directory / 'data' / 'ttp.sqlite'}?mode=ro&uri=true"
        engine, entries, checkpoints = create_engine(url), tables.entries.c, tables.checkpoints.c
        with engine.connect() as connection, connection.begin():
            rows = [connection.scalar(select(func.max(column))) for column in (entries.index, checkpoints.size)]
        engine.dispose()
        archive = archive_directory(self.directory, self.settings).rglob("*")
        files = sorted((str(path), path.stat().st_size) for path in [*archive, *self.directory.glob("*")])
        return rows, (files, (self.directory / HEAD).read_bytes())

    def untouched(self, asked: Round) -> bool:
        """Whether nothing of a round's batch is in the log, which is published as it was before."""
        return self.state()[0] == [asked.start - 1, asked.start]

    def check_copied(self, notes: list[bytes]) -> None:
        """Require that the second copy has what was shown. To be called before anybody starts and makes it good."""
        shown = max((open_checkpoint(note, self.log_key).size for note in notes), default=0)
        copied = FileArchive(archive_directory(self.directory, self.settings)).size()
        assert copied >= shown, f"a checkpoint over {shown} entries was shown, the second copy has {copied}"

    def check_whole(self) -> int:
        """Require that `secmtp ttp fsck` finds nothing wrong with anything; return how many entries it looked at."""
        violations: list[Violation] = []
        findings = maintenance.check(self.directory, violations.append, now=NOW + self._number)
        assert violations == [], violations[:5]
        assert findings.counts["entries"] == self.tree.size
        return self.tree.size

    def check_note(self, note: bytes) -> None:
        """Require that a checkpoint is of a beginning of this log."""
        shown = open_checkpoint(note, self.log_key)
        assert shown.root == self.tree.root_at(shown.size), f"the checkpoint over {shown.size} is of another tree"


def complete(ttp: TTP, exchange: Exchange) -> Bundle:
    """Ask for a trade."""
    request = CompleteRequest(exchange.manifest, exchange.nro, exchange.nrr, exchange.sealed.escrow)
    return exchanges.complete(ttp.desk, request)


def bind(ttp: TTP, asked: Round) -> None:
    """Publish the round's binding."""
    directories.put_binding(ttp.directory, asked.binding, ["b.example"])


def letter(parties: Parties, named: NamedTTP, escrow: HpkePublicKey) -> Exchange:
    """Make an exchange from Alice to Bob, as their nodes would."""
    core = replace(parties.core(), ttp=named, nonce=secrets.token_bytes(32))
    drawn = Secrets(Shares.draw(), secrets.token_bytes(32))
    digest = blob_digest(b"".join(encrypt(drawn.content_key, [LETTER])))
    manifest, sealed = compose(core, drawn, digest, parties.bob.hpke.public, escrow)
    return parties.signed(manifest, sealed, drawn, b"")


def offered(directory: Path, engine: Engine, identity: Identity) -> tuple[NamedTTP, HpkePublicKey]:
    """Return how a sender names this TTP, and its escrow key."""
    escrow = Escrow(directory, SqlEpochRows(engine))
    escrow.upkeep(NOW)
    epoch = next(epoch for epoch in escrow.epochs() if epoch.key.kind == "X25519")
    named = NamedTTP(
        name=identity.name,
        log=identity.log,
        nrd_key=identity.nrd_key,
        checkpoint_key=identity.checkpoint_key,
        escrow_key=epoch.key.key_id,
        epoch=epoch.epoch,
    )
    return named, epoch.key
