"""Submission: from an ordinary message to exchanges that are durable (docs/protocols/online.md S1 to S3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from secmtp_node.agents import modes, witnessing
from secmtp_node.agents.addresses import Addressee
from secmtp_node.agents.desk import Desk
from secmtp_node.ports.services import Login, SigningPair, Submitted
from secmtp_node.ports.store import Unit
from secmtp_node.ports.values import KeyUse, Letter, Outgoing, StoredFile, Task
from shared.crypto import suites
from shared.crypto.keys import key_id
from shared.crypto.shares import Shares
from shared.crypto.signing import token_digest
from shared.crypto.stream import encrypt
from shared.encoding.address import normal_address
from shared.errors import Forbidden, NotFound, SecMTPError, Unauthenticated
from shared.evidence import composition
from shared.evidence.composition import Secrets
from shared.evidence.manifest import Core, NamedTTP, Recipient, Sender, size_class
from shared.evidence.records import VerifiedTTP
from shared.evidence.statements import sign_abort
from shared.evidence.tokens import sign_nro
from shared.exchange.sender import State
from shared.exchange.timers import sender_due

SECRET = "s_R of an outgoing exchange"
SHARE = "s_T of an outgoing exchange"
ABORT = "ABORT of an outgoing exchange"
HEADERS = "head of a letter"


def log_in(desk: Desk, address: str, password: str) -> Login:
    """Check a password. Raises Unauthenticated, after the same work, for an unknown user too."""
    try:
        normal = normal_address(address)
    except Exception:  # noqa: BLE001  (whatever was typed: the answer must not say more than "no")
        normal = ""
    with desk.store.transaction() as unit:
        user = unit.users.find(normal)
    verifier = desk.passwords.fake(normal) if user is None else user.verifier
    client_key = desk.passwords.by_password(password, verifier)
    if client_key is None or user is None:
        raise Unauthenticated("the address or the password is wrong")
    return Login(user.address, client_key)


def check_sender(login: Login, address: str) -> None:
    """Raise Forbidden unless the address is the login's own, or the null reverse path: then nothing is reported."""
    if address and normal_address(address) != login.address:
        raise Forbidden(f"{login.address} can't send as {address}: only the own address can be proven")


def check_recipient(desk: Desk, address: str) -> str:
    """Look a recipient up. Raises NotFound, Unavailable, EvidenceFault."""
    return desk.book.find(normal_address(address)).binding.address


def submit(desk: Desk, login: Login, sender: str, recipients: Sequence[str], message: Submitted) -> str:
    """Make an exchange for each recipient and commit all of them; return the text of the 250.

    `sender` is the reverse path: reports go there, and nowhere if it is null; M names the login's address.

    A repetition within the window (the answer was lost) finds the letter and makes nothing new. Raises
    SecMTPError; then nothing was stored.
    """
    addresses = tuple(dict.fromkeys(normal_address(recipient) for recipient in recipients))
    if not addresses:
        raise NotFound("the message has no recipient")
    parts = (login.address, sender, *addresses, *([f"mode {message.mode}"] if message.mode else []))
    fingerprint = desk.at_rest.fingerprint(b"letter", message.digest, *(part.encode() for part in parts))
    repeated = _known(desk, fingerprint)
    if repeated is not None:
        return repeated
    name = desk.draw(16)
    letter = Letter(
        id=name,
        login=login.address,
        reports=login.address if sender else None,
        accepted=desk.now(),
        fingerprint=fingerprint,
        headers=desk.at_rest.seal(message.headers, HEADERS, name),
    )
    ttp = desk.book.ttp_record()
    witnessing.require_trust(desk, ttp.record.name)
    addressees = [desk.book.find(address) for address in addresses]
    chosen = modes.choose(desk.policy.modes, login.address, message.mode, addressees)
    witnessing.require_witnesses(desk, ttp.record, login.address, addresses)
    sealing = _Sealing(desk, letter, _origin(desk, login), ttp, message)
    try:
        exchanges = sealing.all(addressees, chosen)
    except BaseException:
        sealing.discard()
        raise
    try:
        repeated = _commit(desk, letter, exchanges)
    except SecMTPError:
        # A commit may be durable although its answer was lost: only what no row names may go.
        repeated = _known(desk, fingerprint)
        if repeated is None:
            sealing.discard()
            raise
        return repeated
    if repeated is not None:
        sealing.discard()
    return repeated or _answer(letter, len(addressees))


def _known(desk: Desk, fingerprint: bytes) -> str | None:
    with desk.store.transaction() as unit:
        return _repeated(desk, unit, fingerprint)


def _repeated(desk: Desk, unit: Unit, fingerprint: bytes) -> str | None:
    letter = unit.letters.find(fingerprint, desk.now() - desk.policy.repeat_window)
    return None if letter is None else _answer(letter, len(unit.outgoing.of_letter(letter.id)))


