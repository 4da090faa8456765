"""Users, their bindings and certificates; pins and what is remembered of the directory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from secmtp_node.agents import users
from secmtp_node.ports.values import KeyUse, OwnBinding
from shared.crypto.certificates import Purpose, verify_chain
from shared.errors import ConfigurationError, Conflict, EvidenceFault, NotFound, Unavailable
from shared.evidence.binding import verify_binding
from tests.doubles.nodes import DoubleNode, TwoNodes, content_of
from tests.doubles.parties import LETTER

ALICE, BOB = "alice@a.example", "bob@b.example"
DAY = 24 * 3600


def binding_of(node: DoubleNode, address: str) -> OwnBinding:
    """Return the current binding of an own user."""
    with node.store.transaction() as unit:
        found = unit.users.binding(address)
    assert found is not None
    return found


class TestNewUser:
    """add_user."""

    def test_three_keys(self, world: TwoNodes) -> None:
        """A user has three different keys, of which only the signing ones are certified, each for one purpose."""
        with world.b.store.transaction() as unit:
            keys = {key.use: key for key in unit.users.keys(BOB)}
        assert set(keys) == set(KeyUse)
        assert len({key.key_id for key in keys.values()}) == 3
        for use, purpose in ((KeyUse.ORIGIN, Purpose.ORIGIN), (KeyUse.RECEIPT, Purpose.RECEIPT_GATEWAY)):
            chain = [keys[use].certificate, world.b.domain.certificate]
            verified = verify_chain(chain, world.root.trust, {purpose}, world.clock())
            assert (verified.address, verified.key_id) == (BOB, keys[use].key_id)
        assert keys[KeyUse.HPKE].certificate == b""

    def test_twice(self, world: TwoNodes) -> None:
        """An address is added once; the second attempt changes nothing."""
        before = binding_of(world.b, BOB)
        with pytest.raises(Conflict):
            world.b.add_user(BOB)
        assert binding_of(world.b, BOB) == before

    @pytest.mark.parametrize("address", ["eve@elsewhere.example", "bob@sub.b.example"])
    def test_foreign_domain(self, world: TwoNodes, address: str) -> None:
        """An address of another domain, a subdomain's too, isn't this node's to give."""
        with pytest.raises(ConfigurationError):
            world.b.add_user(address)


class TestUpkeep:
    """Re-signing and renewal (directory.md D2, D4)."""

    def test_nothing_due(self, world: TwoNodes) -> None:
        """What is young enough stays as it is."""
        before = binding_of(world.b, BOB)
        world.clock.time += 3 * DAY - 1
        users.upkeep(world.b.registry)
        assert binding_of(world.b, BOB) == before

    def test_signed_anew(self, world: TwoNodes) -> None:
        """A binding of three days is signed anew, names its predecessor, and fits the pin of the old one."""
        world.a.desk.book.find(BOB)
        for _ in range(5):
            before = binding_of(world.b, BOB)
            world.clock.time += 3 * DAY
            users.upkeep(world.b.registry)
            world.b.publish()
            after = verify_binding(world.ttp.bindings[BOB], world.root.trust, world.clock())
            assert after.predecessor == before.digest
        # Alice's node missed links of this chain; the keys are the same.
        assert world.a.desk.book.find(BOB).binding.digest == after.digest

    def test_certificates_are_renewed(self, world: TwoNodes) -> None:
        """Certificates that end within 60 days are renewed for the same keys, and the binding is signed anew."""
        with world.b.store.transaction() as unit:
            before = {key.use: key for key in unit.users.keys(BOB)}
        world.clock.time += 310 * DAY
        users.upkeep(world.b.registry)
        with world.b.store.transaction() as unit:
            after = {key.use: key for key in unit.users.keys(BOB)}
        for use in (KeyUse.ORIGIN, KeyUse.RECEIPT):
            assert after[use].key_id == before[use].key_id
            assert after[use].certificate != before[use].certificate
        assert binding_of(world.b, BOB).published is False

    def test_unpublished_waits(self, world: TwoNodes) -> None:
        """A binding that the TTP hasn't got yet isn't replaced by one that names it."""
        world.ttp.faults.down = True
        world.clock.time += 3 * DAY
        users.upkeep(world.b.registry)
        before = binding_of(world.b, BOB)
        with pytest.raises(Unavailable):
            world.b.publish()
        users.upkeep(world.b.registry)
        assert binding_of(world.b, BOB) == before


class TestPublish:
    """Bindings that the TTP refuses."""

    def test_forgotten_by_a_restored_node(self, world: TwoNodes) -> None:
        """A node whose database is older than the directory signs a binding that continues the directory's."""
        old = binding_of(world.b, BOB)
        world.clock.time += 3 * DAY
        users.upkeep(world.b.registry)
        world.b.publish()
        with world.b.store.transaction() as unit:
            unit.users.set_binding(replace(old, published=True))
        users.upkeep(world.b.registry)
        world.b.publish()
        world.b.publish()
        assert binding_of(world.b, BOB).published
        verify_binding(world.ttp.bindings[BOB], world.root.trust, world.clock())

    def test_lay_too_long(self, world: TwoNodes) -> None:
        """A binding that lay here for more than a week, since the TTP was away, is signed anew."""
        world.ttp.faults.down = True
        world.clock.time += 3 * DAY
        users.upkeep(world.b.registry)
        world.clock.time += 8 * DAY
        world.ttp.faults.down = False
        world.b.publish()
        users.upkeep(world.b.registry)
        world.b.publish()
        verify_binding(world.ttp.bindings[BOB], world.root.trust, world.clock())
        assert binding_of(world.b, BOB).published

    def test_one_refused_keeps_no_other_back(self, world: TwoNodes) -> None:
        """The users behind one whose binding is refused are published."""
        real = world.ttp.put_binding

        def picky(token: str) -> None:
            if verify_binding(token, world.root.trust, world.clock()).address == "aaron@b.example":
                raise Conflict("it differs only in its Unicode form")
            real(token)

        world.ttp.put_binding = picky  # type: ignore[method-assign]
        world.b.add_user("aaron@b.example")
        world.b.add_user("zoe@b.example")
        assert "zoe@b.example" in world.ttp.bindings
        assert "aaron@b.example" not in world.ttp.bindings
        refused = [facts["address"] for event, facts in world.b.told if event == "binding refused"]
        assert set(refused) == {"aaron@b.example"}


