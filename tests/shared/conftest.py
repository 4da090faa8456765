"""Fixtures of the tests of the pure core."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cases() -> Path:
    """The folder of messages from the field."""
    return Path(__file__).parent.parent / "cases"