def _commit(desk: Desk, letter: Letter, exchanges: Sequence[Outgoing]) -> str | None:
    """Store letter, exchanges and jobs in one transaction: the commit point (S3). None when it is done.

    A crash before it: the program never heard 250 and submits again; files without a row are swept at
    start. A crash after it: the courier goes on; a repetition finds the letter, one at the same moment too.
    """
    with desk.store.transaction() as unit:
        repeated = _repeated(desk, unit, letter.fingerprint)
        if repeated is not None:
            return repeated
        unit.letters.add(letter)
        for exchange in exchanges:
            unit.outgoing.add(exchange)
            unit.jobs.add(Task.CARRY, exchange.exchange, desk.now())
            if exchange.manifest.core.mode == "offline":
                due = sender_due(exchange.state, exchange.manifest.core, desk.now())
                unit.jobs.add(Task.SETTLE, exchange.exchange, due or desk.now())
    desk.tell("letter accepted", exchanges=[exchange.exchange.hex() for exchange in exchanges])
    return None


def _answer(letter: Letter, exchanges: int) -> str:
    return f"stored as {letter.id.hex()}, {exchanges} exchange(s)"


def _origin(desk: Desk, login: Login) -> SigningPair:
    return desk.vault.origin(desk.user_key(login.address, KeyUse.ORIGIN), login.client_key)


@dataclass
class _Sealing:
    """Seals one message for its recipients. `written` names the files made so far."""

    desk: Desk
    letter: Letter
    origin: SigningPair
    ttp: VerifiedTTP
    message: Submitted
    written: list[StoredFile] = field(default_factory=list)

    def all(self, addressees: Sequence[Addressee], chosen: Sequence[str]) -> list[Outgoing]:
        """Return one exchange for each, in its mode. Visible recipients share a ciphertext; a blind one has its own."""
        shared: tuple[bytes, StoredFile] | None = None
        exchanges = []
        for addressee, mode in zip(addressees, chosen, strict=True):
            if addressee.binding.address in self.message.visible:
                shared = shared or self._ciphertext()
                exchanges.append(self._exchange(self._core(addressee, mode), addressee, *shared))
            else:
                exchanges.append(self._exchange(self._core(addressee, mode), addressee, *self._ciphertext()))
        return exchanges

    def discard(self) -> None:
        """Remove the files that were made."""
        for file in self.written:
            self.desk.files.discard(file)

    def _ciphertext(self) -> tuple[bytes, StoredFile]:
        content_key = self.desk.draw(32)
        file = self.desk.files.write(encrypt(content_key, self.message.content()))
        self.written.append(file)
        return content_key, file

    def _exchange(self, core: Core, addressee: Addressee, content_key: bytes, file: StoredFile) -> Outgoing:
        drawn = Secrets(Shares(self.desk.draw(32), self.desk.draw(32)), content_key)
        escrow = self.ttp.epoch_for(core.expires, core.suite.kem).key
        manifest, sealed = composition.compose(core, drawn, file.digest, addressee.binding.hpke, escrow)
        name = manifest.exchange
        nro = sign_nro(name, self.letter.accepted, self.origin.key, self.origin.chain)
        secret = self.desk.at_rest.seal(drawn.shares.recipient, SECRET, name)
        made = Outgoing(name, self.letter.id, State.QUEUED, manifest, nro, sealed, secret, file)
        return self._direct(made, drawn.shares.ttp) if core.mode == "offline" else made

    def _direct(self, made: Outgoing, share: bytes) -> Outgoing:
        """Add what only a direct exchange needs: s_T, and the ABORT that nobody could sign later (offline.md S2)."""
        abort = sign_abort(made.exchange, token_digest(made.nro), self.origin.key, self.origin.chain)
        return replace(
            made,
            sealed_share=self.desk.at_rest.seal(share, SHARE, made.exchange),
            sealed_abort=self.desk.at_rest.seal(abort.encode("ascii"), ABORT, made.exchange),
        )

    def _core(self, addressee: Addressee, mode: str) -> Core:
        binding, policy = addressee.binding, self.desk.policy
        suite = suites.of_kind(binding.hpke.kind)
        expires = self.letter.accepted + policy.expiry
        epoch = self.ttp.epoch_for(expires, suite.kem)
        origin_key = key_id(self.origin.key.public_key())
        return Core(
            suite=suite,
            nonce=self.desk.draw(32),
            mode=mode,
            sender=Sender(self.letter.login, origin_key),
            recipient=Recipient(binding.address, binding.receipt.key_id, binding.hpke.key_id, binding.level),
            ttp=NamedTTP(
                name=self.ttp.record.name,
                log=self.ttp.record.log,
                nrd_key=self.ttp.nrd.key_id,
                checkpoint_key=self.ttp.ledger.key_id,
                escrow_key=epoch.key.key_id,
                epoch=epoch.epoch,
            ),
            created=self.letter.accepted,
            expires=expires,
            size=size_class(self.message.octets),
            notice=policy.notice,
            direct_until=self.letter.accepted + policy.direct if mode == "offline" else None,
        )
