"""A TTP that waits for witnesses (witness.md T1 to T6): who must have signed before s_T leaves, and what stops it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.api import messages
from shared.errors import ConfigurationError, Unavailable
from shared.evidence import bundle as bundles
from shared.evidence.receipt import verify_bundle
from shared.evidence.records import verify_ttp
from shared.ledger import note
from shared.ledger.witness import Signer
from tests.doubles.postgres import Server
from tests.doubles.served import NodeClient
from tests.doubles.witness_servers import WitnessedTTP, witnessed
from tests.doubles.witnesses import Cosigner
from ttp_server.app import build
from ttp_server.services.witnesses import Terms, WitnessAt, policy_of
from ttp_server.settings import load


def node(world: WitnessedTTP) -> NodeClient:
    """Return the enrolled node of Bob's domain."""
    client = NodeClient(world, "b.example")
    assert client.enrol(world.parties.b).status_code == 201
    return client


def cosigners(world: WitnessedTTP) -> set[str]:
    """Return who cosigned the newest published checkpoint."""
    parsed = note.parse(world.client.get("/ledger/checkpoint").content)
    keys = {Cosigner(one.name).verifier for one in world.witnesses}
    return {signature.key.name for signature in note.verify(parsed, {world.log, *keys}).signatures} - {world.log.name}


class TestCosign:
    def test_the_answer_is_witnessed(self, tmp_path: Path) -> None:
        """The bundle that answers a trade meets a policy of the quorum, and the published checkpoint has it too."""
        with witnessed(tmp_path) as world:
            bob = node(world)
            for number in range(3):
                answer = bob.complete(world.exchange(b"letter %d" % number))
                assert answer.status_code == 200, answer.text
                receipt = verify_bundle(bundles.decode(answer.content), world.trust, world.policy)
                assert len(receipt.inclusion.witnessing.counted) >= 2
            assert len(cosigners(world)) >= 2

    def test_one_slow_witness(self, tmp_path: Path) -> None:
        """A witness that hangs, and one that is down, hold nobody up while the quorum is there."""
        with witnessed(tmp_path, "w1.test", "w2.test", "w3.test", "w4.test") as world:
            bob = node(world)
            world.witnesses[0].let.clear()
            world.witnesses[1].stop()
            for number in range(3):
                assert bob.complete(world.exchange(b"letter %d" % number)).status_code == 200
            assert cosigners(world) == {"w3.test", "w4.test"}
            metrics = world.client.get("/metrics").text
            assert 'secmtp_ttp_witness_failures{witness="w3.test"} 0.0' in metrics
            assert 'secmtp_ttp_witness_failures{witness="w2.test"} 0.0' not in metrics
            assert "secmtp_ttp_clock_offset_seconds 0.0" in metrics
            world.witnesses[0].let.set()

    def test_no_quorum(self, tmp_path: Path) -> None:
        """Without a quorum s_T stays inside, with 503 naming the reason; later the same trade is answered first."""
        with witnessed(tmp_path, seconds=0.5) as world:
            bob, exchange = node(world), world.exchange(b"letter")
            before = world.client.get("/ledger/checkpoint").content
            for one in world.witnesses[:2]:
                one.stop()
            refused = bob.complete(exchange)
            assert refused.status_code == 503
            assert "1 witnesses cosigned, 2 are needed" in refused.text
            assert bob.feed().bundles == ()
            assert bob.status(exchange).status_code == 503
            assert world.client.get("/ledger/checkpoint").content.partition(b"\n\n")[0] == before.partition(b"\n\n")[0]
            # What is committed comes first: a new proposal decides nothing meanwhile.
            other = world.exchange(b"another")
            assert bob.complete(other).status_code == 503
            with world.ttp.desk.store.reading() as stored:
                assert stored.exchange(other.manifest.exchange) is None
            world.witnesses[0].start()
            answer = bob.complete(exchange)
            assert answer.status_code == 200
            verify_bundle(bundles.decode(answer.content), world.trust, world.policy)
            world.witnesses[1].start()

    def test_restart_with_a_pending_tree(self, tmp_path: Path) -> None:
        """What was committed without a quorum is cosigned at the next start, before anything is served."""
        with witnessed(tmp_path, seconds=0.5) as world:
            bob, exchange = node(world), world.exchange(b"letter")
            for one in world.witnesses[:2]:
                one.stop()
            assert bob.complete(exchange).status_code == 503
            for one in world.witnesses[:2]:
                one.start()
            world.restart()
            answer = bob.status(exchange)
            assert answer.status_code == 200
            verify_bundle(bundles.decode(answer.content), world.trust, world.policy)

    def test_a_liar(self, tmp_path: Path) -> None:
        """A witness that signs with another key than the configured one doesn't count."""
        with witnessed(tmp_path, seconds=1) as world:
            bob = node(world)
            liar = world.witnesses[0]
            liar.stop()
            liar.signer = Signer("w1.test", Cosigner("another key").key)
            liar.start()
            assert bob.complete(world.exchange(b"letter")).status_code == 200
            assert cosigners(world) == {"w2.test", "w3.test"}

    def test_the_record_says_so(self, tmp_path: Path) -> None:
        """The TTP's record lists its witnesses and the quorum, so that a sender knows beforehand."""
        with witnessed(tmp_path) as world:
            token = messages.decode_signed(world.client.get("/v1/ttp").content, "TTP record")
            record = verify_ttp(token, world.trust, world.clock.now()).record
            assert record.quorum == 2
            assert record.witnesses == tuple(Cosigner(one.name).verifier for one in world.witnesses)

    def test_nobody_signs_in_their_names(self, tmp_path: Path) -> None:
        """A node can't bring a cosignature in the name of a witness that the TTP asks itself."""
        with witnessed(tmp_path, "b.example/witness", "w2.test", "w3.test") as world:
            bob = node(world)
            checkpoint = note.parse(world.client.get("/ledger/checkpoint").content)
            own = Cosigner("another key").key
            key = note.verifier_key("b.example/witness", note.KeyType.COSIGNATURE, own.public_key())
            line = note.cosign(checkpoint.text, key.name, own, world.clock.now())
            body = messages.encode_cosignature(messages.Cosignature(key, 0, line))
            assert bob.ask("POST", "/v1/cosignatures", body).status_code == 409


