"""Two whole nodes in one process: real databases, files, keys, Maildirs and evidence; wires and clock are doubles.

A node can be made to die at any commit, before or after it, and be loaded again from its directory.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from sqlalchemy import select

from secmtp_node.agents import anchoring, jobs, learning, recipient, recovery, sender, users, witnessing
from secmtp_node.agents.addresses import AddressBook
from secmtp_node.agents.desk import MODES, Desk, Policy
from secmtp_node.agents.recipient import Arrived
from secmtp_node.agents.users import Registry
from secmtp_node.custody.at_rest import MasterKey, make_master_key
from secmtp_node.custody.passwords import ScramPasswords, make_verifier
from secmtp_node.custody.vault import KeyVault
from secmtp_node.custody.witness import load_witness
from secmtp_node.delivery.maildir import Maildirs
from secmtp_node.delivery.report import MailReports
from secmtp_node.ports.services import Envelope, Login, Peer, Rejected, Stored
from secmtp_node.ports.values import Incoming, KeyUse, Outgoing, UserKey
from secmtp_node.smtp.message import read_message
from secmtp_node.smtp.ports import CertifiedPeer
from secmtp_node.smtp.replies import of_error
from secmtp_node.smtp.services import Peers
from secmtp_node.smtp.verbs import kind_of
from secmtp_node.store import tables
from secmtp_node.store.database import SqlStore, open_engine, upgrade
from secmtp_node.store.files import FileBox
from secmtp_node.store.unit import SqlUnit
from secmtp_node.store.watermark import Watermark
from shared.api.verbs import Answer, Kind, Verb
from shared.crypto.certificates import verify_domain_ca
from shared.crypto.keys import HYBRID, HpkePrivateKey, generate_hpke
from shared.errors import SecMTPError, Unavailable
from shared.evidence.records import DomainRecord
from shared.programs.files import private_directory
from tests.doubles.parties import NOW, Domain, Root
from tests.doubles.ttp import DoubleTTP

PASSWORD = "correct horse"
ITERATIONS = 4096  # tests log in often; the product's own number is tested where it is made


class Died(BaseException):
    """The process was gone at this moment. No product code may catch it."""


@dataclass
class Clock:
    """A clock that moves when it is pushed."""

    time: int = NOW

    def __call__(self) -> int:
        """Return the time."""
        return self.time


class DyingStore:
    """The real store; dies at the commit that is so many transactions away, before or after it is durable."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.commits = 0
        self.die_at: int | None = None
        self.after = False
        self.dead = False

    @contextmanager
    def transaction(self) -> Iterator[SqlUnit]:
        """One transaction, perhaps the last: there are none after death, whatever cleans up on the way."""
        if self.dead:
            raise Died
        self.commits += 1
        last = self.commits == self.die_at
        with self._store.transaction() as unit:
            yield unit
            self.dead = last
            if last and not self.after:
                raise Died
        if last:
            raise Died


@dataclass
class Wire:
    """Carries envelopes to the node of a domain, and loses replies when told to."""

    nodes: dict[str, DoubleNode] = field(default_factory=dict)
    down: bool = False
    lost: int = 0
    reply: Rejected | None = None
    direct: bool = True
    cuts: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    sessions: int = 0
    bend: Callable[[Verb, Answer], Answer] = field(default=lambda verb, answer: answer)
    carried: list[bytes] = field(default_factory=list)
    visited: list[tuple[str, int]] = field(default_factory=list)

    def carry(self, peer: Peer, envelope: Envelope) -> Stored | Rejected:
        """Bring one envelope, as SmtpCarrier does."""
        self.visited.append((peer.host, peer.port))
        if self.down:
            raise Unavailable("no route")
        if self.reply is not None:
            return self.reply
        self.carried.append(envelope.head)
        node = self.nodes[peer.domain]
        try:
            text = node.accept(envelope)
        except SecMTPError as error:
            reply = of_error(error)
            if reply.code < 500:
                raise Unavailable(reply.text) from error
            return Rejected(f"{reply.code} {reply.enhanced} {reply.text}")
        if self.lost:
            self.lost -= 1
            raise Unavailable("the reply was lost")
        return Stored(f"250 {text}")


