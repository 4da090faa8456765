"""Two nodes and a TTP for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.nodes import TwoNodes


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TwoNodes]:
    """Alice and Carol at node a, Bob and Dave at node b, a TTP."""
    made = TwoNodes(tmp_path)
    yield made
    made.close()
