"""Is this bundle a receipt? The whole verification, offline, from octets and the trust root.

The steps stand in docs/protocols/evidence.md, in this order: manifest (parsed already), NRO (V1), NRR
(V2), NRD (V3), ledger (V5). A bare NRR is never a receipt, and nothing rests on the absence of
anything. What certificates were worth is judged at the ledger time of the trade, never at "now".
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.crypto import shares, signing
from shared.crypto.certificates import Purpose, TrustRoot, verify_chain
from shared.crypto.shares import Shares
from shared.crypto.stream import encrypt
from shared.encoding.address import domain_of
from shared.encoding.labels import BlobDigest
from shared.errors import EvidenceFault
from shared.evidence import composition
from shared.evidence.bundle import Bundle, Openings
from shared.evidence.manifest import Manifest
from shared.evidence.tokens import NRD, NRO, NRR, Refusal, parse_refusal
from shared.evidence.verification import require, step, verify_nrd, verify_nro, verify_nrr, verify_refusal
from shared.ledger import entry as entries
from shared.ledger import policy as policies
from shared.ledger import proof as proofs
from shared.ledger.checkpoint import VerifiedCheckpoint
from shared.ledger.entry import ExchangeEntry, body_digest, mask
from shared.ledger.note import KeyType, VerifierKey, verifier_key
from shared.ledger.policy import NOT_ASKED, Policy, Witnessing


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Verified: the ledger holds the outcome. Without a policy nobody was asked for as a witness."""

    index: int
    checkpoint: VerifiedCheckpoint
    witnessing: Witnessing = NOT_ASKED


@dataclass(frozen=True, slots=True)
class Receipt:
    """Verified: the recipient signed for the message, and could read it from `nrd.time` on."""

    manifest: Manifest
    nro: NRO
    nrr: NRR
    nrd: NRD
    inclusion: Inclusion

    @property
    def answers(self) -> str:
        """Who answers for this receipt: the recipient's domain, at the level of its key."""
        recipient = self.manifest.core.recipient
        return f"{domain_of(recipient.address)} answers for {recipient.address}, level {recipient.level}"


@dataclass(frozen=True, slots=True)
class NoTrade:
    """Verified: the exchange ended at the TTP without a trade. Never says that nobody read or sent."""

    manifest: Manifest
    nro: NRO
    refusal: Refusal
    inclusion: Inclusion


def verify_bundle(bundle: Bundle, root: TrustRoot, policy: Policy | None = None) -> Receipt:
    """Verify a receipt. Raises EvidenceFault naming the first step that fails.

    With a policy its quorum of witnesses must have cosigned the checkpoint, else `ledger.quorum`. A bundle
    whose token is EXPIRED or INVALID fails with `receipt.completion`: see `verify_no_trade`.
    """
    manifest = bundle.manifest
    with step("receipt.completion"):
        typ = signing.stated_type(bundle.token)
    if bundle.nrr is None or typ != signing.NRD.typ:
        raise EvidenceFault(
            "receipt.completion", f"the TTP's token is of type {typ}: no trade, so this isn't a receipt"
        )
    at = _stated_time(bundle, "nrd.syntax", signing.NRD)
    nro = verify_nro(bundle.nro, manifest, root, at)
    nrr = verify_nrr(bundle.nrr, manifest, nro, root, at)
    nrd = verify_nrd(bundle.token, manifest, root, (nro.digest, nrr.digest))
    masked = mask(nrd.share, manifest.core.nonce, manifest.exchange)
    inclusion = _included(bundle, root, ("COMPLETED", masked), (nrd.index, nrd.time), policy)
    _check_openings(bundle.openings, manifest, nrd.share)
    return Receipt(manifest, nro, nrr, nrd, inclusion)


def verify_no_trade(bundle: Bundle, root: TrustRoot, policy: Policy | None = None) -> NoTrade:
    """Verify that the TTP recorded EXPIRED or INVALID for the exchange. Raises EvidenceFault."""
    manifest = bundle.manifest
    require(bundle.nrr is None, "refusal.syntax", "evidence of no trade holds no NRR")
    with step("refusal.syntax"):
        kind = parse_refusal(bundle.token).type
    at = _stated_time(bundle, "refusal.syntax", kind)
    nro = verify_nro(bundle.nro, manifest, root, at)
    refusal = verify_refusal(bundle.token, manifest, root, nro.digest)
    inclusion = _included(bundle, root, (refusal.outcome, None), (refusal.index, refusal.time), policy)
    return NoTrade(manifest, nro, refusal, inclusion)


def verify_content(receipt: Receipt, openings: Openings, content: Iterable[bytes]) -> None:
    """Verify that the receipt is for exactly this content (V6): seal it again and compare the ciphertext's digest.

    `content` is the octets that were submitted, without Bcc fields. Raises EvidenceFault `content.*`.
    """
    both = Shares(receipt.nrd.share, openings.recipient_share)
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


def _included(
    bundle: Bundle,
    root: TrustRoot,
    outcome: tuple[str, bytes | None],
    place: tuple[int, int],
    policy: Policy | None,
) -> Inclusion:
    """Build the leaf from what was verified and check that the log holds it at the stated index (V5)."""
    manifest = bundle.manifest
    index, time = place
    key = _ledger_key(bundle, root, time)
    entry = ExchangeEntry(
        exchange=manifest.exchange,
        outcome=outcome[0],
        masked=outcome[1],
        body=body_digest(bundle.salt, bundle.body),
        time=time,
    )
    with step("ledger.syntax"):
        proof = proofs.decode(bundle.proof)
    require(proof.index == index, "ledger.index", f"the proof is for entry {proof.index}, the token says {index}")
    verified = proofs.verify(proof, entries.encode(entry), key, policy.keys if policy else ())
    return Inclusion(index, verified.checkpoint, _witnessing(manifest, verified.checkpoint, key, policy))


def _witnessing(
    manifest: Manifest, checkpoint: VerifiedCheckpoint, key: VerifierKey, policy: Policy | None
) -> Witnessing:
    """Hold the checkpoint against the relying party's policy (V5)."""
    if policy is None:
        return NOT_ASKED
    known = not policy.logs or key.public in {log.key.public for log in policy.logs}
    require(known, "ledger.policy", f"the policy doesn't list the log {key.name} with the key that it signed with")
    core = manifest.core
    parties = {domain_of(core.sender.address), domain_of(core.recipient.address)}
    witnessing = policies.evaluate(policy, checkpoint.cosignatures, parties)
    own = f" (a party's own: {', '.join(witnessing.passed_over)})" if witnessing.passed_over else ""
    require(witnessing.met, "ledger.quorum", f"witnessed: {witnessing}{own}")
    return witnessing


def _ledger_key(bundle: Bundle, root: TrustRoot, at: int) -> VerifierKey:
    certificate = verify_chain([bundle.ledger], root, {Purpose.LEDGER}, at)
    ttp = bundle.manifest.core.ttp
    require(
        certificate.key_id == ttp.checkpoint_key and certificate.origin == ttp.log,
        "ledger.key",
        f"the checkpoint key of {certificate.origin} isn't the one that M names for {ttp.log}",
    )
    if not isinstance(certificate.public_key, Ed25519PublicKey):
        raise EvidenceFault("ledger.key", "the checkpoint key isn't Ed25519")
    return verifier_key(ttp.log, KeyType.LOG, certificate.public_key)