@dataclass
class WireEnd:
    """One node's end of the wire. It says who is there as a TLS certificate would."""

    wire: Wire
    domain: str

    def carry(self, peer: Peer, envelope: Envelope) -> Stored | Rejected:
        """Bring one envelope, as SmtpCarrier does."""
        return self.wire.carry(peer, envelope)

    @contextmanager
    def open(self, peer: Peer) -> Iterator[WireSession]:
        """Open a session, as SmtpCarrier does; its end is told to the other node, as the listener does."""
        if self.wire.down:
            raise Unavailable("no route")
        self.wire.sessions += 1
        node = self.wire.nodes[peer.domain]
        session = WireSession(self.wire, node, CertifiedPeer((self.domain,), b""), peer)
        try:
            yield session
        finally:
            if not node.store.dead:
                session.services.left(tuple(session.open))


@dataclass
class WireSession:
    """The verbs without a socket. `wire.cuts` names words that are lost: `NRR<` on the way there, `NRR>` back."""

    wire: Wire
    node: DoubleNode
    caller: CertifiedPeer
    peer: Peer
    open: set[bytes] = field(default_factory=set)

    @property
    def direct(self) -> bool:
        """Whether the peer offers the direct exchange."""
        return self.wire.direct

    @property
    def services(self) -> Peers:
        """The other node's services."""
        return Peers(self.node.desk, lambda certificate: self.caller.names)

    def carry(self, envelope: Envelope) -> Stored | Rejected:
        """Bring one envelope."""
        self._cut("DATA<")
        answer = self.wire.carry(self.peer, envelope)
        if isinstance(answer, Stored):
            self.open.add(envelope.exchange)
        self._cut("DATA>")
        return answer

    def ask(self, verb: Verb, exchange: bytes, share: bytes | None = None) -> Answer:
        """Ask for an NRR, or give s_T."""
        services = self.services
        call = partial(services.nrr, self.caller, exchange)
        if share is not None:
            call = partial(services.key, self.caller, exchange, share)
        answer = self._said(verb, exchange, call)
        if verb is Verb.KEY and answer.kind is Kind.GIVEN:
            self.open.discard(exchange)
        return answer

    def bring(self, verb: Verb, exchange: bytes, token: str) -> Answer:
        """Bring an NRR or an ACK."""
        call = self.services.signed if verb is Verb.SIGNED else self.services.ack
        return self._said(verb, exchange, partial(call, self.caller, exchange, token))

    def _said(self, verb: Verb, exchange: bytes, call: Callable[[], Answer]) -> Answer:
        self.wire.said.append(verb.value)
        self._cut(f"{verb}<")
        try:
            answer = call()
        except SecMTPError as error:
            answer = Answer(kind_of(error), exchange, error.message)
        answer = self.wire.bend(verb, answer)
        self._cut(f"{verb}>")
        return answer

    def _cut(self, word: str) -> None:
        if word in self.wire.cuts:
            self.wire.cuts.remove(word)
            raise Unavailable(f"the connection was lost at {word}")


