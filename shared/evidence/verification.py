"""Verification of tokens against a manifest and a trust root, in a fixed order of named steps.

Every function takes unverified octets, raises EvidenceFault at the first step that fails and returns
a verified value. The order is that of docs/protocols/evidence.md: structure, names, certificate,
signature, so that the cheapest check that can fail comes first and errors are the same everywhere.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from shared.crypto import shares, signing
from shared.crypto.certificates import Purpose, TrustRoot, VerifiedCertificate, verify_chain
from shared.crypto.signing import UnverifiedToken
from shared.encoding.fields import Fields
from shared.errors import EvidenceFault, Malformed
from shared.evidence.manifest import Manifest
from shared.evidence.tokens import NRD, NRO, NRR, Refusal, key_state, parse_refusal

RECEIPT_PURPOSE = {"gateway": Purpose.RECEIPT_GATEWAY, "user": Purpose.RECEIPT_USER}


@contextmanager
def step(name: str) -> Iterator[None]:
    """Turn a malformation inside into the failure of the verification step `name`."""
    try:
        yield
    except Malformed as error:
        raise EvidenceFault(name, error.message) from error


def require(condition: bool, name: str, message: str) -> None:  # noqa: FBT001  (reads as the sentence it is)
    """Raise EvidenceFault(name) unless the condition holds."""
    if not condition:
        raise EvidenceFault(name, message)


def alone(chain: Sequence[bytes], name: str) -> bytes:
    """Return the only certificate of a token that a domain CA signs. Raises EvidenceFault(name) for more."""
    require(len(chain) == 1, name, f"x5c holds {len(chain)} certificates, expected the domain CA's alone")
    return chain[0]


def verify_nro(compact: str, manifest: Manifest, root: TrustRoot, at: int) -> NRO:
    """Verify that the sender named in M signed hM (evidence.md V1). `at` is the instant for the certificate."""
    with step("nro.syntax"):
        token = signing.parse(compact, signing.NRO)
        fields = token.fields()
        exchange, time = fields.octets("exchange", 32), fields.integer("time")
        fields.end()
    same_exchange(exchange, manifest, "nro.exchange")
    certificate = verify_chain(token.chain, root, {Purpose.ORIGIN}, at)
    named_key(certificate, manifest.core.sender.origin_key, manifest.core.sender.address, "nro.key")
    signing.check_signature(token, certificate.public_key, "nro.signature")
    return NRO(compact, token.digest, time, certificate)


def verify_nrr(compact: str, manifest: Manifest, nro: NRO, root: TrustRoot, at: int) -> NRR:
    """Verify that the recipient named in M signed hM and this very NRO (evidence.md V2)."""
    with step("nrr.syntax"):
        token = signing.parse(compact, signing.NRR)
        fields = token.fields()
        exchange, answered, time = fields.octets("exchange", 32), fields.octets("nro", 32), fields.integer("time")
        fields.end()
    same_exchange(exchange, manifest, "nrr.exchange")
    require(hmac.compare_digest(answered, nro.digest), "nrr.nro", "the NRR answers another NRO than the one shown")
    recipient = manifest.core.recipient
    certificate = verify_chain(token.chain, root, {RECEIPT_PURPOSE[recipient.level]}, at)
    named_key(certificate, recipient.receipt_key, recipient.address, "nrr.key")
    signing.check_signature(token, certificate.public_key, "nrr.signature")
    return NRR(compact, token.digest, time, certificate)


def verify_nrd(compact: str, manifest: Manifest, root: TrustRoot, answered: tuple[bytes, bytes]) -> NRD:
    """Verify that the TTP named in M traded for s_T (evidence.md V3).

    `answered` are the digests of the NRO and the NRR shown. The certificate is checked at the time
    that the NRD states; that the ledger agrees with that time is checked with the leaf (V5).
    """
    with step("nrd.syntax"):
        token = signing.parse(compact, signing.NRD)
        fields = token.fields()
        exchange = fields.octets("exchange", 32)
        tokens = (fields.octets("nro", 32), fields.octets("nrr", 32))
        share = fields.octets("share", shares.SHARE)
        keys = fields.nested("keys")
        origin, receipt = key_state(keys.nested("origin")), key_state(keys.nested("receipt"))
        keys.end()
        index, time = _place(fields)
    same_exchange(exchange, manifest, "nrd.exchange")
    require(tokens[0] == answered[0], "nrd.nro", "the NRD is about another NRO than the one shown")
    require(tokens[1] == answered[1], "nrd.nrr", "the NRD is about another NRR than the one shown")
    certificate = _by_ttp(token, manifest, root, time, "nrd")
    core = manifest.core
    require(time < core.expires, "nrd.time", f"traded at {time}, though M expired at {core.expires}")
    for name, state in (("origin", origin), ("receipt", receipt)):
        counts = state.effective is not None and state.effective <= time
        require(not counts, "nrd.keys", f"the {name} key's revocation counted before the trade")
    recomputed = shares.commit_ttp(core.digest, share)
    shares.check_opening(manifest.com_T, recomputed, "nrd.share", "s_T in the NRD")
    return NRD(compact, token.digest, share, index, time, origin, receipt, certificate)


def verify_refusal(compact: str, manifest: Manifest, root: TrustRoot, shown: tuple[bytes, bytes | None]) -> Refusal:
    """Verify the TTP's word that an exchange ended without a trade (evidence.md V4).

    `shown` are the digests of the NRO and of the ABORT shown, None where there is no ABORT.
    """
    nro, abort = shown
    with step("refusal.syntax"):
        token = parse_refusal(compact)
        fields = token.fields()
        exchange, answered = fields.octets("exchange", 32), fields.octets("nro", 32)
        caused = fields.octets("abort", 32) if token.type is signing.ABORTED else None
        index, time = _place(fields)
    same_exchange(exchange, manifest, "refusal.exchange")
    require(answered == nro, "refusal.nro", "the token is about another NRO than the one shown")
    require(caused == abort, "refusal.abort", "the token is about another ABORT statement than the one shown")
    certificate = _by_ttp(token, manifest, root, time, "refusal")
    early = token.type is signing.EXPIRED and time < manifest.core.expires
    require(not early, "refusal.time", f"EXPIRED at {time}, before M expires ({manifest.core.expires})")
    return Refusal(compact, token.type.label, index, time, certificate)


def _place(fields: Fields) -> tuple[int, int]:
    index, time = fields.integer("index"), fields.integer("time")
    fields.end()
    return index, time


def _by_ttp(token: UnverifiedToken, manifest: Manifest, root: TrustRoot, at: int, what: str) -> VerifiedCertificate:
    certificate = verify_chain(token.chain, root, {Purpose.NRD}, at)
    ttp = manifest.core.ttp
    require(
        certificate.key_id == ttp.nrd_key and ttp.name in certificate.names,
        f"{what}.key",
        f"signed by a key of {', '.join(certificate.names)} that isn't the NRD key that M names for {ttp.name}",
    )
    signing.check_signature(token, certificate.public_key, f"{what}.signature")
    return certificate


def same_exchange(exchange: bytes, manifest: Manifest, name: str) -> None:
    """Raise EvidenceFault(name) unless a token is about the exchange of this manifest."""
    require(
        hmac.compare_digest(exchange, manifest.exchange),
        name,
        f"the token is about exchange {exchange.hex()}, the manifest's is {manifest.exchange.hex()}",
    )


def named_key(certificate: VerifiedCertificate, key_id: bytes, address: str, name: str) -> None:
    """Raise EvidenceFault(name) unless a certificate is of the key and the address that M names."""
    require(
        hmac.compare_digest(certificate.key_id, key_id),
        name,
        "signed by a certified key that isn't the one named in M",
    )
    require(certificate.address == address, name, f"the certificate is {certificate.address}'s, M names {address}")
