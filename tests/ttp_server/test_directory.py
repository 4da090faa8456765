"""The directory over real HTTPS: who may publish what, in which order, and what look-ups give away."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from shared.api import messages
from shared.crypto.issuance import Validity, issue_domain_ca
from shared.crypto.keys import key_id
from shared.crypto.signing import token_digest
from shared.errors import Conflict
from shared.evidence.binding import BindingContent, sign_binding, verify_binding
from shared.evidence.records import DomainRecord, sign_domain, verify_domain
from shared.ledger import entry as entries
from shared.ledger.entry import BindingEntry, RevocationEntry, body_digest
from tests.doubles.parties import NOW, Domain, User
from tests.doubles.served import NodeClient, Served, binding_of
from ttp_server.services.directory import _PutBinding

DAY = 24 * 3600


def size(world: Served) -> int:
    """How many entries the ledger has."""
    return world.ttp.desk.ledger.size


def last_entry(world: Served) -> tuple[entries.Entry, bytes, bytes]:
    """The newest ledger entry with its salt and body."""
    with world.ttp.desk.store.reading() as stored:
        newest = list(stored.entries())[-1]
    return entries.decode(newest.entry), newest.salt, newest.body


def record_of(domain: Domain, user: User, issued: int = NOW, port: int = 2525, certificate: bytes = b"") -> str:
    """Sign a domain record."""
    record = DomainRecord(domain.name, "localhost", port, user.hpke.public, ("online",), issued)
    return sign_domain(record, domain.key, certificate or domain.certificate)


@pytest.mark.both_databases
class TestLookUp:
    def test_gives_binding_and_domain(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """An enrolled node gets the newest binding and the domain's record, both to be verified with the root alone."""
        assert b.publish(world.parties.bob, world.parties.b).status_code == 201
        answer = a.look_up("bob@B.example")
        listing = messages.decode_listing(answer.content)
        binding = verify_binding(listing.binding, world.trust, NOW)
        assert binding.hpke == world.parties.bob.hpke.public
        assert verify_domain(listing.domain, world.trust, NOW).domain == "b.example"

    def test_all_that_isnt_there_looks_alike(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """Unknown domain, unknown address, address without a domain record, revoked key: one answer for all."""
        bob, carol = world.parties.bob, User("carol@b.example", world.parties.b)
        b.publish(bob, world.parties.b)
        b.post_signed("/v1/bindings", binding_of(carol, world.parties.b))
        assert b.revoke(bob.address, key_id(bob.receipt.public_key()), world.parties.b).status_code == 201
        a.post_signed("/v1/bindings", binding_of(world.parties.alice, world.parties.a))
        asked = ["x@nowhere.example", "nobody@b.example", "bob@b.example", "alice@a.example"]
        answers = [a.look_up(address) for address in asked]
        assert {answer.status_code for answer in answers} == {404}
        assert len({answer.content for answer in answers}) == 1
        assert a.look_up("carol@b.example").status_code == 200

    def test_only_for_enrolled_nodes(self, world: Served, b: NodeClient) -> None:
        """A node with a certificate but without enrolment can't look anybody up."""
        b.publish(world.parties.bob, world.parties.b)
        assert NodeClient(world, "c.example").look_up("bob@b.example").status_code == 403


@pytest.mark.both_databases
class TestBinding:
    def test_becomes_an_entry(self, world: Served, b: NodeClient) -> None:
        """A binding is logged: the entry's salted hash is over the binding's octets, and nobody's name is in it."""
        token = binding_of(world.parties.bob, world.parties.b)
        assert b.post_signed("/v1/bindings", token).status_code == 201
        entry, salt, body = last_entry(world)
        assert isinstance(entry, BindingEntry)
        assert body == token.encode()
        assert entry.body == body_digest(salt, body)
        assert b"bob" not in entries.encode(entry)

    def test_repeated_is_one(self, world: Served, b: NodeClient) -> None:
        """A binding that is sent again after a lost answer is accepted and makes no second entry."""
        token = binding_of(world.parties.bob, world.parties.b)
        assert {b.post_signed("/v1/bindings", token).status_code for _ in range(3)} == {201}
        assert size(world) == 1

    def test_history_is_a_chain(self, world: Served, a: NodeClient, b: NodeClient) -> None:
        """The next binding must name the current one; what names nothing, or an older one, is refused with 409."""
        bob, authority = world.parties.bob, world.parties.b
        first = binding_of(bob, authority)
        b.post_signed("/v1/domains", record_of(authority, bob))
        assert b.post_signed("/v1/bindings", first).status_code == 201
        world.clock.time += 3 * DAY
        second = binding_of(bob, authority, token_digest(first), NOW + 3 * DAY)
        assert b.post_signed("/v1/bindings", second).status_code == 201
        fork = binding_of(bob, authority, token_digest(first), NOW + 3 * DAY + 1)
        orphan = binding_of(bob, authority, None, NOW + 3 * DAY + 2)
        for token in (fork, orphan, first):
            answer = b.post_signed("/v1/bindings", token)
            assert answer.status_code == 409, answer.text
        assert messages.decode_listing(a.look_up(bob.address).content).binding == second
        assert size(world) == 2

    def test_two_successors_at_once(self, world: Served, b: NodeClient) -> None:
        """Of several successors of one binding that come at once exactly one is accepted."""
        bob, authority = world.parties.bob, world.parties.b
        b.publish(bob, authority)
        digest = messages.decode_listing(b.look_up(bob.address).content).binding
        successors = [binding_of(bob, authority, token_digest(digest), NOW + number) for number in range(1, 9)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda token: b.post_signed("/v1/bindings", token), successors))
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
        assert size(world) == 2

    def test_of_another_domain(self, world: Served, a: NodeClient) -> None:
        """A node can't publish for a domain that isn't its own, though the binding itself is good."""
        answer = a.post_signed("/v1/bindings", binding_of(world.parties.bob, world.parties.b))
        assert answer.status_code == 403
        assert size(world) == 0

    def test_by_another_domains_ca(self, world: Served, a: NodeClient) -> None:
        """A binding signed by the CA of another domain is refused at its step."""
        answer = a.post_signed("/v1/bindings", binding_of(world.parties.bob, world.parties.a))
        assert (answer.status_code, answer.json()["step"]) == (422, "binding.domain")
        assert size(world) == 0

    def test_older_than_a_week(self, world: Served, b: NodeClient) -> None:
        """A binding that was signed more than seven days ago is refused: it may have been superseded elsewhere."""
        token = binding_of(world.parties.bob, world.parties.b)
        world.clock.time = NOW + 7 * DAY + 1
        answer = b.post_signed("/v1/bindings", token)
        assert (answer.status_code, answer.json()["step"]) == (422, "binding.age")

    def test_one_person_two_unicode_forms(self, world: Served) -> None:
        """An address that differs from a bound one only in its Unicode form is refused: one person, two keys."""
        composed = unicodedata.normalize("NFC", "jürgen@b.example")
        decomposed = unicodedata.normalize("NFD", composed)
        bound = verify_binding(binding_of(world.parties.bob, world.parties.b), world.trust, NOW)
        sequencer = world.ttp.desk.sequencer
        # Certificates hold ASCII mailboxes only today, so the rule is shown behind the verification.
        first, second = (
            _PutBinding(replace(bound, address=address, digest=bytes(32)), bytes(32), world.trust, NOW)
            for address in (composed, decomposed)
        )
        sequencer.submit(first)
        with pytest.raises(Conflict, match="Unicode form"):
            sequencer.submit(second)
        assert size(world) == 1


