"""That the ledger which M names holds an entry, and who saw that: evidence.md V5, for every kind of entry.

The entry is built by the caller from what it verified; a leaf that was merely shown proves nothing. What
the checkpoint key's certificate was worth is judged at the entry's own ledger time.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.crypto.certificates import Purpose, TrustRoot, verify_chain
from shared.encoding.address import domain_of
from shared.errors import EvidenceFault
from shared.evidence.manifest import Manifest
from shared.evidence.verification import require, step
from shared.ledger import entry as entries
from shared.ledger import policy as policies
from shared.ledger import proof as proofs
from shared.ledger.checkpoint import VerifiedCheckpoint
from shared.ledger.entry import Entry
from shared.ledger.note import KeyType, VerifierKey, verifier_key
from shared.ledger.policy import NOT_ASKED, Policy, Witnessing

MAX_PROOF = 64 * 1024


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of the ledger: a C2SP tlog-proof and the DER certificate of the checkpoint key."""

    proof: bytes
    ledger: bytes


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Verified: the ledger holds the entry since `time`. Without a policy nobody was asked for as a witness."""

    index: int
    time: int
    checkpoint: VerifiedCheckpoint
    witnessing: Witnessing = NOT_ASKED


@dataclass(frozen=True, slots=True)
class Judged:
    """Who judges: the trust root, and the policy of witnesses that is demanded, if any."""

    root: TrustRoot
    policy: Policy | None = None


def included(manifest: Manifest, entry: Entry, shown: Shown, judged: Judged, index: int | None = None) -> Inclusion:
    """Verify that the log of M holds this entry, at `index` if a token states one. Raises EvidenceFault."""
    key = _ledger_key(manifest, shown.ledger, judged.root, entry.time)
    with step("ledger.syntax"):
        proof = proofs.decode(shown.proof)
    stated = index is None or proof.index == index
    require(stated, "ledger.index", f"the proof is for entry {proof.index}, the token says {index}")
    policy = judged.policy
    verified = proofs.verify(proof, entries.encode(entry), key, policy.keys if policy else ())
    witnessing = _witnessing(manifest, verified.checkpoint, key, policy)
    return Inclusion(proof.index, entry.time, verified.checkpoint, witnessing)


def _witnessing(
    manifest: Manifest, checkpoint: VerifiedCheckpoint, key: VerifierKey, policy: Policy | None
) -> Witnessing:
    """Hold the checkpoint against the relying party's policy."""
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


def _ledger_key(manifest: Manifest, ledger: bytes, root: TrustRoot, at: int) -> VerifierKey:
    certificate = verify_chain([ledger], root, {Purpose.LEDGER}, at)
    ttp = manifest.core.ttp
    require(
        certificate.key_id == ttp.checkpoint_key and certificate.origin == ttp.log,
        "ledger.key",
        f"the checkpoint key of {certificate.origin} isn't the one that M names for {ttp.log}",
    )
    if not isinstance(certificate.public_key, Ed25519PublicKey):
        raise EvidenceFault("ledger.key", "the checkpoint key isn't Ed25519")
    return verifier_key(ttp.log, KeyType.LOG, certificate.public_key)
