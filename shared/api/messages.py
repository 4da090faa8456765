"""Bodies of requests and answers: one encoder and one strict decoder for both ends.

Bodies are JSON in any layout; what is signed travels inside as text and is verified from its own
octets. Evidence always travels as a bundle (shared/evidence/bundle.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from shared.crypto import signing
from shared.encoding import base64url, canonical
from shared.encoding.fields import Fields
from shared.encoding.labels import DIGEST_OCTETS
from shared.errors import Malformed
from shared.evidence import anchored
from shared.evidence import bundle as bundles
from shared.evidence import manifest as manifests
from shared.evidence import refusal as refusals
from shared.evidence.anchored import Lodged
from shared.evidence.bundle import Bundle
from shared.evidence.composition import MAX_SEAL
from shared.evidence.manifest import Manifest
from shared.evidence.refusal import RefusalFile
from shared.ledger.anchor import MAX_BATCH, Batch
from shared.ledger.merkle import HASH, MAX_PATH
from shared.ledger.note import Signature, VerifierKey, decode_vkey, parse_line

MAX_TOKEN = signing.MAX_TOKEN
MAX_LINE = 512  # a name of 255 octets, a key or a signature with its time


@dataclass(frozen=True, slots=True)
class CompleteRequest:
    """M, NRO, NRR and E_T: the trade (online.md T1). Everything but M's form is unverified."""

    manifest: Manifest
    nro: str
    nrr: str
    escrow: bytes


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """M and NRO: what became of the exchange."""

    manifest: Manifest
    nro: str


@dataclass(frozen=True, slots=True)
class AbortRequest:
    """M, NRO and the sender's ABORT (offline.md T2)."""

    manifest: Manifest
    nro: str
    abort: str


@dataclass(frozen=True, slots=True)
class RefuseRequest:
    """M, NRO and the recipient's REFUSE (offline.md T2)."""

    manifest: Manifest
    nro: str
    refuse: str


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A one-time enrolment token and the node's certificate chains (DER): request key and domain CAs."""

    token: str
    request: bytes
    domain_cas: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """What the directory knows of an address: its key binding and its domain's record, as compact tokens."""

    binding: str
    domain: str


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Bundles in feed order. `cursor` is what to ask with next; it only grows."""

    bundles: tuple[Bundle, ...]
    cursor: int


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A node's cosignature of the checkpoint over `size` entries, with the key to check it by (witness.md N4)."""

    key: VerifierKey
    size: int
    line: Signature


def encode_complete(request: CompleteRequest) -> bytes:
    """Encode the body of `complete`."""
    escrow = base64url.encode(request.escrow)
    return _encode(manifest=_text(request.manifest), nro=request.nro, nrr=request.nrr, escrow=escrow)


def decode_complete(body: bytes) -> CompleteRequest:
    """Decode the body of `complete`. Raises Malformed."""
    fields = _fields(body, "complete")
    request = CompleteRequest(
        manifest=_manifest(fields),
        nro=fields.text("nro", limit=MAX_TOKEN),
        nrr=fields.text("nrr", limit=MAX_TOKEN),
        escrow=fields.octets("escrow", limit=MAX_SEAL),
    )
    fields.end()
    return request


def encode_status(request: StatusRequest) -> bytes:
    """Encode the body of `status`."""
    return _encode(manifest=_text(request.manifest), nro=request.nro)


def decode_status(body: bytes) -> StatusRequest:
    """Decode the body of `status`. Raises Malformed."""
    fields = _fields(body, "status")
    request = StatusRequest(_manifest(fields), fields.text("nro", limit=MAX_TOKEN))
    fields.end()
    return request


def encode_abort(request: AbortRequest) -> bytes:
    """Encode the body of `abort`."""
    return _encode(manifest=_text(request.manifest), nro=request.nro, abort=request.abort)


def decode_abort(body: bytes) -> AbortRequest:
    """Decode the body of `abort`. Raises Malformed."""
    fields = _fields(body, "abort")
    request = AbortRequest(_manifest(fields), *(fields.text(name, limit=MAX_TOKEN) for name in ("nro", "abort")))
    fields.end()
    return request


def encode_refuse(request: RefuseRequest) -> bytes:
    """Encode the body of `refuse`."""
    return _encode(manifest=_text(request.manifest), nro=request.nro, refuse=request.refuse)


def decode_refuse(body: bytes) -> RefuseRequest:
    """Decode the body of `refuse`. Raises Malformed."""
    fields = _fields(body, "refuse")
    request = RefuseRequest(_manifest(fields), *(fields.text(name, limit=MAX_TOKEN) for name in ("nro", "refuse")))
    fields.end()
    return request


def encode_anchor(batch: Batch) -> bytes:
    """Encode the body of `anchor`: the digests of a batch, in its order."""
    return _encode(digests=[base64url.encode(digest) for digest in batch.digests])


def decode_anchor(body: bytes) -> Batch:
    """Decode the body of `anchor`. Raises Malformed: digests that aren't sorted, or stand there twice, too."""
    fields = _fields(body, "anchor")
    items = fields.items("digests", limit=MAX_BATCH)
    fields.end()
    return Batch(tuple(Fields({"digest": item}, "anchor").octets("digest", DIGEST_OCTETS) for item in items))


def encode_lodged(lodged: Lodged) -> bytes:
    """Encode the answer to `anchor`."""
    return _encode(**anchored.lodged_json(lodged))


