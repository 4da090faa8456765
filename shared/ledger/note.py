"""C2SP signed notes: a text, and lines that say which keys signed it (c2sp.org/signed-note@v1.0.0).

Speaks two of its signature types: 01, Ed25519 over the text, which logs use, and 04, timestamped
Ed25519 cosignatures of witnesses (c2sp.org/tlog-cosignature). Lines of other keys are kept and
ignored; one bad line of a known key refuses the whole note.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import ConfigurationError, EvidenceFault, Malformed, TooLarge

MAX_NOTE = 64 * 1024
MAX_SIGNATURES = 32
MAX_NAME = 255
MAX_TIME = 2**63 - 1
KEY_ID = 4
_PUBLIC = 32
_SIGNATURE = 64
_TIME = 8
_MARK = "— "
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")


class KeyType(IntEnum):
    """The C2SP signature types that we verify; a log's key and a witness's key are never one key."""

    LOG = 0x01
    COSIGNATURE = 0x04


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under the name it signs with. `public` is the raw Ed25519 key, 32 octets."""

    name: str
    type: KeyType
    public: bytes

    def __post_init__(self) -> None:
        require_name(self.name)
        if len(self.public) != _PUBLIC:
            raise Malformed(f"the key of {self.name} has {len(self.public)} octets, expected {_PUBLIC}")

    @property
    def key_id(self) -> bytes:
        """SHA-256(name ‖ 0A ‖ type ‖ public)[:4]. It finds a key and proves nothing: 32 bits collide at will."""
        # C2SP's own hash, not a labelled protocol value: strangers' tools must find the same id.
        return hashlib.sha256(f"{self.name}\n".encode() + bytes([self.type]) + self.public).digest()[:KEY_ID]

    def encode(self) -> str:
        """Return the vkey text: `name+hex(key id)+base64(type ‖ public)`."""
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(bytes([self.type]) + self.public)}"

    def public_key(self) -> Ed25519PublicKey:
        """Return the key as the library's object."""
        return Ed25519PublicKey.from_public_bytes(self.public)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line. `octets` is what follows the key id: 64 octets of Ed25519, behind 8 of time for type 04."""

    name: str
    key_id: bytes
    octets: bytes

    def encode(self) -> str:
        """Return the line, with its line end."""
        return f"{_MARK}{self.name} {encode_base64(self.key_id + self.octets)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A well-formed note. What its text says is nobody's word until `verify` gives a `VerifiedNote`."""

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """Return the octets. Raises Malformed or TooLarge for what `parse` wouldn't take."""
        data = _octets(self.text + "\n" + "".join(signature.encode() for signature in self.signatures))
        if parse(data) != self:
            raise Malformed("the note can't be written: its text must end with a line end, its lines hold no blanks")
        return data


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """A line that was checked. `time` is the witness's, UTC seconds; None for a log's signature."""

    key: VerifierKey
    time: int | None


@dataclass(frozen=True, slots=True)
class VerifiedNote:
    """A text with at least one known key's signature; `signatures` has one item for each such key."""

    text: str
    signatures: tuple[VerifiedSignature, ...]


def decode_vkey(text: str) -> VerifierKey:
    """Parse a vkey text of type 01 or 04. Raises Malformed, also when its key id isn't the key's."""
    if len(text) > MAX_NAME + 128:
        raise TooLarge(f"a vkey has {len(text)} characters, which is too long")
    name, plus, rest = text.partition("+")
    encoded = rest[2 * KEY_ID + 1 :]
    key = decode_base64(encoded, what="the key of a vkey")
    if not plus or not key or key[0] not in tuple(KeyType):
        raise Malformed(f"vkey {text!r} isn't name+id+key with a key of type 01 or 04")
    verifier = VerifierKey(name, KeyType(key[0]), key[1:])
    if verifier.encode() != text:
        raise Malformed(f"vkey {text!r} isn't canonical, or its id isn't that of its key")
    return verifier


def parse(data: bytes) -> Note:
    """Parse a note, bounds first: at most 64 KiB and 32 signature lines. Raises Malformed; checks no signature."""
    if len(data) > MAX_NOTE:
        raise TooLarge(f"the note has {len(data)} octets, at most {MAX_NOTE} are allowed")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"the note isn't UTF-8: {error}") from error
    if _CONTROL.search(whole):
        raise Malformed("the note holds a control character; line ends are a bare LF")
    text, separator, lines = whole.rpartition("\n\n")
    if not separator or not lines.endswith("\n"):
        raise Malformed("the note isn't a text, an empty line and signature lines with line ends")
    # Never splitlines(): it would also split at U+0085 and U+2028, which a text may hold.
    signatures = lines[:-1].split("\n")
    if len(signatures) > MAX_SIGNATURES:
        raise TooLarge(f"the note has {len(signatures)} signatures, at most {MAX_SIGNATURES} are allowed")
    return Note(text + "\n", tuple(_signature(line) for line in signatures))


def sign(text: str, name: str, key: Ed25519PrivateKey) -> Signature:
    """Sign a note's text (it ends with a line end) as a log does: type 01. Deterministic."""
    verifier = verifier_key(name, KeyType.LOG, key.public_key())
    return Signature(name, verifier.key_id, key.sign(_octets(text)))


