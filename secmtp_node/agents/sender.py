"""Submission: from octets and a login to exchanges that are durable (online.md S1 to S3).

Everything for all recipients is committed in one transaction with the letter; the program hears 250
after it. A submission that is repeated because the 250 was lost gives the same exchanges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from secmtp_node.agents.directory import Directory, Known
from secmtp_node.agents.login import Login
from secmtp_node.ports.services import AtRest, Draw, Events, Files
from secmtp_node.ports.store import Store, Unit
from secmtp_node.ports.values import Letter, Outgoing, StoredFile, Task
from shared.crypto import shares, stream, suites
from shared.crypto.shares import Shares
from shared.encoding.labels import H
from shared.errors import Forbidden, Malformed, PeerFault
from shared.evidence.composition import Secrets, compose
from shared.evidence.manifest import Core, NamedTTP, Recipient, Sender, size_class
from shared.evidence.records import EscrowEpoch
from shared.evidence.tokens import sign_nro
from shared.exchange.sender import State

NONCE = 32
SECRET = "outgoing exchange"
HEADERS = "headers of a letter"
MAX_HEADERS = 16 * 1024
MAX_RECIPIENTS = 100


@dataclass(frozen=True, slots=True)
class Policy:
    """How this node sends. `expiry` and `window` are seconds; `suites` are the allowed ones by name."""

    ttp: str
    mode: str = "online"
    expiry: int = 5 * 24 * 3600
    window: int = 24 * 3600
    notice: str = "A certified message waits for you. Your mail server signs a receipt when it takes it."
    suites: frozenset[str] = frozenset(suites.ALLOWED)


@dataclass(frozen=True, slots=True)
class Submission:
    """What a mail program submitted. `content` gives the octets without Bcc fields, anew at each call.

    `reverse_path` is MAIL FROM, empty for a null one; `recipients` are RCPT's, in normal form;
    `visible` are the addresses in To and Cc; `digest` and `octets` are of the content.
    """

    reverse_path: str
    recipients: tuple[str, ...]
    visible: frozenset[str]
    content: Callable[[], Iterable[bytes]] = field(repr=False)
    digest: bytes
    octets: int


@dataclass(frozen=True, slots=True)
class _Encrypted:
    """The letter under one content key."""

    file: StoredFile
    content_key: bytes = field(repr=False)


class SendingAgent:
    """Takes submissions."""

    def __init__(
        self, store: Store, files: Files, at_rest: AtRest, directory: Directory, draw: Draw, policy: Policy, log: Events
    ) -> None:
        self._store = store
        self._files = files
        self._at_rest = at_rest
        self._directory = directory
        self._draw = draw
        self._policy = policy
        self._log = log

    def check_sender(self, login: Login, reverse_path: str) -> None:
        """Raise Forbidden unless the reverse path is the login's own address, or null (online.md S1)."""
        if reverse_path not in {"", login.address}:
            raise Forbidden(f"{login.address} may not send as {reverse_path}", code="not-your-address")

    def check_recipient(self, address: str, now: int) -> Known:
        """Look a recipient up at RCPT. Raises NotFound (550), Unavailable (451) or EvidenceFault."""
        known = self._directory.find(address, now)
        suite = suites.of_kind(known.binding.hpke.kind)
        if suite.name not in self._policy.suites or self._policy.mode not in known.domain.modes:
            raise Malformed(f"{address} takes neither our suites nor our mode: {suite.name}, {known.domain.modes}")
        return known

    def submit(self, login: Login, submission: Submission, now: int) -> Sequence[bytes]:
        """Make the exchanges of a submission durable and return their ids, one for each recipient in order."""
        self.check_sender(login, submission.reverse_path)
        recipients = tuple(dict.fromkeys(submission.recipients))
        if not 0 < len(recipients) <= MAX_RECIPIENTS:
            raise PeerFault(f"a letter has 1 to {MAX_RECIPIENTS} recipients, not {len(recipients)}")
        fingerprint = self._fingerprint(login, submission, recipients)
        repeated = self._repeated(fingerprint, now)
        if repeated is not None:
            return repeated
        known = [self.check_recipient(address, now) for address in recipients]
        encrypted = self._encrypt(submission, recipients)
        try:
            exchanges, fresh = self._commit(login, submission, (fingerprint, known, encrypted), now)
        except BaseException:
            # No row names these files. (Those of a crash right here are swept at the next start.)
            self._discard(encrypted)
            raise
        if not fresh:
            self._discard(encrypted)
        self._log("submitted", login=login.address, exchanges=[one.hex() for one in exchanges], repeated=not fresh)
        return exchanges

    def _repeated(self, fingerprint: bytes, now: int) -> Sequence[bytes] | None:
        with self._store.transaction() as unit:
            return _exchanges_of(unit, fingerprint, now - self._policy.window)

    def _encrypt(self, submission: Submission, recipients: Sequence[str]) -> list[_Encrypted]:
        """Encrypt once for all visible recipients, and once for each blind one.

        A shared ciphertext would tell everybody who sees its digest that a blind recipient got the letter.
        """
        together: _Encrypted | None = None
        found = []
        for address in recipients:
            if address in submission.visible:
                together = together or self._encrypt_once(submission)
                found.append(together)
            else:
                found.append(self._encrypt_once(submission))
        return found

    def _encrypt_once(self, submission: Submission) -> _Encrypted:
        content_key = self._draw(shares.KEY)
        return _Encrypted(self._files.write(stream.encrypt(content_key, submission.content())), content_key)

    def _commit(
        self, login: Login, submission: Submission, parts: tuple[bytes, list[Known], list[_Encrypted]], now: int
    ) -> tuple[Sequence[bytes], bool]:
        fingerprint, recipients, encrypted = parts
        letter = self._letter(login, submission, fingerprint, now)
        made = [self._make(login, letter, known, one, now) for known, one in zip(recipients, encrypted, strict=True)]
        with self._store.transaction() as unit:
            # Two connections may bring the same submission at once: the second one finds the first here.
            earlier = _exchanges_of(unit, fingerprint, now - self._policy.window)
            if earlier is not None:
                return earlier, False
            unit.letters.add(letter)
            for known, exchange in zip(recipients, made, strict=True):
                self._directory.pin(unit, known)
                unit.outgoing.add(exchange)
                unit.jobs.add(Task.CARRY, exchange.exchange, now)
        # Commit point (online.md S3). Before it the program hears no 250 and submits again, nothing of
        # this is left but files without a row. After it every exchange is carried until it has an outcome.
        return [exchange.exchange for exchange in made], True

    def _letter(self, login: Login, submission: Submission, fingerprint: bytes, now: int) -> Letter:
        letter = self._draw(32)
        # Subjects are as confidential as the text: a stolen database must not show them.
        headers = self._at_rest.seal(_headers(submission.content()), HEADERS, letter)
        return Letter(letter, login.address, submission.reverse_path or None, now, fingerprint, headers)

    def _make(self, login: Login, letter: Letter, known: Known, encrypted: _Encrypted, now: int) -> Outgoing:
        """Make one exchange (envelope.md E1 to E7)."""
        kem = known.binding.hpke.kind
        expires = now + self._policy.expiry
        ttp, epoch = self._directory.named(self._policy.ttp, now, expires, kem)
        core = self._core(login, known, ttp, (now, expires, encrypted.file.octets))
        secrets = Secrets(Shares(self._draw(shares.SHARE), self._draw(shares.SHARE)), encrypted.content_key)
        return self._sealed(login, letter, core, (known, epoch, secrets, encrypted), now)

    def _core(self, login: Login, known: Known, ttp: NamedTTP, figures: tuple[int, int, int]) -> Core:
        created, expires, ciphertext = figures
        binding = known.binding
        return Core(
            suite=suites.of_kind(binding.hpke.kind),
            nonce=self._draw(NONCE),
            mode=self._policy.mode,
            sender=Sender(login.address, login.origin_key.key_id),
            recipient=Recipient(known.address, binding.receipt.key_id, binding.hpke.key_id, binding.level),
            ttp=ttp,
            created=created,
            expires=expires,
            size=size_class(stream.plain_length(ciphertext)),
            notice=self._policy.notice,
        )

    def _sealed(
        self, login: Login, letter: Letter, core: Core, parts: tuple[Known, EscrowEpoch, Secrets, _Encrypted], now: int
    ) -> Outgoing:
        known, epoch, secrets, encrypted = parts
        manifest, sealed = compose(core, secrets, encrypted.file.digest, known.binding.hpke, epoch.key)
        secret = secrets.shares.recipient + secrets.content_key
        return Outgoing(
            exchange=manifest.exchange,
            letter=letter.id,
            state=State.QUEUED,
            manifest=manifest,
            nro=sign_nro(manifest.exchange, now, login.origin.key, login.origin.chain),
            sealed=sealed,
            sealed_secret=self._at_rest.seal(secret, SECRET, manifest.exchange),
            ciphertext=encrypted.file,
        )

    def _fingerprint(self, login: Login, submission: Submission, recipients: Sequence[str]) -> bytes:
        parts = [login.address, submission.reverse_path, *recipients]
        visible = [address for address in recipients if address in submission.visible]
        # H frames each part; the digest of the octets alone would let a thief of the database try texts.
        digest = H("submission", submission.digest, *(part.encode() for part in parts), *map(str.encode, visible))
        return self._at_rest.fingerprint(digest)

    def _discard(self, encrypted: Iterable[_Encrypted]) -> None:
        for file in {one.file.name: one.file for one in encrypted}.values():
            self._files.discard(file)


def open_secret(at_rest: AtRest, exchange: Outgoing) -> tuple[bytes, bytes]:
    """Return s_R and the content key of an own exchange."""
    secret = at_rest.open(exchange.sealed_secret, SECRET, exchange.exchange)
    return secret[: shares.SHARE], secret[shares.SHARE :]


def open_headers(at_rest: AtRest, letter: Letter) -> bytes:
    """Return the head of an own letter, for reports."""
    return at_rest.open(letter.headers, HEADERS, letter.id)


def _headers(pieces: Iterable[bytes]) -> bytes:
    """Return the header fields of a message without the empty line, at most MAX_HEADERS octets, whole lines."""
    head = b""
    for piece in pieces:
        head += piece
        end = head.find(b"\r\n\r\n")
        if end >= 0:
            return head[: end + 2]
        if len(head) > MAX_HEADERS:
            break
    return head[: head.rfind(b"\r\n", 0, MAX_HEADERS) + 2] if b"\r\n" in head[:MAX_HEADERS] else b""


def _exchanges_of(unit: Unit, fingerprint: bytes, since: int) -> Sequence[bytes] | None:
    letter = unit.letters.find(fingerprint, since)
    return None if letter is None else [one.exchange for one in unit.outgoing.of_letter(letter.id)]
