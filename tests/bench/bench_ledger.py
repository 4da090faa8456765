"""What the ledger costs: `make bench`. Not part of `make test`; it takes some minutes and wants a quiet machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import pytest
from sqlalchemy import func, select, text

from shared.ledger import proof as proofs
from tests.doubles import synthetic
from tests.doubles.ledger import Numbered
from tests.doubles.postgres import Server
from tests.doubles.rounds import complete, fresh_exchange
from tests.doubles.served import Served, fill_database
from ttp_server.app import TTP, archive_directory, build
from ttp_server.settings import load
from ttp_server.store import tables

SMALL, LARGE = 10_048, 1_000_000  # the same modulo 256, so both edges are as wide at their lowest level
APPENDS = 256  # once through every width of the lowest level
SERIAL, CLIENTS, EACH = 300, 16, 50
pytestmark = [pytest.mark.both_databases, pytest.mark.timeout(1800)]
