"""C2SP tlog-policy files (witness.md P1 to P6): whom somebody trusts, and how many must have signed.

Two rules of ours come on top: an organisation counts once, however many witnesses it runs, and one that is
a party's mail domain doesn't count for that party's exchange. Below the quorum nothing is "witnessed".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product

from shared.encoding.address import normal_domain
from shared.errors import Malformed, TooLarge
from shared.ledger import note
from shared.ledger.note import KeyType, VerifiedSignature, VerifierKey

MAX_POLICY = 64 * 1024
MAX_LOGS = MAX_WITNESSES = MAX_GROUPS = 32  # what C2SP asks of every implementation
NONE = "none"
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_BLANKS = re.compile("[ \t]+")


@dataclass(frozen=True, slots=True)
class Log:
    """A log that is accepted. `url` is where it may be asked, if the policy says so."""

    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness, under the name that the policy uses for it; its key has a name of its own."""

    name: str
    key: VerifierKey
    url: str | None = None

    @property
    def organisation(self) -> str:
        """Who runs it."""
        return organisation(self.key.name)


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses the checkpoint if at least `threshold` of its members (witnesses, groups) do."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy. No logs: the log is known from elsewhere, for evidence from its certificate."""

    logs: tuple[Log, ...]
    witnesses: Mapping[str, Witness]
    groups: Mapping[str, Group]
    quorum: str

    @property
    def keys(self) -> frozenset[VerifierKey]:
        """The witnesses' keys, to verify a checkpoint with."""
        return frozenset(witness.key for witness in self.witnesses.values())

    def required(self) -> tuple[Witness, ...]:
        """The witnesses that the quorum speaks of."""
        return tuple(self.witnesses[name] for name in self._under(self.quorum))

    def _under(self, name: str) -> Iterator[str]:
        if name in self.witnesses:
            yield name
        elif name in self.groups:
            for member in self.groups[name].members:
                yield from self._under(member)