class DoubleNode:
    """A node in a directory. `load` makes everything anew from what is durable there."""

    def __init__(self, place: Path, domain: Domain, root: Root, ttp: DoubleTTP, wire: Wire, clock: Clock) -> None:
        self.place = place
        self.domain = domain
        self.root = root
        self.ttp = ttp
        self.wire = wire
        self.clock = clock
        self.policy = Policy(domains=(domain.name,), first_pause=1, longest_pause=60, anchor_pause=1)
        self.told: list[tuple[str, dict[str, object]]] = []
        self.hpke: HpkePrivateKey = generate_hpke(HYBRID)
        for directory in (place, place / "keys", place / "data"):
            private_directory(directory)
        make_master_key(place / "keys", secrets.token_bytes)
        self._watermark = Watermark(place / "keys" / "watermark")
        self.desk: Desk
        self.store: DyingStore
        self.registry: Registry
        self._engine = open_engine(self.url)
        self.load()
        wire.nodes[domain.name] = self

    @property
    def url(self) -> str:
        """The database's URL."""
        return f"sqlite:///{self.place / 'data' / 'node.sqlite'}"

    def load(self, *, master: Path | None = None, sweep: bool = True) -> None:
        """Start the node: as `app.build` does, with doubles for wires and clock."""
        self._engine.dispose()
        self._engine = open_engine(self.url)
        upgrade(self._engine)
        self._watermark.close()
        self._watermark = Watermark(self.place / "keys" / "watermark")
        self.store = DyingStore(SqlStore(self._engine, self._watermark))
        key = MasterKey(master or self.place / "keys", secrets.token_bytes)
        files = FileBox(self.place / "data" / "ciphertexts")
        if sweep:
            with self.store.transaction() as unit:
                files.sweep(unit.file_names())
        self.vault = KeyVault(key, secrets.token_bytes, self._chain)
        self.files = files
        self.desk = Desk(
            policy=replace(self.policy, domains=(self.domain.name,)),
            root=self.root.trust,
            store=self.store,
            files=files,
            at_rest=key,
            vault=self.vault,
            passwords=ScramPasswords(key.fingerprint),
            book=AddressBook(self.ttp, self.store, self.root.trust, self.clock),
            ttps={self.ttp.name: self.ttp},
            carrier=WireEnd(self.wire, self.domain.name),
            mailboxes=Maildirs(self.place / "mail"),
            reports=MailReports(self.domain.name),
            node_key=self.hpke,
            now=self.clock,
            draw=secrets.token_bytes,
            tell=self._tell,
        )
        self.restored = recovery.at_start(self.desk, self._watermark.value)
        authority = verify_domain_ca(self.domain.certificate, self.root.trust, self.clock())
        self.registry = Registry(
            self.store, self.root.trust, authority, self.domain.key, self.clock, secrets.token_bytes
        )

    def close(self) -> None:
        """Let go of database and watermark."""
        self._engine.dispose()
        self._watermark.close()

    def add_user(self, address: str, *, delegated: bool = True) -> None:
        """Make a user and publish the binding."""
        verifier, client_key = make_verifier(PASSWORD, secrets.token_bytes(16), ITERATIONS)

        def wrap(
            private: bytes, about: tuple[str, KeyUse, int], key: bytes, _delegated: bool
        ) -> tuple[bytes, bytes | None]:
            return self.vault.wrap(private, about, key, delegated=delegated)

        users.add_user(self.registry, address, verifier, client_key, wrap)
        self.publish()

    def publish(self, port: int = 25) -> None:
        """Publish domain record and bindings."""
        record = DomainRecord(self.domain.name, "localhost", port, self.hpke.public, MODES, self.clock())
        users.publish_domains(self.registry, self.ttp, record)
        users.publish(self.registry, self.ttp, self._tell)

    def log_in(self, address: str) -> Login:
        """Log in with the right password."""
        return sender.log_in(self.desk, address, PASSWORD)

    def submit(self, user: str, recipients: list[str], letter: bytes, *, reverse_path: str | None = None) -> str:
        """Submit a letter as the listener does."""
        spooled = self.place / "data" / f"{secrets.token_hex(8)}.incoming"
        spooled.write_bytes(letter)
        path = user if reverse_path is None else reverse_path
        try:
            return sender.submit(self.desk, self.log_in(user), path, recipients, read_message(spooled))
        finally:
            spooled.unlink()

    def accept(self, envelope: Envelope, **changed: object) -> str:
        """Take an envelope as the peer listener does."""
        file = self.files.write(envelope.ciphertext())
        values: dict[str, object] = {
            "exchange": envelope.exchange,
            "head": envelope.head,
            "ciphertext": file,
            "sender": envelope.sender,
            "recipient": envelope.recipient,
            "peer": "a test",
            **changed,
        }
        return recipient.accept(self.desk, Arrived(**values))  # type: ignore[arg-type]

    def work(self, rounds: int = 50) -> None:
        """Do all jobs that are due, and the feed once."""
        while rounds and jobs.run_one(self.desk):
            rounds -= 1
        anchoring.anchor_batch(self.desk)
        self.follow()

    def follow(self) -> None:
        """Take one page of the feed."""
        cursor = learning.cursor_of(self.desk, self.ttp.name)
        page = self.ttp.feed(cursor, 0)
        learning.learn_page(self.desk, self.ttp.name, page.bundles, page.cursor)

    def look(self) -> None:
        """Look at the TTP's ledger once."""
        witnessing.look(self.desk, self.ttp, load_witness(self.place / "keys", self.domain.name))

    def mailbox(self, address: str) -> dict[str, bytes]:
        """Return what is new in a mailbox, by file name."""
        new = self.place / "mail" / address / "new"
        return {path.name: path.read_bytes() for path in sorted(new.glob("*"))}

    def outgoing(self, exchange: bytes) -> Outgoing:
        """Return the sender's side."""
        with self.store.transaction() as unit:
            found = unit.outgoing.find(exchange)
        assert found is not None
        return found

    def exchanges(self) -> list[bytes]:
        """Return all exchanges that users of this node sent, oldest first."""
        with self._engine.connect() as connection:
            return list(connection.scalars(select(tables.outgoing.c.exchange)))

    def incoming(self, exchange: bytes) -> Incoming | None:
        """Return the recipient's side."""
        with self.store.transaction() as unit:
            return unit.incoming.find(exchange)

    def alarms(self) -> list[str]:
        """Return the kinds of alarms."""
        with self.store.transaction() as unit:
            return sorted(alarm.kind for alarm in unit.evidence.alarms(100))

    def cipher_files(self) -> list[str]:
        """Return the names of the ciphertexts' files."""
        return sorted(path.name for path in (self.place / "data" / "ciphertexts").iterdir())

    def _chain(self, key: UserKey) -> tuple[bytes, ...]:
        return key.certificate, self.domain.certificate

    def _tell(self, event: str, **facts: object) -> None:
        self.told.append((event, facts))


