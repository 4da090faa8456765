"""A small world in memory: root, TTP, two domains, users, and complete exchanges with their evidence.

Everything is made by the product's own pure functions with fixed keys and times, so a test can change
one thing and see which step notices. Nothing here opens a socket or a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from shared.crypto import suites
from shared.crypto.certificates import Purpose, TrustRoot
from shared.crypto.issuance import Issuer, Validity, issue_domain_ca, issue_leaf, issue_root
from shared.crypto.keys import HpkePrivateKey, generate_hpke, key_id
from shared.crypto.shares import Shares
from shared.crypto.signing import token_digest as digest_of
from shared.crypto.stream import encrypt
from shared.encoding.labels import H, blob_digest
from shared.evidence import anchored
from shared.evidence.anchored import Lodged
from shared.evidence.bundle import Bundle, DirectBundle, Openings, body
from shared.evidence.composition import Opened, Sealed, Secrets, compose, open_escrow
from shared.evidence.inclusion import Shown
from shared.evidence.manifest import Core, Manifest, NamedTTP, Recipient, Sender, size_class
from shared.evidence.refusal import RefusalFile
from shared.evidence.revocation import Revocation, sign_revocation
from shared.evidence.revoked import ShownRevocation
from shared.evidence.statements import sign_abort, sign_ack, sign_refuse
from shared.evidence.tokens import (
    KeyState,
    LedgerPlace,
    Trade,
    sign_aborted,
    sign_nrd,
    sign_nro,
    sign_nrr,
    sign_refusal,
)
from shared.ledger import anchor as anchors
from shared.ledger import entry as entries
from shared.ledger.anchor import Batch
from shared.ledger.checkpoint import Checkpoint, sign_checkpoint
from shared.ledger.entry import ExchangeEntry, RevocationEntry, body_digest, mask
from shared.ledger.merkle import leaf_hash
from shared.ledger.proof import Proof
from tests.doubles.tree import Tree

NOW = 1_800_000_000
EXPIRES = NOW + 5 * 24 * 3600
DIRECT = NOW + 2 * 24 * 3600
VALID = Validity(NOW - 24 * 3600, NOW + 365 * 24 * 3600)
LETTER = b"From: alice@a.example\r\nTo: bob@b.example\r\nSubject: hello\r\n\r\nDear Bob\r\n"


@dataclass
class Root:
    """A root CA that counts its serial numbers."""

    name: str = "Test root"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    serial: int = 1

    def __post_init__(self) -> None:
        self.certificate = issue_root(self.name, self.key, 1, VALID)
        self.trust = TrustRoot.from_der(self.certificate)

    @property
    def issuer(self) -> Issuer:
        """The signing half."""
        return Issuer(self.certificate, self.key)

    def leaf(self, purpose: Purpose, names: Iterable[str], key: ed25519.Ed25519PrivateKey) -> bytes:
        """Issue a leaf directly under the root."""
        self.serial += 1
        return issue_leaf(purpose, key.public_key(), list(names), self.issuer, self.serial, VALID)


class User:
    """One mail user with the three keys and their certificates."""

    def __init__(self, address: str, domain: Domain, kem: str = "X25519", level: str = "gateway") -> None:
        self.address = address
        self.level = level
        self.origin = ed25519.Ed25519PrivateKey.generate()
        self.receipt = ed25519.Ed25519PrivateKey.generate()
        self.hpke = generate_hpke(kem)
        purpose = Purpose.RECEIPT_GATEWAY if level == "gateway" else Purpose.RECEIPT_USER
        self.origin_chain = domain.certify(Purpose.ORIGIN, address, self.origin)
        self.receipt_chain = domain.certify(purpose, address, self.receipt)


class Domain:
    """A mail domain with its own CA."""

    def __init__(self, name: str, root: Root) -> None:
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        root.serial += 1
        self.certificate = issue_domain_ca(self.key.public_key(), [name], root.issuer, root.serial, VALID)

    @property
    def issuer(self) -> Issuer:
        """The signing half."""
        return Issuer(self.certificate, self.key)

    def certify(self, purpose: Purpose, address: str, key: ed25519.Ed25519PrivateKey) -> list[bytes]:
        """Issue a user's certificate; the chain begins with it."""
        return [issue_leaf(purpose, key.public_key(), [address], self.issuer, 7, VALID), self.certificate]


