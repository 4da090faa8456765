"""A TTP that was run by its first version and is started by this one."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import MetaData, select

from shared.crypto.keys import key_id
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle
from tests.doubles.parties import NOW
from tests.doubles.served import NodeClient, Served
from ttp_server.store.database import open_engine, upgrade

NEW = {"alembic_version", "revocations", "sqlite_sequence"}


def to_first_version(database: Path) -> None:
    """Replace a database by one of the first revision with the same rows, as far as it had a place for them."""
    now = database.with_suffix(".now")
    database.rename(now)
    new, old = open_engine(f"sqlite:///{now}"), open_engine(f"sqlite:///{database}").execution_options(writing=True)
    upgrade(old, "0001")
    was, is_now = MetaData(), MetaData()
    was.reflect(old)
    is_now.reflect(new)
    with new.connect() as source, old.begin() as target:
        for table in was.sorted_tables:
            columns = [is_now.tables[table.name].c[column.name] for column in table.columns]
            rows = [dict(row) for row in source.execute(select(*columns)).mappings()]
            if rows and table.name not in NEW:
                target.execute(table.insert(), rows)
    new.dispose()
    old.dispose()
    now.unlink()


def test_serves_an_old_database(world: Served, a: NodeClient, b: NodeClient) -> None:
    """Nodes, bindings, outcomes, feed and ledger are all there after the start, and everything goes on."""
    bob, authority = world.parties.bob, world.parties.b
    assert b.publish(bob, authority).status_code == 201
    exchange, late = world.exchange(b"letter"), world.exchange(b"late", created=NOW - 60)
    token = bundles.decode(b.complete(exchange).content).token
    fed = a.feed()
    world.stop()
    to_first_version(world.directory / "data" / "ttp.sqlite")
    world.clock.time += 1
    world.start()
    assert a.feed(fed.cursor - 1).bundles[0].token == token
    assert bundles.decode(b.complete(exchange).content).token == token
    assert a.look_up(bob.address).status_code == 200
    with world.ttp.desk.store.reading() as stored:
        assert stored.same_person("other@b.example", bob.address) == bob.address
    assert b.revoke(bob.address, key_id(bob.receipt.public_key()), authority).status_code == 201
    assert a.look_up(bob.address).status_code == 404
    receipt = verify_bundle(bundles.decode(b.complete(late).content), world.trust)
    assert receipt.nrd.receipt_key.effective is not None
    assert [bundle.manifest.exchange for bundle in a.feed().bundles] == [
        exchange.manifest.exchange,
        late.manifest.exchange,
    ]
