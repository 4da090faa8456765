"""Envelopes that aren't what they should be, brought to a node over real TLS: refused, and nothing is stored."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from secmtp_node.app import database_url
from secmtp_node.custody.identity import load_identity
from secmtp_node.ports.values import Outgoing
from secmtp_node.settings import load
from secmtp_node.smtp import envelope as envelopes
from secmtp_node.smtp.envelope import Outer
from secmtp_node.smtp.listener import client_context
from secmtp_node.store.database import SqlStore, open_engine
from secmtp_node.store.files import FileBox
from shared.commands.demo_world import World
from shared.evidence import head as heads
from shared.evidence.head import Head
from tests.doubles.restartable import ALICE, BOB, Restartable

pytestmark = pytest.mark.timeout(240)


@dataclass
class Waiting:
    """A node that waits for an envelope which its sender's node made and never brought."""

    restartable: Restartable
    exchange: Outgoing
    head: bytes
    ciphertext: bytes
    context: ssl.SSLContext

    @property
    def envelope(self) -> bytes:
        """The good envelope."""
        return self.made(self.head, self.ciphertext)

    def made(self, head: bytes, ciphertext: bytes) -> bytes:
        """An envelope of these parts."""
        outer = Outer(self.exchange.exchange, ALICE, BOB, self.exchange.manifest.core.created)
        return b"".join(envelopes.write(outer, head, [ciphertext]))

    def bring(self, envelope: bytes, sender: str = ALICE, recipient: str = BOB) -> tuple[int, str]:
        """Bring an envelope as the certified node of a.example would; return the last reply."""
        port = self.restartable.world.ports["b.example"]["peer"]
        with smtplib.SMTP("localhost", port, timeout=30) as client:
            client.ehlo("a.example")
            client._host = "b.example"  # type: ignore[attr-defined]
            client.starttls(context=self.context)
            client.ehlo("a.example")
            for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"):
                code, text = client.docmd(command)
                if code != 250:
                    return code, text.decode()
            code, text = client.data(envelope)
        return code, text.decode()

    def refused(self, envelope: bytes, **more: str) -> str:
        """Bring an envelope that must be refused for good, and leave nothing; return the reason."""
        code, text = self.bring(envelope, **more)
        assert 550 <= code < 560, (code, text)
        place = self.restartable.world.place / "node-b.example" / "data"
        assert list((place / "ciphertexts").iterdir()) == []
        assert list((place / "spool").iterdir()) == []
        return text


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waiting]:
    """Alice's node has made the envelope and is dead; Bob's node runs and has never seen it."""
    place = tmp_path_factory.mktemp("waiting")
    with World(place / "world", lambda line: None) as world:
        world.set_up()
        restartable = Restartable(world, place)
        restartable.kill("node-b.example")
        restartable.send("brought by hand")
        restartable.kill("node-a.example")
        restartable.start("node-b.example")
        yield _load(restartable, world.place / "node-a.example", world.place / "node-b.example")


def _load(restartable: Restartable, a: Path, b: Path) -> Waiting:
    store = SqlStore(open_engine(database_url(a, load(a))))
    with store.transaction() as unit:
        job = unit.jobs.take(1 << 40, 1)
        assert job is not None
        exchange = unit.outgoing.find(job.exchange)
        assert exchange is not None
    now = exchange.manifest.core.created
    recipient, own = load_identity(b, now), load_identity(a, now)
    head = heads.seal(Head(exchange.manifest, exchange.nro, exchange.sealed), recipient.hpke.public)
    ciphertext = b"".join(FileBox(a / "data" / "ciphertexts").read(exchange.ciphertext))
    context = client_context(own.tls_certificate, own.tls_key_file, own.root_file)
    return Waiting(restartable, exchange, head, ciphertext, context)


def flipped(octets: bytes, place: int) -> bytes:
    """The octets with one bit flipped."""
    altered = bytearray(octets)
    altered[place] ^= 1
    return bytes(altered)


def test_not_an_envelope(waiting: Waiting) -> None:
    """Ordinary mail on the peer listener is refused, and the reason says what was expected."""
    assert "isn't an envelope" in waiting.refused(b"Subject: hello\r\n\r\nnot an envelope\r\n")


def test_cut_anywhere(waiting: Waiting) -> None:
    """An envelope that was cut is refused, wherever."""
    envelope = waiting.envelope
    for length in range(0, len(envelope) - 2, max(1, len(envelope) // 24)):
        waiting.refused(envelope[:length])


def test_flipped_anywhere(waiting: Waiting) -> None:
    """An envelope with a flipped bit in head or ciphertext is refused with the step that noticed."""
    for place in range(0, len(waiting.head), len(waiting.head) // 16):
        assert "head.seal" in waiting.refused(waiting.made(flipped(waiting.head, place), waiting.ciphertext))
    for place in range(0, len(waiting.ciphertext), max(1, len(waiting.ciphertext) // 16)):
        altered = waiting.made(waiting.head, flipped(waiting.ciphertext, place))
        assert "ciphertext.digest" in waiting.refused(altered)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda octets: octets + b"x", "ciphertext.digest"),
        (lambda octets: b"", "ciphertext.digest"),
        (lambda octets: octets[:-16], "ciphertext.digest"),
    ],
)
def test_another_ciphertext(waiting: Waiting, change: Callable[[bytes], bytes], reason: str) -> None:
    """A longer, an empty or a shorter ciphertext isn't the one in M."""
    assert reason in waiting.refused(waiting.made(waiting.head, change(waiting.ciphertext)))


def test_names_on_the_outside(waiting: Waiting) -> None:
    """An envelope brought under another sender's name, or to nobody here, is refused."""
    assert "names.sender" in waiting.refused(waiting.envelope, sender="mallory@a.example")
    assert "no such user" in waiting.refused(waiting.envelope, recipient="nobody@b.example")


def test_who_may_bring_it(waiting: Waiting) -> None:
    """Without a client certificate, or with one of another root, nobody gets as far as MAIL."""
    port = waiting.restartable.world.ports["b.example"]["peer"]
    bare = ssl.create_default_context(cafile=str(waiting.restartable.world.root))
    with smtplib.SMTP("localhost", port, timeout=30) as client:
        assert client.docmd("MAIL FROM:<x@a.example>")[0] in {503, 530}

    def without_certificate() -> None:
        with smtplib.SMTP("localhost", port, timeout=30) as client:
            client.ehlo("a.example")
            client.starttls(context=bare)
            client.ehlo("a.example")

    with pytest.raises((OSError, smtplib.SMTPException)):
        without_certificate()


def test_afterwards_the_good_one_is_taken(waiting: Waiting) -> None:
    """After all that the good envelope is stored, again and again with one answer, and the letter comes once."""
    answers = {waiting.bring(waiting.envelope) for _ in range(3)}
    assert len(answers) == 1
    code, text = answers.pop()
    assert code == 250
    assert waiting.exchange.exchange.hex() in text
    waiting.restartable.start("node-a.example")
    waiting.restartable.settled()
