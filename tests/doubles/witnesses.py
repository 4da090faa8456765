"""Witnesses that cosign whatever a test hands them, and policies that name them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.evidence.bundle import Bundle
from shared.ledger import note
from shared.ledger import proof as proofs
from shared.ledger.note import KeyType, Note, VerifierKey, verifier_key
from shared.ledger.witness import Signer
from tests.doubles.parties import NOW


@dataclass(frozen=True)
class Cosigner:
    """A witness by the name it signs with; one name, one key."""

    name: str

    @property
    def key(self) -> Ed25519PrivateKey:
        """Its private key."""
        return Ed25519PrivateKey.from_private_bytes(self.name.encode().ljust(32, b".")[:32])

    @property
    def verifier(self) -> VerifierKey:
        """Its public key."""
        return verifier_key(self.name, KeyType.COSIGNATURE, self.key.public_key())

    @property
    def signer(self) -> Signer:
        """Both."""
        return Signer(self.name, self.key)


def cosigned(bundle: Bundle, *names: str, time: int = NOW, over: str | None = None) -> Bundle:
    """Return the bundle with cosignatures under its checkpoint; `over` another text than its own is a false one."""
    proof = proofs.decode(bundle.proof)
    parsed = note.parse(proof.checkpoint)
    lines = [note.cosign(over or parsed.text, name, Cosigner(name).key, time) for name in names]
    signed = Note(parsed.text, (*parsed.signatures, *lines)).encode()
    return replace(bundle, proof=replace(proof, checkpoint=signed).encode())


def policy_file(quorum: str, *names: str) -> bytes:
    """Return a policy over witnesses w0, w1 and so on; `quorum` is a number, `all` or `any`, or whole lines."""
    lines = [f"witness w{number} {Cosigner(name).verifier.encode()}" for number, name in enumerate(names)]
    members = " ".join(f"w{number}" for number in range(len(names)))
    lines += [f"group q {quorum} {members}", "quorum q"] if " " not in quorum else [quorum]
    return "".join(f"{line}\n" for line in lines).encode()
