"""The number outside the database: durable, never lower, and no number where nobody can know."""

from __future__ import annotations

from pathlib import Path

import pytest

from secmtp_node.store.database import SqlStore, open_engine, upgrade
from secmtp_node.store.watermark import Watermark


def test_survives(tmp_path: Path) -> None:
    """What was raised is there for the next process; a lower number changes nothing."""
    mark = Watermark(tmp_path / "mark")
    assert mark.value is None
    mark.raise_to(7)
    mark.raise_to(3)
    mark.close()
    again = Watermark(tmp_path / "mark")
    assert again.value == 7
    again.close()


@pytest.mark.parametrize("octets", [b"", b"7", b"x" * 21, b"0" * 19 + b"\n"])
def test_no_number(tmp_path: Path, octets: bytes) -> None:
    """A file that is empty, cut or something else holds no number: the database is then taken for a restored one."""
    (tmp_path / "mark").write_bytes(octets)
    mark = Watermark(tmp_path / "mark")
    assert mark.value is None
    mark.close()


def fail_marked(store: SqlStore) -> None:
    """Fail in a transaction that was marked."""
    with store.transaction() as unit:
        unit.mark()
        raise RuntimeError


def test_follows_commits_alone(tmp_path: Path) -> None:
    """The file follows marked transactions that were committed; one that was rolled back leaves no trace."""
    engine = open_engine(f"sqlite:///{tmp_path / 'node.sqlite'}")
    upgrade(engine)
    mark = Watermark(tmp_path / "mark")
    store = SqlStore(engine, mark)
    for expected in (1, 2):
        with store.transaction() as unit:
            unit.mark()
            unit.mark()  # once a transaction
        assert mark.value == expected
    with pytest.raises(RuntimeError):
        fail_marked(store)
    with store.transaction() as unit:
        assert unit.mark_of_database() == 2
    assert mark.value == 2
    mark.close()
    engine.dispose()
