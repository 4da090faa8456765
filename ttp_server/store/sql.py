"""The store on SQL: one class for reading, one for writing, the same statements on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, Executable, RowMapping, Table, bindparam, exists, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.errors import Conflict, OurFault, Unavailable
from shared.ledger.tiles import Tile, tile_root
from ttp_server.ports.store import TransactionLost
from ttp_server.ports.values import BoundKeys, FeedItem, Node, Revoked, StoredEntry, StoredExchange, StoredRefusal
from ttp_server.store import tables as t

FEED_GAP = 2**32
PAGE = 200  # bodies have up to 256 KiB

# What every trade runs, built once: to build a statement and to find its compiled form costs more than to run it.
_EXCHANGE = select(t.exchanges).where(t.exchanges.c.exchange == bindparam("exchange"))
_REVOCATION = select(t.revocations.c.time, t.revocations.c.effective).where(
    t.revocations.c.key == bindparam("key"), t.revocations.c.address == bindparam("address")
)
_NODE = select(t.nodes).where(t.nodes.c.key_id == bindparam("key_id"))
_LAST_TIME = select(t.entries.c.time).order_by(t.entries.c.index.desc()).limit(1)
_LEAF_HASHES = select(t.entries.c.leaf_hash).where(t.entries.c.index >= bindparam("start")).order_by(t.entries.c.index)
_ENTRY_OCTETS = (
    select(t.entries.c.entry)
    .where(t.entries.c.index >= bindparam("start"))
    .order_by(t.entries.c.index)
    .limit(bindparam("count"))
)
_ENTRIES = select(t.entries).where(t.entries.c.index >= bindparam("start")).order_by(t.entries.c.index).limit(PAGE)
_LAST_INDEX = select(t.entries.c.index).order_by(t.entries.c.index.desc()).limit(1)
_NEWEST_CHECKPOINT = select(t.checkpoints).order_by(t.checkpoints.c.size.desc()).limit(1)
_CHECKPOINT = select(t.checkpoints.c.note).where(t.checkpoints.c.size == bindparam("size"))
_COSIGNED = t.cosignatures.c
_COSIGNATURES = select(_COSIGNED.line).where(_COSIGNED.size == bindparam("size")).order_by(_COSIGNED.name)
_COSIGNATURE = select(_COSIGNED.line).where(_COSIGNED.size == bindparam("size"), _COSIGNED.name == bindparam("name"))
_PUT_COSIGNATURE = t.cosignatures.insert()
_NEWEST_COSIGNATURE = (
    select(_COSIGNED.size, _COSIGNED.line)
    .where(_COSIGNED.name == bindparam("name"))
    .order_by(_COSIGNED.size.desc())
    .limit(1)
)
_WITNESS_KEY = select(t.witness_keys.c.vkey).where(t.witness_keys.c.name == bindparam("name"))
_TILE = select(t.tiles.c.hashes).where(t.tiles.c.level == bindparam("level"), t.tiles.c.number == bindparam("number"))
_TILE_ROOTS = (
    select(t.tiles.c.root)
    .where(t.tiles.c.level == bindparam("level"), t.tiles.c.number >= bindparam("start"))
    .order_by(t.tiles.c.number)
)
_REFUSAL = select(t.refusals).where(t.refusals.c.exchange == bindparam("exchange"))
_ENTRY = select(t.entries).where(t.entries.c.index == bindparam("index"))
_ANCHOR = (
    select(t.entries)
    .join(t.anchors, t.anchors.c.index == t.entries.c.index)
    .where(t.anchors.c.root == bindparam("root"))
)
_PUT_ENTRY, _PUT_EXCHANGE, _PUT_PLACE = t.entries.insert(), t.exchanges.insert(), t.feed.insert()
_PUT_TILE, _PUT_CHECKPOINT = t.tiles.insert(), t.checkpoints.insert()


class SqlReading:
    """Reads on one connection, so in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def exchange(self, exchange: bytes) -> StoredExchange | None:
        """Return the row of hM, None while it has no outcome."""
        row = self._first(_EXCHANGE, exchange=exchange)
        return None if row is None else self._exchange(row)

    def refusal(self, exchange: bytes) -> StoredRefusal | None:
        """Return the refusal of hM, which is no outcome."""
        row = self._first(_REFUSAL, exchange=exchange)
        if row is None:
            return None
        entry = self._first(_ENTRY, index=row["index"])
        if entry is None:
            raise OurFault("the ledger lacks the entry of a refusal that is stored")
        return StoredRefusal(row["exchange"], row["manifest"], row["nro"], row["refuse"], StoredEntry(**entry))

    def anchor(self, root: bytes) -> StoredEntry | None:
        """Return the entry of the batch with this root."""
        row = self._first(_ANCHOR, root=root)
        return None if row is None else StoredEntry(**row)

    def revocation(self, address: str, key: bytes) -> Revoked | None:
        """Return the first revocation of an address's key."""
        row = self._first(_REVOCATION, key=key, address=address)
        return None if row is None else Revoked(row["time"], row["effective"])

    def binding(self, address: str) -> BoundKeys | None:
        """Return the newest binding of an address."""
        query = select(t.bindings).where(t.bindings.c.address == address).order_by(t.bindings.c.index.desc()).limit(1)
        row = self._first(query)
        if row is None:
            return None
        return BoundKeys(address, row["token"], row["digest"], (), row["receipt_key"], row["index"])

    def same_person(self, address: str, folded: str) -> str | None:
        """Return another bound address with the same folded form."""
        query = select(t.bindings.c.address).where(t.bindings.c.folded == folded, t.bindings.c.address != address)
        found: str | None = self._connection.scalar(query.limit(1))
        return found

    def was_bound(self, address: str, key: bytes) -> bool:
        """Whether a key was ever bound to an address."""
        known = t.bound_keys.c
        return bool(self._connection.scalar(select(exists().where(known.key == key, known.address == address))))

    def domain_record(self, domain: str) -> str | None:
        """Return a domain's record."""
        found: str | None = self._connection.scalar(select(t.domains.c.record).where(t.domains.c.domain == domain))
        return found

    def node(self, key_id: bytes) -> Node | None:
        """Return an enrolled node."""
        row = self._first(_NODE, key_id=key_id)
        return None if row is None else Node(row["key_id"], tuple(json.loads(row["domains"])))

    def feed(self, domains: Sequence[str], after: int, below: int, limit: int) -> list[FeedItem]:
        """Return feed items of these domains after a cursor whose entries are below a tree size, in order.

        Who answers for both parties has two places in the feed for one exchange: only the first counts.
        """
        place, first = t.feed.c, t.feed.alias("first").c
        earlier = exists().where(
            first.exchange == place.exchange, first.domain.in_(domains), first.cursor < place.cursor
        )
        query = (
            select(t.feed.c.cursor, t.exchanges)
            .join(t.exchanges, t.exchanges.c.exchange == t.feed.c.exchange)
            .where(place.domain.in_(domains), place.cursor > after, t.exchanges.c.index < below, ~earlier)
            .order_by(t.feed.c.cursor)
            .limit(limit)
        )
        return [FeedItem(row["cursor"], self._exchange(row)) for row in self._connection.execute(query).mappings()]

    def last_time(self) -> int:
        """Return the ledger time of the newest entry, 0 in an empty ledger."""
        return self._connection.scalar(_LAST_TIME) or 0

    def size(self) -> int:
        """Return the number of entries."""
        last = self._connection.scalar(_LAST_INDEX)  # counting would read them all
        return 0 if last is None else last + 1

    def leaf_hashes(self, start: int) -> Iterable[bytes]:
        """Yield leaf hashes in order from an index on."""
        yield from self._connection.scalars(_LEAF_HASHES, {"start": start})

    def entries(self, start: int = 0) -> Iterable[StoredEntry]:
        """Yield entries in order from an index on, a page at a time."""
        while True:
            rows = [StoredEntry(**row) for row in self._connection.execute(_ENTRIES, {"start": start}).mappings()]
            yield from rows
            if len(rows) < PAGE:
                return
            start = rows[-1].index + 1

    def entry_octets(self, start: int, count: int) -> Sequence[bytes]:
        """Return the octets of up to `count` entries in order from an index on, without their bodies."""
        return self._connection.scalars(_ENTRY_OCTETS, {"start": start, "count": count}).all()

    def newest_checkpoint(self) -> tuple[int, bytes] | None:
        """Return size and note of the newest stored checkpoint."""
        row = self._first(_NEWEST_CHECKPOINT)
        return None if row is None else (row["size"], row["note"])

    def checkpoint(self, size: int) -> bytes | None:
        """Return the note of the checkpoint over `size` entries."""
        found: bytes | None = self._connection.scalar(_CHECKPOINT, {"size": size})
        return found

    def cosignatures(self, size: int) -> Sequence[str]:
        """Return the cosignature lines of the checkpoint over `size` entries, sorted by name."""
        return list(self._connection.scalars(_COSIGNATURES, {"size": size}))

    def newest_cosignature(self, name: str) -> tuple[int, str] | None:
        """Return size and line of the newest checkpoint that somebody cosigned under this name."""
        row = self._first(_NEWEST_COSIGNATURE, name=name)
        return None if row is None else (row["size"], row["line"])

    def witness_key(self, name: str) -> str | None:
        """Return the vkey with which a node cosigns under a name."""
        found: str | None = self._connection.scalar(_WITNESS_KEY, {"name": name})
        return found

    def tile(self, level: int, number: int) -> bytes | None:
        """Return the 256 hashes of a full tile, None while it isn't full."""
        found: bytes | None = self._connection.scalar(_TILE, {"level": level, "number": number})
        return found

    def tile_roots(self, level: int, start: int) -> Iterable[bytes]:
        """Yield the roots of a level's full tiles in order from a number on."""
        yield from self._connection.scalars(_TILE_ROOTS, {"level": level, "start": start})

    def _exchange(self, row: RowMapping) -> StoredExchange:
        query = select(t.feed.c.domain).where(t.feed.c.exchange == row["exchange"]).order_by(t.feed.c.cursor)
        members = {name: row[name] for name in t.exchanges.c.keys()}  # noqa: SIM118  (columns aren't a dict)
        return StoredExchange(**members, domains=tuple(self._connection.scalars(query)))

    def _first(self, query: Executable, **values: object) -> RowMapping | None:
        return self._connection.execute(query, values).mappings().first()