class TestPins:
    """A directory can't slip other keys in (directory.md D4)."""

    def _replace_bob(self, world: TwoNodes, *, linked: bool) -> None:
        """Have node b's domain bind other keys to Bob's address."""
        current = verify_binding(world.ttp.bindings[BOB], world.root.trust, world.clock())
        world.b.add_user("other@b.example")
        with world.b.store.transaction() as unit:
            keys = {key.use: key for key in unit.users.keys(BOB)}
            others = {key.use: key for key in unit.users.keys("other@b.example")}
        keys[KeyUse.HPKE] = replace(others[KeyUse.HPKE], address=BOB)
        made = users._binding(world.b.registry, BOB, keys, current.digest if linked else None)
        world.ttp.bindings[BOB] = made.compact
        world.clock.time += 3601

    def test_first_sight(self, world: TwoNodes) -> None:
        """The first binding of an address that a node sees is taken."""
        self._replace_bob(world, linked=False)
        world.a.desk.book.find(BOB)

    def test_other_keys(self, world: TwoNodes) -> None:
        """Other keys that don't name the pinned binding are refused, and nothing is sent under them."""
        world.a.desk.book.find(BOB)
        self._replace_bob(world, linked=False)
        with pytest.raises(EvidenceFault, match=r"binding\.predecessor"):
            world.a.submit(ALICE, [BOB], LETTER)
        assert world.a.cipher_files() == []

    def test_continued(self, world: TwoNodes) -> None:
        """Other keys that name the pinned binding as predecessor are the address's new keys."""
        world.a.desk.book.find(BOB)
        self._replace_bob(world, linked=True)
        world.a.desk.book.find(BOB)

    def test_outlives_the_process(self, world: TwoNodes) -> None:
        """A restart doesn't forget pins."""
        world.a.desk.book.find(BOB)
        world.a.load()
        self._replace_bob(world, linked=False)
        with pytest.raises(EvidenceFault):
            world.a.desk.book.find(BOB)


class TestRemembered:
    """What the address book asks again, and when."""

    def test_an_hour(self, world: TwoNodes) -> None:
        """A look-up serves for an hour."""
        world.a.desk.book.find(BOB)
        asked = world.ttp.looked_up
        world.clock.time += 3599
        world.a.desk.book.find(BOB)
        assert world.ttp.looked_up == asked
        world.clock.time += 1
        world.a.desk.book.find(BOB)
        assert world.ttp.looked_up == asked + 1

    def test_ttp_away(self, world: TwoNodes) -> None:
        """While the TTP is away, what is remembered is enough to send, and an unknown address is put off."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.ttp.faults.down = True
        world.a.submit(ALICE, [BOB], LETTER + b"more\r\n")
        with pytest.raises(Unavailable):
            world.a.submit(ALICE, ["dave@b.example"], LETTER)
        world.ttp.faults.down = False
        world.settle(4)
        assert sorted(content_of(text) for text in world.b.mailbox(BOB).values()) == [LETTER, LETTER + b"more\r\n"]

    def test_old_record_of_the_ttp(self, world: TwoNodes) -> None:
        """The TTP's record is asked for again after an hour; while the TTP is away the old one serves."""
        world.a.desk.book.ttp_record()
        asked = world.ttp.records
        world.clock.time += 3600
        world.ttp.faults.down = True
        assert world.a.desk.book.ttp_record().record.name == "ttp.example"
        world.ttp.faults.down = False
        world.a.desk.book.ttp_record()
        assert world.ttp.records == asked + 1

    def test_answer_for_another(self, world: TwoNodes) -> None:
        """A directory that answers with another address's binding isn't believed."""
        world.ttp.bindings["eve@b.example"] = world.ttp.bindings[BOB]
        with pytest.raises(EvidenceFault, match=r"binding\.address"):
            world.a.desk.book.find("eve@b.example")

    def test_record_of_another_domain(self, world: TwoNodes) -> None:
        """A directory that answers with another domain's record isn't believed: the letter would go there."""
        world.ttp.domains["b.example"] = world.ttp.domains["a.example"]
        with pytest.raises(EvidenceFault, match=r"domain\.name"):
            world.a.desk.book.find(BOB)

    def test_stale_binding(self, world: TwoNodes) -> None:
        """A binding that is older than a week isn't believed."""
        world.clock.time += 7 * DAY + 1
        with pytest.raises(EvidenceFault, match=r"binding\.age"):
            world.a.desk.book.find(BOB)

    def test_unknown(self, world: TwoNodes) -> None:
        """An address without a binding is no address."""
        with pytest.raises(NotFound):
            world.a.desk.book.find("nobody@b.example")
