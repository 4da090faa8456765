"""The manifest M: what both sides and the TTP sign about, and the exchange id hM made from it.

`core` says who, to whom, through which TTP, how and until when; commitments and digests bind the
sealed values to it (docs/protocols/envelope.md E1–E6). An exchange is named by the hash of its
manifest, never by a label that somebody chose.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from shared.crypto import suites
from shared.encoding import base64url, canonical
from shared.encoding.address import is_normal
from shared.encoding.fields import Fields
from shared.encoding.labels import H
from shared.errors import Malformed

MODES = ("online", "offline")
ABORTABLE = ("online", "offline")  # in a mode with agents shares may be out that an abort can't call back
LEVELS = ("gateway", "user")
MAX_MANIFEST = 16 * 1024
MAX_NOTICE = 1000


@dataclass(frozen=True, slots=True)
class Sender:
    """The sender's address and the key id of the origin key that signs the NRO."""

    address: str
    origin_key: bytes


@dataclass(frozen=True, slots=True)
class Recipient:
    """The recipient's address, the key ids of its receipt and HPKE keys, and the level of the receipt."""

    address: str
    receipt_key: bytes
    hpke_key: bytes
    level: str


@dataclass(frozen=True, slots=True)
class NamedTTP:
    """The one TTP, ledger and epoch of this exchange: names and key ids, not certificates (they are renewed)."""

    name: str
    log: str
    nrd_key: bytes
    checkpoint_key: bytes
    escrow_key: bytes
    epoch: int


@dataclass(frozen=True)
class Core:
    """Everything but commitments and digests. `size` is the size class of the message, times are UTC seconds.

    `direct_until` belongs to offline mode, and is None in every other.
    """

    suite: suites.Suite
    nonce: bytes
    mode: str
    sender: Sender
    recipient: Recipient
    ttp: NamedTTP
    created: int
    expires: int
    size: int
    notice: str
    direct_until: int | None = None

    @cached_property
    def digest(self) -> bytes:
        """HC = H("core", canonical core): 32 octets."""
        return H("core", canonical.encode(self.to_json()))

    def to_json(self) -> canonical.JSON:
        """Return the nested object as it stands in M."""
        text = base64url.encode
        times = {} if self.direct_until is None else {"direct_until": self.direct_until}
        return {
            **times,
            "suite": self.suite.name,
            "nonce": text(self.nonce),
            "mode": self.mode,
            "sender": {"address": self.sender.address, "origin_key": text(self.sender.origin_key)},
            "recipient": {
                "address": self.recipient.address,
                "receipt_key": text(self.recipient.receipt_key),
                "hpke_key": text(self.recipient.hpke_key),
                "level": self.recipient.level,
            },
            "ttp": {
                "name": self.ttp.name,
                "log": self.ttp.log,
                "nrd_key": text(self.ttp.nrd_key),
                "checkpoint_key": text(self.ttp.checkpoint_key),
                "escrow_key": text(self.ttp.escrow_key),
                "epoch": self.ttp.epoch,
            },
            "created": self.created,
            "expires": self.expires,
            "size": self.size,
            "notice": self.notice,
        }


@dataclass(frozen=True)
class Manifest:
    """M. `com_*` commit to the shares; `h_*` are SHA-256 of E_T, E_R, the wrapped key and the ciphertext."""

    core: Core
    com_T: bytes
    com_R: bytes
    h_ET: bytes
    h_ER: bytes
    h_key: bytes
    h_ct: bytes

    @cached_property
    def octets(self) -> bytes:
        """The canonical octets of M."""
        digests = {name: base64url.encode(getattr(self, name)) for name in _DIGESTS}
        return canonical.encode({"v": 1, "core": self.core.to_json(), **digests})

    @cached_property
    def exchange(self) -> bytes:
        """The exchange id hM = H("manifest", M): 32 octets."""
        return H("manifest", self.octets)


_DIGESTS = ("com_T", "com_R", "h_ET", "h_ER", "h_key", "h_ct")


def decode(data: bytes) -> Manifest:
    """Parse the canonical octets of a manifest of at most 16 KiB. Raises Malformed (TooLarge)."""
    fields = Fields(canonical.decode(data, what="manifest", limit=MAX_MANIFEST), "manifest")
    fields.version()
    core = _core(fields.nested("core"))
    digests = {name: fields.octets(name, 32) for name in _DIGESTS}
    fields.end()
    return Manifest(core, **digests)


def size_class(octets: int) -> int:
    """Round a message size up so that it tells at most the order of magnitude (Padmé, PURBs 2019)."""
    if octets < 2:
        return 2
    exponent = octets.bit_length() - 1
    dropped = exponent - exponent.bit_length()
    mask = (1 << max(dropped, 0)) - 1
    return (octets + mask) & ~mask


def _core(fields: Fields) -> Core:
    mode = fields.choice("mode", MODES)
    core = Core(
        suite=suites.named(fields.text("suite")),
        nonce=fields.octets("nonce", 32),
        mode=mode,
        sender=_sender(fields.nested("sender")),
        recipient=_recipient(fields.nested("recipient")),
        ttp=_ttp(fields.nested("ttp")),
        created=fields.integer("created"),
        expires=fields.integer("expires"),
        size=fields.integer("size"),
        notice=fields.text("notice", limit=MAX_NOTICE),
        direct_until=fields.integer("direct_until") if mode == "offline" else None,
    )
    fields.end()
    _check_times(core)
    if core.size != size_class(core.size):
        raise Malformed(f"manifest: size {core.size} isn't a size class")
    return core


def _check_times(core: Core) -> None:
    """Only the order is checked: how much time lies between is each node's own policy."""
    if core.created >= core.expires:
        raise Malformed(f"manifest expires at {core.expires}, not after it was created ({core.created})")
    if core.direct_until is not None and not core.created < core.direct_until < core.expires:
        raise Malformed(f"manifest: direct_until {core.direct_until} isn't between created and expires")


def _sender(fields: Fields) -> Sender:
    sender = Sender(_address(fields), fields.octets("origin_key", 32))
    fields.end()
    return sender


def _recipient(fields: Fields) -> Recipient:
    recipient = Recipient(
        _address(fields),
        fields.octets("receipt_key", 32),
        fields.octets("hpke_key", 32),
        fields.choice("level", LEVELS),
    )
    fields.end()
    return recipient


def _ttp(fields: Fields) -> NamedTTP:
    ttp = NamedTTP(
        name=fields.text("name", limit=255),
        log=fields.text("log", limit=255),
        nrd_key=fields.octets("nrd_key", 32),
        checkpoint_key=fields.octets("checkpoint_key", 32),
        escrow_key=fields.octets("escrow_key", 32),
        epoch=fields.integer("epoch"),
    )
    fields.end()
    return ttp


def _address(fields: Fields) -> str:
    address = fields.text("address", limit=998)
    if not is_normal(address):
        raise Malformed(f"manifest: address {address!r} isn't in normal form (domain as lower-case A-labels)")
    return address
