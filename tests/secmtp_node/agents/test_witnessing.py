"""The node as a witness (witness.md N1 to N8): what it believes of a ledger, what it cosigns, and what stops it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import pytest
from prometheus_client.parser import text_string_to_metric_families

from secmtp_node.agents.overview import overview
from secmtp_node.custody.witness import load_witness, new_witness
from secmtp_node.ports.values import Alarm, SeenCheckpoint, Task
from shared.errors import Conflict, Forbidden, NotFound, SecMTPError, Unavailable
from shared.evidence.bundle import Bundle
from shared.exchange.recipient import State as RecipientState
from shared.exchange.sender import State as SenderState
from shared.ledger import note
from shared.ledger.checkpoint import Checkpoint, sign_checkpoint
from shared.ledger.merkle import leaf_hash
from shared.ledger.note import Note
from tests.doubles.crafted import ALICE, BOB
from tests.doubles.nodes import DoubleNode, TwoNodes, dying
from tests.doubles.parties import LETTER
from tests.doubles.tree import Tree
from tests.doubles.witnesses import Cosigner, cosigned

TTP = "ttp.example"


def seen(node: DoubleNode) -> SeenCheckpoint:
    """Return what a node remembers."""
    with node.store.transaction() as unit:
        found = unit.checkpoints.newest(TTP)
    assert found is not None
    return found


def tree(*leaves: int) -> Tree:
    """Return a tree."""
    return Tree(leaf_hash(bytes([leaf])) for leaf in leaves)


def showing(world: TwoNodes, leaves: Iterable[int]) -> None:
    """Let the ledger show this tree from now on."""
    world.ttp.ledger.tree = tree(*leaves)


def send(world: TwoNodes, letter: bytes = LETTER) -> bytes:
    """Submit a letter from Alice to Bob and return its exchange."""
    world.a.submit(ALICE, [BOB], letter)
    return world.a.exchanges()[-1]


class TestLook:
    def test_cosigns_what_grows(self, world: TwoNodes) -> None:
        """Each newer checkpoint is remembered, cosigned with a time, and brought, once."""
        for leaves in (range(3), range(3), range(7), range(300 % 256)):
            showing(world, leaves)
            world.b.look()
            world.clock.time += 30
        brought = world.ttp.cosignatures
        assert [one.size for one in brought] == [3, 7, 44]
        signer = load_witness(world.b.place / "keys", "b.example")
        for one in brought:
            text = Checkpoint("ttp.example/ledger", one.size, tree(*range(one.size)).root()).encode()
            assert one.key == signer.verifier
            assert note.verify(Note(text, (one.line,)), {one.key}).signatures[0].key.name == "b.example/witness"
        assert seen(world.b).size == 44

    def test_outlives_the_process(self, world: TwoNodes) -> None:
        """What was seen is durable; a cosignature that wasn't brought is brought after the restart, the same one."""
        showing(world, range(3))
        world.ttp.faults.lost = 0
        node, put = world.b, world.ttp.put_cosignature

        def away(_cosignature: object) -> None:
            raise Unavailable("down")

        world.ttp.put_cosignature = away  # type: ignore[method-assign, assignment]
        with pytest.raises(Unavailable):
            node.look()
        stored = seen(node)
        assert not stored.brought
        world.ttp.put_cosignature = put  # type: ignore[method-assign]
        node.load()
        node.look()
        assert seen(node) == replace(stored, brought=True)
        assert world.ttp.cosignatures[0].line.encode() in stored.note.decode()

    @pytest.mark.parametrize("after", [False, True])
    def test_killed_at_any_commit(self, world: TwoNodes, after: bool) -> None:
        """A node that dies at any commit of a look goes on from what is durable; no size is cosigned with two roots."""
        size, at, died = 3, 0, True
        while died:
            at += 1
            for grown in (size, size + 2):
                showing(world, range(grown))
                died = dying(world.b, world.b.look, at, after=after)
            size += 2
            world.b.look()
            assert seen(world.b).size == size
            assert seen(world.b).brought
        assert at > 3
        brought = {(one.size, one.line) for one in world.ttp.cosignatures}
        assert len(brought) == len({one.size for one in world.ttp.cosignatures})
        assert world.b.alarms() == []

    @pytest.mark.parametrize("error", [Conflict("another key"), Forbidden("not yours")])
    def test_not_taken(self, world: TwoNodes, error: SecMTPError) -> None:
        """What the TTP refuses is told, and not brought again and again."""
        showing(world, range(3))
        asked = []

        def refuse(cosignature: object) -> None:
            asked.append(cosignature)
            raise error

        world.ttp.put_cosignature = refuse  # type: ignore[method-assign]
        world.b.look()
        world.b.look()
        assert len(asked) == 1
        assert "the TTP doesn't take our cosignature" in [event for event, _ in world.b.told]

    def test_not_there_yet(self, world: TwoNodes) -> None:
        """Another process of the TTP may not know the checkpoint yet: it is brought at the next look."""
        showing(world, range(3))
        put = world.ttp.put_cosignature

        def unknown(_cosignature: object) -> None:
            raise NotFound("not yet")

        world.ttp.put_cosignature = unknown  # type: ignore[method-assign, assignment]
        world.b.look()
        world.ttp.put_cosignature = put  # type: ignore[method-assign]
        world.b.look()
        assert len(world.ttp.cosignatures) == 1

    def test_not_the_logs(self, world: TwoNodes) -> None:
        """A checkpoint that isn't signed by the key of the TTP's record changes nothing."""
        showing(world, range(3))
        world.b.look()
        forged = sign_checkpoint(Checkpoint("ttp.example/ledger", 9, tree(*range(9)).root()), Cosigner("x").key)
        world.ttp.checkpoint = lambda: forged  # type: ignore[method-assign]
        with pytest.raises(SecMTPError, match=r"checkpoint\.signature"):
            world.b.look()
        assert seen(world.b).size == 3
        assert world.b.alarms() == []


