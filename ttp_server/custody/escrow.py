"""Escrow keys in epochs: made in time, opened here and nowhere else, destroyed when nothing needs them.

An epoch is offered while a manifest made now could still expire under it. Its key is destroyed after
`open_until` and a grace: what was sealed to it can't be opened by anybody then.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from shared.crypto.keys import HPKE_KINDS, HpkePrivateKey, HpkePublicKey, decode_private, encode_private, generate_hpke
from shared.errors import ConfigurationError, Malformed, OurFault
from shared.evidence.composition import DoesNotOpen, Opened, open_escrow
from shared.evidence.manifest import Manifest
from shared.evidence.records import EscrowEpoch
from shared.programs.files import locked, read_secret, sync_directory, write_secret
from ttp_server.ports.services import EpochRows
from ttp_server.ports.values import EpochRow

DAY = 24 * 3600
OPEN_FOR = 180 * DAY
RENEW_BEFORE = 60 * DAY
GRACE = 30 * DAY
MAX_KEY = 4096
LOCK = "epochs.lock"


class Escrow:
    """Keeper of the escrow keys: rows in the database, private keys in files."""

    def __init__(self, directory: Path, rows: EpochRows) -> None:
        self._keys = directory / "keys"
        self._rows = rows
        self._lock = threading.Lock()
        self._private: dict[int, HpkePrivateKey] = {}
        self._known: dict[int, EscrowEpoch] = {}
        self._offered: tuple[EscrowEpoch, ...] = ()

    def epochs(self) -> tuple[EscrowEpoch, ...]:
        """Return the epochs that are offered."""
        return self._offered

    def epoch(self, number: int) -> EscrowEpoch | None:
        """Return an epoch that was ever offered, also when its private key is destroyed."""
        return self._known.get(number)

    def upkeep(self, now: int) -> None:
        """Make what will be needed, destroy what isn't, load the rest. Safe to repeat, and after a crash."""
        with self._lock, locked(self._keys.parent / LOCK):  # other processes may share directory and database
            for kind in HPKE_KINDS:
                if not any(row.kind == kind and row.open_until - now >= RENEW_BEFORE for row in self._rows.all()):
                    self._make(kind, now)
            for row in self._rows.all():
                if row.destroyed is None and now >= row.open_until + GRACE:
                    self._destroy(row, now)
            rows = self._rows.all()
            live = [row.epoch for row in rows if row.destroyed is None]
            self._private = {row.epoch: self._load(row) for row in rows if row.destroyed is None}
            self._known = {
                row.epoch: EscrowEpoch(row.epoch, HpkePublicKey(row.kind, row.public), row.open_until) for row in rows
            }
            self._offered = tuple(self._known[number] for number in live)

    def restore_rows(self, now: int) -> int:
        """Write a row for each key that has none, after the database was lost, and return how many those were.

        Until when an epoch was open isn't known any more: what is assumed is the latest that it can have been. A
        file that a crash cut off is passed over: an epoch is offered only when its key is whole.
        """
        with self._lock, locked(self._keys.parent / LOCK):
            known, added = {row.epoch for row in self._rows.all()}, 0
            for number in self._numbers():
                if number not in known:
                    with suppress(Malformed):
                        public = decode_private(read_secret(self._file(number), MAX_KEY)).public
                        self._rows.add(EpochRow(number, public.kind, public.raw, now + OPEN_FOR))
                        added += 1
        return added

    def open(self, manifest: Manifest, escrow: bytes) -> Opened | DoesNotOpen:
        """Open E_T with the key that M names. Raises EvidenceFault, or OurFault if that key is gone."""
        key = self._private.get(manifest.core.ttp.epoch)
        if key is None:
            raise OurFault(f"the TTP has no escrow key of epoch {manifest.core.ttp.epoch}: the fault is the TTP's")
        return open_escrow(manifest, escrow, key)

    def _make(self, kind: str, now: int) -> None:
        # A file without a row is what a crash left, or all that is left of an epoch whose row was lost with its
        # database. Which of the two isn't known, so it stays, and its number isn't given out again.
        number = max((*(row.epoch for row in self._rows.all()), *self._numbers()), default=0) + 1
        key = generate_hpke(kind)
        write_secret(self._file(number), encode_private(key))
        # Commit point: the epoch exists when its row does; its key is on disk by then.
        self._rows.add(EpochRow(number, kind, key.public.raw, now + OPEN_FOR))

    def _destroy(self, row: EpochRow, now: int) -> None:
        path = self._file(row.epoch)
        if path.exists():
            self._shred(path)
        self._rows.destroyed(row.epoch, now)

    def _load(self, row: EpochRow) -> HpkePrivateKey:
        path = self._file(row.epoch)
        key = decode_private(read_secret(path, MAX_KEY))
        if (key.public.kind, key.public.raw) != (row.kind, row.public):
            # With another key every honest escrow would seem not to open, and its sender a cheat.
            raise ConfigurationError(f"{path} isn't the key that is offered as epoch {row.epoch}; restore that one")
        return key

    def _numbers(self) -> list[int]:
        """Return the numbers of all epochs of which there is a file."""
        named = (path.stem.removeprefix("escrow-") for path in self._keys.glob("escrow-*.key"))
        return sorted(int(number) for number in named if number.isascii() and number.isdecimal())

    def _file(self, number: int) -> Path:
        return self._keys / f"escrow-{number}.key"

    @staticmethod
    def _shred(path: Path) -> None:
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
        sync_directory(path.parent)
