"""Wiring of the node: the only module that knows which part is made of what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from secmtp_node import clock
from secmtp_node.agents import anchoring, jobs, learning, recovery, users, witnessing
from secmtp_node.agents.addresses import AddressBook
from secmtp_node.agents.desk import MODES, Desk, Policy
from secmtp_node.agents.modes import ModePolicy
from secmtp_node.agents.users import Registry
from secmtp_node.custody.at_rest import MasterKey
from secmtp_node.custody.identity import Identity, load_identity
from secmtp_node.custody.passwords import ScramPasswords
from secmtp_node.custody.vault import KeyVault
from secmtp_node.custody.witness import load_witness
from secmtp_node.delivery.maildir import Maildirs
from secmtp_node.delivery.report import MailReports
from secmtp_node.ports.values import UserKey
from secmtp_node.settings import Settings, TTPAddress
from secmtp_node.smtp import faults
from secmtp_node.smtp.client import SmtpCarrier
from secmtp_node.smtp.guard import Guard, Limits
from secmtp_node.smtp.listener import Address, Listeners, client_context, server_context
from secmtp_node.smtp.ports import MailService, PeerService
from secmtp_node.smtp.services import Peers, Submission
from secmtp_node.smtp.session import Listening
from secmtp_node.smtp.spool import Spool
from secmtp_node.store.database import SqlStore, open_engine, upgrade
from secmtp_node.store.files import FileBox
from secmtp_node.store.lock import DirectoryLock
from secmtp_node.store.watermark import Watermark
from secmtp_node.ttp_client import Asker, HttpTTP
from secmtp_node.workers import Workers, sequence
from shared.crypto.certificates import Purpose, TrustRoot, VerifiedCertificate, verify_chain
from shared.errors import SecMTPError
from shared.evidence.records import DomainRecord
from shared.ledger.witness import Signer

MARK = "watermark"
FEED_WAIT = 20
IDLE = 0.2
UPKEEP = 2.0
UPKEEP_PAUSE = 3600
ENVELOPE_GROWTH = 1.4


@dataclass
class Node:
    """A node that runs. `ports` says where it listens."""

    desk: Desk
    registry: Registry
    workers: Workers
    listeners: Listeners
    ports: dict[str, int]
    ttp: HttpTTP
    lock: DirectoryLock

    def close(self) -> None:
        """Stop taking mail, then stop working."""
        self.workers.stop()
        try:
            self.listeners.close()
        finally:
            self.ttp.close()  # ends the long poll
            self.workers.join()
            self.lock.release()


def database_url(directory: Path, settings: Settings) -> str:
    """Return the database's URL."""
    return settings.database or f"sqlite:///{directory / 'data' / 'node.sqlite'}"


def mail_directory(directory: Path, settings: Settings) -> Path:
    """Return where Maildirs lie."""
    return Path(settings.mail) if settings.mail else directory / "mail"


def tell(event: str, **facts: object) -> None:
    """Log an event."""
    structlog.get_logger().info(event, **facts)


def build_registry(directory: Path, settings: Settings, identity: Identity, store: SqlStore) -> Registry:
    """Return what issues for this node's domains."""
    return Registry(store, identity.root, identity.domain_ca, identity.domain_key, clock.now, clock.draw)


def build_vault(identity: Identity, master: MasterKey) -> KeyVault:
    """Return the keeper of users' keys."""

    def chain(key: UserKey) -> tuple[bytes, ...]:
        return key.certificate, identity.domain_ca.certificate

    return KeyVault(master, clock.draw, chain)


def build_ttp(identity: Identity, address: TTPAddress) -> HttpTTP:
    """Return the client of the TTP."""
    asker = Asker(identity.request_key, identity.request_certificate, clock.now, clock.draw)
    return HttpTTP(address.name, address.url, str(identity.root_file), asker)


def build(directory: Path, settings: Settings, address: TTPAddress, fault: str = "") -> Node:
    """Build everything and start it. Raises ConfigurationError rather than run wrongly.

    `fault` names a rule to break, for rehearsals (smtp/faults.py).
    """
    faults.check(fault)
    identity = load_identity(directory, clock.now())
    lock = DirectoryLock(directory / "data")
    engine = open_engine(database_url(directory, settings))
    upgrade(engine)
    watermark = Watermark(directory / "keys" / MARK)  # where no backup of the database reaches
    store, ttp = SqlStore(engine, watermark), build_ttp(identity, address)
    desk = _desk(directory, settings, identity, store, ttp)
    if fault == faults.SENDER_KEEPS_KEY:
        desk = replace(desk, carrier=faults.KeepsKey(desk.carrier))
    peers = faults.WithholdsAck if fault == faults.RECIPIENT_WITHHOLDS_ACK else Peers
    recovery.at_start(desk, watermark.value)
    registry = build_registry(directory, settings, identity, store)
    spool = Spool(directory / "data" / "spool")
    spool.sweep()
    listeners = Listeners()
    answering = Answering(desk, spool, peers(desk, partial(_names, identity.root)))
    ports = _listen(listeners, settings, identity, answering)
    workers = Workers(tell)
    node = Node(desk, registry, workers, listeners, ports, ttp, lock)
    _start(node, settings, identity)
    signer = load_witness(directory / "keys", settings.domains[0])
    workers.start("witness", lambda: _look(node, signer, settings.witness_pause))
    return node


