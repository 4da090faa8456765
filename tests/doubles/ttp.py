"""A TTP in memory behind the node's port: real evidence, a directory, a feed, and faults to switch on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from shared.api.messages import (
    AbortRequest,
    CompleteRequest,
    Cosignature,
    Enrolment,
    FeedPage,
    Listing,
    RefuseRequest,
    StatusRequest,
)
from shared.crypto.keys import HYBRID
from shared.crypto.shares import Shares
from shared.crypto.signing import token_digest
from shared.errors import Conflict, NotFound, Unavailable
from shared.evidence import anchored
from shared.evidence.anchored import Lodged
from shared.evidence.binding import verify_binding
from shared.evidence.bundle import Bundle
from shared.evidence.composition import Opened, Sealed, Secrets, open_escrow
from shared.evidence.manifest import Manifest
from shared.evidence.records import EscrowEpoch, TTPRecord, sign_ttp, verify_domain
from shared.evidence.refusal import RefusalFile
from shared.evidence.tokens import KeyState
from shared.ledger import anchor as anchors
from shared.ledger.anchor import Batch
from shared.ledger.checkpoint import Checkpoint, sign_checkpoint
from shared.ledger.note import VerifierKey
from tests.doubles.parties import EXPIRES, Exchange, LedgerTTP, Root

FOR_EVER = EXPIRES + 365 * 24 * 3600
_NO_SECRETS = Secrets(Shares(b"", b""), b"")  # a TTP never sees them


@dataclass
class Faults:
    """What goes wrong. `lost` counts answers that are lost after the work was done; `refusal` is raised instead."""

    down: bool = False
    lost: int = 0
    refusal: Exception | None = None
    bend: Callable[[Bundle], Bundle] | None = None


@dataclass
class DoubleTTP:
    """Implements the port `TTP`. `now` is its own clock; `asked` counts completes that it answered or lost."""

    root: Root
    now: Callable[[], int]
    faults: Faults = field(default_factory=Faults)
    name: str = "ttp.example"

    def __post_init__(self) -> None:
        self.ledger = LedgerTTP(self.root, self.name, HYBRID)
        self.epoch = 1
        self.open_until = FOR_EVER
        self.outcomes: dict[bytes, Bundle] = {}
        self.refusals: dict[bytes, RefusalFile] = {}
        self.anchored: dict[bytes, Lodged] = {}
        self.items: list[Bundle] = []
        self.bindings: dict[str, str] = {}
        self.domains: dict[str, str] = {}
        self.cosignatures: list[Cosignature] = []
        self.witnesses: tuple[VerifierKey, ...] = ()
        self.quorum = 0
        self.asked = 0
        self.looked_up = 0
        self.records = 0

    def record(self) -> str:
        """Return the signed record."""
        self._up()
        self.records += 1
        epoch = EscrowEpoch(self.epoch, self.ledger.escrow.public, self.open_until)
        ledger, witnesses = self.ledger, (self.witnesses, self.quorum)
        record = TTPRecord(self.name, ledger.log, ledger.ledger_certificate, (epoch,), 259_200, self.now(), *witnesses)
        return sign_ttp(record, self.ledger.nrd, self.ledger.nrd_chain[0])

    def enrol(self, enrolment: Enrolment) -> None:
        """Enrol anybody."""
        self._up()

    def put_domain(self, token: str) -> None:
        """Publish a domain record."""
        self._up()
        self.domains[verify_domain(token, self.root.trust, self.now()).domain] = token

    def put_binding(self, token: str) -> None:
        """Publish a binding that continues the current one."""
        self._up()
        binding = verify_binding(token, self.root.trust, self.now())
        current = self.bindings.get(binding.address)
        if current == token:
            return
        expected = None if current is None else token_digest(current)
        if binding.predecessor != expected:
            raise Conflict("it doesn't name the current one")
        self.bindings[binding.address] = token

    def look_up(self, address: str) -> Listing:
        """Return what is published."""
        self._up()
        self.looked_up += 1
        domain = self.domains.get(address.rpartition("@")[2])
        if address not in self.bindings or domain is None:
            raise NotFound("no such address")
        return Listing(self.bindings[address], domain)

    def complete(self, request: CompleteRequest) -> Bundle:
        """Trade, once for each exchange; the first outcome stands."""
        self._up()
        self.asked += 1
        exchange = request.manifest.exchange
        if exchange not in self.outcomes:
            self._keep(self._decide(request))
        return self._answer(exchange)

    def abort(self, request: AbortRequest) -> Bundle:
        """Abort, unless there is an outcome; an overdue exchange has expired."""
        self._up()
        manifest = request.manifest
        if manifest.exchange not in self.outcomes:
            shown = shown_to_ttp(manifest, request.nro)
            late = self.now() >= manifest.core.expires
            aborted = None if late else self.ledger.abort(shown, request.abort, self.now())
            self._keep(aborted or self.ledger.refuse(shown, "EXPIRED", self.now()))
        return self._answer(manifest.exchange)

    def refuse(self, request: RefuseRequest) -> Bundle | RefusalFile:
        """Record the first refusal, unless there is an outcome."""
        self._up()
        exchange = request.manifest.exchange
        if exchange in self.outcomes:
            return self._answer(exchange)
        if exchange not in self.refusals:
            batch = anchors.batch([token_digest(request.refuse)])
            proof = anchored.prove(batch, batch.digests, self.ledger.lodge(batch, self.now()))
            self.refusals[exchange] = RefusalFile(request.manifest, request.nro, request.refuse, proof)
        return self.refusals[exchange]

    def anchor(self, batch: Batch) -> Lodged:
        """Anchor a batch, once."""
        self._up()
        if batch.root not in self.anchored:
            self.anchored[batch.root] = self.ledger.lodge(batch, self.now())
        if self.faults.lost:
            self.faults.lost -= 1
            raise Unavailable("the answer was lost")
        return self.anchored[batch.root]

    def status(self, request: StatusRequest) -> Bundle | RefusalFile:
        """Return the outcome; an overdue exchange has expired."""
        self._up()
        manifest = request.manifest
        if manifest.exchange not in self.outcomes:
            if self.now() < manifest.core.expires and manifest.exchange in self.refusals:
                return self.refusals[manifest.exchange]
            if self.now() < manifest.core.expires:
                raise NotFound("nothing is known, which is no evidence")
            self._keep(self.ledger.refuse(shown_to_ttp(manifest, request.nro), "EXPIRED", self.now()))
        return self._answer(manifest.exchange)

    def feed(self, cursor: int, wait: int) -> FeedPage:
        """Return everything after the cursor, to whoever asks."""
        self._up()
        return FeedPage(tuple(map(self._bent, self.items[cursor:])), len(self.items))

    def checkpoint(self) -> bytes:
        """Return the newest checkpoint."""
        self._up()
        ledger = self.ledger
        return sign_checkpoint(Checkpoint(ledger.log, ledger.tree.size, ledger.tree.root()), ledger.checkpoint)

    def consistency(self, old: int, size: int) -> tuple[bytes, ...]:
        """Prove that the ledger only grew."""
        self._up()
        return self.ledger.tree.consistency(old, size)

    def put_cosignature(self, cosignature: Cosignature) -> None:
        """Take whatever is brought."""
        self._up()
        self.cosignatures.append(cosignature)

    def _decide(self, request: CompleteRequest) -> Bundle:
        shown = shown_to_ttp(request.manifest, request.nro, request.nrr, request.escrow)
        if self.now() >= request.manifest.core.expires:
            return self.ledger.refuse(shown, "EXPIRED", self.now())
        if not isinstance(open_escrow(request.manifest, request.escrow, self.ledger.escrow), Opened):
            return self.ledger.refuse(shown, "INVALID", self.now())
        return self.ledger.trade(shown, self.now(), (KeyState(), KeyState()))

    def _keep(self, bundle: Bundle) -> None:
        self.outcomes[bundle.manifest.exchange] = bundle
        self.items.append(bundle)

    def _answer(self, exchange: bytes) -> Bundle:
        if self.faults.lost:
            self.faults.lost -= 1
            raise Unavailable("the answer was lost")
        return self._bent(self.outcomes[exchange])

    def _bent(self, bundle: Bundle) -> Bundle:
        return bundle if self.faults.bend is None else self.faults.bend(bundle)

    def _up(self) -> None:
        if self.faults.down:
            raise Unavailable("the TTP is down")
        if self.faults.refusal is not None:
            raise self.faults.refusal


def shown_to_ttp(manifest: Manifest, nro: str, nrr: str = "", escrow: bytes = b"") -> Exchange:
    """What a TTP is shown of an exchange."""
    return Exchange(manifest, Sealed(escrow, b"", b""), _NO_SECRETS, nro, nrr, b"")
