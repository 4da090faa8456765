"""Jobs: how long they wait, who is told, and that many workers and sessions at once do each thing once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from secmtp_node.agents import jobs
from secmtp_node.agents.desk import Policy
from secmtp_node.agents.jobs import pause_after
from shared.api.messages import CompleteRequest
from shared.errors import Unavailable
from shared.evidence.bundle import Bundle
from tests.doubles.nodes import TwoNodes, content_of
from tests.doubles.parties import LETTER

ALICE, BOB = "alice@a.example", "bob@b.example"


class TestPauses:
    @pytest.mark.parametrize("drawn", [0, 255])
    def test_doubling_and_bounded(self, world: TwoNodes, drawn: int) -> None:
        """Pauses double up to the longest, and chance takes away at most half: never zero, however often."""
        policy = Policy(domains=("a.example",), first_pause=4, longest_pause=3600)
        desk = replace(world.a.desk, policy=policy, draw=lambda octets: bytes([drawn] * octets))
        pauses = [pause_after(desk, attempts) for attempts in (*range(40), 10**6)]
        for attempts, pause in enumerate(pauses):
            longest = min(3600, 4 * 2**attempts)
            assert max(1, longest // 2) <= pause <= longest
        assert pauses == sorted(pauses)

    def test_shortest(self, world: TwoNodes) -> None:
        """A pause of a second stays one: work that can't be done yet isn't tried without end."""
        policy = Policy(domains=("a.example",), first_pause=1, longest_pause=1)
        desk = replace(world.a.desk, policy=policy, draw=bytes)
        assert {pause_after(desk, attempts) for attempts in range(5)} == {1}


class TestTelling:
    def _one(self, world: TwoNodes) -> str:
        world.b.told.clear()
        assert jobs.run_one(world.b.desk)
        return world.b.told[-1][0]

    def test_whose_fault(self, world: TwoNodes) -> None:
        """What others or the network do is postponed quietly; what is wrong in this node is said aloud."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work()
        world.ttp.faults.down = True
        assert self._one(world) == "job postponed"
        world.ttp.faults.down = False
        world.clock.time += 61
        jobs.run_one(world.b.desk)
        (name,) = world.b.cipher_files()
        file = world.b.place / "data" / "ciphertexts" / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert self._one(world) == "job failed"
        file.write_bytes(whole)
        world.settle(3)
        assert len(world.b.mailbox(BOB)) == 1

    def test_nothing_of_the_letter(self, world: TwoNodes) -> None:
        """No event of a whole exchange, with its failures, has octets of the letter or a share in it."""
        letter = LETTER.replace(b"Dear Bob", b"Very-Secret-Text")
        world.ttp.faults.lost = 1
        world.wire.lost = 1
        world.a.submit(ALICE, [BOB], letter)
        world.settle(6)
        (bundle,) = world.ttp.outcomes.values()
        sent = world.a.outgoing(bundle.manifest.exchange)
        secret = world.a.desk.at_rest.open(sent.sealed_secret, "s_R of an outgoing exchange", sent.exchange)
        told = repr(world.a.told) + repr(world.b.told)
        assert "reported" in told
        for wanted in ("Very-Secret", secret.hex(), repr(secret)):
            assert wanted not in told


class TestAtOnce:
    def test_same_submission(self, world: TwoNodes) -> None:
        """Ten sessions that submit one letter at once are answered alike, for one exchange and one file."""
        world.a.desk.book.find(BOB)
        with ThreadPoolExecutor(10) as pool:
            said = set(pool.map(lambda _: world.a.submit(ALICE, [BOB], LETTER), range(10)))
        assert len(said) == 1
        assert len(world.a.exchanges()) == 1
        assert len(world.a.cipher_files()) == 1

    def test_workers(self, world: TwoNodes, monkeypatch: pytest.MonkeyPatch) -> None:
        """Several workers on either side carry, trade and deliver each of many letters once."""
        real, one_writer = world.ttp.complete, threading.Lock()

        def complete(request: CompleteRequest) -> Bundle:
            with one_writer:  # as the TTP's sequencer; the ledger of the double is for one thread
                return real(request)

        monkeypatch.setattr(world.ttp, "complete", complete)
        letters = [LETTER + f"{number}\r\n".encode() for number in range(8)]
        for letter in letters:
            world.a.submit(ALICE, [BOB], letter)

        def work(node: str) -> None:
            while jobs.run_one(world.a.desk if node == "a" else world.b.desk):
                pass

        with ThreadPoolExecutor(8) as pool:
            for _ in range(4):
                list(pool.map(work, "abababab"))
                world.a.follow()
        assert len(world.wire.carried) == world.ttp.asked == len(letters)
        assert sorted(map(content_of, world.b.mailbox(BOB).values())) == sorted(letters)
        assert len(world.a.mailbox(ALICE)) == len(letters)

    def test_feed_and_answer(self, world: TwoNodes) -> None:
        """The answer to the trade and the feed's page, learnt at the same moment, make one delivery."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.a.work()
        world.ttp.faults.lost = 1
        jobs.run_one(world.b.desk)  # traded; the answer was lost, so the feed has it too
        world.clock.time += 61
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.submit(jobs.run_one, world.b.desk), pool.submit(world.b.follow)
            assert one.result()
            other.result()
        world.settle(3)
        assert len(world.b.mailbox(BOB)) == 1
        assert world.b.alarms() == []


def test_failing_store_is_told_to_the_worker(world: TwoNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that can't even postpone the job makes the worker wait; the job comes again when its lease has ended."""
    world.a.submit(ALICE, [BOB], LETTER)

    def full(*_: object) -> None:
        raise Unavailable("the database failed")

    monkeypatch.setattr("secmtp_node.store.unit.SqlJobs.postpone", full)
    world.wire.down = True
    with pytest.raises(Unavailable):
        jobs.run_one(world.a.desk)
    assert not jobs.run_one(world.a.desk)
    monkeypatch.undo()
    world.wire.down = False
    world.clock.time += jobs.LEASE
    assert jobs.run_one(world.a.desk)
    assert len(world.wire.carried) == 1
