"""Auditing a log: what is served must be under the signed root, older checkpoints must agree, entries must be sound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest

from shared.errors import EvidenceFault, NotFound
from shared.ledger import audit, tiles
from shared.ledger.audit import Checked, Finding, Replay, Rollback, SignedTree
from shared.ledger.checkpoint import Fork, VerifiedCheckpoint
from shared.ledger.entry import AnchorEntry, BindingEntry, encode
from shared.ledger.tiles import ENTRIES, WIDTH, TileName
from tests.doubles.logs import Log, exchange, octets

COUNT = 66_000  # 257 full tiles of level 0, one of level 1, and an edge of three levels


def audited(log: Log, start: int = 0, known: Iterable[VerifiedCheckpoint] = ()) -> list[bytes]:
    """Audit a log and return its entries."""
    tree = SignedTree(log.at(), log.fetch)
    return [entry for checked in audit.walk(tree, start, known) for entry in checked.entries]


ENTRIES_OF_BIG = [octets(number) for number in range(COUNT)]
BIG = Log(ENTRIES_OF_BIG)


def fault_of(action: Callable[[], object]) -> EvidenceFault:
    """Return the fault that an action ends with."""
    with pytest.raises(EvidenceFault) as fault:
        action()
    return fault.value


class TestSignedTree:
    @pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 513, 1000, COUNT])
    def test_all(self, size: int) -> None:
        """A sound log gives all its entries, and each tile and bundle of it is fetched exactly once."""
        log = Log(ENTRIES_OF_BIG[:size])
        assert audited(log) == log.entries
        assert sorted(log.fetched) == sorted(log.names())

    def test_every_octet(self) -> None:
        """Whichever octet of whichever file is changed, the audit ends at the file's own step."""
        log = Log(ENTRIES_OF_BIG[:600])
        audited(log)
        for name in set(log.fetched):
            data = log.fetch(name)
            for at in {0, 1, 33, len(data) // 2, len(data) - 1}:
                log.altered = {name: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]}
                step = fault_of(lambda: audited(log)).step
                partial = name.width < WIDTH and name.level != ENTRIES
                assert step == (
                    "ledger.entries" if name.level == ENTRIES else "ledger.root" if partial else "ledger.tile"
                )
            for wrong in (b"", data[:-1], data + b"\0", data + data):
                log.altered = {name: wrong}
                assert fault_of(lambda: audited(log)).step == (
                    "ledger.entries" if name.level == ENTRIES else "ledger.tile"
                )

    def test_another_log(self) -> None:
        """Tiles and entries of another log that agree among themselves aren't under this one's root."""
        other = Log([b"x" + entry for entry in ENTRIES_OF_BIG[:600]])
        tree = Log(ENTRIES_OF_BIG[:600]).at()
        assert fault_of(lambda: SignedTree(tree, other.fetch)).step == "ledger.root"

    def test_swapped(self) -> None:
        """Two good tiles, or two good entries, in each other's place are refused."""
        log = Log(ENTRIES_OF_BIG[:600])
        log.altered = {TileName(0, 0): log.full[0, 1], TileName(0, 1): log.full[0, 0]}
        assert fault_of(lambda: audited(log)).step == "ledger.tile"
        swapped = [log.entries[1], log.entries[0], *log.entries[2:256]]
        log.altered = {TileName(ENTRIES, 0): tiles.encode_entries(swapped)}
        fault = fault_of(lambda: audited(log))
        assert (fault.step, fault.reason) == ("ledger.entries", "tile/entries/000: entry 0 isn't the one in the tree")

    def test_memory(self) -> None:
        """Whatever the log's size, at most one full tile a level is kept."""
        tree = SignedTree(BIG.at(), BIG.fetch)
        most = 0
        for _ in audit.walk(tree):
            tree.take()
            most = max(most, len(tree._newest))
        assert most == 2

    def test_take(self) -> None:
        """What is taken is all that was fetched, once, in an order in which no bundle comes before its tile."""
        log = Log(ENTRIES_OF_BIG[:600])
        tree = SignedTree(log.at(), log.fetch)
        taken = [tree.take()]
        taken += [tree.take() for _ in audit.walk(tree)]
        names = [name for files in taken for name, _ in files]
        assert sorted(names) == sorted(log.fetched)
        assert all(names.index(TileName(0, number)) < names.index(TileName(ENTRIES, number)) for number in range(2))
        assert all(data == log.fetch(name) for files in taken for name, data in files)

    def test_beyond(self) -> None:
        """What the tree hasn't got isn't fetched."""
        log = Log(ENTRIES_OF_BIG[:600])
        tree = SignedTree(log.at(), log.fetch)
        log.fetched.clear()
        for level, number in ((0, 3), (1, 1), (2, 0)):
            with pytest.raises(NotFound):
                tree.tile(level, number)
        assert log.fetched == []