def decode_lodged(body: bytes) -> Lodged:
    """Decode the answer to `anchor`. Raises Malformed."""
    fields = _fields(body, "anchored")
    lodged = anchored.take_lodged(fields)
    fields.end()
    return lodged


def encode_answer(answer: Bundle | RefusalFile) -> bytes:
    """Encode what is known of an exchange: a bundle, or while there is no outcome the recipient's refusal."""
    return refusals.encode(answer) if isinstance(answer, RefusalFile) else bundles.encode(answer)


def decode_answer(body: bytes) -> Bundle | RefusalFile:
    """Decode what is known of an exchange. Raises Malformed."""
    kind = canonical.decode(body, what="answer", limit=bundles.MAX_BUNDLE).get("kind")
    return refusals.decode(body) if kind == refusals.KIND else bundles.decode(body)


def encode_enrolment(enrolment: Enrolment) -> bytes:
    """Encode the body of `enrol`."""
    cas = [base64url.encode(der) for der in enrolment.domain_cas]
    return _encode(token=enrolment.token, request=base64url.encode(enrolment.request), domain_cas=cas)


def decode_enrolment(body: bytes) -> Enrolment:
    """Decode the body of `enrol`. Raises Malformed."""
    fields = _fields(body, "enrol")
    enrolment = Enrolment(
        token=fields.text("token", limit=128),
        request=fields.octets("request", limit=signing.MAX_CERTIFICATE),
        domain_cas=tuple(_domain_ca(item) for item in fields.items("domain_cas", limit=16)),
    )
    fields.end()
    if not enrolment.domain_cas:
        raise Malformed("enrol: 'domain_cas' is empty; name the CA of each mail domain")
    return enrolment


def encode_signed(token: str) -> bytes:
    """Encode a body that is one signed record (binding, domain record, revocation, TTP record)."""
    return _encode(token=token)


def decode_signed(body: bytes, what: str) -> str:
    """Decode a body that is one signed record. Raises Malformed."""
    fields = _fields(body, what)
    token = fields.text("token", limit=MAX_TOKEN)
    fields.end()
    return token


def encode_cosignature(cosignature: Cosignature) -> bytes:
    """Encode the body of a cosignature."""
    return _encode(key=cosignature.key.encode(), size=cosignature.size, line=cosignature.line.encode())


def decode_cosignature(body: bytes) -> Cosignature:
    """Decode the body of a cosignature. Raises Malformed."""
    fields = _fields(body, "cosignature")
    cosignature = Cosignature(
        key=decode_vkey(fields.text("key", limit=MAX_LINE)),
        size=fields.integer("size"),
        line=parse_line(fields.text("line", limit=MAX_LINE)),
    )
    fields.end()
    return cosignature


def decode_consistency(body: bytes, old: int, size: int) -> tuple[bytes, ...]:
    """Decode a consistency proof and require that it is for these sizes. Raises Malformed."""
    fields = _fields(body, "consistency proof")
    found = fields.integer("old"), fields.integer("size")
    hashes = tuple(_hash(item) for item in fields.items("hashes", limit=MAX_PATH))
    fields.end()
    if found != (old, size):
        raise Malformed(f"asked for a proof from {old} to {size} entries, got one from {found[0]} to {found[1]}")
    return hashes


def encode_address(address: str) -> bytes:
    """Encode the body of a directory look-up."""
    return _encode(address=address)


def decode_address(body: bytes) -> str:
    """Decode the body of a directory look-up. Raises Malformed."""
    fields = _fields(body, "look-up")
    address = fields.text("address", limit=998)
    fields.end()
    return address


def encode_listing(listing: Listing) -> bytes:
    """Encode the answer to a look-up."""
    return _encode(binding=listing.binding, domain=listing.domain)


def decode_listing(body: bytes) -> Listing:
    """Decode the answer to a look-up. Raises Malformed."""
    fields = _fields(body, "listing")
    listing = Listing(fields.text("binding", limit=MAX_TOKEN), fields.text("domain", limit=MAX_TOKEN))
    fields.end()
    return listing


def encode_page(page: FeedPage) -> bytes:
    """Encode a page of the feed."""
    return _encode(bundles=[base64url.encode(bundles.encode(bundle)) for bundle in page.bundles], cursor=page.cursor)


def decode_page(body: bytes, *, limit: int) -> FeedPage:
    """Decode a page of at most `limit` bundles. Raises Malformed."""
    fields = _fields(body, "feed page")
    items = fields.items("bundles", limit=limit)
    page = FeedPage(tuple(_bundle(item) for item in items), fields.integer("cursor"))
    fields.end()
    return page


def _bundle(item: object) -> Bundle:
    fields = Fields({"bundle": item}, "feed item")
    return bundles.decode(fields.octets("bundle", limit=bundles.MAX_BUNDLE))


def _hash(item: object) -> bytes:
    return Fields({"hash": item}, "consistency proof").octets("hash", HASH)


def _domain_ca(item: object) -> bytes:
    # A CA for many mail domains names them all: its certificate has the bound of certificates, not of texts.
    return Fields({"CA": item}, "domain CA").octets("CA", limit=signing.MAX_CERTIFICATE)


def _text(manifest: Manifest) -> str:
    return base64url.encode(manifest.octets)


def _manifest(fields: Fields) -> Manifest:
    return manifests.decode(fields.octets("manifest", limit=manifests.MAX_MANIFEST))


def _encode(**members: object) -> bytes:
    return json.dumps({"v": 1, **members}, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _fields(body: bytes, what: str) -> Fields:
    fields = Fields(canonical.parse_object(body, what=f"body of {what}"), what)
    fields.version()
    return fields
