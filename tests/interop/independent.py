"""A second verifier of bundles, written from docs/protocols alone.

It shares no line with the product: the standard library, and of `cryptography` only signatures,
HKDF, AES-GCM and the X.509 parser. If it disagrees with ours, one of them or the specification is wrong.
It is shorter than ours because it says only yes or no.
"""

from __future__ import annotations

import base64
import hashlib
import json
from itertools import combinations, product
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ARC = "2.25.190232336471728815189852986359685205264.1."
NRD, LEDGER, ORIGIN, GATEWAY, USER = 1, 2, 5, 6, 7
MEMBERS = {"v", "kind", "manifest", "nro", "nrr"}
TRADED, DIRECT = {"token", "salt", "proof", "ledger"}, {"ack", "anchor"}


class Refused(Exception):
    """The bundle isn't a receipt."""


def need(condition: object) -> None:
    """Refuse unless the condition holds."""
    if not condition:
        raise Refused


# envelope.md section 1


def frame(label: str, *parts: bytes) -> bytes:
    """Label and length-prefixed parts."""
    return b"SecMTP v1 " + label.encode() + b"\0" + b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def labelled(label: str, *parts: bytes) -> bytes:
    """The labelled hash."""
    return hashlib.sha256(frame(label, *parts)).digest()


def b64u(text: str) -> bytes:
    """Strict base64url."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    need(base64.urlsafe_b64encode(data).rstrip(b"=").decode() == text)
    return data


def b64(text: str) -> bytes:
    """Strict standard base64, as x5c and C2SP's formats have it."""
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text)
    return data


def canonical(value: Any) -> bytes:
    """RFC 8785 for objects with ASCII names and integers: sorted members, no blanks, text unescaped."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse(data: bytes) -> Any:
    """Parse canonical JSON."""
    value = json.loads(data)
    need(canonical(value) == data)
    return value


def key_id(key: Any) -> bytes:
    """The id of an Ed25519 key."""
    return labelled("key", b"Ed25519", key.public_bytes_raw())


# evidence.md section 2


def chain(ders: list[bytes], root: x509.Certificate, purpose: int, at: int) -> x509.Certificate:
    """C1 to C6."""
    certificates = [x509.load_der_x509_certificate(der) for der in ders]
    # C1: the signature is whole octets, which parsers don't all look at.
    need(all(der[-len(one.signature) - 1] == 0 for der, one in zip(ders, certificates, strict=True)))
    need(len(certificates) == (2 if purpose in {ORIGIN, GATEWAY, USER} else 1))
    for certificate, issuer in zip(certificates, [*certificates[1:], root], strict=True):
        certificate.verify_directly_issued_by(issuer)
    for certificate in [*certificates, root]:
        need(certificate.not_valid_before_utc.timestamp() <= at <= certificate.not_valid_after_utc.timestamp())
    usages = certificates[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    need([usage.dotted_string for usage in usages] == [f"{ARC}{purpose}"])
    for authority in certificates[1:]:
        need(authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints)
        domains = [name.value for name in constraints.value.permitted_subtrees or []]
        need(constraints.critical and name_of(certificates[0], x509.RFC822Name).rpartition("@")[2] in domains)
    return certificates[0]


def name_of(certificate: x509.Certificate, kind: Any) -> str:
    """The one alternative name."""
    names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    need(len(names) == 1 and isinstance(names[0], kind))
    return str(names[0].value)


# evidence.md section 1


def token(compact: str, label: str, root: x509.Certificate, purpose: int, at: int) -> tuple[Any, x509.Certificate]:
    """Check a token's form, chain and signature; return payload and certificate."""
    parts = compact.split(".")
    header, payload = parse(b64u(parts[0])), parse(b64u(parts[1]))
    need(set(header) == {"alg", "typ", "x5c", "x5t#S256"} and header["alg"] == "Ed25519")
    need(header["typ"] == f"secmtp-{label.lower()}+jws" and payload["label"] == label and payload["v"] == 1)
    ders = [b64(text) for text in header["x5c"]]
    need(b64u(header["x5t#S256"]) == hashlib.sha256(ders[0]).digest())
    leaf = chain(ders, root, purpose, at)
    key: Any = leaf.public_key()
    key.verify(b64u(parts[2]), f"{parts[0]}.{parts[1]}".encode())
    return payload, leaf


# ledger.md