def _desk(directory: Path, settings: Settings, identity: Identity, store: SqlStore, ttp: HttpTTP) -> Desk:
    master = MasterKey(directory / "keys", clock.draw)
    files = FileBox(directory / "data" / "ciphertexts")
    with store.transaction() as unit:
        files.sweep(unit.file_names())
    policy = Policy(
        domains=tuple(settings.domains),
        expiry=settings.expiry,
        first_pause=settings.first_pause,
        longest_pause=settings.longest_pause,
        quorum=settings.quorum,
        behind=settings.behind,
        modes=ModePolicy(settings.mode, settings.mode_for, settings.mode_fallback),
        direct=settings.direct_window,
        margin=settings.direct_margin,
        anchor_pause=settings.anchor_pause,
    )
    context = client_context(identity.tls_certificate, identity.tls_key_file, identity.root_file)
    return Desk(
        policy=policy,
        root=identity.root,
        store=store,
        files=files,
        at_rest=master,
        vault=build_vault(identity, master),
        passwords=ScramPasswords(master.fingerprint),
        book=AddressBook(ttp, store, identity.root, clock.now),
        ttps={ttp.name: ttp},
        carrier=SmtpCarrier(context, settings.domains[0], partial(_node_certificate, identity.root)),
        mailboxes=Maildirs(mail_directory(directory, settings)),
        reports=MailReports(settings.domains[0]),
        node_key=identity.hpke,
        now=clock.now,
        draw=clock.draw,
        tell=tell,
    )


@dataclass(frozen=True)
class Answering:
    """What answers on the listeners."""

    desk: Desk
    spool: Spool
    peers: Peers


def _listen(listeners: Listeners, settings: Settings, identity: Identity, answering: Answering) -> dict[str, int]:
    def listening(octets: int, mail: MailService | None, peers: PeerService | None) -> Listening:
        limits = Limits(octets=octets)
        return Listening(
            hostname=settings.domains[0],
            home=settings.domains[0],
            spool=answering.spool,
            limits=limits,
            guard=Guard(limits),
            failed=_failed,
            mail=mail,
            peers=peers,
        )

    users_context = server_context(identity.tls_certificate, identity.tls_key_file)
    peers_context = server_context(identity.tls_certificate, identity.tls_key_file, identity.root_file)
    mail = listening(settings.message_octets, Submission(answering.desk), None)
    peers = listening(int(settings.message_octets * ENVELOPE_GROWTH) + 65536, None, answering.peers)
    at = settings.listen
    return {
        "submission": listeners.listen(Address(at, settings.submission), mail, users_context),
        "submissions": listeners.listen(Address(at, settings.submissions), mail, users_context, implicit_tls=True),
        "peer": listeners.listen(Address(at, settings.peer), peers, peers_context),
    }


def _start(node: Node, settings: Settings, identity: Identity) -> None:
    """Start the workers, having tried once to publish: a node that is up at once is found at once."""
    record = DomainRecord(
        domain=settings.domains[0],
        host=settings.peer_host or settings.hosts[0],
        port=settings.peer_port or node.ports["peer"],
        hpke=identity.hpke.public,
        modes=MODES,
        issued=clock.now(),
    )
    publisher = _Publisher(node, record)
    try:
        publisher.publish()
    except SecMTPError as error:
        tell("not published yet", reason=error.message)
    for number in range(settings.couriers):
        node.workers.start(f"jobs-{number}", lambda: 0.0 if jobs.run_one(node.desk) else IDLE)
    node.workers.start("anchors", lambda: 0.0 if anchoring.anchor_batch(node.desk) else IDLE)
    node.workers.start("feed", lambda: _follow(node))
    node.workers.start("upkeep", sequence([publisher.publish], UPKEEP))


def _follow(node: Node) -> float:
    """Ask for one page of the feed and commit it."""
    cursor = learning.cursor_of(node.desk, node.ttp.name)
    page = node.ttp.feed(cursor, FEED_WAIT)
    if page.bundles or page.cursor != cursor:
        learning.learn_page(node.desk, node.ttp.name, page.bundles, page.cursor)
    return 0.0


def _look(node: Node, signer: Signer, pause: int) -> float:
    """Look at the TTP's ledger. While the TTP is away the feed says so; the look is tried again later."""
    try:
        witnessing.look(node.desk, node.ttp, signer)
    except SecMTPError as error:
        tell("ledger not looked at", reason=error.message)
    return float(pause)


@dataclass
class _Publisher:
    """Publishes domain records once a day and bindings as they are made; looks at ages once an hour."""

    node: Node
    record: DomainRecord
    published: int = 0
    kept_up: int = 0

    def publish(self) -> None:
        """Do what is due."""
        node = self.node
        if clock.now() - self.published >= users.DAY:
            users.publish_domains(node.registry, node.ttp, self.record)
            self.published = clock.now()
        if clock.now() - self.kept_up >= UPKEEP_PAUSE:
            users.upkeep(node.registry)
            self.kept_up = clock.now()
        users.publish(node.registry, node.ttp, tell)


def _names(root: TrustRoot, certificate: bytes) -> tuple[str, ...]:
    return _node_certificate(root, certificate).names


def _node_certificate(root: TrustRoot, certificate: bytes) -> VerifiedCertificate:
    """Check that a certificate is a node's. Raises EvidenceFault."""
    return verify_chain([certificate], root, {Purpose.NODE}, clock.now())


def _failed(what: str, error: BaseException) -> None:
    structlog.get_logger().error(what, error=type(error).__name__, exc_info=error)