class TestNewKey:
    def test_made_at_first_start(self, world: TwoNodes) -> None:
        """A directory of before has no witness key and gets one, for its owner only, which stays."""
        keys = world.b.place / "keys"
        assert not (keys / "witness.pem").exists()
        first = load_witness(keys, "b.example")
        assert (keys / "witness.pem").stat().st_mode & 0o777 == 0o600
        assert load_witness(keys, "b.example").verifier == first.verifier

    def test_names(self, world: TwoNodes) -> None:
        """A new key has a new name, and is the one that counts from then on."""
        keys = world.b.place / "keys"
        names = [load_witness(keys, "b.example").name]
        for _twice in range(2):
            made = new_witness(keys, "b.example")
            assert load_witness(keys, "b.example").verifier == made.verifier
            names.append(made.name)
        assert names == ["b.example/witness", "b.example/witness/2", "b.example/witness/3"]

    def test_waits_for_the_quorum(self, world: TwoNodes) -> None:
        """A key that never cosigned cosigns only what the TTP's quorum has; till then the node only remembers."""
        world.ttp.witnesses, world.ttp.quorum = (Cosigner("w.test").verifier,), 1
        showing(world, range(3))
        bare = world.ttp.checkpoint()
        world.b.look()
        world.b.look()
        assert world.ttp.cosignatures == []
        assert seen(world.b).size == 3
        parsed = note.parse(bare)
        line = note.cosign(parsed.text, "w.test", Cosigner("w.test").key, world.clock())
        world.ttp.checkpoint = lambda: Note(parsed.text, (*parsed.signatures, line)).encode()  # type: ignore[method-assign]
        world.b.look()
        assert [one.size for one in world.ttp.cosignatures] == [3]


