"""What a recipient's node checks before it signs anything (docs/protocols/online.md R2, R3)."""

from __future__ import annotations

import hmac

from secmtp_node.agents.desk import MODES, Desk
from secmtp_node.ports.values import KeyUse, StoredFile, UserKey
from shared.crypto import stream, suites
from shared.crypto.certificates import VerifiedCertificate, verify_chain
from shared.encoding.address import normal_address
from shared.errors import EvidenceFault, Malformed, NotFound
from shared.evidence import composition
from shared.evidence.head import Head
from shared.evidence.manifest import Core, Manifest, size_class
from shared.evidence.tokens import NRO
from shared.evidence.verification import RECEIPT_PURPOSE, require, verify_nro


def check_names(desk: Desk, manifest: Manifest, sender: str, recipient: str) -> dict[KeyUse, UserKey]:
    """R2: the names in M are those of the SMTP envelope, and M names the recipient's live keys; return those."""
    core = manifest.core
    address = normal_address(recipient)
    require(core.recipient.address == address, "names.recipient", f"M is to {core.recipient.address}")
    require(core.sender.address == normal_address(sender), "names.sender", f"M is from {core.sender.address}")
    require(core.mode in MODES, "names.mode", f"this node offers {', '.join(MODES)}, M wants mode {core.mode}")
    with desk.store.transaction() as unit:
        keys = {key.use: key for key in unit.users.keys(address)}
    if set(keys) != set(KeyUse):
        raise NotFound(f"{address} isn't a user here")
    _check_live_keys(core, keys)
    _check_level(desk, core, keys[KeyUse.RECEIPT])
    now = desk.now()
    until = core.expires if core.direct_until is None else core.direct_until
    in_time = core.created - desk.policy.skew <= now < until
    require(in_time, "names.time", f"M is for {core.created} to {until}, now it is {now}")
    least = until if core.direct_until is None else until + desk.policy.margin
    message = (
        f"M leaves {core.expires - until} s between direct_until and expires, this node asks for {desk.policy.margin}"
    )
    require(least <= core.expires, "names.margin", message)
    return keys


def check_ttp(desk: Desk, manifest: Manifest) -> None:
    """R2: the TTP is on the allow-list, and M has the keys of its verified record: a sender can't name a puppet."""
    named = manifest.core.ttp
    require(named.name in desk.ttps, "ttp.allowed", f"this node doesn't allow the TTP {named.name}")
    ttp = desk.ttps[named.name]
    verified = desk.book.record_of(ttp)
    if all(epoch.epoch != named.epoch for epoch in verified.record.epochs):
        # The sender's node may have heard of a new epoch before this one.
        verified = desk.book.record_of(ttp, fresh=True)
    own = (verified.record.log, verified.nrd.key_id, verified.ledger.key_id)
    same = (named.log, named.nrd_key, named.checkpoint_key) == own
    require(same, "ttp.keys", f"M names a ledger or keys that aren't those of {named.name}")
    epochs = {epoch.epoch: epoch for epoch in verified.record.epochs}
    epoch = epochs.get(named.epoch)
    if epoch is None or epoch.key.key_id != named.escrow_key or manifest.core.expires > epoch.open_until:
        raise EvidenceFault("ttp.epoch", f"M names an escrow epoch that {named.name} doesn't keep open long enough")
    for certificate in (verified.nrd, verified.ledger):
        _check_outlives(certificate, manifest.core.expires, "ttp.certificate")


def check_origin(desk: Desk, head: Head) -> NRO:
    """R3: the NRO verifies now, and its certificate outlives the exchange."""
    nro = verify_nro(head.nro, head.manifest, desk.root, desk.now())
    _check_outlives(nro.certificate, head.manifest.core.expires, "nro.outlives")
    return nro


def check_blobs(head: Head, ciphertext: StoredFile) -> None:
    """R3: every blob is the one in M, the whole ciphertext too, and its length gives M's size class."""
    manifest = head.manifest
    composition.check_blob(head.sealed.escrow, manifest.h_ET, "escrow.digest", "E_T")
    composition.check_blob(head.sealed.wrapped_key, manifest.h_key, "content.wrapped", "the wrapped key")
    same = hmac.compare_digest(ciphertext.digest, manifest.h_ct)
    require(same, "ciphertext.digest", "the ciphertext isn't the one whose digest stands in the manifest")
    try:
        octets = stream.plain_length(ciphertext.octets)
    except Malformed as error:
        raise EvidenceFault("ciphertext.length", error.message) from error
    fits = size_class(octets) == manifest.core.size
    require(fits, "ciphertext.size", f"M says size class {manifest.core.size}, the ciphertext holds {octets} octets")


def _check_live_keys(core: Core, keys: dict[KeyUse, UserKey]) -> None:
    named = core.recipient
    again = "look the recipient up again"
    require(named.receipt_key == keys[KeyUse.RECEIPT].key_id, "names.receipt-key", f"not the live receipt key: {again}")
    require(named.hpke_key == keys[KeyUse.HPKE].key_id, "names.hpke-key", f"not the live HPKE key: {again}")
    public = keys[KeyUse.HPKE].public
    fits = public is not None and core.suite is suites.of_kind(public.kind)
    require(fits, "names.suite", f"the suite {core.suite.name} isn't that of the recipient's key")


def _check_level(desk: Desk, core: Core, key: UserKey) -> None:
    chain = desk.vault.receipt(key).chain
    certificate = verify_chain(chain, desk.root, set(RECEIPT_PURPOSE.values()), desk.now())
    fits = RECEIPT_PURPOSE[core.recipient.level] is certificate.purpose
    require(fits, "names.level", "M asks for another level of receipt")
    _check_outlives(certificate, core.expires, "names.outlives")


def _check_outlives(certificate: VerifiedCertificate, expires: int, name: str) -> None:
    """Nobody signs what might be traded when a certificate has ended: the TTP would have to refuse it then."""
    message = f"a certificate ends at {certificate.not_after}, before M expires ({expires})"
    require(certificate.not_after >= expires, name, message)
