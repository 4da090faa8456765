"""What nodes bring as witnesses: cosignatures of checkpoints that this TTP signed (witness.md N4, N5).

They are verified, stored, and shown beside the log's own signature. Nobody waits for them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from shared.api.messages import Cosignature
from shared.errors import Conflict, EvidenceFault, Forbidden, Malformed, NotFound
from shared.ledger import note as notes
from shared.ledger.note import KeyType, Note, VerifiedSignature, VerifierKey
from ttp_server.ports.services import Clock
from ttp_server.ports.store import Store
from ttp_server.ports.values import Node
from ttp_server.services.ledger import Ledger

SKEW = 300
PLACE = "witness"
_PLACE = re.compile(f"{PLACE}(?:/[1-9][0-9]{{0,8}})?")


def take(
    store: Store, ledger: Ledger, clock: Clock, waited_for: Collection[VerifierKey], brought: Cosignature, node: Node
) -> None:
    """Verify and store a node's cosignature. Raises SecMTPError; then nothing changed.

    `waited_for` are the witnesses that the TTP asks itself: nobody brings cosignatures in their names.
    """
    _check_name(brought.key, node.domains)
    if brought.key.name in {key.name for key in waited_for}:
        raise Conflict(f"{brought.key.name} is a witness that this TTP asks itself")
    with store.reading() as stored:
        note = stored.checkpoint(brought.size)
    if note is None:
        raise NotFound(f"no checkpoint was signed over exactly {brought.size} entries")
    verified = _verified(note, brought, clock.now())
    with store.writing() as transaction:
        known = transaction.witness_key(brought.key.name)
        if known is not None and known != brought.key.encode():
            # A name with two keys would be two witnesses, and lines of one look false to who trusts the other.
            raise Conflict(f"{brought.key.name} has another key here; a new key takes a new name")
        if known is None:
            transaction.put_witness_key(brought.key.name, brought.key.encode(), node.key_id, clock.now())
        transaction.put_cosignature(brought.size, brought.key.name, verified.time or 0, brought.line.encode())
    # Commit point: leaving this block. A crash before it: the node brings it again. After it: it is shown.
    ledger.show_cosignatures(brought.size)


def _check_name(key: VerifierKey, domains: Sequence[str]) -> None:
    domain, _, place = key.name.partition("/")
    if key.type is not KeyType.COSIGNATURE or not _PLACE.fullmatch(place):
        raise Malformed(f"{key.name!r} isn't <domain>/{PLACE} or <domain>/{PLACE}/<number> with a key of type 04")
    if domain not in domains:
        raise Forbidden(f"this node doesn't answer for {domain}")


def _verified(note: bytes, brought: Cosignature, now: int) -> VerifiedSignature:
    step = "witness.cosignature"
    alone = Note(notes.parse(note).text, (brought.line,))
    verified = notes.verify(alone, {brought.key}, step=step).signatures[0]
    if (verified.time or 0) > now + SKEW:
        raise EvidenceFault(step, f"it is of {verified.time}, which is still to come")
    return verified
