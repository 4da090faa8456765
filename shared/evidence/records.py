"""Signed records of the directory besides bindings: where a domain's node is, and what a TTP offers.

A record says what its signer offers now; it is no evidence. Exchanges name keys by id in M, and those
ids are what a verdict rests on (docs/protocols/directory.md D5–D8).
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.crypto import signing
from shared.crypto.certificates import Purpose, TrustRoot, VerifiedCertificate, verify_chain, verify_domain_ca
from shared.crypto.keys import HpkePublicKey, SigningKey, decode_public, encode_public
from shared.encoding import base64url
from shared.encoding.fields import Fields
from shared.errors import EvidenceFault
from shared.evidence.manifest import MODES
from shared.evidence.verification import alone, require, step
from shared.ledger.note import MAX_SIGNATURES, KeyType, VerifierKey, decode_vkey

MAX_EPOCHS = 8
MAX_SKEW = 300
MAX_PORT = 65535
MAX_WITNESSES = MAX_SIGNATURES - 1  # beside the log's own signature


@dataclass(frozen=True, slots=True)
class DomainRecord:
    """Where the node of a mail domain listens for peers, and the HPKE key that envelope heads are sealed to."""

    domain: str
    host: str
    port: int
    hpke: HpkePublicKey
    modes: tuple[str, ...]
    issued: int


@dataclass(frozen=True, slots=True)
class EscrowEpoch:
    """One escrow key and the ledger time until which manifests may expire under it."""

    epoch: int
    key: HpkePublicKey
    open_until: int


@dataclass(frozen=True, slots=True)
class TTPRecord:
    """What a TTP says of itself. `ledger` is the DER certificate of its checkpoint key.

    `quorum` of the `witnesses` (vkeys of external ones) cosign before it answers; 0: it waits for nobody.
    """

    name: str
    log: str
    ledger: bytes
    epochs: tuple[EscrowEpoch, ...]
    notice: int
    issued: int
    witnesses: tuple[VerifierKey, ...] = ()
    quorum: int = 0


@dataclass(frozen=True, slots=True)
class VerifiedTTP:
    """A TTP's record with both certificates checked against the root."""

    record: TTPRecord
    nrd: VerifiedCertificate
    ledger: VerifiedCertificate

    def epoch_for(self, expires: int, kem: str) -> EscrowEpoch:
        """Return the newest epoch of this KEM that is open past `expires`. Raises EvidenceFault `ttp.epoch`."""
        fitting = [epoch for epoch in self.record.epochs if epoch.open_until >= expires and epoch.key.kind == kem]
        if not fitting:
            raise EvidenceFault("ttp.epoch", f"{self.record.name} has no {kem} escrow key open until {expires}")
        return max(fitting, key=lambda epoch: epoch.epoch)


def sign_domain(record: DomainRecord, key: SigningKey, domain_ca: bytes) -> str:
    """Sign a domain record with the domain CA's key."""
    members = {
        "domain": record.domain,
        "host": record.host,
        "port": record.port,
        "hpke": encode_public(record.hpke),
        "modes": list(record.modes),
        "issued": record.issued,
    }
    return signing.sign(signing.DOMAIN, members, key, [domain_ca])


def verify_domain(compact: str, root: TrustRoot, at: int) -> DomainRecord:
    """Verify a domain record: syntax, domain CA, signature. Raises EvidenceFault."""
    with step("domain.syntax"):
        token = signing.parse(compact, signing.DOMAIN)
        record = _domain(token.fields())
    domain_ca = verify_domain_ca(alone(token.chain, "domain.syntax"), root, at)
    require(record.domain in domain_ca.domains, "domain.name", f"the CA can't speak for {record.domain}")
    signing.check_signature(token, domain_ca.public_key, "domain.signature")
    # A record from the future would stand in the way of the domain's own newer ones until then.
    early = record.issued > at + MAX_SKEW
    require(not early, "domain.issued", f"issued at {record.issued}, after the instant of the check ({at})")
    return record


def sign_ttp(record: TTPRecord, key: SigningKey, certificate: bytes) -> str:
    """Sign a TTP's record with its NRD key."""
    epochs = [{"epoch": e.epoch, "key": encode_public(e.key), "open_until": e.open_until} for e in record.epochs]
    members = {
        "name": record.name,
        "log": record.log,
        "ledger": base64url.encode(record.ledger),
        "epochs": epochs,
        "notice": record.notice,
        "issued": record.issued,
        "witnesses": [key.encode() for key in record.witnesses],
        "quorum": record.quorum,
    }
    return signing.sign(signing.TTP, members, key, [certificate])


def verify_ttp(compact: str, root: TrustRoot, at: int) -> VerifiedTTP:
    """Verify a TTP's record: syntax, NRD certificate, signature, ledger certificate. Raises EvidenceFault."""
    with step("ttp.syntax"):
        token = signing.parse(compact, signing.TTP)
        record = _ttp(token.fields())
    nrd = verify_chain(token.chain, root, {Purpose.NRD}, at)
    require(record.name in nrd.names, "ttp.name", f"certified for {', '.join(nrd.names)}, says it is {record.name}")
    signing.check_signature(token, nrd.public_key, "ttp.signature")
    ledger = verify_chain([record.ledger], root, {Purpose.LEDGER}, at)
    require(ledger.origin == record.log, "ttp.log", f"ledger certified as {ledger.origin}, record says {record.log}")
    return VerifiedTTP(record, nrd, ledger)


def _domain(fields: Fields) -> DomainRecord:
    record = DomainRecord(
        domain=fields.text("domain", limit=255),
        host=fields.text("host", limit=255),
        port=fields.integer("port", least=1),
        hpke=decode_public(fields.take("hpke")),
        modes=fields.texts("modes", limit=len(MODES) + 8),
        issued=fields.integer("issued"),
    )
    fields.end()
    require(record.port <= MAX_PORT, "domain.syntax", f"{record.port} isn't a TCP port")
    return record


def _ttp(fields: Fields) -> TTPRecord:
    record = TTPRecord(
        name=fields.text("name", limit=255),
        log=fields.text("log", limit=255),
        ledger=fields.octets("ledger", limit=signing.MAX_CERTIFICATE),
        epochs=tuple(_epoch(item) for item in fields.items("epochs", limit=MAX_EPOCHS)),
        notice=fields.integer("notice"),
        issued=fields.integer("issued"),
        witnesses=tuple(_witness(item) for item in fields.items("witnesses", limit=MAX_WITNESSES)),
        quorum=fields.integer("quorum"),
    )
    fields.end()
    require(record.quorum <= len(record.witnesses), "ttp.syntax", f"{record.quorum} witnesses can't be had")
    return record


def _witness(item: object) -> VerifierKey:
    key = decode_vkey(Fields({"vkey": item}, "witness").text("vkey"))
    require(key.type is KeyType.COSIGNATURE, "ttp.syntax", f"the key of {key.name} isn't a witness's (type 04)")
    return key


def _epoch(item: object) -> EscrowEpoch:
    fields = Fields(item, "escrow epoch")
    epoch = EscrowEpoch(fields.integer("epoch"), decode_public(fields.take("key")), fields.integer("open_until"))
    fields.end()
    return epoch
