"""Is this bundle a receipt? The whole verification, offline, from octets and the trust root.

The steps stand in docs/protocols/evidence.md: NRO (V1), NRR (V2), then what completes it, NRD (V3) or ACK
(V7), then the ledger (V5, V10). A bare NRR is never a receipt, and nothing rests on the absence of
anything. What certificates were worth is judged at a time of the ledger, never at "now".
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.crypto import shares, signing
from shared.crypto.certificates import TrustRoot
from shared.crypto.shares import Shares
from shared.crypto.stream import encrypt
from shared.encoding.address import domain_of
from shared.encoding.labels import BlobDigest
from shared.errors import EvidenceFault
from shared.evidence import composition
from shared.evidence.anchored import verify_anchored
from shared.evidence.bundle import AnyBundle, Bundle, DirectBundle, Openings
from shared.evidence.inclusion import Inclusion, Judged, included
from shared.evidence.manifest import Manifest
from shared.evidence.revoked import ShownRevocation, verify_not_revoked
from shared.evidence.statements import ACK, Abort, verify_abort, verify_ack
from shared.evidence.tokens import NRD, NRO, NRR, Refusal, parse_refusal
from shared.evidence.verification import require, step, verify_nrd, verify_nro, verify_nrr, verify_refusal
from shared.ledger.entry import ExchangeEntry, body_digest, mask
from shared.ledger.policy import Policy


@dataclass(frozen=True, slots=True)
class Receipt:
    """Verified: the recipient signed for the message, and could read it from `time` on, or had read it by then.

    `completion` carries it: the TTP's NRD, or the recipient's ACK.
    """

    manifest: Manifest
    nro: NRO
    nrr: NRR
    completion: NRD | ACK
    inclusion: Inclusion

    @property
    def answers(self) -> str:
        """Who answers for this receipt: the recipient's domain, at the level of its key."""
        recipient = self.manifest.core.recipient
        return f"{domain_of(recipient.address)} answers for {recipient.address}, level {recipient.level}"

    @property
    def nrd(self) -> NRD:
        """The NRD. Raises EvidenceFault where the receipt is carried by an ACK."""
        if isinstance(self.completion, NRD):
            return self.completion
        raise EvidenceFault("receipt.completion", "this receipt is carried by an ACK, there is no NRD in it")

    @property
    def carried_by(self) -> str:
        """What makes a receipt of the NRR."""
        return "NRR + NRD" if isinstance(self.completion, NRD) else "NRR + ACK, anchored"

    @property
    def share(self) -> bytes:
        """s_T, as the completion holds it."""
        return self.completion.share

    @property
    def time(self) -> int:
        """Ledger time: of the trade, or of the anchor by which the ACK had been signed."""
        return self.inclusion.time


@dataclass(frozen=True, slots=True)
class NoTrade:
    """Verified: the exchange ended at the TTP without a trade. Never says that nobody read or sent."""

    manifest: Manifest
    nro: NRO
    refusal: Refusal
    inclusion: Inclusion
    abort: Abort | None = None


def verify_bundle(
    bundle: AnyBundle,
    root: TrustRoot,
    policy: Policy | None = None,
    revocations: Sequence[ShownRevocation] = (),
) -> Receipt:
    """Verify a receipt. Raises EvidenceFault naming the first step that fails.

    With a policy its quorum of witnesses must have cosigned the checkpoint, else `ledger.quorum`. A bundle
    whose token is of no trade fails with `receipt.completion`: see `verify_no_trade`. A direct exchange that
    isn't anchored fails with `anchor.missing`: it isn't evidence yet. `revocations` are those that anybody
    shows; they bear on direct exchanges, for an NRD holds the TTP's own snapshot.
    """
    judged = Judged(root, policy)
    receipt = _direct(bundle, judged) if isinstance(bundle, DirectBundle) else _traded(bundle, judged)
    if isinstance(receipt.completion, ACK):
        for shown in revocations:
            verify_not_revoked(receipt.manifest, shown, judged, receipt.time)
    _check_openings(bundle.openings, receipt.manifest, receipt.share)
    return receipt


def verify_no_trade(bundle: Bundle, root: TrustRoot, policy: Policy | None = None) -> NoTrade:
    """Verify that the TTP recorded EXPIRED, INVALID or ABORTED for the exchange. Raises EvidenceFault."""
    nro, refusal, abort = _no_trade(bundle, root)
    leaf = _leaf(bundle, refusal.outcome, None, refusal.time)
    inclusion = included(bundle.manifest, leaf, bundle.shown, Judged(root, policy), refusal.index)
    return NoTrade(bundle.manifest, nro, refusal, inclusion, abort)


