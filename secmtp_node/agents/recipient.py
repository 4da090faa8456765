"""Accepting an envelope: everything that can be checked before the receipt is signed (online.md R1 to R6).

Each failure is answered with its step and changes nothing. When all checks have passed, the NRR is
signed and committed with the whole envelope before anything leaves: a node never signs what it could
forget. There is never a second NRR for one hM.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from secmtp_node.agents.directory import Directory, named_ttp
from secmtp_node.ports.services import AtRest, Events, Files, Vault
from secmtp_node.ports.store import Store
from secmtp_node.ports.values import Incoming, KeyUse, StoredFile, Task, User, UserKey
from shared.crypto import stream, suites
from shared.crypto.certificates import TrustRoot
from shared.crypto.keys import HpkePrivateKey
from shared.errors import EvidenceFault, Forbidden, Malformed, NotFound
from shared.evidence import head as heads
from shared.evidence.composition import check_blob, open_recipient_share
from shared.evidence.head import Head
from shared.evidence.manifest import Core, size_class
from shared.evidence.records import VerifiedTTP
from shared.evidence.tokens import NRO, sign_nrr
from shared.evidence.verification import require, step, verify_nro
from shared.exchange.recipient import State

SECRET = "incoming exchange"
LEVEL = "gateway"
SKEW = 300
BUSY = 600.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """An envelope as it came. `ciphertext` is read once, after the head was found good; `peer` is in words."""

    exchange: bytes
    sender: str
    recipient: str
    head: bytes = field(repr=False)
    ciphertext: Iterable[bytes] = field(repr=False)
    peer: str


@dataclass(frozen=True)
class RecipientAgent:
    """Takes envelopes for the users of this node. `node` is the key that heads are sealed to."""

    store: Store
    files: Files
    vault: Vault
    at_rest: AtRest
    directory: Directory
    root: TrustRoot
    node: HpkePrivateKey
    log: Events
    suites: frozenset[str] = frozenset(suites.ALLOWED)
    locks: Locks = field(default_factory=lambda: Locks())

    def check_recipient(self, address: str) -> None:
        """Raise NotFound unless the address is a user here (RCPT)."""
        with self.store.transaction() as unit:
            if unit.users.find(address) is None:
                raise NotFound(f"{address} isn't a user here")

    def accept(self, arrival: Arrival, now: int) -> None:
        """Check an envelope, sign its NRR and make both durable; after that the peer is answered 250.

        Raises EvidenceFault or Malformed (the envelope is bad), NotFound, or Unavailable (try again).
        """
        with self.locks.holding(arrival.exchange):
            if self._known(arrival):
                return
            head = heads.open_head(arrival.head, arrival.exchange, self.node)
            user, keys = self._addressee(arrival, head)
            nro = self._check(head, keys, now)
            file = self.files.write(arrival.ciphertext)
            try:
                self._accept(arrival, head, nro, file, (user, keys), now)
            except BaseException:
                self.files.discard(file)
                raise
        self.log("accepted", exchange=arrival.exchange.hex(), recipient=arrival.recipient, peer=arrival.peer)

    def _known(self, arrival: Arrival) -> bool:
        """Whether the envelope is here already; then it is answered as the first time."""
        with self.store.transaction() as unit:
            exchange = unit.incoming.find(arrival.exchange)
        if exchange is None:
            return False
        require(exchange.recipient == arrival.recipient, "envelope.recipient", "this exchange is with another address")
        return True

    def _addressee(self, arrival: Arrival, head: Head) -> tuple[User, dict[KeyUse, UserKey]]:
        """Find the user that the envelope is for (online.md R2, first half)."""
        core = head.manifest.core
        same = core.recipient.address == arrival.recipient
        require(same, "envelope.recipient", f"M is for {core.recipient.address}, RCPT says {arrival.recipient}")
        came = core.sender.address == arrival.sender
        require(came, "envelope.sender", f"M is from {core.sender.address}, MAIL says {arrival.sender or '<>'}")
        with self.store.transaction() as unit:
            user = unit.users.find(arrival.recipient)
            keys = {key.use: key for key in unit.users.keys(arrival.recipient)}
        if user is None:
            raise NotFound(f"{arrival.recipient} isn't a user here")
        return user, keys

    def _check(self, head: Head, keys: dict[KeyUse, UserKey], now: int) -> NRO:
        """Check all that needs no ciphertext (online.md R2 second half, R3)."""
        core = head.manifest.core
        _check_keys(core, keys)
        self._check_ttp(core, now)
        timely = core.created - SKEW <= now < core.expires
        require(timely, "manifest.time", f"now ({now}) isn't between created ({core.created}) and {core.expires}")
        allowed = core.suite.name in self.suites
        require(allowed, "manifest.suite", f"the suite {core.suite.name} isn't allowed here")
        hpke = keys[KeyUse.HPKE].public
        require(hpke is not None and hpke.kind == core.suite.kem, "manifest.suite", "the suite isn't our key's kind")
        nro = verify_nro(head.nro, head.manifest, self.root, now)
        check_blob(head.sealed.escrow, head.manifest.h_ET, "escrow.digest", "E_T")
        check_blob(head.sealed.recipient_share, head.manifest.h_ER, "recipient-share.digest", "E_R")
        check_blob(head.sealed.wrapped_key, head.manifest.h_key, "wrapped-key.digest", "the wrapped key")
        return nro

    def _check_ttp(self, core: Core, now: int) -> None:
        """Check that M names a TTP of ours, by the keys of its verified record, in an epoch that lasts."""
        try:
            verified = self.directory.ttp(core.ttp.name, now)
        except Forbidden as error:
            raise EvidenceFault("ttp.allowed", error.message) from error
        if not _names(core, verified):
            # The record that we remember may be older than the epoch.
            verified = self.directory.ttp(core.ttp.name, now, fresh=True)
        require(_names(core, verified), "ttp.keys", f"M doesn't name the keys, log or epochs of {core.ttp.name}")
        open_until = next(e.open_until for e in verified.record.epochs if e.epoch == core.ttp.epoch)
        lasting = open_until >= core.expires
        require(lasting, "ttp.epoch", f"M expires at {core.expires}, its escrow epoch ends at {open_until}")

    def _accept(
        self,
        arrival: Arrival,
        head: Head,
        nro: NRO,
        file: StoredFile,
        addressee: tuple[User, dict[KeyUse, UserKey]],
        now: int,
    ) -> None:
        """Check the ciphertext and E_R, sign, commit (online.md R3 to R6)."""
        manifest = head.manifest
        user, keys = addressee
        require(file.digest == manifest.h_ct, "ciphertext.digest", "the ciphertext isn't the one that M names")
        with step("ciphertext.size"):
            octets = stream.plain_length(file.octets)
        fits = size_class(octets) == manifest.core.size
        require(fits, "ciphertext.size", f"{octets} octets aren't of the size class {manifest.core.size} in M")
        require(user.delegated, "receipt.policy", f"{user.address} signs receipts in person, which isn't offered yet")
        share = open_recipient_share(manifest, head.sealed.recipient_share, self.vault.hpke(keys[KeyUse.HPKE]))
        signer = self.vault.receipt(keys[KeyUse.RECEIPT])
        incoming = Incoming(
            exchange=manifest.exchange,
            state=State.SIGNED,
            manifest=manifest,
            nro=head.nro,
            nrr=sign_nrr(manifest.exchange, nro.digest, now, signer.key, signer.chain),
            sealed=head.sealed,
            sealed_secret=self.at_rest.seal(share, SECRET, manifest.exchange),
            ciphertext=file,
            accepted=now,
            peer=arrival.peer,
        )
        with self.store.transaction() as unit:
            unit.incoming.add(incoming)
            unit.jobs.add(Task.TRADE, manifest.exchange, now)
        # Commit point (online.md R6). Before it the NRR exists nowhere but in this process, the peer hears
        # no 250 and brings the envelope again. After it the trade is made, whatever dies.


def _check_keys(core: Core, keys: dict[KeyUse, UserKey]) -> None:
    named = core.recipient
    live = (keys[KeyUse.RECEIPT].key_id, keys[KeyUse.HPKE].key_id)
    current = (named.receipt_key, named.hpke_key) == live
    require(current, "recipient.keys", f"M doesn't name the live keys of {named.address}: look the address up again")
    require(named.level == LEVEL, "recipient.level", f"M demands the level {named.level}, the key is of {LEVEL}")


def _names(core: Core, verified: VerifiedTTP) -> bool:
    epochs = [epoch for epoch in verified.record.epochs if epoch.epoch == core.ttp.epoch]
    return any(named_ttp(verified, epoch) == core.ttp and epoch.key.kind == core.suite.kem for epoch in epochs)


class Locks:
    """One lock for each exchange that is being accepted: a second session waits and finds the stored NRR."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held: dict[bytes, tuple[threading.Lock, int]] = {}

    @contextmanager
    def holding(self, exchange: bytes) -> Iterator[None]:
        """Hold the lock of an exchange. Raises Malformed when it stays taken for ten minutes."""
        with self._guard:
            lock, waiting = self._held.get(exchange, (threading.Lock(), 0))
            self._held[exchange] = (lock, waiting + 1)
        try:
            if not lock.acquire(timeout=BUSY):
                raise Malformed("this exchange is being accepted in another session")
            try:
                yield
            finally:
                lock.release()
        finally:
            self._leave(exchange)

    def _leave(self, exchange: bytes) -> None:
        with self._guard:
            lock, waiting = self._held[exchange]
            if waiting == 1:
                del self._held[exchange]
            else:
                self._held[exchange] = (lock, waiting - 1)