class TwoNodes:
    """Node a (alice, carol) and node b (bob, dave), a TTP between them, one clock."""

    def __init__(self, place: Path) -> None:
        self.clock = Clock()
        self.root = Root()
        self.ttp = DoubleTTP(self.root, self.clock)
        self.wire = Wire()
        self.a = self._node(place / "a", "a.example", "alice", "carol")
        self.b = self._node(place / "b", "b.example", "bob", "dave")

    def _node(self, place: Path, domain: str, *names: str) -> DoubleNode:
        node = DoubleNode(place, Domain(domain, self.root), self.root, self.ttp, self.wire, self.clock)
        for name in names:
            node.add_user(f"{name}@{domain}")
        return node

    def settle(self, rounds: int = 6) -> None:
        """Let both nodes work and the clock go on, so that what was postponed is done again."""
        for _ in range(rounds):
            self.a.work()
            self.b.work()
            self.clock.time += 61

    def close(self) -> None:
        """Let go of both databases."""
        self.a.close()
        self.b.close()


def content_of(delivered: bytes) -> bytes:
    """Return what was submitted: everything behind the nodes' last header."""
    start = delivered.index(b"SecMTP-Exchange: ")
    return delivered[delivered.index(b"\r\n", start) + 2 :]


def dying(node: DoubleNode, work: Callable[[], object], at: int, *, after: bool) -> bool:
    """Do some work on a node that dies at its `at`-th transaction from now, then load the node again.

    Returns whether it came so far as to die.
    """
    node.store.die_at = node.store.commits + at
    node.store.after = after
    try:
        work()
    except Died:
        died = True
    else:
        died = False
    node.load()
    return died