class TestWalk:
    @pytest.mark.parametrize("start", [1, 255, 256, 257, 300, 599, 600])
    def test_from_the_middle(self, start: int) -> None:
        """Going on from a size reads the entries behind it only."""
        log = Log(ENTRIES_OF_BIG[:600])
        known = [log.at(start)]
        assert audited(log, start, known) == log.entries[start:]
        bundles = [name.number for name in log.fetched if name.level == ENTRIES]
        assert bundles == list(range(start // 256, 3))[: len(bundles)]
        assert len(bundles) <= 3 - start // 256

    def test_known(self) -> None:
        """Checkpoints of every size of the log are consistent with it."""
        log = Log(ENTRIES_OF_BIG[:600])
        assert audited(log, known=(log.at(size) for size in range(601))) == log.entries
        assert len(log.fetched) == len(set(log.fetched))

    def test_big(self) -> None:
        """So are those of a log of three levels, from the middle on too."""
        sizes = [1, 255, 256, 65_280, 65_535, 65_536, 65_537, 65_999, COUNT]
        assert audited(BIG, 65_536, [BIG.at(size) for size in sizes]) == BIG.entries[65_536:]

    @pytest.mark.parametrize("size", [1, 255, 256, 257, 512, 599, 600])
    def test_fork(self, size: int) -> None:
        """A checkpoint over another tree is proof of a fork: both signed notes, whatever its size."""
        log = Log(ENTRIES_OF_BIG[:600])
        other = Log([b"other", *ENTRIES_OF_BIG[1:600]]).at(size)
        fault = fault_of(lambda: audited(log, known=[log.at(0), other]))
        assert isinstance(fault, Fork)
        assert {fault.first.signed, fault.second.signed} == {other.signed, log.at().signed}

    def test_fork_is_found_first(self) -> None:
        """A log that doesn't go on from where it was is refused before any entry is read."""
        log = Log(ENTRIES_OF_BIG[:600])
        other = Log([b"other", *ENTRIES_OF_BIG[1:600]]).at(300)
        fault_of(lambda: audited(log, 300, [other]))
        assert ENTRIES not in {name.level for name in log.fetched}

    def test_rollback(self) -> None:
        """A tree smaller than one that was signed before is a rollback, with both notes."""
        small, large = Log(ENTRIES_OF_BIG[:500]), Log(ENTRIES_OF_BIG[:600]).at()
        fault = fault_of(lambda: audited(small, known=[large]))
        assert isinstance(fault, Rollback)
        assert (fault.step, fault.first, fault.second) == ("ledger.rollback", large, small.at())

    def test_other_origin(self) -> None:
        """A checkpoint of another log says nothing about this one."""
        log = Log(ENTRIES_OF_BIG[:10])
        other = Log(ENTRIES_OF_BIG[:10], "other.example/ledger").at()
        assert fault_of(lambda: audited(log, known=[other])).step == "checkpoint.origin"

    def test_what_is_missing(self) -> None:
        """What the fetcher raises ends the audit."""
        log = Log(ENTRIES_OF_BIG[:600])

        def fetch(name: TileName) -> bytes:
            if name == TileName(0, 1):
                raise NotFound("gone")
            return log.fetch(name)

        with pytest.raises(NotFound, match="gone"):
            list(audit.walk(SignedTree(log.at(), fetch)))


class Memory:
    """Remembers which exchange stood first where."""

    def __init__(self) -> None:
        self.first: dict[bytes, int] = {}

    def __call__(self, exchanges: Sequence[tuple[bytes, int]]) -> list[tuple[int, int]]:
        """Return the repeats."""
        return [(index, self.first[name]) for name, index in exchanges if self.first.setdefault(name, index) != index]


def replayed(*found: bytes) -> tuple[list[Finding], Replay]:
    """Replay entries."""
    replay = Replay(Memory(), 5)
    return replay.read(Checked(100, found)), replay


class TestReplay:
    def test_sound(self) -> None:
        """Entries that are sound are counted by kind and outcome."""
        findings, replay = replayed(
            exchange(1),
            exchange(2, "COMPLETED"),
            encode(BindingEntry(octets(1), octets(1), 5)),
            encode(AnchorEntry(octets(1), octets(1), 6)),
        )
        assert findings == []
        assert replay.counts == {"exchange": 2, "EXPIRED": 1, "COMPLETED": 1, "binding": 1, "anchor": 1}
        assert replay.time == 6

    @pytest.mark.parametrize("second", ["EXPIRED", "ABORTED", "COMPLETED"])
    def test_second_outcome(self, second: str) -> None:
        """A second entry for one exchange is found, the same outcome again too, with the place of the first."""
        findings, replay = replayed(exchange(1), exchange(2), exchange(1, second))
        assert findings == [Finding("exchange.outcomes", 102, "its exchange has an outcome already, in entry 100")]
        later = replay.read(Checked(103, (exchange(2), exchange(3))))
        assert [(finding.step, finding.index) for finding in later] == [("exchange.outcomes", 103)]

    def test_only_exchanges(self) -> None:
        """Ids of other kinds are salted; that two are equal says nothing."""
        findings, _ = replayed(*[encode(BindingEntry(octets(1), octets(1), 5))] * 2, exchange(1))
        assert findings == []

    def test_unreadable(self) -> None:
        """Garbage among good entries is found at its index, and the others are read all the same."""
        findings, replay = replayed(exchange(1), b"garbage", exchange(2) + b" ", exchange(1))
        assert [(finding.step, finding.index) for finding in findings] == [
            ("entry.syntax", 101),
            ("entry.syntax", 102),
            ("exchange.outcomes", 103),
        ]
        assert replay.counts["unreadable"] == 2

    def test_time(self) -> None:
        """A time before the one of an earlier entry is found; equal times are fine."""
        findings, replay = replayed(
            exchange(1), exchange(2, time=9), exchange(3, time=8), exchange(4, time=9), exchange(5, time=4)
        )
        assert [(finding.step, finding.index) for finding in findings] == [("entry.time", 102), ("entry.time", 104)]
        assert replay.time == 9