class TestParties:
    def test_a_party_does_not_count(self, tmp_path: Path) -> None:
        """For an exchange of its own a witness's organisation doesn't count: the TTP waits for another."""
        with witnessed(tmp_path, "b.example/w", "w2.test", "w3.test") as world:
            world.witnesses[2].let.clear()
            bob = node(world)
            timer = threading.Timer(0.5, world.witnesses[2].let.set)
            timer.start()
            answer = bob.complete(world.exchange(b"letter"))
            timer.join()
            assert answer.status_code == 200
            receipt = verify_bundle(bundles.decode(answer.content), world.trust, world.policy)
            assert receipt.inclusion.witnessing.counted == ("w2.test", "w3.test")

    def test_where_no_quorum_can_be_had(self, tmp_path: Path) -> None:
        """If a quorum can't be had without a party's own witness, nothing is decided."""
        with witnessed(tmp_path, "b.example/w", "w2.test") as world:
            bob, exchange = node(world), world.exchange(b"letter")
            refused = bob.complete(exchange)
            assert refused.status_code == 503
            assert refused.json()["type"] == "urn:secmtp:problem:witness-parties"
            with world.ttp.desk.store.reading() as stored:
                assert stored.exchange(exchange.manifest.exchange) is None


class TestClock:
    @pytest.mark.parametrize("wrong", [61, -61, 86_400])
    def test_clock_off(self, tmp_path: Path, wrong: int) -> None:
        """A clock over 60 s off the witnesses' median decides nothing; when it is right again, all goes on."""
        with witnessed(tmp_path) as world:
            bob, exchange = node(world), world.exchange(b"letter")
            world.push(120)  # so that a token isn't of before the start
            world.clock.wrong = wrong
            refused = bob.complete(exchange)
            assert (refused.status_code, refused.json()["type"]) == (503, "urn:secmtp:problem:clock-off")
            world.clock.wrong = 0
            assert bob.complete(exchange).status_code == 200

    def test_nothing_expires(self, tmp_path: Path) -> None:
        """A jump ahead of `expires` expires nothing: it is refused before the commit, and the trade still happens."""
        with witnessed(tmp_path) as world:
            bob, exchange = node(world), world.exchange(b"letter")
            world.clock.wrong = 30 * 86_400
            proposal_refused = bob.status(exchange)
            assert proposal_refused.status_code == 503, proposal_refused.text
            assert proposal_refused.json()["type"] == "urn:secmtp:problem:clock-off"
            world.clock.wrong = 0
            assert bob.complete(exchange).status_code == 200

    def test_time_passes(self, tmp_path: Path) -> None:
        """Time that passes for everybody is no jump."""
        with witnessed(tmp_path) as world:
            bob = node(world)
            for number in range(2):
                world.push(3600)
                assert bob.complete(world.exchange(b"letter %d" % number)).status_code == 200

    def test_a_machine_that_slept(self, tmp_path: Path) -> None:
        """After a sleep, in which the monotonic clock stood still, the witnesses are asked anew."""
        with witnessed(tmp_path) as world:
            bob = node(world)
            world.clock.wrong = 7200
            for one in world.witnesses:
                one.clock.time += 7200
            assert bob.complete(world.exchange(b"letter")).status_code == 200

    def test_the_median_counts(self, tmp_path: Path) -> None:
        """One witness with a wrong clock stops nobody."""
        with witnessed(tmp_path, quorum=3) as world:
            world.witnesses[1].clock.wrong = 10_000
            bob = node(world)
            for number in range(2):
                assert bob.complete(world.exchange(b"letter %d" % number)).status_code == 200