def cosign(text: str, name: str, key: Ed25519PrivateKey, time: int) -> Signature:
    """Sign a checkpoint's text as a witness does at `time` (UTC seconds): type 04. Deterministic.

    Only for a text whose log signature and consistency were verified: the line says that they were.
    """
    if not 0 <= time <= MAX_TIME:
        raise Malformed(f"{time} can't be the time of a cosignature")
    verifier = verifier_key(name, KeyType.COSIGNATURE, key.public_key())
    return Signature(name, verifier.key_id, time.to_bytes(_TIME, "big") + key.sign(_cosigned(text, time)))


def verifier_key(name: str, kind: KeyType, key: Ed25519PublicKey) -> VerifierKey:
    """Return the verifier for a key of the library. Raises Malformed for a name that can't sign notes."""
    return VerifierKey(name, kind, key.public_bytes_raw())


def verify(note: Note, known: Collection[VerifierKey], *, step: str = "note.signature") -> VerifiedNote:
    """Verify every line of a known key, and that there is one. Raises EvidenceFault(step).

    Lines are matched by name and key id together; a key that signed twice is listed once, by its first
    line. Raises ConfigurationError when two known keys share name and key id.
    """
    by_identity = {(key.name, key.key_id): key for key in known}
    if len(by_identity) != len(set(known)):
        raise ConfigurationError("two known note keys have the same name and key id: rename one of them")
    found: dict[VerifierKey, VerifiedSignature] = {}
    for line in note.signatures:
        key = by_identity.get((line.name, line.key_id))
        if key is not None:
            checked = _check_line(note.text, line, key, step)
            found.setdefault(key, checked)
    if not found:
        names = ", ".join(sorted(key.name for key in known)) or "nobody"
        raise EvidenceFault(step, f"no line of the note is signed by a known key (known: {names})")
    return VerifiedNote(note.text, tuple(found.values()))


def _check_line(text: str, line: Signature, key: VerifierKey, step: str) -> VerifiedSignature:
    timed = key.type is KeyType.COSIGNATURE
    if len(line.octets) != _SIGNATURE + (_TIME if timed else 0):
        raise EvidenceFault(step, f"the signature of {key.name} has {len(line.octets)} octets")
    time = int.from_bytes(line.octets[:_TIME], "big") if timed else None
    if time is not None and time > MAX_TIME:
        raise EvidenceFault(step, f"the cosignature of {key.name} has an impossible time")
    message = _octets(text) if time is None else _cosigned(text, time)
    try:
        key.public_key().verify(line.octets[-_SIGNATURE:], message)
    except InvalidSignature as error:
        raise EvidenceFault(step, f"{key.name} is known, and its signature isn't over this text") from error
    return VerifiedSignature(key, time)


def _cosigned(text: str, time: int) -> bytes:
    """The octets a type 04 key signs; the header line keeps them apart from any text that a log signs."""
    return _octets(f"cosignature/v1\ntime {time}\n{text}")


def time_of(line: Signature) -> int:
    """Return the time that a line of type 04 states, 0 for one that is too short to have one. It isn't checked."""
    return int.from_bytes(line.octets[:_TIME], "big") if len(line.octets) == _TIME + _SIGNATURE else 0


def parse_line(text: str) -> Signature:
    """Parse one signature line with its line end, as `Signature.encode` gives it. Raises Malformed."""
    if not text.endswith("\n") or len(text) > MAX_NOTE:
        raise Malformed("a signature line has no line end, or is too long")
    return _signature(text[:-1])


def _signature(line: str) -> Signature:
    parts = line.removeprefix(_MARK).split(" ")
    if not line.startswith(_MARK) or len(parts) != 2:
        raise Malformed("a signature line isn't an em dash, a key name and a base64 signature")
    name, encoded = parts
    require_name(name)
    octets = decode_base64(encoded, what=f"the signature of {name}")
    if len(octets) <= KEY_ID:
        raise Malformed(f"the signature of {name} is empty")
    return Signature(name, octets[:KEY_ID], octets[KEY_ID:])


def require_name(name: str) -> None:
    """Raise Malformed unless the text can name a key, and so a log: no blanks, no `+`, no control characters."""
    bad = any(char.isspace() or char == "+" or ord(char) < 0x20 for char in name)
    if bad or not 0 < len(_octets(name)) <= MAX_NAME:
        raise Malformed(f"{name[:MAX_NAME]!r} can't name a key: 1 to {MAX_NAME} octets, no blanks, no '+'")


def _octets(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Malformed("a note's text or key name holds a lone surrogate") from error


def encode_base64(data: bytes) -> str:
    """Return standard base64 with padding (RFC 4648 §4), as all C2SP formats have it."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str, *, what: str) -> bytes:
    """Parse standard base64, only in the form that `encode_base64` gives. Raises Malformed."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError as error:
        raise Malformed(f"{what} isn't base64: {error}") from error
    if encode_base64(data) != text:
        raise Malformed(f"{what} isn't canonical base64")
    return data