@dataclass(frozen=True, slots=True)
class Witnessing:
    """What a policy says to a checkpoint's cosignatures. `counted` are organisations, one each.

    `passed_over` are those that signed and don't count for this exchange: a party's own. `of` is the number
    of organisations that the quorum speaks of.
    """

    met: bool
    counted: tuple[str, ...]
    of: int
    passed_over: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the words that follow "witnessed:"."""
        if not self.of:
            return "0 of 0, ledger not witnessed"
        return f"{len(self.counted)} of {self.of}, " + ("quorum met" if self.met else "quorum missed: not witnessed")


NOT_ASKED = Witnessing(met=True, counted=(), of=0)


def organisation(name: str) -> str:
    """Return who runs the witness that signs under this name: what stands before the first "/"."""
    return name.partition("/")[0].lower()


def is_party(who: str, domains: Collection[str]) -> bool:
    """Whether an organisation is one of these mail domains, or one above or below it (P5)."""
    # A key name may be a host with a port or a user: only the name itself says whose it is.
    host = who.rpartition("@")[2].partition(":")[0].rstrip(".")
    with suppress(Malformed):  # else compared as it is: what looks like a party's is the party's
        host = normal_domain(host)
    same = (domain.lower().rstrip(".") for domain in domains)
    return any(host == one or host.endswith(f".{one}") or one.endswith(f".{host}") for one in same)


def evaluate(policy: Policy, cosignatures: Collection[VerifiedSignature], parties: Collection[str] = ()) -> Witnessing:
    """Say whether verified cosignatures of one checkpoint meet the quorum, for an exchange between `parties`."""
    signed = {signature.key for signature in cosignatures}
    required = policy.required()
    theirs = [witness for witness in required if witness.key in signed]
    own = {witness.organisation for witness in theirs if is_party(witness.organisation, parties)}
    by_organisation: dict[str, list[str]] = {}
    for witness in theirs:
        if witness.organisation not in own:
            by_organisation.setdefault(witness.organisation, []).append(witness.name)
    # One witness for each organisation: which one it is may decide about nested groups, so all choices count.
    met = any(_holds(policy, policy.quorum, frozenset(choice)) for choice in product(*by_organisation.values()))
    organisations = {witness.organisation for witness in required}
    return Witnessing(met, tuple(sorted(by_organisation)), len(organisations), tuple(sorted(own)))


def can_meet(policy: Policy, parties: Collection[str] = ()) -> bool:
    """Whether the quorum could be met for an exchange between `parties` if every other witness signed."""
    return evaluate(policy, [VerifiedSignature(witness.key, 1) for witness in policy.required()], parties).met


def of_quorum(keys: Collection[VerifierKey], quorum: int) -> Policy:
    """Return the policy "any `quorum` of these". Raises Malformed when there are too few organisations for it."""
    witnesses = {f"w{number}": Witness(f"w{number}", key) for number, key in enumerate(keys)}
    if not quorum:
        return Policy((), witnesses, {}, NONE)
    organisations = {witness.organisation for witness in witnesses.values()}
    if not 0 < quorum <= len(organisations):
        raise Malformed(f"a quorum of {quorum} can't come from witnesses of {len(organisations)} organisations")
    return Policy((), witnesses, {"quorum": Group("quorum", quorum, tuple(witnesses))}, "quorum")


def _holds(policy: Policy, name: str, signed: frozenset[str]) -> bool:
    if name == NONE:
        return True
    group = policy.groups.get(name)
    if group is None:
        return name in signed
    return sum(_holds(policy, member, signed) for member in group.members) >= group.threshold


def decode(data: bytes) -> Policy:
    """Parse a policy file, strictly (P1 to P4). Raises Malformed or TooLarge, naming the line."""
    if len(data) > MAX_POLICY:
        raise TooLarge(f"the policy has {len(data)} octets, at most {MAX_POLICY} are allowed")
    if _CONTROL.search(data):
        raise Malformed("the policy holds a control character; only tabs and line feeds are allowed")
    if data and not data.endswith(b"\n"):
        raise Malformed("the last line of the policy has no line end")
    reader = _Reader()
    # Octets above ASCII are opaque: surrogates carry those that aren't UTF-8, one for one.
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), start=1):
        items = [item for item in _BLANKS.split(line) if item]
        if items and not items[0].startswith("#"):
            try:
                reader.take(items)
            except Malformed as error:
                raise type(error)(f"line {number} of the policy: {error.message}") from error
    return reader.policy()


class _Reader:
    """What was read so far."""

    def __init__(self) -> None:
        self._logs: list[Log] = []
        self._witnesses: dict[str, Witness] = {}
        self._groups: dict[str, Group] = {}
        self._members: set[str] = set()
        self._quorum: str | None = None

    def policy(self) -> Policy:
        """Return the whole."""
        if self._quorum is None:
            raise Malformed("the policy has no quorum line; `quorum none` says that no witness is needed")
        return Policy(tuple(self._logs), self._witnesses, self._groups, self._quorum)

    def take(self, items: list[str]) -> None:
        """Take a line."""
        readers = {"log": self._log, "witness": self._witness, "group": self._group, "quorum": self._set_quorum}
        keyword, *rest = items
        if keyword not in readers:
            raise Malformed(f"{keyword[:40]!r} begins no line; expected log, witness, group or quorum")
        readers[keyword](rest)

    def _log(self, items: list[str]) -> None:
        if len(items) not in {1, 2}:
            raise Malformed("expected `log <vkey> [<url>]`")
        key = _key(items[0], KeyType.LOG, "log")
        if key.public in {log.key.public for log in self._logs}:
            raise Malformed(f"the key of the log {key.name} is there twice")
        self._logs.append(Log(key, *items[1:]))
        _require_few(self._logs, MAX_LOGS, "logs")

    def _witness(self, items: list[str]) -> None:
        if len(items) not in {2, 3}:
            raise Malformed("expected `witness <name> <vkey> [<url>]`")
        key = _key(items[1], KeyType.COSIGNATURE, "witness")
        if key.public in {witness.key.public for witness in self._witnesses.values()}:
            raise Malformed(f"the key of the witness {key.name} is there twice")
        self._witnesses[self._new(items[0])] = Witness(items[0], key, *items[2:])
        _require_few(self._witnesses, MAX_WITNESSES, "witnesses")

    def _group(self, items: list[str]) -> None:
        if len(items) < 3:
            raise Malformed("expected `group <name> <all|any|number> <name>…`")
        name, threshold, *members = items
        for member in members:
            self._require_defined(member)
            if member in self._members:
                raise Malformed(f"{member!r} is a member already; each witness counts in one way only")
            self._members.add(member)
        self._groups[self._new(name)] = Group(name, _threshold(threshold, len(members)), tuple(members))
        _require_few(self._groups, MAX_GROUPS, "groups")

    def _set_quorum(self, items: list[str]) -> None:
        if len(items) != 1:
            raise Malformed("expected `quorum <name>` or `quorum none`")
        if self._quorum is not None:
            raise Malformed("there is a second quorum line")
        if items[0] != NONE:
            self._require_defined(items[0])
        self._quorum = items[0]

    def _new(self, name: str) -> str:
        if name == NONE or name in self._witnesses or name in self._groups:
            raise Malformed(f"the name {name!r} is taken")
        return name

    def _require_defined(self, name: str) -> None:
        if name not in self._witnesses and name not in self._groups:
            raise Malformed(f"{name!r} isn't a witness or group of a line before")


def _key(text: str, kind: KeyType, what: str) -> VerifierKey:
    key = note.decode_vkey(text)
    if key.type is not kind:
        raise Malformed(f"the key of {key.name} is of type {key.type:02x}, a {what}'s is of type {kind:02x}")
    return key


def _threshold(text: str, members: int) -> int:
    if text in {"all", "any"}:
        return members if text == "all" else 1
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and str(int(text)) == text):
        raise Malformed(f"{text[:40]!r} isn't `all`, `any` or a number")
    if not 1 <= int(text) <= members:
        raise Malformed(f"{text} of {members} members can't be: expected 1 to {members}")
    return int(text)


def _require_few(found: Collection[object], most: int, what: str) -> None:
    if len(found) > most:
        raise TooLarge(f"more than {most} {what}")
