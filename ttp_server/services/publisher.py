"""From a committed tree to a published checkpoint: sign, copy bodies, have witnesses cosign, show (ledger.md L7).

It never signs anything but the tree that is in the database, and never a tree that doesn't continue the
newest signed one: a log that signs two trees of one size can't take it back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

from shared.errors import ConfigurationError, Unavailable
from shared.ledger import tiles
from shared.ledger.tiles import Edge
from ttp_server.ports.services import Archive, Head, Overtaken, Witnesses
from ttp_server.ports.store import Store, Transaction
from ttp_server.services.ledger import Ledger, Snapshot, check_tail, load_edge

ROUNDS = 8


class Publisher:
    """Publishes one ledger. Several processes on one database may each have one: the store's lock orders them.

    `published` is called after each new checkpoint. All methods but `follow` are for the writer's thread.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        head: Head,
        archive: Archive,
        witnesses: Witnesses,
        published: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._head = head
        self._archive = archive
        self._witnesses = witnesses
        self._published = published

    def open(self) -> None:
        """Check what is stored against every checkpoint that was kept, and publish the committed tree (L8)."""
        copied = self._archive.size()  # before the database is read, which others may write to
        with self._store.reading() as stored:
            edge = load_edge(stored, stored.size())
            check_tail(stored, edge)
        published = self._head.newest()
        if published is not None:
            self._ledger.check_own(published, edge)
        if copied > edge.size:
            raise ConfigurationError(
                f"the second copy holds {copied} entries and the database {edge.size}: run `secmtp ttp recover`"
            )
        self._witnesses.check_start(edge.size)
        self.publish()

    @property
    def size(self) -> int:
        """The number of entries that are published."""
        return self._ledger.size

    def check_clock(self) -> None:
        """Require that time is right before anything is decided. Raises Unavailable (online.md T6)."""
        self._witnesses.check_clock()

    def publish(self, parties: Collection[Sequence[str]] = ()) -> None:
        """Publish the committed tree. Repeating it is harmless; raises Unavailable when witnesses don't cosign.

        `parties` are the mail domains of each exchange that waits for this: their own witnesses don't count.
        """
        for _again in range(ROUNDS):
            edge, note = self._sign_tree()
            try:
                cosigned = self._witnesses.cosign(edge.size, note, partial(self._prove, edge), parties)
            except Overtaken as overtaken:
                self._require_reached(overtaken.size)  # another process showed them more: publish that
            else:
                self._show(Snapshot(edge, cosigned))
                return
        raise Unavailable("other processes are faster at having the ledger cosigned; ask again")

    def suits(self, parties: Collection[Sequence[str]]) -> bool:
        """Whether the newest published checkpoint has a quorum for each of these exchanges. For any thread."""
        note = self._ledger.snapshot.note
        return all(self._witnesses.enough(note, domains) for domains in parties)

    def check_parties(self, domains: Collection[str]) -> None:
        """Require that a quorum can be had without the parties' own witnesses. For any thread. Raises Unavailable."""
        self._witnesses.check_parties(domains)

    def follow(self) -> None:
        """Show what another process has published on this database. For a thread of its own."""
        with self._store.reading() as stored:
            newest = stored.newest_checkpoint()
            if newest is None or newest[0] <= self._ledger.size:
                return
            edge = load_edge(stored, newest[0])
        note = self._witnesses.cosigned(*newest)
        if note is not None:
            self._show(Snapshot(edge, note))

    def _prove(self, edge: Edge, old: int) -> tuple[bytes, ...]:
        return tiles.consistency(old, edge.size, self._ledger.reader(edge))

    def _require_reached(self, size: int) -> None:
        with self._store.reading() as stored:
            committed = stored.size()
        if committed < size:
            raise ConfigurationError(
                f"witnesses have cosigned {size} entries, here are {committed}: this database is older than what was "
                "published; stop the TTP and restore a newer one"
            )

    def _sign_tree(self) -> tuple[Edge, bytes]:
        """Sign the committed tree, whoever committed it, and store the checkpoint.

        COMMIT is the commit point. A crash before it: nothing was shown, and the same tree gives the same
        octets at the next start. A crash after it: the checkpoint is found then, and published.
        """
        with self._store.writing() as transaction:
            edge = load_edge(transaction, transaction.size())  # computed from stored octets, not from memory
            note = self._compare_and_sign(transaction, edge)
            self._archive.copy(transaction, edge.size)
        return edge, note

    def _compare_and_sign(self, transaction: Transaction, edge: Edge) -> bytes:
        """Sign a tree only if it continues the newest signed one, which somebody else may have signed meanwhile."""
        newest = transaction.newest_checkpoint()
        if newest is not None:
            self._ledger.check_own(newest[1], edge)
            if newest[0] == edge.size:
                return newest[1]
        note = self._ledger.sign(edge)
        transaction.put_checkpoint(edge.size, note)
        return note

    def _show(self, snapshot: Snapshot) -> None:
        self._head.remember(snapshot.note)
        self._ledger.publish(snapshot)
        self._published()