class TestStop:
    """What no honest log shows."""

    def stopped(self, node: DoubleNode, kind: str) -> None:
        """Assert that a node has stopped new trades, with both notes as proof."""
        assert node.alarms() == [kind]
        with node.store.transaction() as unit:
            (alarm,) = unit.evidence.alarms(10)
        assert (b"\n" + alarm.data).count(b"\nttp.example/ledger\n") == 2
        assert kind in [event for event, _facts in node.told]
        assert seen(node).stopped.startswith(kind)

    def test_fork(self, world: TwoNodes) -> None:
        """Two roots for one size: both signed checkpoints are kept, and verify as the log's."""
        showing(world, range(5))
        world.b.look()
        showing(world, [0, 1, 2, 3, 9])
        world.b.look()
        self.stopped(world.b, "fork of the ledger")
        with world.b.store.transaction() as unit:
            (alarm,) = unit.evidence.alarms(10)
        first, _, second = alarm.data.rpartition(b"\nttp.example/ledger\n")
        for octets in (first, b"ttp.example/ledger\n" + second):
            public = world.ttp.ledger.checkpoint.public_key()
            verifier = note.verifier_key("ttp.example/ledger", note.KeyType.LOG, public)
            assert len(note.verify(note.parse(octets), {verifier}).signatures) == 1
        assert len(world.ttp.cosignatures) == 1

    def test_no_continuation(self, world: TwoNodes) -> None:
        """A larger tree that doesn't continue the one before isn't cosigned."""
        showing(world, range(5))
        world.b.look()
        showing(world, [0, 1, 2, 3, 9, 5, 6])
        world.b.look()
        self.stopped(world.b, "ledger that doesn't continue")
        assert len(world.ttp.cosignatures) == 1

    def test_rollback(self, world: TwoNodes) -> None:
        """A log may be behind for a minute; after that it was set back."""
        showing(world, range(5))
        world.b.look()
        showing(world, range(4))
        world.b.look()
        assert world.b.alarms() == []
        world.clock.time += 59
        world.b.look()
        assert world.b.alarms() == []
        world.clock.time += 1
        world.b.look()
        self.stopped(world.b, "rollback of the ledger")

    def test_lag_is_no_rollback(self, world: TwoNodes) -> None:
        """A log that was behind and came back is believed again, however often."""
        showing(world, range(5))
        world.b.look()
        for _often in range(3):
            showing(world, range(4))
            world.b.look()
            world.clock.time += 50
            showing(world, range(5))
            world.b.look()
        assert world.b.alarms() == []

    def test_a_bundle_of_another_history(self, world: TwoNodes) -> None:
        """A TTP that shows one log to everybody and another one in bundles is found out at the next look."""
        exchange = send(world)
        world.settle(2)
        incoming = world.b.incoming(exchange)
        assert incoming is not None
        assert incoming.state is RecipientState.DELIVERED
        showing(world, range(40))
        world.b.look()
        self.stopped(world.b, "ledger that doesn't continue")

    def test_a_bundle_that_is_ahead(self, world: TwoNodes) -> None:
        """A log that never reaches what a bundle showed is behind for good."""
        send(world)
        world.settle(2)
        real = world.ttp.ledger.tree
        size = real.size - 1
        world.ttp.ledger.tree = Tree(real.leaf(number) for number in range(size))
        world.b.look()
        world.clock.time += 60
        world.b.look()
        self.stopped(world.b, "rollback of the ledger")

    def test_honest_bundles(self, world: TwoNodes) -> None:
        """Checkpoints of bundles that lie on the log are checked and forgotten."""
        for _several in range(3):
            send(world)
            world.settle(2)
        for node in (world.a, world.b):
            node.look()
            with node.store.transaction() as unit:
                assert unit.checkpoints.shown("ttp.example/ledger", 10) == []
            assert node.alarms() == []


class TestStopped:
    """A node that has stopped new trades."""

    @pytest.fixture
    def forked(self, world: TwoNodes) -> TwoNodes:
        """Both nodes have seen a fork, while an exchange is open: Bob's node has signed and not traded yet."""
        send(world)
        world.a.work()
        history = world.ttp.ledger.tree
        showing(world, range(5))
        world.a.look()
        world.b.look()
        showing(world, range(1, 6))
        world.a.look()
        world.b.look()
        world.ttp.ledger.tree = history
        assert seen(world.a).stopped
        assert seen(world.b).stopped
        return world

    def test_submission(self, forked: TwoNodes) -> None:
        """A submission is put off with the reason, and nothing of it is stored."""
        before = forked.a.exchanges()
        with pytest.raises(Unavailable, match=r"no new trades at ttp\.example: fork of the ledger"):
            send(forked, b"Subject: another\r\n\r\nLetter.\r\n")
        assert forked.a.exchanges() == before

    def test_open_exchanges_go_on(self, forked: TwoNodes) -> None:
        """What is open is still traded, delivered and receipted."""
        exchange = forked.a.exchanges()[-1]
        forked.settle()
        assert forked.a.outgoing(exchange).state is SenderState.RECEIPTED
        assert len(forked.b.mailbox(BOB)) == 1

    def test_peers(self, world: TwoNodes) -> None:
        """A peer's envelope is put off while the alarm stands, and taken when the operator says so."""
        showing(world, range(5))
        world.b.look()
        showing(world, range(1, 6))
        world.b.look()
        exchange = send(world)
        world.a.work()
        assert world.b.incoming(exchange) is None
        assert world.a.outgoing(exchange).state is SenderState.QUEUED
        stopped = seen(world.b)
        with world.b.store.transaction() as unit:
            unit.checkpoints.put(replace(stopped, stopped=""))
        world.settle()
        assert world.a.outgoing(exchange).state is SenderState.RECEIPTED

    def test_letters_in_the_queue(self, world: TwoNodes) -> None:
        """A letter that was accepted before isn't brought to the peer while the alarm stands."""
        exchange = send(world)
        showing(world, range(5))
        world.a.look()
        showing(world, range(1, 6))
        world.a.look()
        world.settle(2)
        assert world.a.outgoing(exchange).state is SenderState.QUEUED
        assert world.b.incoming(exchange) is None


