"""What every use case about exchanges works with, and what it hands out of what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.crypto.certificates import Purpose, TrustRoot, verify_chain
from shared.crypto.keys import SigningKey
from shared.crypto.signing import token_digest
from shared.encoding.address import domain_of
from shared.errors import ConfigurationError, EvidenceFault, Forbidden, Unavailable
from shared.evidence import anchored
from shared.evidence import manifest as manifests
from shared.evidence.anchored import Lodged
from shared.evidence.bundle import Bundle
from shared.evidence.inclusion import Shown
from shared.evidence.manifest import Manifest
from shared.evidence.refusal import RefusalFile
from shared.evidence.tokens import LedgerPlace
from shared.evidence.verification import require
from shared.ledger import anchor as anchors
from ttp_server.ports.services import Clock, EscrowCustody
from ttp_server.ports.store import Store, Transaction
from ttp_server.ports.values import Identity, StoredEntry, StoredExchange, StoredRefusal
from ttp_server.services.ledger import Ledger
from ttp_server.services.sequencer import Answered, Sequencer


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs the TTP's tokens with its NRD key."""

    key: SigningKey
    chain: Sequence[bytes]


@dataclass(frozen=True)
class Desk:
    """The surroundings of a use case."""

    identity: Identity
    root: TrustRoot
    signer: Signer
    custody: EscrowCustody
    store: Store
    ledger: Ledger
    sequencer: Sequencer
    clock: Clock

    def bundle(self, stored: StoredExchange) -> Bundle:
        """Return the bundle of a stored outcome: the stored tokens, a proof under the newest checkpoint."""
        shown = self._shown(stored.index, stored)
        return Bundle(
            manifest=manifests.decode(stored.manifest),
            nro=stored.nro,
            nrr=stored.nrr,
            token=stored.token,
            salt=stored.salt,
            proof=shown.proof,
            ledger=shown.ledger,
            abort=stored.abort,
        )

    def refusal(self, stored: StoredRefusal) -> RefusalFile:
        """Return the file of a stored refusal."""
        digest = token_digest(stored.refuse)
        proof = anchored.prove(anchors.batch([digest]), [digest], self.lodged(stored.entry))
        return RefusalFile(manifests.decode(stored.manifest), stored.nro, stored.refuse, proof)

    def lodged(self, entry: StoredEntry) -> Lodged:
        """Return what shows that a stored anchor is in the ledger."""
        return Lodged(entry.salt, entry.time, self._shown(entry.index, entry))

    def check_own_certificates(self, at: int) -> None:
        """Require that the TTP's own certificates hold at a ledger time: a token that no verifier takes isn't signed.

        Raises ConfigurationError.
        """
        own = {Purpose.NRD: self.identity.nrd_certificate, Purpose.LEDGER: self.identity.ledger_certificate}
        try:
            for purpose, certificate in own.items():
                verify_chain([certificate], self.root, {purpose}, at)
        except EvidenceFault as error:
            raise ConfigurationError(f"the TTP's own certificate: {error.message}; renew it and restart") from error

    def stored(self, exchange: bytes) -> StoredExchange | None:
        """Return the outcome of hM if there is one."""
        with self.store.reading() as reading:
            return reading.exchange(exchange)

    def _shown(self, index: int, known: StoredExchange | StoredEntry) -> Shown:
        """Return the proof of an entry; that of an exchange only under witnesses who are independent of its parties.

        Whose an anchor is the TTP doesn't know. Raises Unavailable.
        """
        domains = known.domains if isinstance(known, StoredExchange) else ()
        if index >= self.ledger.snapshot.size or not self.sequencer.suits(domains):
            # Committed a moment ago, or by a batch whose checkpoint couldn't be stored, or witnessed only by who
            # doesn't count here. The writer signs the tree and asks witnesses before it answers whoever asks
            # next; a proof that isn't there would look like "unknown".
            self.sequencer.submit(_Known(known))
        snapshot = self.ledger.snapshot
        if not self.sequencer.suits(domains):
            raise Unavailable("too few witnesses that are independent of the parties have cosigned; ask again")
        return Shown(self.ledger.proof(index, snapshot), self.identity.ledger_certificate)


@dataclass(frozen=True, slots=True)
class _Known:
    """Nothing new: waits in the writer's queue until the tree that holds what is stored is signed (T8, T9)."""

    stored: StoredExchange | StoredEntry

    def decide(self, transaction: Transaction, place: LedgerPlace) -> Answered[StoredExchange | StoredEntry]:
        """Answer what is stored."""
        return Answered(self.stored)


def check_names(desk: Desk, manifest: Manifest) -> None:
    """Require that M names this TTP and an epoch that is open until it expires (online.md T2)."""
    ttp_named, own = manifest.core.ttp, desk.identity
    for name, found, expected in (
        ("ttp.name", ttp_named.name, own.name),
        ("ttp.log", ttp_named.log, own.log),
        ("ttp.nrd-key", ttp_named.nrd_key, own.nrd_key),
        ("ttp.checkpoint-key", ttp_named.checkpoint_key, own.checkpoint_key),
    ):
        require(found == expected, name, f"M names {_text(found)}, this TTP is {_text(expected)}")
    # Also one whose key is destroyed: `status` needs no key, and to `complete` its loss is our fault, not M's.
    epoch = desk.custody.epoch(ttp_named.epoch)
    known = epoch is not None and epoch.key.key_id == ttp_named.escrow_key
    require(known, "ttp.epoch", f"M names an escrow key of epoch {ttp_named.epoch} that this TTP never offered")
    fits = epoch is not None and epoch.key.kind == manifest.core.suite.kem
    require(fits, "ttp.epoch", f"M's suite {manifest.core.suite.name} doesn't fit the escrow key that it names")
    late = epoch is not None and manifest.core.expires > epoch.open_until
    require(not late, "ttp.epoch", "M expires after its epoch has closed")


def parties(manifest: Manifest) -> tuple[str, ...]:
    """Return the domains of both parties, the sender's first; one if it is the same."""
    core = manifest.core
    return tuple(dict.fromkeys((domain_of(core.sender.address), domain_of(core.recipient.address))))


def require_domain(allowed: Sequence[str], domains: Sequence[str], who: str) -> None:
    """Raise Forbidden unless the node that asks answers for one of the allowed domains."""
    if not set(allowed) & set(domains):
        raise Forbidden(f"only nodes of {who} domain may ask this about an exchange")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.hex()[:16]
