"""The bundle: all evidence of one exchange in one file, enough to verify it offline with the root alone.

The same evidence always gives the same octets. The ledger's leaf isn't in it: the verifier builds the
leaf itself from what it verified, so that a leaf can't say anything else (evidence.md V5).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from shared.crypto import signing
from shared.encoding import base64url, canonical
from shared.encoding.fields import Fields
from shared.evidence import manifest as manifests
from shared.evidence.composition import MAX_SEAL
from shared.evidence.manifest import Manifest

MAX_BUNDLE = 256 * 1024
MAX_PROOF = 64 * 1024
KIND = "secmtp-bundle"


@dataclass(frozen=True, slots=True)
class Openings:
    """What additionally proves the content: s_R and the wrapped key. Whoever has them and the ciphertext reads."""

    recipient_share: bytes = field(repr=False)
    wrapped_key: bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    """Unverified evidence. `token` is the TTP's terminal token; there is no NRR where no trade happened.

    `salt` blinds the body in the leaf, `proof` is a C2SP tlog-proof with the signed checkpoint,
    `ledger` the DER certificate of the checkpoint key.
    """

    manifest: Manifest
    nro: str
    nrr: str | None
    token: str
    salt: bytes
    proof: bytes
    ledger: bytes
    openings: Openings | None = None

    @property
    def body(self) -> bytes:
        """The octets whose salted digest stands in the leaf: what happened, without proof and openings."""
        return body(self.manifest, self.nro, self.nrr, self.token)

    def opened(self, openings: Openings) -> Bundle:
        """Return the bundle with openings."""
        return replace(self, openings=openings)


def body(manifest: Manifest, nro: str, nrr: str | None, token: str) -> bytes:
    """Return the canonical body of an exchange's ledger entry."""
    members = {"v": 1, "manifest": base64url.encode(manifest.octets), "nro": nro, "token": token}
    return canonical.encode(members if nrr is None else {**members, "nrr": nrr})


def encode(bundle: Bundle) -> bytes:
    """Return the canonical octets of a bundle."""
    members: canonical.JSON = {
        "v": 1,
        "kind": KIND,
        "manifest": base64url.encode(bundle.manifest.octets),
        "nro": bundle.nro,
        "token": bundle.token,
        "salt": base64url.encode(bundle.salt),
        "proof": base64url.encode(bundle.proof),
        "ledger": base64url.encode(bundle.ledger),
    }
    if bundle.nrr is not None:
        members["nrr"] = bundle.nrr
    if bundle.openings is not None:
        members["openings"] = {
            "recipient_share": base64url.encode(bundle.openings.recipient_share),
            "wrapped_key": base64url.encode(bundle.openings.wrapped_key),
        }
    return canonical.encode(members)


def decode(data: bytes) -> Bundle:
    """Parse the canonical octets of a bundle of at most 256 KiB. Raises Malformed."""
    fields = Fields(canonical.decode(data, what="bundle", limit=MAX_BUNDLE), "bundle")
    fields.version()
    fields.constant("kind", KIND)
    bundle = Bundle(
        manifest=manifests.decode(fields.octets("manifest", limit=manifests.MAX_MANIFEST)),
        nro=fields.text("nro", limit=signing.MAX_TOKEN),
        nrr=fields.text("nrr", limit=signing.MAX_TOKEN) if "nrr" in fields else None,
        token=fields.text("token", limit=signing.MAX_TOKEN),
        salt=fields.octets("salt", 32),
        proof=fields.octets("proof", limit=MAX_PROOF),
        ledger=fields.octets("ledger", limit=signing.MAX_CERTIFICATE),
        openings=_openings(fields.nested("openings")) if "openings" in fields else None,
    )
    fields.end()
    return bundle


def _openings(fields: Fields) -> Openings:
    openings = Openings(fields.octets("recipient_share", 32), fields.octets("wrapped_key", limit=MAX_SEAL))
    fields.end()
    return openings