def verify_outcome(bundle: Bundle, root: TrustRoot) -> tuple[int, ExchangeEntry]:
    """Verify an outcome as a stranger does, but for the ledger: return what it must hold, and at which index.

    For whoever has the whole ledger at hand; the bundle's proof and certificate aren't looked at.
    """
    if bundle.nrr is not None:
        _nro, _nrr, nrd = _trade(bundle, root)
        return nrd.index, _traded_leaf(bundle, nrd)
    _origin, refusal, _abort = _no_trade(bundle, root)
    return refusal.index, _leaf(bundle, refusal.outcome, None, refusal.time)


def _traded(bundle: Bundle, judged: Judged) -> Receipt:
    nro, nrr, nrd = _trade(bundle, judged.root)
    inclusion = included(bundle.manifest, _traded_leaf(bundle, nrd), bundle.shown, judged, nrd.index)
    return Receipt(bundle.manifest, nro, nrr, nrd, inclusion)


def _trade(bundle: Bundle, root: TrustRoot) -> tuple[NRO, NRR, NRD]:
    manifest = bundle.manifest
    with step("receipt.completion"):
        typ = signing.stated_type(bundle.token)
    if bundle.nrr is None or typ != signing.NRD.typ:
        raise EvidenceFault(
            "receipt.completion", f"the TTP's token is of type {typ}: no trade, so this isn't a receipt"
        )
    require(bundle.abort is None, "receipt.completion", "a bundle of a trade holds no ABORT")
    at = _stated_time(bundle, "nrd.syntax", signing.NRD)
    nro = verify_nro(bundle.nro, manifest, root, at)
    nrr = verify_nrr(bundle.nrr, manifest, nro, root, at)
    return nro, nrr, verify_nrd(bundle.token, manifest, root, (nro.digest, nrr.digest))


def _no_trade(bundle: Bundle, root: TrustRoot) -> tuple[NRO, Refusal, Abort | None]:
    manifest = bundle.manifest
    require(bundle.nrr is None, "refusal.syntax", "evidence of no trade holds no NRR")
    with step("refusal.syntax"):
        kind = parse_refusal(bundle.token).type
    at = _stated_time(bundle, "refusal.syntax", kind)
    nro = verify_nro(bundle.nro, manifest, root, at)
    abort = None if bundle.abort is None else verify_abort(bundle.abort, manifest, nro, root, at)
    return nro, verify_refusal(bundle.token, manifest, root, (nro.digest, abort.digest if abort else None)), abort


def _direct(bundle: DirectBundle, judged: Judged) -> Receipt:
    manifest, root, anchor = bundle.manifest, judged.root, bundle.anchor
    if anchor is None:
        raise EvidenceFault(
            "anchor.missing", "NRR and ACK aren't anchored in the ledger, so this isn't evidence yet: anchor them first"
        )
    at = anchor.lodged.time
    nro = verify_nro(bundle.nro, manifest, root, at)
    nrr = verify_nrr(bundle.nrr, manifest, nro, root, at)
    ack = verify_ack(bundle.ack, manifest, nrr, root, at)
    inclusion = verify_anchored(manifest, anchor, (nro.digest, nrr.digest, ack.digest), judged)
    return Receipt(manifest, nro, nrr, ack, inclusion)


def _traded_leaf(bundle: Bundle, nrd: NRD) -> ExchangeEntry:
    masked = mask(nrd.share, bundle.manifest.core.nonce, bundle.manifest.exchange)
    return _leaf(bundle, "COMPLETED", masked, nrd.time)


def _leaf(bundle: Bundle, outcome: str, masked: bytes | None, time: int) -> ExchangeEntry:
    """Build the leaf from what was verified: the log must hold it at the token's index (V5)."""
    body = body_digest(bundle.salt, bundle.body)
    return ExchangeEntry(bundle.manifest.exchange, outcome, masked, body, time)


def verify_content(receipt: Receipt, openings: Openings, content: Iterable[bytes]) -> None:
    """Verify that the receipt is for exactly this content (V6): seal it again and compare the ciphertext's digest.

    `content` is the octets that were submitted, without Bcc fields. Raises EvidenceFault `content.*`.
    """
    both = Shares(receipt.share, openings.recipient_share)
    key = composition.content_key(receipt.manifest, both, openings.wrapped_key)
    digest = BlobDigest()
    for piece in encrypt(key, content):
        digest.update(piece)
    same = hmac.compare_digest(digest.digest(), receipt.manifest.h_ct)
    require(same, "content.digest", "the receipt is for another message: sealed again it gives another ciphertext")


def _stated_time(bundle: Bundle, name: str, kind: signing.TokenType) -> int:
    """Return the ledger time that the TTP's token states; V3 or V4, and V5, check that it is true."""
    with step(name):
        return signing.parse(bundle.token, kind).fields().integer("time")


def _check_openings(openings: Openings | None, manifest: Manifest, share: bytes) -> None:
    if openings is None:
        return
    recomputed = shares.commit_recipient(manifest.core.digest, openings.recipient_share)
    shares.check_opening(manifest.com_R, recomputed, "openings.share", "s_R in the bundle")
    composition.content_key(manifest, Shares(share, openings.recipient_share), openings.wrapped_key)