class LedgerTTP:
    """A TTP in memory: keys, escrow, and a ledger with a few other entries before and after."""

    def __init__(self, root: Root, name: str = "ttp.example", kem: str = "X25519") -> None:
        self.name = name
        self.log = f"{name}/ledger"
        self.nrd = ed25519.Ed25519PrivateKey.generate()
        self.checkpoint = ed25519.Ed25519PrivateKey.generate()
        self.nrd_chain = [root.leaf(Purpose.NRD, [name], self.nrd)]
        self.ledger_certificate = root.leaf(Purpose.LEDGER, [self.log], self.checkpoint)
        self.escrow: HpkePrivateKey = generate_hpke(kem)
        self.tree = Tree(leaf_hash(f"other {number}".encode()) for number in range(5))

    @property
    def named(self) -> NamedTTP:
        """This TTP as a manifest names it."""
        return NamedTTP(
            name=self.name,
            log=self.log,
            nrd_key=key_id(self.nrd.public_key()),
            checkpoint_key=key_id(self.checkpoint.public_key()),
            escrow_key=self.escrow.key_id,
            epoch=1,
        )

    def trade(self, exchange: Exchange, time: int = NOW + 60, keys: tuple[KeyState, KeyState] | None = None) -> Bundle:
        """Trade as the TTP would and return the bundle."""
        opened = open_escrow(exchange.manifest, exchange.sealed.escrow, self.escrow)
        assert isinstance(opened, Opened)
        origin, receipt = keys or (KeyState(), KeyState())
        trade = Trade(
            exchange=exchange.manifest.exchange,
            nro=digest_of(exchange.nro),
            nrr=digest_of(exchange.nrr),
            share=opened.share,
            origin_key=origin,
            receipt_key=receipt,
        )
        token = sign_nrd(trade, LedgerPlace(self.tree.size, time), self.nrd, self.nrd_chain)
        core = exchange.manifest.core
        masked = mask(opened.share, core.nonce, exchange.manifest.exchange)
        return self.record(exchange, ("COMPLETED", masked), exchange.nrr, token, time)

    def abort(self, exchange: Exchange, statement: str, time: int = NOW + 60) -> Bundle:
        """Record ABORTED for the sender's statement and return the bundle."""
        place = LedgerPlace(self.tree.size, time)
        named = (digest_of(exchange.nro), digest_of(statement))
        token = sign_aborted(exchange.manifest.exchange, named, place, self.nrd, self.nrd_chain)
        return self.record(exchange, ("ABORTED", None), None, token, time, statement)

    def append(self, entry: entries.Entry) -> Shown:
        """Append any entry and return what shows that it is in the ledger."""
        index = self.tree.append(leaf_hash(entries.encode(entry)))
        self.tree.append(leaf_hash(b"a later entry"))
        size = self.tree.size
        note = sign_checkpoint(Checkpoint(self.log, size, self.tree.root()), self.checkpoint)
        return Shown(Proof(index, self.tree.inclusion(index, size), note).encode(), self.ledger_certificate)

    def lodge(self, batch: Batch, time: int = NOW + 120) -> Lodged:
        """Anchor a batch as the TTP would."""
        salt = bytes(range(32, 64))
        return Lodged(salt, time, self.append(batch.entry(salt, time)))

    def revoke(self, token: str, key: bytes, time: int, notice: int = 72 * 3600) -> ShownRevocation:
        """Record a revocation as the TTP would."""
        salt = bytes(range(64, 96))
        body = body_digest(salt, token.encode("ascii"))
        entry = RevocationEntry(H("revocation", salt, key), key, time + notice, body, time)
        return ShownRevocation(token, salt, time, entry.effective, self.append(entry))

    def refuse(self, exchange: Exchange, outcome: str, time: int) -> Bundle:
        """Record EXPIRED or INVALID and return the bundle."""
        place = LedgerPlace(self.tree.size, time)
        nro = digest_of(exchange.nro)
        token = sign_refusal(outcome, exchange.manifest.exchange, nro, place, self.nrd, self.nrd_chain)
        return self.record(exchange, (outcome, None), None, token, time)

    def record(
        self,
        exchange: Exchange,
        outcome: tuple[str, bytes | None],
        nrr: str | None,
        token: str,
        time: int,
        abort: str | None = None,
    ) -> Bundle:
        """Append the leaf and return the bundle with its proof."""
        salt = bytes(range(32))
        digest = body_digest(salt, body(exchange.manifest, exchange.nro, nrr, token, abort))
        entry = ExchangeEntry(exchange.manifest.exchange, outcome[0], outcome[1], digest, time)
        shown = self.append(entry)
        manifest, nro = exchange.manifest, exchange.nro
        return Bundle(manifest, nro, nrr, token, salt, shown.proof, shown.ledger, abort=abort)


@dataclass(frozen=True)
class Exchange:
    """One exchange as its sender made it and its recipient answered it."""

    manifest: Manifest
    sealed: Sealed
    secrets: Secrets
    nro: str
    nrr: str
    ciphertext: bytes

    @property
    def openings(self) -> Openings:
        """What proves the content."""
        return Openings(self.secrets.shares.recipient, self.sealed.wrapped_key)


