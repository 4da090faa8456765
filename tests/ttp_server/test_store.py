"""The store when the database fails: what is lost is told as lost, and a bad value hurts only its own proposal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from sqlalchemy import Engine, text

from shared.errors import Conflict, OurFault, Unavailable
from ttp_server.ports.store import Transaction, TransactionLost
from ttp_server.ports.values import Node, StoredEntry
from ttp_server.store.database import open_engine, upgrade
from ttp_server.store.sql import SqlStore

NODE = Node(b"\x01" * 32, ("a.example",))
ENTRY = StoredEntry(0, 1, "test", b"entry", b"\x01" * 32, b"\x02" * 32, b"body")


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """A database at head."""
    made = open_engine(url)
    upgrade(made)
    yield made
    made.dispose()


@pytest.fixture
def store(engine: Engine) -> SqlStore:
    """The store on it."""
    return SqlStore(engine)


def together(transaction: Transaction, *steps: Callable[[], None]) -> None:
    """Do steps that stand or fall together, as one proposal's do."""
    with transaction.savepoint():
        for step in steps:
            step()


def write(store: SqlStore, *steps: Callable[[Transaction], object]) -> None:
    """Do steps in a transaction."""
    with store.writing() as transaction:
        for step in steps:
            step(transaction)


@pytest.mark.both_databases
class TestSavepoint:
    def test_what_exists_stands(self, store: SqlStore) -> None:
        """A second row where one may be is a conflict; the transaction goes on and is kept."""
        with store.writing() as transaction:
            transaction.put_entry(ENTRY)
            with pytest.raises(Conflict):
                together(transaction, lambda: transaction.put_node(NODE), lambda: transaction.put_entry(ENTRY))
            transaction.put_enrolment_token(b"\x03" * 32, ["a.example"], 9)
        with store.writing() as transaction:
            assert (transaction.size(), transaction.node(NODE.key_id)) == (1, None)
            assert transaction.take_enrolment_token(b"\x03" * 32, NODE.key_id, 1) == ("a.example",)


class TestPostgreSQL:
    @pytest.fixture
    def kind(self) -> str:
        """What is PostgreSQL's alone."""
        return "postgresql"

    @pytest.fixture
    def kill(self, url: str) -> Iterator[Callable[[], None]]:
        """End every connection of the database, as a restart of the server does."""
        other = open_engine(url)
        end = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

        def kill() -> None:
            with other.connect() as connection:
                assert connection.scalar(end), "nobody was connected"

        yield kill
        other.dispose()

    def test_a_value_that_doesnt_fit(self, store: SqlStore) -> None:
        """A text with U+0000, which PostgreSQL can't hold, undoes its own proposal and no other."""
        with store.writing() as transaction:
            with transaction.savepoint():
                transaction.put_node(NODE)
            put_domain = partial(transaction.put_domain, "a\x00.example", "record")
            with pytest.raises(OurFault, match="doesn't fit"):
                together(transaction, lambda: transaction.put_entry(ENTRY), put_domain)
        with store.reading() as stored:
            assert (stored.node(NODE.key_id), stored.size()) == (NODE, 0)

    def test_a_connection_that_is_lost_inside(self, store: SqlStore, kill: Callable[[], None]) -> None:
        """When the connection is lost in the middle, the whole transaction is lost and said to be."""

        def lose(t: Transaction) -> None:
            together(t, lambda: t.put_node(NODE), kill, lambda: t.put_entry(ENTRY))

        with pytest.raises(TransactionLost):
            write(store, lose)
        with store.reading() as stored:
            assert stored.node(NODE.key_id) is None

    def test_a_connection_that_is_lost_at_commit(self, store: SqlStore, kill: Callable[[], None]) -> None:
        """When the connection is lost before COMMIT, whoever wrote is told to ask again, and nothing is kept."""
        with pytest.raises(Unavailable):
            write(store, lambda t: t.put_node(NODE), lambda _: kill())
        with store.reading() as stored:
            assert stored.node(NODE.key_id) is None

    def test_a_restarted_server(self, store: SqlStore, kill: Callable[[], None]) -> None:
        """Connections that died while nobody used them are replaced unnoticed."""
        with store.writing() as transaction:
            transaction.put_node(NODE)
        kill()
        with store.reading() as stored:
            assert stored.node(NODE.key_id) == NODE
