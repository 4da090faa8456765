"""Fixtures of the tests of the SMTP edge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.listening import Edge, edge_in


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    """Real listeners with an application that holds what it was given."""
    with edge_in(tmp_path) as running:
        yield running