def flipped(token: str) -> str:
    """The token with the first character of its signature changed."""
    place = token.rindex(".") + 1
    return token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]


def bound(world: Served, **changed: object) -> str:
    """Sign a binding of Bob with members changed."""
    bob, authority = world.parties.bob, world.parties.b
    content = BindingContent(
        bob.address, bob.origin_chain[0], bob.receipt_chain[0], bob.hpke.public, "on_delivery", NOW, None
    )
    return sign_binding(replace(content, **changed), authority.key, authority.certificate)  # type: ignore[arg-type]


class TestRefusals:
    @pytest.mark.parametrize(
        ("path", "made", "step"),
        [
            ("bindings", lambda w: flipped(bound(w)), "binding.signature"),
            ("bindings", lambda w: bound(w, issued=NOW + 301), "binding.age"),
            ("bindings", lambda w: bound(w, address="Bob@b.example"), "binding.address"),
            ("bindings", lambda w: bound(w, address="bob@B.example"), "binding.syntax"),
            ("bindings", lambda w: bound(w, origin=w.parties.bob.receipt_chain[0]), "certificate.purpose"),
            ("bindings", lambda w: bound(w, receipt=w.parties.bob.origin_chain[0]), "certificate.purpose"),
            ("bindings", lambda w: bound(w, receipt=w.parties.alice.receipt_chain[0]), "certificate.chain"),
            ("bindings", lambda w: record_of(w.parties.b, w.parties.bob), "binding.syntax"),
            ("domains", bound, "domain.syntax"),
            ("domains", lambda w: flipped(record_of(w.parties.b, w.parties.bob)), "domain.signature"),
            ("revocations", bound, "revocation.syntax"),
            ("revocations", lambda w: "no token", "revocation.syntax"),
        ],
    )
    def test_by_step(self, world: Served, b: NodeClient, path: str, made: Callable[[Served], str], step: str) -> None:
        """A record that isn't good in every part is refused by the name of its step, and nothing is published."""
        answer = b.post_signed(f"/v1/{path}", made(world))
        assert answer.status_code == 422, answer.text
        assert answer.json()["step"] == step
        assert size(world) == 0
        assert b.look_up(world.parties.bob.address).status_code == 404

    def test_domain_record_by_another_ca(self, world: Served, b: NodeClient) -> None:
        """Another domain's CA can't make a record for a domain, though the domain's own node hands it in."""
        record = DomainRecord("b.example", "localhost", 25, world.parties.bob.hpke.public, ("online",), NOW)
        authority = world.parties.a
        answer = b.post_signed("/v1/domains", sign_domain(record, authority.key, authority.certificate))
        assert (answer.status_code, answer.json()["step"]) == (422, "domain.name")


