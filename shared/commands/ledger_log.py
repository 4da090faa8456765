"""Opening a log: whom to believe about its key, and whom to ask whether others saw the same checkpoint.

Refused: a key that only the log itself vouches for, and with a policy a checkpoint below its quorum.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.commands.ledger_source import Directory, Source, source
from shared.commands.ledger_store import CERTIFICATE, CHECKPOINT, Mirror
from shared.crypto.certificates import Purpose, TrustRoot, verify_chain
from shared.errors import ConfigurationError, EvidenceFault, NotFound
from shared.ledger import note
from shared.ledger import policy as policies
from shared.ledger.checkpoint import VerifiedCheckpoint, open_checkpoint
from shared.ledger.note import KeyType, VerifierKey
from shared.ledger.policy import NOT_ASKED, Policy, Witnessing
from shared.programs.files import read_bounded

MAX_ROOT = 64 * 1024
MAX_CERTIFICATE = 16 * 1024


@dataclass(frozen=True)
class OpenLog:
    """A log whose newest checkpoint was verified."""

    source: Source
    key: VerifierKey
    checkpoint: VerifiedCheckpoint
    witnessing: Witnessing
    certificate: bytes | None

    def history(self) -> Iterable[VerifiedCheckpoint]:
        """Return the checkpoints that a mirror's directory holds beside its newest one."""
        return Mirror(self.source.place).history(self.key) if isinstance(self.source, Directory) else ()


@contextmanager
def opened(place: str, trust: Path | None, key: str | None, policy: Path | None) -> Iterator[OpenLog]:
    """Open the log at an address or in a directory. Its key is what the caller says, or what the root certifies.

    Raises EvidenceFault `certificate.*`, `ledger.key`, `ledger.policy`, `checkpoint.*` or `ledger.quorum`.
    """
    demanded = None if policy is None else policies.decode(read_bounded(policy, policies.MAX_POLICY))
    with source(place, trust) as found:
        try:
            certificate = found.read(CERTIFICATE, MAX_CERTIFICATE)
        except NotFound:
            certificate = None
        log_key = _key(key, certificate, trust, demanded)
        witnesses = frozenset() if demanded is None else demanded.keys
        checkpoint = open_checkpoint(found.read(CHECKPOINT, note.MAX_NOTE), log_key, witnesses)
        witnessing = NOT_ASKED if demanded is None else policies.evaluate(demanded, checkpoint.cosignatures)
        if not witnessing.met:
            raise EvidenceFault("ledger.quorum", f"witnessed: {witnessing}")
        yield OpenLog(found, log_key, checkpoint, witnessing, certificate)


def _key(key: str | None, certificate: bytes | None, trust: Path | None, policy: Policy | None) -> VerifierKey:
    listed = [] if policy is None else [log.key for log in policy.logs]
    if key is not None:
        found = note.decode_vkey(key)
    elif trust is not None:
        found = _certified(certificate, trust)
    elif len(listed) == 1:
        found = listed[0]
    else:
        raise ConfigurationError("say whom to believe: --trust ROOT.pem, --key NAME+ID+KEY or a --policy of one log")
    if found.type is not KeyType.LOG:
        raise ConfigurationError(f"the key of {found.name} is a witness's, expected a log's (type 01)")
    if listed and found not in listed:
        raise EvidenceFault("ledger.policy", f"the policy doesn't list {found.encode()}")
    return found


def _certified(certificate: bytes | None, trust: Path) -> VerifierKey:
    """Return the key that a root certifies as a log's."""
    if certificate is None:
        raise ConfigurationError("the log offers no certificate of its key; use --key")
    root = TrustRoot.from_pem(read_bounded(trust, MAX_ROOT))
    verified = verify_chain([certificate], root, {Purpose.LEDGER}, int(time.time()))
    if verified.origin is None or not isinstance(verified.public_key, Ed25519PublicKey):
        raise EvidenceFault("ledger.key", "the certificate isn't for an Ed25519 key of a named log")
    return note.verifier_key(verified.origin, KeyType.LOG, verified.public_key)
