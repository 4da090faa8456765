"""The bundle: all evidence of one exchange in one file, enough to verify it offline with the root alone.

The same evidence always gives the same octets. The ledger's leaf isn't in it: the verifier builds the
leaf itself from what it verified, so that a leaf can't say anything else (evidence.md V5). Two forms: an
outcome at the TTP, and what the parties exchanged directly.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from shared.crypto import signing
from shared.encoding import base64url, canonical
from shared.encoding.fields import Fields
from shared.errors import Malformed
from shared.evidence import anchored
from shared.evidence import manifest as manifests
from shared.evidence.anchored import AnchorProof
from shared.evidence.composition import MAX_SEAL
from shared.evidence.inclusion import MAX_PROOF, Shown
from shared.evidence.manifest import Manifest

MAX_BUNDLE = 256 * 1024
VERSIONS = (1, 2)
KIND = "secmtp-bundle"
TOKENS = 3


@dataclass(frozen=True, slots=True)
class Openings:
    """What additionally proves the content: s_R and the wrapped key. Whoever has them and the ciphertext reads."""

    recipient_share: bytes = field(repr=False)
    wrapped_key: bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    """Unverified evidence of an outcome at the TTP, whose terminal token is `token`.

    There is no NRR where no trade happened, and an ABORT statement with ABORTED only. `salt` blinds the body
    in the leaf, `proof` is a C2SP tlog-proof with the signed checkpoint, `ledger` the DER certificate of
    the checkpoint key.
    """

    manifest: Manifest
    nro: str
    nrr: str | None
    token: str
    salt: bytes
    proof: bytes
    ledger: bytes
    openings: Openings | None = None
    abort: str | None = None

    @property
    def body(self) -> bytes:
        """The octets whose salted digest stands in the leaf: what happened, without proof and openings."""
        return body(self.manifest, self.nro, self.nrr, self.token, self.abort)

    @property
    def shown(self) -> Shown:
        """What is shown of the ledger."""
        return Shown(self.proof, self.ledger)

    def opened(self, openings: Openings) -> Bundle:
        """Return the bundle with openings."""
        return replace(self, openings=openings)


@dataclass(frozen=True, slots=True)
class DirectBundle:
    """Unverified evidence of a direct exchange: NRR and ACK, and the anchor of NRO, NRR and ACK in this order.

    Without the anchor it isn't evidence yet.
    """

    manifest: Manifest
    nro: str
    nrr: str
    ack: str
    anchor: AnchorProof | None = None
    openings: Openings | None = None

    @property
    def digests(self) -> tuple[bytes, bytes, bytes]:
        """What is to be anchored: the digests of NRO, NRR and ACK."""
        return signing.token_digest(self.nro), signing.token_digest(self.nrr), signing.token_digest(self.ack)

    def opened(self, openings: Openings) -> DirectBundle:
        """Return the bundle with openings."""
        return replace(self, openings=openings)


AnyBundle = Bundle | DirectBundle


def body(manifest: Manifest, nro: str, nrr: str | None, token: str, abort: str | None = None) -> bytes:
    """Return the canonical body of an exchange's ledger entry."""
    members: canonical.JSON = {"v": 1, "manifest": base64url.encode(manifest.octets), "nro": nro, "token": token}
    if nrr is not None:
        members["nrr"] = nrr
    if abort is not None:
        members |= {"v": 2, "abort": abort}
    return canonical.encode(members)


def encode(bundle: AnyBundle) -> bytes:
    """Return the canonical octets of a bundle."""
    members: canonical.JSON = {
        "v": 1,
        "kind": KIND,
        "manifest": base64url.encode(bundle.manifest.octets),
        "nro": bundle.nro,
    }
    if bundle.nrr is not None:
        members["nrr"] = bundle.nrr
    if bundle.openings is not None:
        members["openings"] = {
            "recipient_share": base64url.encode(bundle.openings.recipient_share),
            "wrapped_key": base64url.encode(bundle.openings.wrapped_key),
        }
    return canonical.encode(members | (_direct(bundle) if isinstance(bundle, DirectBundle) else _outcome(bundle)))


def decode_any(data: bytes) -> AnyBundle:
    """Parse the canonical octets of a bundle of at most 256 KiB. Raises Malformed.

    Version 1 is an outcome without ABORT, version 2 everything that came with the offline mode: each bundle
    has one form.
    """
    fields = Fields(canonical.decode(data, what="bundle", limit=MAX_BUNDLE), "bundle")
    version = fields.integer("v")
    if version not in VERSIONS:
        raise Malformed(f"bundle: 'v' is {version}, expected 1 or 2")
    fields.constant("kind", KIND)
    direct = version == 2 and "ack" in fields
    bundle = _take_direct(fields) if direct else _take_outcome(fields, version)
    fields.end()
    return bundle


def decode(data: bytes) -> Bundle:
    """Parse a bundle that must be of an outcome at the TTP. Raises Malformed."""
    bundle = decode_any(data)
    if isinstance(bundle, DirectBundle):
        raise Malformed("the bundle is of a direct exchange, expected one of an outcome at the TTP")
    return bundle


def _outcome(bundle: Bundle) -> canonical.JSON:
    members: canonical.JSON = {
        "token": bundle.token,
        "salt": base64url.encode(bundle.salt),
        "proof": base64url.encode(bundle.proof),
        "ledger": base64url.encode(bundle.ledger),
    }
    return members if bundle.abort is None else {**members, "v": 2, "abort": bundle.abort}


def _direct(bundle: DirectBundle) -> canonical.JSON:
    members: canonical.JSON = {"v": 2, "ack": bundle.ack}
    return members if bundle.anchor is None else {**members, "anchor": bundle.anchor.to_json()}


def _take_outcome(fields: Fields, version: int) -> Bundle:
    return Bundle(
        manifest=_manifest(fields),
        nro=_token(fields, "nro"),
        nrr=_token(fields, "nrr") if "nrr" in fields else None,
        token=_token(fields, "token"),
        salt=fields.octets("salt", 32),
        proof=fields.octets("proof", limit=MAX_PROOF),
        ledger=fields.octets("ledger", limit=signing.MAX_CERTIFICATE),
        openings=_openings(fields),
        abort=_token(fields, "abort") if version > 1 else None,
    )


def _take_direct(fields: Fields) -> DirectBundle:
    return DirectBundle(
        manifest=_manifest(fields),
        nro=_token(fields, "nro"),
        nrr=_token(fields, "nrr"),
        ack=_token(fields, "ack"),
        anchor=anchored.decode(fields.nested("anchor"), TOKENS) if "anchor" in fields else None,
        openings=_openings(fields),
    )


def _manifest(fields: Fields) -> Manifest:
    return manifests.decode(fields.octets("manifest", limit=manifests.MAX_MANIFEST))


def _token(fields: Fields, name: str) -> str:
    return fields.text(name, limit=signing.MAX_TOKEN)


def _openings(outer: Fields) -> Openings | None:
    if "openings" not in outer:
        return None
    fields = outer.nested("openings")
    openings = Openings(fields.octets("recipient_share", 32), fields.octets("wrapped_key", limit=MAX_SEAL))
    fields.end()
    return openings
