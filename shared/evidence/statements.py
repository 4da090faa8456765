"""What the parties sign beside NRO and NRR: ACK, ABORT, REFUSE (docs/protocols/offline.md).

An ACK is a completion and holds s_T; ABORT and REFUSE only ask or tell, and prove nothing about who
read or sent. Verified in the order of evidence.md: structure, names, certificate, key, signature, share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.crypto import shares, signing
from shared.crypto.certificates import Purpose, TrustRoot, VerifiedCertificate, verify_chain
from shared.crypto.keys import SigningKey
from shared.crypto.signing import UnverifiedToken
from shared.encoding import base64url
from shared.evidence.manifest import ABORTABLE, Manifest
from shared.evidence.tokens import NRO, NRR
from shared.evidence.verification import RECEIPT_PURPOSE, named_key, require, same_exchange, step


@dataclass(frozen=True, slots=True)
class ACK:
    """Verified: the recipient signed that it opened the message that this NRR is for. `time` is its claim."""

    compact: str
    digest: bytes
    share: bytes = field(repr=False)
    time: int
    certificate: VerifiedCertificate


@dataclass(frozen=True, slots=True)
class Abort:
    """Verified: the sender agreed that the exchange may end without a trade. It has no time, see offline.md S2."""

    compact: str
    digest: bytes
    certificate: VerifiedCertificate


@dataclass(frozen=True, slots=True)
class Refuse:
    """Verified: the recipient said that it doesn't want to sign. A later NRR overrides it. `time` is its claim."""

    compact: str
    digest: bytes
    time: int
    certificate: VerifiedCertificate


def sign_ack(
    exchange: bytes, acknowledged: tuple[bytes, bytes], time: int, key: SigningKey, chain: Sequence[bytes]
) -> str:
    """Sign, with the receipt key, that the message was opened: `acknowledged` is the NRR's digest and s_T."""
    members = {
        "exchange": base64url.encode(exchange),
        "nrr": base64url.encode(acknowledged[0]),
        "share": base64url.encode(acknowledged[1]),
        "time": time,
    }
    return signing.sign(signing.ACK, members, key, chain)


def sign_abort(exchange: bytes, nro_digest: bytes, key: SigningKey, chain: Sequence[bytes]) -> str:
    """Sign, with the origin key and in the submission session, that the exchange may be aborted."""
    members = {"exchange": base64url.encode(exchange), "nro": base64url.encode(nro_digest)}
    return signing.sign(signing.ABORT, members, key, chain)


def sign_refuse(exchange: bytes, nro_digest: bytes, time: int, key: SigningKey, chain: Sequence[bytes]) -> str:
    """Sign, with the receipt key, that the recipient doesn't want to sign for the message."""
    members = {"exchange": base64url.encode(exchange), "nro": base64url.encode(nro_digest), "time": time}
    return signing.sign(signing.REFUSE, members, key, chain)


def verify_ack(compact: str, manifest: Manifest, nrr: NRR, root: TrustRoot, at: int) -> ACK:
    """Verify that the recipient acknowledged this very NRR, with the s_T that M commits to (evidence.md V7)."""
    with step("ack.syntax"):
        token = signing.parse(compact, signing.ACK)
        fields = token.fields()
        exchange, answered = fields.octets("exchange", 32), fields.octets("nrr", 32)
        share, time = fields.octets("share", shares.SHARE), fields.integer("time")
        fields.end()
    same_exchange(exchange, manifest, "ack.exchange")
    require(answered == nrr.digest, "ack.nrr", "the ACK names another NRR than the one shown")
    certificate = _by_recipient(token, manifest, root, at, "ack")
    shares.check_opening(manifest.com_T, shares.commit_ttp(manifest.core.digest, share), "ack.share", "s_T in the ACK")
    return ACK(compact, token.digest, share, time, certificate)


def verify_abort(compact: str, manifest: Manifest, nro: NRO, root: TrustRoot, at: int) -> Abort:
    """Verify that the sender signed that this exchange may be aborted (evidence.md V8)."""
    with step("abort.syntax"):
        token = signing.parse(compact, signing.ABORT)
        fields = token.fields()
        exchange, answered = fields.octets("exchange", 32), fields.octets("nro", 32)
        fields.end()
    require(manifest.core.mode in ABORTABLE, "abort.mode", f"an exchange of mode {manifest.core.mode} isn't aborted")
    same_exchange(exchange, manifest, "abort.exchange")
    require(answered == nro.digest, "abort.nro", "the ABORT is about another NRO than the one shown")
    certificate = verify_chain(token.chain, root, {Purpose.ORIGIN}, at)
    named_key(certificate, manifest.core.sender.origin_key, manifest.core.sender.address, "abort.key")
    signing.check_signature(token, certificate.public_key, "abort.signature")
    return Abort(compact, token.digest, certificate)


def verify_refuse(compact: str, manifest: Manifest, nro: NRO, root: TrustRoot, at: int) -> Refuse:
    """Verify that the recipient refused this exchange (evidence.md V9)."""
    with step("refuse.syntax"):
        token = signing.parse(compact, signing.REFUSE)
        fields = token.fields()
        exchange, answered, time = fields.octets("exchange", 32), fields.octets("nro", 32), fields.integer("time")
        fields.end()
    same_exchange(exchange, manifest, "refuse.exchange")
    require(answered == nro.digest, "refuse.nro", "the REFUSE is about another NRO than the one shown")
    return Refuse(compact, token.digest, time, _by_recipient(token, manifest, root, at, "refuse"))


def _by_recipient(
    token: UnverifiedToken, manifest: Manifest, root: TrustRoot, at: int, what: str
) -> VerifiedCertificate:
    recipient = manifest.core.recipient
    certificate = verify_chain(token.chain, root, {RECEIPT_PURPOSE[recipient.level]}, at)
    named_key(certificate, recipient.receipt_key, recipient.address, f"{what}.key")
    signing.check_signature(token, certificate.public_key, f"{what}.signature")
    return certificate