@pytest.mark.both_databases
class TestDomainRecord:
    def test_newest_stands(self, world: Served, b: NodeClient) -> None:
        """A newer record replaces the stored one; the same again is fine; an older one is refused with 409."""
        bob, authority = world.parties.bob, world.parties.b
        older, newer = record_of(authority, bob), record_of(authority, bob, NOW + 1, 2626)
        statuses = [b.post_signed("/v1/domains", token).status_code for token in (older, older, newer, newer, older)]
        assert statuses == [201, 201, 201, 201, 409]
        b.post_signed("/v1/bindings", binding_of(bob, authority))
        assert messages.decode_listing(b.look_up(bob.address).content).domain == newer

    def test_of_another_domain(self, world: Served, a: NodeClient) -> None:
        """A node can't publish another domain's record, whoever signed it."""
        assert a.post_signed("/v1/domains", record_of(world.parties.b, world.parties.bob)).status_code == 403

    def test_after_the_ca_was_renewed(self, world: Served, b: NodeClient) -> None:
        """A record can be replaced when the certificate of the CA that signed the stored one has ended."""
        bob, authority, root = world.parties.bob, world.parties.b, world.parties.root
        short = Validity(NOW - DAY, NOW + DAY)
        ending = issue_domain_ca(authority.key.public_key(), ["b.example"], root.issuer, 900, short)
        assert b.post_signed("/v1/domains", record_of(authority, bob, certificate=ending)).status_code == 201
        world.clock.time = NOW + 2 * DAY
        answer = b.post_signed("/v1/domains", record_of(authority, bob, issued=NOW + 2 * DAY))
        assert answer.status_code == 201, answer.text


@pytest.mark.both_databases
class TestRevocation:
    def test_becomes_an_entry_with_its_notice(self, world: Served, b: NodeClient) -> None:
        """A revocation is logged with the key's id, and counts against evidence only from its notice on."""
        bob = world.parties.bob
        b.publish(bob, world.parties.b)
        receipt = key_id(bob.receipt.public_key())
        assert b.revoke(bob.address, receipt, world.parties.b).status_code == 201
        entry, salt, body = last_entry(world)
        assert isinstance(entry, RevocationEntry)
        assert (entry.key, entry.time, entry.effective) == (receipt, NOW, NOW + 72 * 3600)
        assert entry.body == body_digest(salt, body)

    def test_repeated_is_one(self, world: Served, b: NodeClient) -> None:
        """A second revocation of a key changes nothing: the notice runs from the first."""
        bob = world.parties.bob
        b.publish(bob, world.parties.b)
        receipt = key_id(bob.receipt.public_key())
        b.revoke(bob.address, receipt, world.parties.b)
        before = size(world)
        world.clock.time += 3600
        assert b.revoke(bob.address, receipt, world.parties.b).status_code == 201
        assert size(world) == before

    @pytest.mark.parametrize("case", ["never bound", "another node", "another ca"])
    def test_refused(self, world: Served, a: NodeClient, b: NodeClient, case: str) -> None:
        """What was never bound can't be revoked, and nobody but its own domain, by its own node, revokes a key."""
        bob, parties = world.parties.bob, world.parties
        b.publish(bob, parties.b)
        before, receipt = size(world), key_id(bob.receipt.public_key())
        if case == "never bound":
            stranger = key_id(ed25519.Ed25519PrivateKey.generate().public_key())
            assert b.revoke(bob.address, stranger, parties.b).status_code == 404
        elif case == "another node":
            assert a.revoke(bob.address, receipt, parties.b).status_code == 403
        else:
            answer = a.revoke(bob.address, receipt, parties.a)
            assert (answer.status_code, answer.json()["step"]) == (422, "revocation.domain")
        assert size(world) == before


class TestPublicRecord:
    def test_of_the_ttp(self, world: Served) -> None:
        """Anybody gets the TTP's record, signed by its NRD key, with an open epoch for each kind of key."""
        named = world.named()
        assert (named.name, named.log) == ("ttp.example", "ttp.example/ledger")
        assert replace(world.named("MLKEM768_X25519"), escrow_key=b"", epoch=0) == replace(
            named, escrow_key=b"", epoch=0
        )