def included(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.3.2: the root that a path leads to."""
    need(index < size)
    node, last = index, size - 1
    for sibling in path:
        need(last)
        if node & 1 or node == last:
            leaf = hashlib.sha256(b"\1" + sibling + leaf).digest()
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            leaf = hashlib.sha256(b"\1" + leaf + sibling).digest()
        node, last = node >> 1, last >> 1
    need(last == 0)
    return leaf


def checkpoint(note: str, origin: str, key: Any) -> tuple[int, bytes]:
    """L2: verify a signed checkpoint; return size and root."""
    text, _, signatures = note.partition("\n\n")
    text += "\n"
    name, size, root, _ = text.split("\n")
    need(name == origin)
    expected = hashlib.sha256(origin.encode() + b"\n\1" + key.public_bytes_raw()).digest()[:4]
    for line in signatures.rstrip("\n").split("\n"):
        dash, signer, blob = line.split(" ")
        data = b64(blob)
        if (dash, signer, data[:4]) == ("\u2014", origin, expected):
            key.verify(data[4:], text.encode())
            return int(size), b64(root)
    raise Refused


# witness.md section 2


def vkey(text: str) -> tuple[str, bytes, bytes]:
    """Name, key id and type with public key."""
    name, stated, encoded = text.split("+", 2)
    data = b64(encoded)
    identity = hashlib.sha256(name.encode() + b"\n" + data).digest()[:4]
    need(identity.hex() == stated)
    return name, identity, data


def witnessed(note: str, policy: str, log: Any, parties: list[str]) -> bool:
    """P5 and P6: whether the policy's quorum cosigned, one witness an organisation, no party among them."""
    body, _, signatures = note.partition("\n\n")
    lines = [line.split(" ") for line in signatures.rstrip("\n").split("\n")]
    logs: list[bytes] = []
    holders: dict[str, list[frozenset[str]]] = {"none": [frozenset()]}  # which organisations would be enough
    for words in [line.split() for line in policy.split("\n")]:
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "log":
            logs.append(vkey(words[1])[2])
        elif words[0] == "witness":
            name, identity, data = vkey(words[2])
            blobs = [b64(blob)[4:] for _, signer, blob in lines if (signer, b64(blob)[:4]) == (name, identity)]
            for blob in blobs:
                time = int.from_bytes(blob[:8], "big")
                ed25519.Ed25519PublicKey.from_public_bytes(data[1:]).verify(
                    blob[8:], f"cosignature/v1\ntime {time}\n{body}\n".encode()
                )
            who = name.split("/")[0].lower()
            own = any(who == one or who.endswith("." + one) or one.endswith("." + who) for one in parties)
            holders[words[1]] = [frozenset([who])] if blobs and not own else []
        elif words[0] == "group":
            least = {"all": len(words) - 3, "any": 1}.get(words[2]) or int(words[2])
            holders[words[1]] = [
                frozenset().union(*choice)
                for members in combinations(words[3:], least)
                for choice in product(*(holders[member] for member in members))
                if sum(map(len, choice)) == len(frozenset().union(*choice))  # nobody twice
            ]
        else:
            quorum = words[1]
    need(not logs or b"\1" + log.public_bytes_raw() in logs)
    return bool(holders[quorum])


# evidence.md section 5


def verify(data: bytes, root_der: bytes, policy: bytes | None = None) -> dict[str, Any]:
    """V0 to V7, V10. Raises anything at all when the bundle isn't a valid receipt; returns what M says otherwise."""
    root = x509.load_der_x509_certificate(root_der)
    bundle = parse(data)
    direct = bundle["v"] == 2
    need(bundle["v"] in {1, 2} and bundle["kind"] == "secmtp-bundle")
    # Members are closed: what one side ignores the other may rely on.
    need(set(bundle) - {"openings"} == MEMBERS | (DIRECT if direct else TRADED))
    octets = b64u(bundle["manifest"])
    manifest = parse(octets)
    core, hm = manifest["core"], labelled("manifest", octets)
    hc = labelled("core", canonical(core))
    times = [core["created"], *([core["direct_until"]] if core["mode"] == "offline" else []), core["expires"]]
    need(core["mode"] in {"online", "offline"} and times == sorted(set(times)))
    need(("direct_until" in core) == (core["mode"] == "offline"))
    at = bundle["anchor"]["time"] if direct else parse(b64u(bundle["token"].split(".")[1]))["time"]
    digests = {name: labelled("token", bundle[name].encode()) for name in ("nro", "nrr", *(["ack"] if direct else []))}

    nro, origin = token(bundle["nro"], "NRO", root, ORIGIN, at)
    need(b64u(nro["exchange"]) == hm and key_id(origin.public_key()) == b64u(core["sender"]["origin_key"]))
    need(name_of(origin, x509.RFC822Name) == core["sender"]["address"])
    nrr = by_recipient(bundle["nrr"], "NRR", root, core, at)
    need(b64u(nrr["exchange"]) == hm and b64u(nrr["nro"]) == digests["nro"])
    if direct:
        ack = by_recipient(bundle["ack"], "ACK", root, core, at)
        need(b64u(ack["exchange"]) == hm and b64u(ack["nrr"]) == digests["nrr"])
        share, index, shown = b64u(ack["share"]), None, bundle["anchor"]
        entry = anchor(shown, list(digests.values()))
    else:
        nrd = traded(bundle["token"], root, core, at)
        need(b64u(nrd["exchange"]) == hm and [b64u(nrd[one]) for one in ("nro", "nrr")] == list(digests.values()))
        share, index, shown = b64u(nrd["share"]), nrd["index"], bundle
        entry = completed(bundle, core, hm, share, at)
    need(labelled("sT", hc, share) == b64u(manifest["com_T"]))
    in_ledger(entry, index, shown, root, core, policy)
    if "openings" in bundle:
        openings(bundle["openings"], manifest, hc, share)
    return dict(core)


def by_recipient(compact: str, label: str, root: x509.Certificate, core: Any, at: int) -> Any:
    """A token that the receipt key which M names must have signed."""
    level = {"gateway": GATEWAY, "user": USER}[core["recipient"]["level"]]
    payload, receipt = token(compact, label, root, level, at)
    need(key_id(receipt.public_key()) == b64u(core["recipient"]["receipt_key"]))
    need(name_of(receipt, x509.RFC822Name) == core["recipient"]["address"])
    return payload


def traded(compact: str, root: x509.Certificate, core: Any, at: int) -> Any:
    """V3: an NRD of the TTP that M names, in time, for keys that weren't revoked."""
    nrd, ttp = token(compact, "NRD", root, NRD, at)
    need(key_id(ttp.public_key()) == b64u(core["ttp"]["nrd_key"]) and name_of(ttp, x509.DNSName) == core["ttp"]["name"])
    need(at < core["expires"])
    for state in nrd["keys"].values():
        need(state["state"] == "good" or state["effective"] > at)
    return nrd


def completed(bundle: Any, core: Any, hm: bytes, share: bytes, at: int) -> dict[str, Any]:
    """The ledger entry of a trade."""
    pad = HKDF(hashes.SHA256(), 32, hm, frame("mask")).derive(b64u(core["nonce"]))
    body = {name: bundle[name] for name in ("manifest", "nro", "nrr", "token")}
    return {
        "v": 1,
        "kind": "exchange",
        "exchange": text(hm),
        "outcome": "COMPLETED",
        "masked": text(bytes(x ^ y for x, y in zip(share, pad, strict=True))),
        "body": text(labelled("body", b64u(bundle["salt"]), canonical({"v": 1, **body}))),
        "time": at,
    }


def anchor(shown: Any, digests: list[bytes]) -> dict[str, Any]:
    """V10: the digests are in the batch; returns the entry that commits to it."""
    need(set(shown) == {"body", "salt", "time", "places", "proof", "ledger"} and len(shown["places"]) == len(digests))
    octets, salt = b64u(shown["body"]), b64u(shown["salt"])
    body = parse(octets)
    need(set(body) == {"v", "root", "size"} and body["v"] == 1 and 0 < body["size"] <= 4096)
    for place, digest in zip(shown["places"], digests, strict=True):
        need(set(place) == {"index", "path"})
        leaf = hashlib.sha256(b"\0" + digest).digest()
        need(included(leaf, place["index"], body["size"], list(map(b64u, place["path"]))) == b64u(body["root"]))
    identity = text(labelled("anchor", salt, b64u(body["root"])))
    blinded = text(labelled("body", salt, octets))
    return {"v": 1, "kind": "anchor", "id": identity, "body": blinded, "time": shown["time"]}


def in_ledger(
    entry: dict[str, Any], index: int | None, shown: Any, root: x509.Certificate, core: Any, policy: bytes | None
) -> None:
    """V5: the entry is in the ledger that M names, at the index that a token states."""
    ledger = chain([b64u(shown["ledger"])], root, LEDGER, entry["time"])
    key: Any = ledger.public_key()
    need(key_id(key) == b64u(core["ttp"]["checkpoint_key"]))
    need(name_of(ledger, x509.UniformResourceIdentifier) == "https://" + core["ttp"]["log"])
    head, _, note = b64u(shown["proof"]).decode().partition("\n\n")
    lines = [line for line in head.split("\n") if not line.startswith("extra ")]
    number = int(lines[1].removeprefix("index "))
    need(lines[0] == "c2sp.org/tlog-proof@v1" and lines[1] == f"index {number}" and index in {None, number})
    size, tree_root = checkpoint(note, core["ttp"]["log"], key)
    leaf = hashlib.sha256(b"\0" + canonical(entry)).digest()
    need(included(leaf, number, size, [b64(line) for line in lines[2:]]) == tree_root)
    if policy is not None:
        parties = [core[side]["address"].rpartition("@")[2] for side in ("sender", "recipient")]
        need(witnessed(note, policy.decode(), key, parties))


def openings(opened: Any, manifest: Any, hc: bytes, share: bytes) -> None:
    """V6: the openings are those that M commits to."""
    other, wrapped = b64u(opened["recipient_share"]), b64u(opened["wrapped_key"])
    need(labelled("sR", hc, other) == b64u(manifest["com_R"]))
    need(hashlib.sha256(wrapped).digest() == b64u(manifest["h_key"]))
    info = frame("content", manifest["core"]["suite"].encode())
    AESGCM(HKDF(hashes.SHA256(), 32, hc, info).derive(share + other)).decrypt(bytes(12), wrapped, hc)


def text(data: bytes) -> str:
    """Octets as base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