class TestSeveralProcesses:
    def test_two_on_one_database(self, tmp_path: Path, postgres: Server) -> None:
        """Two processes that race to have one ledger cosigned answer all, each under a quorum, on one history."""
        database = postgres.create()
        with witnessed(tmp_path, database=database, seconds=10) as world:
            other = world.second()
            clients = [node(world), NodeClient(other, "a.example")]
            assert clients[1].enrol(world.parties.a).status_code == 201
            exchanges = [world.exchange(b"letter %d" % number) for number in range(24)]
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda n: clients[n % 2].complete(exchanges[n]), range(24)))
            assert [answer.text for answer in answers if answer.status_code != 200] == []
            for answer in answers:
                verify_bundle(bundles.decode(answer.content), world.trust, world.policy)
            with world.ttp.desk.store.reading() as stored:
                assert stored.size() == 24
            assert [fork for one in world.witnesses for fork in one.forks()] == []
            other.stop()
        postgres.drop(database)


class TestStart:
    def test_too_few_answer(self, tmp_path: Path) -> None:
        """Fewer than w − q + 1 + f answers: the TTP can't know that it isn't an older state, and doesn't run."""
        with witnessed(tmp_path, quorum=2, faulty=1, seconds=0.5) as world:
            node(world)
            world.stop()
            world.witnesses[0].stop()
            with pytest.raises(Unavailable, match="2 of 3 witnesses answered, 3 are needed"):
                build(world.directory, load(world.directory), world.clock)
            world.witnesses[0].start()
            world.start()

    @pytest.mark.parametrize(
        ("quorum", "faulty", "names"),
        [
            (3, 0, ("w1.test", "w2.test")),
            (1, 1, ("w1.test", "w2.test")),
            (1, 0, ("w.test/1", "w.test/2")),
            (0, 0, ("w.test",)),
        ],
    )
    def test_terms(self, quorum: int, faulty: int, names: tuple[str, ...]) -> None:
        """Terms that can't hold, or let one organisation count twice, are refused."""
        with pytest.raises(ConfigurationError):
            policy_of([WitnessAt(Cosigner(name).verifier, "http://x") for name in names], Terms(quorum, faulty, 1))

    def test_a_witness_that_forgot(self, tmp_path: Path) -> None:
        """A witness that was restored from a copy isn't believed: not for a quorum, and not at start."""
        with witnessed(tmp_path, seconds=0.5) as world:
            bob, restored = node(world), world.witnesses[0]
            copy = restored.back_up()
            world.witnesses[2].let.clear()  # so that the quorum is of the other two
            assert bob.complete(world.exchange(b"one")).status_code == 200
            world.witnesses[2].let.set()
            restored.restore(copy)
            world.restart()
            assert bob.complete(world.exchange(b"two")).status_code == 200
            assert cosigners(world) == {"w2.test", "w3.test"}