class Parties:
    """Alice at a.example, Bob at b.example, one TTP, one root."""

    def __init__(self, kem: str = "X25519") -> None:
        self.kem = kem
        self.root = Root()
        self.ttp = LedgerTTP(self.root, kem=kem)
        self.a = Domain("a.example", self.root)
        self.b = Domain("b.example", self.root)
        self.alice = User("alice@a.example", self.a, kem)
        self.bob = User("bob@b.example", self.b, kem)

    @property
    def trust(self) -> TrustRoot:
        """The trust root."""
        return self.root.trust

    def core(self, content: bytes = LETTER, sender: User | None = None, recipient: User | None = None) -> Core:
        """Return a core from Alice to Bob, or from and to others."""
        sender, recipient = sender or self.alice, recipient or self.bob
        return Core(
            suite=suites.of_kind(self.kem),
            nonce=blob_digest(content + sender.address.encode() + recipient.address.encode()),
            mode="online",
            sender=Sender(sender.address, key_id(sender.origin.public_key())),
            recipient=Recipient(
                recipient.address, key_id(recipient.receipt.public_key()), recipient.hpke.key_id, recipient.level
            ),
            ttp=self.ttp.named,
            created=NOW,
            expires=EXPIRES,
            size=size_class(len(content)),
            notice="A certified message waits for you.",
        )

    def exchange(self, content: bytes = LETTER, core: Core | None = None, secrets: Secrets | None = None) -> Exchange:
        """Make a whole exchange, signed by both."""
        secrets = secrets or Secrets(Shares(b"T" * 32, b"R" * 32), b"C" * 32)
        ciphertext = b"".join(encrypt(secrets.content_key, [content]))
        core = core or self.core(content)
        manifest, sealed = compose(core, secrets, blob_digest(ciphertext), self.bob.hpke.public, self.ttp.escrow.public)
        return self.signed(manifest, sealed, secrets, ciphertext)

    def offline(self, content: bytes = LETTER, secrets: Secrets | None = None, **core: Any) -> Exchange:
        """Make a whole exchange in offline mode, signed by both."""
        made = replace(self.core(content), **{"mode": "offline", "direct_until": DIRECT, **core})
        return self.exchange(content, made, secrets)

    def ack(self, exchange: Exchange, share: bytes | None = None) -> str:
        """Sign the ACK of an exchange as its recipient."""
        share = exchange.secrets.shares.ttp if share is None else share
        named = (digest_of(exchange.nrr), share)
        return sign_ack(exchange.manifest.exchange, named, NOW + 40, self.bob.receipt, self.bob.receipt_chain)

    def abort(self, exchange: Exchange) -> str:
        """Sign the ABORT statement of an exchange as its sender."""
        named = digest_of(exchange.nro)
        return sign_abort(exchange.manifest.exchange, named, self.alice.origin, self.alice.origin_chain)

    def refuse(self, exchange: Exchange) -> str:
        """Sign the REFUSE statement of an exchange as its recipient."""
        named = digest_of(exchange.nro)
        return sign_refuse(exchange.manifest.exchange, named, NOW + 20, self.bob.receipt, self.bob.receipt_chain)

    def direct(self, exchange: Exchange, ack: str | None = None, time: int = NOW + 120) -> DirectBundle:
        """Return the evidence of a direct exchange, anchored among digests of others."""
        bundle = DirectBundle(exchange.manifest, exchange.nro, exchange.nrr, ack or self.ack(exchange))
        batch = anchors.batch([*bundle.digests, *(blob_digest(bytes([number])) for number in range(20))])
        return replace(bundle, anchor=anchored.prove(batch, bundle.digests, self.ttp.lodge(batch, time)))

    def refused(self, exchange: Exchange, time: int = NOW + 60) -> RefusalFile:
        """Return a refusal file as the TTP would."""
        refuse = self.refuse(exchange)
        batch = anchors.batch([digest_of(refuse)])
        proof = anchored.prove(batch, [digest_of(refuse)], self.ttp.lodge(batch, time))
        return RefusalFile(exchange.manifest, exchange.nro, refuse, proof)

    def revocation(self, user: User, key: bytes, domain: Domain, time: int) -> ShownRevocation:
        """Revoke a key of a user and return what shows it."""
        token = sign_revocation(Revocation(user.address, key, "key-compromise", time), domain.key, domain.certificate)
        return self.ttp.revoke(token, key, time)

    def signed(self, manifest: Manifest, sealed: Sealed, secrets: Secrets, ciphertext: bytes) -> Exchange:
        """Sign NRO and NRR over a manifest, whatever is in it."""
        nro = sign_nro(manifest.exchange, NOW, self.alice.origin, self.alice.origin_chain)
        nrr = sign_nrr(manifest.exchange, digest_of(nro), NOW + 30, self.bob.receipt, self.bob.receipt_chain)
        return Exchange(manifest, sealed, secrets, nro, nrr, ciphertext)

    def resigned(self, exchange: Exchange, **changed: object) -> Exchange:
        """Change members of the manifest and sign it anew, as a sender who cheats would."""
        manifest = replace(exchange.manifest, **changed)  # type: ignore[arg-type]
        return self.signed(manifest, exchange.sealed, exchange.secrets, exchange.ciphertext)


@cache
def parties() -> Parties:
    """One world for all tests that don't change it."""
    return Parties()