class SqlTransaction(SqlReading):
    """Writes on one connection, under the writer's lock."""

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what happens inside when it raises, and nothing else."""
        try:
            with self._connection.begin_nested():
                yield
        except IntegrityError as error:
            raise Conflict("it exists already in another form; the first one stands") from error
        except DataError as error:
            # A value that the column can't hold (for PostgreSQL U+0000 in a text is one) is this proposal's own
            # fault: taken for a lost transaction it would undo its neighbours, each time it is tried again.
            raise OurFault("a value doesn't fit its column in the database") from error
        except DBAPIError as error:
            # A full disk makes SQLite roll back the whole transaction by itself. What came after would then
            # be written outside of any.
            raise TransactionLost(f"the database failed: {type(error.orig).__name__}") from error

    def put_entry(self, entry: StoredEntry) -> None:
        """Append a ledger entry."""
        self._connection.execute(_PUT_ENTRY, {name: getattr(entry, name) for name in entry.__slots__})

    def put_tile(self, tile: Tile) -> None:
        """Write a tile that has become full."""
        values = {"level": tile.level, "number": tile.number, "hashes": tile.hashes, "root": tile_root(tile.hashes)}
        self._connection.execute(_PUT_TILE, values)

    def put_exchange(self, exchange: StoredExchange) -> None:
        """Write the row of hM and its places in the feeds. Fails if there is one."""
        members = {name: getattr(exchange, name) for name in exchange.__slots__ if name != "domains"}
        self._connection.execute(_PUT_EXCHANGE, members)
        places = [{"domain": domain, "exchange": exchange.exchange} for domain in exchange.domains]
        self._connection.execute(_PUT_PLACE, places)

    def skip_places(self) -> None:
        """Leave a gap in the feed: a lost database may have given out places that aren't known here."""
        last = self._connection.scalar(select(func.max(t.feed.c.cursor))) or 0
        if self._connection.dialect.name == "postgresql":
            statements = ["SELECT setval(pg_get_serial_sequence('feed', 'cursor'), :last)"]
        else:
            statements = [
                "DELETE FROM sqlite_sequence WHERE name = 'feed'",
                "INSERT INTO sqlite_sequence (name, seq) VALUES ('feed', :last)",
            ]
        for statement in statements:
            values = {"last": last + FEED_GAP} if ":last" in statement else {}
            self._connection.execute(text(statement), values)

    def put_refusal(self, refusal: StoredRefusal) -> None:
        """Write the refusal of hM, whose entry is appended by the same transaction. Fails if there is one."""
        self._connection.execute(
            t.refusals.insert().values(
                exchange=refusal.exchange,
                manifest=refusal.manifest,
                nro=refusal.nro,
                refuse=refusal.refuse,
                index=refusal.entry.index,
            )
        )

    def put_anchor(self, root: bytes, index: int) -> None:
        """Write that the batch with this root is entry `index`. Fails if there is one."""
        self._connection.execute(t.anchors.insert().values(root=root, index=index))

    def put_binding(self, binding: BoundKeys, folded: str) -> None:
        """Write a binding and its keys."""
        self._connection.execute(
            t.bindings.insert().values(
                digest=binding.digest,
                address=binding.address,
                folded=folded,
                token=binding.token,
                receipt_key=binding.receipt_key,
                index=binding.index,
            )
        )
        for key in binding.keys:
            if not self.was_bound(binding.address, key):
                self._connection.execute(t.bound_keys.insert().values(key=key, address=binding.address))

    def put_revocation(self, address: str, key: bytes, revoked: Revoked, index: int) -> None:
        """Write the revocation of an address's key."""
        times = {"time": revoked.time, "effective": revoked.effective}
        self._connection.execute(t.revocations.insert().values(key=key, address=address, index=index, **times))

    def put_domain(self, domain: str, record: str) -> None:
        """Write or replace a domain's record."""
        self._upsert(t.domains, {"domain": domain, "record": record}, ("domain",))

    def put_node(self, node: Node) -> None:
        """Write or replace an enrolled node."""
        self._upsert(t.nodes, {"key_id": node.key_id, "domains": json.dumps(node.domains)}, ("key_id",))

    def put_enrolment_token(self, digest: bytes, domains: Sequence[str], expires: int) -> None:
        """Write an enrolment token by its digest."""
        values = {"digest": digest, "domains": json.dumps(list(domains)), "expires": expires}
        self._connection.execute(t.enrolment_tokens.insert().values(values))

    def take_enrolment_token(self, digest: bytes, key_id: bytes, now: int) -> tuple[str, ...] | None:
        """Use an enrolment token; the same key may use it again, so that a lost answer can be repeated."""
        row = self._first(select(t.enrolment_tokens).where(t.enrolment_tokens.c.digest == digest))
        if row is None or row["used_by"] not in {None, key_id} or (row["used_by"] is None and now >= row["expires"]):
            return None
        used = t.enrolment_tokens.update().where(t.enrolment_tokens.c.digest == digest).values(used_by=key_id)
        self._connection.execute(used)
        return tuple(json.loads(row["domains"]))

    def put_checkpoint(self, size: int, note: bytes) -> None:
        """Store a signed checkpoint. Raises Conflict if another one over this size is stored."""
        stored = self.checkpoint(size)
        if stored is None:
            self._connection.execute(_PUT_CHECKPOINT, {"size": size, "note": note})
        elif stored != note:
            raise Conflict(f"another checkpoint over {size} entries is stored: two writers with two keys?")

    def put_cosignature(self, size: int, name: str, time: int, line: str) -> None:
        """Store a verified cosignature of a stored checkpoint. The first one of a name stays."""
        if self._first(_COSIGNATURE, size=size, name=name) is None:  # the tables refuse to be told twice
            self._connection.execute(_PUT_COSIGNATURE, {"size": size, "name": name, "time": time, "line": line})

    def put_witness_key(self, name: str, vkey: str, node: bytes, time: int) -> None:
        """Write the key of a node's witness. Fails if the name has one."""
        self._connection.execute(t.witness_keys.insert().values(name=name, vkey=vkey, node=node, time=time))

    def _upsert(self, table: Table, values: dict[str, object], keys: tuple[str, ...]) -> None:
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(table).values(values)
        rest = {name: value for name, value in values.items() if name not in keys}
        self._connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=rest))


class SqlStore:
    """The database behind both."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writing = engine.execution_options(writing=True)
        # Three of five round trips are the transaction's; SQLite has no trips to save.
        served = engine.dialect.name == "postgresql"
        self._immutable = engine.execution_options(isolation_level="AUTOCOMMIT") if served else engine

    @contextmanager
    def reading(self) -> Iterator[SqlReading]:
        """Read one consistent state."""
        with database_errors(), self._engine.connect() as connection, connection.begin():
            yield SqlReading(connection)

    @contextmanager
    def immutable(self) -> Iterator[SqlReading]:
        """Read rows that never change, each for itself."""
        with database_errors(), self._immutable.connect() as connection:
            yield SqlReading(connection)

    @contextmanager
    def writing(self) -> Iterator[SqlTransaction]:
        """Write under the writer's lock; commit at the end, roll back on an exception."""
        with database_errors(), self._writing.connect() as connection, connection.begin():
            yield SqlTransaction(connection)


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn what the database raises into Unavailable."""
    try:
        yield
    except DBAPIError as error:
        raise Unavailable(f"the database failed: {type(error.orig).__name__}") from error
    except PoolTimeout as error:
        raise Unavailable("the database is busy; try again later") from error
