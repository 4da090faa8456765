"""The ledger as anybody sees it over HTTPS, and what a start refuses to serve."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import pytest

from shared.encoding import base64url
from shared.errors import ConfigurationError
from shared.ledger import proof as proofs
from shared.ledger.checkpoint import Checkpoint, VerifiedCheckpoint, check_extension, open_checkpoint, sign_checkpoint
from shared.ledger.merkle import EMPTY_ROOT
from tests.doubles.ledger import log_key, stored_entries
from tests.doubles.parties import LedgerTTP
from tests.doubles.served import NodeClient, Served


def checkpoint(world: Served) -> VerifiedCheckpoint:
    """The newest checkpoint, verified."""
    answer = world.client.get("/ledger/checkpoint")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    return open_checkpoint(answer.content, log_key(world))


def grow(world: Served, b: NodeClient, sizes: Sequence[int]) -> list[VerifiedCheckpoint]:
    """Trade until the ledger has each of these sizes; return the checkpoints over them."""
    made = [checkpoint(world)]
    for size in sizes:
        while world.ttp.desk.ledger.size < size:
            assert b.complete(world.exchange(b"entry")).status_code == 200
        made.append(checkpoint(world))
    return made


def consistency(world: Served, old: int, size: int) -> tuple[bytes, ...]:
    """Ask for a consistency proof."""
    answer = world.client.get(f"/ledger/consistency/{old}?size={size}")
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert (document["v"], document["old"], document["size"]) == (1, old, size)
    return tuple(base64url.decode(one, length=32) for one in document["hashes"])


class TestPublic:
    def test_empty(self, world: Served) -> None:
        """A new ledger has a signed checkpoint over nothing before anybody has traded."""
        empty = checkpoint(world)
        assert (empty.origin, empty.size, empty.root) == ("ttp.example/ledger", 0, EMPTY_ROOT)
        assert world.client.get("/ledger/inclusion/0").status_code == 404

    def test_only_grows(self, world: Served, b: NodeClient) -> None:
        """Between any two checkpoints that were ever seen the ledger proves that it only grew, across restarts too."""
        seen = grow(world, b, [1, 2, 3, 5, 8])
        world.restart()
        world.clock.time += 1
        seen += grow(world, b, [9])
        for older, newer in itertools.combinations_with_replacement(seen, 2):
            check_extension(older, newer, consistency(world, older.size, newer.size))

    def test_every_entry_is_included(self, world: Served, b: NodeClient) -> None:
        """Each entry, and no other at its place, is proven to stand under the newest checkpoint."""
        newest = grow(world, b, [7])[-1]
        entries = stored_entries(world)
        for entry in entries:
            answer = world.client.get(f"/ledger/inclusion/{entry.index}")
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            proof = proofs.decode(answer.content)
            included = proofs.verify(proof, entry.entry, log_key(world))
            assert (included.index, included.checkpoint.size) == (entry.index, newest.size)

    def test_under_any_checkpoint_by_its_size(self, world: Served, b: NodeClient) -> None:
        """A proof can be asked for by the size of whatever signed checkpoint one holds, also of an old one."""
        seen = grow(world, b, [2, 3, 6])[1:]
        entries = stored_entries(world)
        for one in seen:
            for entry in entries[: one.size]:
                answer = world.client.get(f"/ledger/inclusion/{entry.index}?size={one.size}")
                proof = proofs.decode(answer.content)
                assert proofs.verify(proof, entry.entry, log_key(world)).checkpoint == one

    @pytest.mark.parametrize(
        "path",
        [
            "inclusion/3",
            f"inclusion/{2**52}",
            "inclusion/0?size=4",
            "inclusion/2?size=2",
            "consistency/1?size=4",
            "consistency/0?size=4",
        ],
    )
    def test_not_yet(self, world: Served, b: NodeClient, path: str) -> None:
        """What isn't under a signed checkpoint yet is answered 404, never with a proof that can't verify."""
        grow(world, b, [3])
        answer = world.client.get(f"/ledger/{path}")
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:secmtp:problem:not-found")

    @pytest.mark.parametrize(
        "path",
        [
            "inclusion/x",
            "inclusion/-1",
            "inclusion/1.0",
            "inclusion/%C2%B2",
            "inclusion/" + "9" * 17,
            "inclusion/0?size=x",
            "consistency/x",
            "consistency/-1",
            "consistency/1?size=",
        ],
    )
    def test_not_a_number(self, world: Served, b: NodeClient, path: str) -> None:
        """An index or size that isn't a plain number is refused as malformed."""
        grow(world, b, [1])
        assert world.client.get(f"/ledger/{path}").status_code == 400

    def test_backwards(self, world: Served, b: NodeClient) -> None:
        """A proof from a larger to a smaller tree isn't there to be had, and asking for it is no fault of ours."""
        grow(world, b, [3])
        assert world.client.get("/ledger/consistency/3?size=2").status_code in {400, 404}
        assert world.client.get("/ledger/consistency/4").status_code in {400, 404}

    def test_trivial_consistency(self, world: Served, b: NodeClient) -> None:
        """From nothing, and from a tree to itself, the proof is empty."""
        grow(world, b, [3])
        assert consistency(world, 0, 3) == consistency(world, 3, 3) == ()

    def test_names_nobody(self, world: Served, b: NodeClient) -> None:
        """No entry holds an address, a domain or a word of the letter."""
        assert b.publish(world.parties.bob, world.parties.b).status_code == 201
        grow(world, b, [3])
        for entry in stored_entries(world):
            # Digests are 43 characters of base64url, in which a short name may stand by chance.
            texts = [text for text in json.loads(entry.entry).values() if isinstance(text, str) and len(text) != 43]
            assert not any(word in text for word in ("bob", "alice", "example", "letter") for text in texts)


