"""Makes exchange.json: the deterministic values of one exchange, for other implementations.

    python -m tests.vectors.make_exchange > tests/vectors/exchange.json

Seals are random (HPKE draws its own ephemeral key), so the vector has fixed octets in their place; seals
have a vector of their own that is only opened (seals.json, made once by make_seals.py).
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

from shared.crypto import sealing, shares, suites
from shared.crypto.shares import Shares
from shared.crypto.stream import CHUNK, encrypt
from shared.encoding.labels import blob_digest
from shared.evidence.manifest import Core, Manifest, NamedTTP, Recipient, Sender, size_class
from shared.ledger.entry import ExchangeEntry, body_digest, encode, mask
from shared.ledger.merkle import leaf_hash


def octets(start: int, length: int = 32) -> bytes:
    """Return octets that count from `start`."""
    return bytes((start + number) % 256 for number in range(length))


def core() -> Core:
    """A core with every member fixed."""
    return Core(
        suite=suites.CLASSIC,
        nonce=octets(0),
        mode="online",
        sender=Sender("alice@a.example", octets(1)),
        recipient=Recipient("büro@xn--bcher-kva.example", octets(2), octets(3), "gateway"),
        ttp=NamedTTP("ttp.example", "ttp.example/ledger", octets(4), octets(5), octets(6), 7),
        created=1_800_000_000,
        expires=1_800_432_000,
        size=size_class(len(message())),
        notice="A certified message waits for you. ✉",
    )


def message() -> bytes:
    """A message of two chunks."""
    return octets(0, CHUNK + 100)


def vector() -> dict[str, Any]:
    """Return all values, octets as hexadecimal."""
    both, content_key = Shares(octets(10), octets(20)), octets(30)
    fixed = core()
    digest = fixed.digest
    key = shares.message_key(fixed.suite, digest, both)
    wrapped = shares.wrap(key, digest, content_key)
    ciphertext = b"".join(encrypt(content_key, [message()]))
    manifest = Manifest(
        core=fixed,
        com_T=shares.commit_ttp(digest, both.ttp),
        com_R=shares.commit_recipient(digest, both.recipient),
        h_ET=blob_digest(b"E_T"),
        h_ER=blob_digest(b"E_R"),
        h_key=blob_digest(wrapped),
        h_ct=blob_digest(ciphertext),
    )
    masked = mask(both.ttp, fixed.nonce, manifest.exchange)
    offline = replace(manifest, core=replace(fixed, mode="offline", direct_until=1_800_172_800))
    entry = ExchangeEntry(manifest.exchange, "COMPLETED", masked, body_digest(octets(40), b"body"), 1_800_000_060)
    values = {
        "s_T": both.ttp,
        "s_R": both.recipient,
        "content_key": content_key,
        "hC": digest,
        "com_T": manifest.com_T,
        "com_R": manifest.com_R,
        "seal_info_T": sealing.seal_info(fixed.suite, digest, "T", octets(6)),
        "K": key,
        "wrapped_key": wrapped,
        "ciphertext_head": ciphertext[:64],
        "h_ct": manifest.h_ct,
        "manifest": manifest.octets,
        "hM": manifest.exchange,
        "offline_hC": offline.core.digest,
        "offline_manifest": offline.octets,
        "offline_hM": offline.exchange,
        "masked": masked,
        "entry": encode(entry),
        "leaf_hash": leaf_hash(encode(entry)),
    }
    return {"note": "docs/protocols/envelope.md, evidence.md, ledger.md", **{k: v.hex() for k, v in values.items()}}


if __name__ == "__main__":
    json.dump(vector(), sys.stdout, indent=1)
    sys.stdout.write("\n")