def _cosigned_by(names: tuple[str, ...], bundle: Bundle) -> Bundle:
    return cosigned(bundle, *names)


class TestQuorum:
    def witnesses(self, world: TwoNodes, quorum: int, *names: str) -> None:
        """Let the TTP say whom it waits for, and node a want two."""
        world.ttp.witnesses = tuple(Cosigner(name).verifier for name in names)
        world.ttp.quorum = quorum
        world.a.desk = replace(world.a.desk, policy=replace(world.a.desk.policy, quorum=2))

    def test_enough(self, world: TwoNodes) -> None:
        """Where the TTP waits for as many independent witnesses as the node wants, it sends."""
        self.witnesses(world, 2, "w1.test", "w2.test", "b.example/w")
        send(world)

    def test_too_few(self, world: TwoNodes) -> None:
        """With fewer it is said at sending, for good, not at the dispute."""
        self.witnesses(world, 1, "w1.test", "w2.test")
        with pytest.raises(Forbidden, match=r"wants 2 witnesses of the ledger, ttp\.example waits for 1"):
            send(world)
        assert world.a.exchanges() == []

    def test_a_promise_that_is_not_kept(self, world: TwoNodes) -> None:
        """Evidence with fewer witnesses than the record promised is taken with an alarm, enough without one."""
        self.witnesses(world, 2, "w1.test", "w2.test", "w3.test")
        for names, alarms in ((("w1.test", "w3.test"), 0), (("w1.test",), 1)):
            world.ttp.faults.bend = partial(_cosigned_by, names)
            exchange = send(world, f"Subject: {names}\r\n\r\nLetter.\r\n".encode())
            world.settle(3)
            assert world.a.outgoing(exchange).state is SenderState.RECEIPTED
            assert world.a.alarms() == ["evidence below the quorum"] * alarms

    def test_a_partys_own(self, world: TwoNodes) -> None:
        """The recipient's own witness doesn't count."""
        self.witnesses(world, 2, "w1.test", "b.example/w")
        with pytest.raises(Forbidden, match=r"too few witnesses that are independent of you and bob@b\.example"):
            send(world)
        assert world.a.exchanges() == []


class TestOverview:
    def test_metrics_and_json(self, world: TwoNodes) -> None:
        """Queue, alarms and ledgers stand in all three forms; a stop does, too."""
        send(world)
        showing(world, range(5))
        world.a.look()
        showing(world, range(1, 6))
        world.a.look()
        with world.a.store.transaction() as unit:
            found = overview(unit)
        assert found.stopped
        value = json.loads(json.dumps(found.as_json()))
        assert value["jobs"] == {Task.CARRY.value: {"waiting": 1, "failed": 0}}
        assert value["alarm_counts"] == {"fork of the ledger": 1}
        assert value["ledgers"][0]["size"] == 5
        lines = list(found.as_metrics())
        assert f'secmtp_node_jobs{{task="{Task.CARRY.value}"}} 1' in lines
        assert 'secmtp_node_alarms{kind="fork of the ledger"} 1' in lines
        assert 'secmtp_node_ledger_size{ttp="ttp.example",log="ttp.example/ledger"} 5' in lines
        assert 'secmtp_node_trades_stopped{ttp="ttp.example",log="ttp.example/ledger"} 1' in lines
        assert any("NO NEW TRADES at ttp.example: fork of the ledger" in line for line in found.as_text())

    def test_metrics_parse(self, world: TwoNodes) -> None:
        """The text is what Prometheus reads, also with an odd alarm in it."""
        with world.a.store.transaction() as unit:
            unit.evidence.alarm(Alarm('an "odd"\\ \n kind', None, "", b"", 1))
            text = "\n".join(overview(unit).as_metrics()) + "\n"
        families = {family.name: family.samples for family in text_string_to_metric_families(text)}
        assert families["secmtp_node_alarms"][0].labels == {"kind": 'an "odd"\\ \n kind'}