def execute(*statements: tuple[str, tuple[Any, ...]]) -> Callable[[Served], None]:
    """Return an edit of the database, by an owner who took its triggers away."""

    def edit(world: Served) -> None:
        with closing(sqlite3.connect(world.directory / "data" / "ttp.sqlite")) as database, database:
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                database.execute(f'DROP TRIGGER "{name}"')
            for statement, values in statements:
                database.execute(statement, values)

    return edit


def other_key(world: Served) -> bytes:
    """A checkpoint over the right tree that another key signed."""
    edge = world.ttp.desk.ledger.snapshot.edge
    other = LedgerTTP(world.parties.root).checkpoint
    return sign_checkpoint(Checkpoint("ttp.example/ledger", edge.size, edge.root()), other)


def signed_by_another(world: Served) -> None:
    """Replace the newest checkpoint by one of another key."""
    execute(("UPDATE checkpoints SET note = ? WHERE size = 3", (other_key(world),)))(world)


def over_more(world: Served) -> None:
    """Sign and store a checkpoint over more entries than there are."""
    note = sign_checkpoint(Checkpoint("ttp.example/ledger", 9, bytes(32)), world.ttp.keys.checkpoint)
    execute(("INSERT INTO checkpoints (size, note) VALUES (9, ?)", (note,)))(world)


def other_tree(world: Served) -> None:
    """Store a checkpoint of the right key and size over another tree."""
    note = sign_checkpoint(Checkpoint("ttp.example/ledger", 3, bytes(32)), world.ttp.keys.checkpoint)
    execute(("UPDATE checkpoints SET note = ? WHERE size = 3", (note,)))(world)


def swapped(world: Served) -> None:
    """Exchange the places of two entries, hashes and all."""
    execute(
        ('UPDATE entries SET "index" = 77 WHERE "index" = 0', ()),
        ('UPDATE entries SET "index" = 0 WHERE "index" = 1', ()),
        ('UPDATE entries SET "index" = 1 WHERE "index" = 77', ()),
    )(world)


EDITS = {
    "entry": execute(
        ("UPDATE entries SET entry = CAST(replace(entry, 'COMPLETED', 'EXPIRED') AS BLOB) WHERE \"index\" = 1", ())
    ),
    "body": execute(('UPDATE entries SET body = ? WHERE "index" = 1', (b"another",))),
    "salt": execute(('UPDATE entries SET salt = ? WHERE "index" = 1', (bytes(32),))),
    "leaf hash": execute(('UPDATE entries SET leaf_hash = ? WHERE "index" = 1', (bytes(32),))),
    "missing": execute(('DELETE FROM entries WHERE "index" = 1', ())),
    "missing first": execute(('DELETE FROM entries WHERE "index" = 0', ())),
    "missing last": execute(('DELETE FROM entries WHERE "index" = 2', ())),
    "swapped": swapped,
    "signed by another": signed_by_another,
    "over more": over_more,
    "other tree": other_tree,
}


class TestStart:
    @pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
    def test_refuses_an_edited_ledger(self, world: Served, b: NodeClient, edit: Callable[[Served], None]) -> None:
        """A ledger in which anything was edited isn't served: what it signed before would contradict it."""
        grow(world, b, [3])
        world.stop()
        edit(world)
        with pytest.raises(ConfigurationError):
            world.start()

    def test_refuses_an_old_backup(self, world: Served, b: NodeClient) -> None:
        """A database from a backup, in which published entries are missing, isn't served, though it is whole."""
        grow(world, b, [1])
        world.stop()
        shutil.copytree(world.directory / "data", world.directory / "backup")
        world.clock.time += 1
        world.start()
        grow(world, b, [2])
        world.stop()
        shutil.rmtree(world.directory / "data")
        shutil.copytree(world.directory / "backup", world.directory / "data")
        with pytest.raises(ConfigurationError, match="older"):
            world.start()

    def test_signs_what_wasnt(self, world: Served, b: NodeClient) -> None:
        """Entries that were committed without a checkpoint get theirs before anything is served."""
        seen = grow(world, b, [3])
        world.stop()
        execute(("DELETE FROM checkpoints WHERE size > 1", ()))(world)
        world.start()
        assert checkpoint(world) == seen[-1]

    def test_goes_on(self, world: Served, b: NodeClient) -> None:
        """A ledger that nobody touched is served as it was, and grows from there."""
        before = grow(world, b, [3])[-1]
        world.restart()
        world.clock.time += 1
        assert checkpoint(world) == before
        assert grow(world, b, [5])[-1].size == 5
