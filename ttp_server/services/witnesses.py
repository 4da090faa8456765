"""Witnesses of the ledger: who must have seen a checkpoint before anybody is answered under it (witness.md T1 to T6).

Every checkpoint goes to all of them at once; when a quorum has cosigned, its signatures are stored and the
checkpoint may be shown. What they say of the time and of sizes keeps a wrong clock and a restored database
from deciding anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TypeVar

from shared.errors import ConfigurationError, EvidenceFault, Malformed, SecMTPError, Unavailable
from shared.ledger import note as notes
from shared.ledger import policy as policies
from shared.ledger import witness
from shared.ledger.note import Note, Signature, VerifiedSignature, VerifierKey
from shared.ledger.policy import Policy
from shared.ledger.witness import AddCheckpoint
from ttp_server.ports.services import Clock, Overtaken, WitnessClient
from ttp_server.ports.store import Store
from ttp_server.services.ledger import merged

MAX_CLOCK = 60
TRIES = 8
Prove = Callable[[int], tuple[bytes, ...]]
Parties = Collection[Sequence[str]]
T = TypeVar("T")


class NoWitnesses:
    """The embedded default: nobody is waited for, and evidence says "not witnessed" from the start."""

    keys: tuple[VerifierKey, ...] = ()
    failures: Mapping[str, int] = MappingProxyType({})

    def __init__(self, store: Store) -> None:
        self._store = store

    def close(self) -> None:
        """Nobody is asked."""

    def offset(self) -> int:
        """Nobody says what time it is."""
        return 0

    def check_start(self, size: int) -> None:
        """Nobody can be asked."""

    def check_clock(self) -> None:
        """Nobody can be asked."""

    def check_parties(self, domains: Collection[str]) -> None:
        """Nobody is demanded."""

    def cosign(self, size: int, note: bytes, prove: Prove, parties: Parties = ()) -> bytes:
        """Return the note with what nodes brought, if anything."""
        with self._store.reading() as stored:
            return merged(stored, size, note)

    def cosigned(self, size: int, note: bytes) -> bytes | None:
        """Return the note with what nodes brought, if anything."""
        return self.cosign(size, note, _no_proof)

    def enough(self, note: bytes, domains: Collection[str]) -> bool:
        """Nobody is demanded."""
        return True


@dataclass(frozen=True, slots=True)
class WitnessAt:
    """A configured witness and its submission prefix."""

    key: VerifierKey
    url: str


@dataclass(frozen=True, slots=True)
class Terms:
    """How many must cosign, how many of them may be faulty, and how many seconds a round may take."""

    quorum: int
    faulty: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Cosignature:
    line: Signature
    verified: VerifiedSignature


@dataclass(frozen=True, slots=True)
class _Round:
    """What the witnesses said of the time, and the monotonic clock then."""

    median: int
    at: float


@dataclass(frozen=True, slots=True)
class _Submission:
    size: int
    note: bytes
    prove: Prove


class Quorum:
    """The configured witnesses. `empty` is the log's signed checkpoint over no entries, which commits to nothing.

    Methods are for the writer's thread, but for `cosigned`, `enough` and `check_parties`.
    """

    def __init__(
        self,
        witnesses: Sequence[WitnessAt],
        terms: Terms,
        empty: bytes,
        store: Store,
        client: WitnessClient,
        clock: Clock,
        tell: Callable[..., None],
    ) -> None:
        self._witnesses = witnesses
        self._terms = terms
        self._policy = policy_of(witnesses, terms)
        self._empty = empty
        self._store = store
        self._client = client
        self._clock = clock
        self._tell = tell
        self._sizes: dict[VerifierKey, int] = {}
        self._round: _Round | None = None
        self._last: _Submission | None = None
        self.failures: Counter[str] = Counter()
        # A thread for each: one that hangs holds up nobody else.
        self._signatures = lru_cache(16)(self._verified)
        self._pools = {at: ThreadPoolExecutor(1, thread_name_prefix="witness") for at in witnesses}

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """What their cosignatures are checked with."""
        return tuple(at.key for at in self._witnesses)

    def close(self) -> None:
        """Ask nobody any more."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def check_start(self, size: int) -> None:
        """Ask so many witnesses that one honest one of every quorum is among them; none may have seen more (T1).

        Raises ConfigurationError for an older state, Unavailable when too few answer.
        """
        needed = len(self._witnesses) - self._terms.quorum + 1 + self._terms.faulty
        answers = dict(self._answers(self._newest))
        seen = {at: answer for at, answer in answers.items() if isinstance(answer, int)}
        for at, newest in seen.items():
            if newest > size:
                raise ConfigurationError(
                    f"the witness {at.key.name} has seen a checkpoint over {newest} entries, here are {size}: this "
                    "database is older than what was published; restore a newer one (`secmtp ttp fsck`)"
                )
        if len(seen) < needed:
            raise Unavailable(
                f"{len(seen)} of {len(self._witnesses)} witnesses answered, {needed} are needed to know that this "
                f"database isn't an older one; {_reasons(answers)}"
            )

    def check_clock(self) -> None:
        """Require that our clock is within 60 s of the witnesses' median, carried on by the monotonic clock (T5).

        When it isn't, they are asked anew: a machine that slept is only behind in its own counting.
        """
        if abs(self.offset()) > MAX_CLOCK and self._last is not None:
            self.cosign(self._last.size, self._last.note, self._last.prove)
        off = self.offset()
        if abs(off) > MAX_CLOCK:
            message = f"the TTP's clock is {off} s off its witnesses', at most {MAX_CLOCK} are allowed"
            raise Unavailable(f"{message}: nothing is decided until it is set right", code="clock-off")

    def offset(self) -> int:
        """Return how many seconds our clock is before the witnesses', 0 while nobody was asked."""
        if self._round is None:
            return 0
        return self._clock.now() - self._round.median - int(self._clock.monotonic() - self._round.at)

    def check_parties(self, domains: Collection[str]) -> None:
        """Require that a quorum can be had without the parties' own witnesses (T4). Raises Unavailable."""
        if not policies.can_meet(self._policy, domains):
            raise Unavailable("too few witnesses of this TTP are independent of the parties", code="witness-parties")

    def cosign(self, size: int, note: bytes, prove: Prove, parties: Parties = ()) -> bytes:
        """Return the note with a quorum's cosignatures, stored (T2, T3).

        It waits for a quorum for each of `parties`, too, as long as a round may take. Raises Overtaken when
        witnesses have seen a larger tree meanwhile, else Unavailable when there is no quorum.

        COMMIT of the cosignatures is the commit point. A crash before it: witnesses have cosigned what nobody
        was shown; at the next start they cosign the same tree again.
        """
        submission = _Submission(size, note, prove)
        have: dict[VerifierKey, _Cosignature] = {}

        def met() -> bool:
            signed = [one.verified for one in have.values()]
            return all(policies.evaluate(self._policy, signed, domains).met for domains in ((), *parties))

        answers: dict[WitnessAt, _Cosignature | SecMTPError] = {}
        for at, answer in self._answers(lambda at: self._cosignature(at, submission)):
            answers[at] = answer
            if isinstance(answer, _Cosignature):
                have[at.key] = answer
            if met():
                break
        self._store_cosignatures(size, have.values())
        if not policies.evaluate(self._policy, [one.verified for one in have.values()]).met:
            overtaken = [answer.size for answer in answers.values() if isinstance(answer, Overtaken)]
            if overtaken:
                raise Overtaken(max(overtaken))
            raise Unavailable(
                f"{len(have)} witnesses cosigned, {self._terms.quorum} are needed; {_reasons(answers)}",
                code="no-quorum",
            )
        self._last = submission
        self._round = _Round(_median([one.verified.time or 0 for one in have.values()]), self._clock.monotonic())
        return self._merged(size, note, [one.line for one in have.values()])

    def cosigned(self, size: int, note: bytes) -> bytes | None:
        """Return the note with the cosignatures that are stored, None below the quorum."""
        merged = self._merged(size, note)
        return merged if self.enough(merged, ()) else None

    def enough(self, note: bytes, domains: Collection[str]) -> bool:
        """Whether a note has the quorum's cosignatures for an exchange between these domains (T4)."""
        return policies.evaluate(self._policy, self._signatures(note), domains).met

    def _verified(self, note: bytes) -> tuple[VerifiedSignature, ...]:
        try:
            return notes.verify(notes.parse(note), self._policy.keys).signatures
        except EvidenceFault:
            return ()

    def _store_cosignatures(self, size: int, have: Collection[_Cosignature]) -> None:
        if not have:
            return
        with self._store.writing() as transaction:
            for one in have:
                transaction.put_cosignature(size, one.line.name, one.verified.time or 0, one.line.encode())

    def _merged(self, size: int, note: bytes, fresh: Sequence[Signature] = ()) -> bytes:
        """Put what is stored under the log's signature: the configured witnesses first, then what nodes brought."""
        own = {(key.name, key.key_id) for key in self._policy.keys}
        with self._store.reading() as stored:
            lines = [notes.parse_line(line) for line in stored.cosignatures(size)]
            parsed = notes.parse(note)
            first = [line for line in lines if (line.name, line.key_id) in own]
            by_name = {line.name: line for line in (*first, *fresh)}
            signatures = tuple(dict.fromkeys((*parsed.signatures, *by_name.values())))
            return merged(stored, size, Note(parsed.text, signatures).encode())

    def _newest(self, at: WitnessAt) -> int:
        """Return the size of the newest checkpoint that a witness cosigned."""
        known = self._known_size(at)
        reply = self._client.add_checkpoint(at.url, AddCheckpoint(0, (), self._empty).encode())
        if reply.status not in {200, 409}:
            raise Unavailable(f"it answered {reply.status}: {reply.text}")
        size = 0 if reply.status == 200 else witness.decode_size(reply.body)
        self._sizes[at.key] = _believed(size, known)
        return size

    def _known_size(self, at: WitnessAt) -> int:
        """Return the largest size over which this key's cosignature is here."""
        with self._store.reading() as stored:
            newest = stored.newest_cosignature(at.key.name)
        own = newest is not None and notes.parse_line(newest[1]).key_id == at.key.key_id
        return newest[0] if newest is not None and own else 0

    def _cosignature(self, at: WitnessAt, submission: _Submission) -> _Cosignature:
        """Get one witness's cosignature; after a 409 again, with the size that it answered (T2).

        The first guess is never below a size that it cosigned: one that lost its state then says so, and isn't
        taught anew. Other processes may show it more meanwhile, so its size may grow from answer to answer.
        """
        known = self._known_size(at)
        old = min(max(known, self._sizes.get(at.key, 0)), submission.size)
        for _again in range(TRIES):
            reply = self._client.add_checkpoint(at.url, _body(old, submission))
            if reply.status != 409:
                break
            old = self._sizes[at.key] = _believed(witness.decode_size(reply.body), known)
            if old > submission.size:
                raise Overtaken(old)
        if reply.status != 200:
            raise Unavailable(f"it answered {reply.status}: {reply.text}")
        found = witness.find_cosignature(submission.note, reply.body, at.key)
        self._sizes[at.key] = submission.size
        return _Cosignature(*found)

    def _answers(self, ask: Callable[[WitnessAt], T]) -> Iterator[tuple[WitnessAt, T | SecMTPError]]:
        """Ask all at once and yield answers as they come, until a round's time is over."""
        asked = {pool.submit(_guarded, ask, at): at for at, pool in self._pools.items()}
        try:
            for future in as_completed(asked, self._terms.seconds):
                answer = future.result()
                self._note_failure(asked[future], answer)
                yield asked[future], answer
        except TimeoutError:
            for future, at in asked.items():
                if not future.done():
                    late = Unavailable(f"no answer in {self._terms.seconds:g} s")
                    self._note_failure(at, late)
                    yield at, late
        finally:
            for future in asked:
                future.cancel()  # what waits behind a slow answer is of no use in the next round

    def _note_failure(self, at: WitnessAt, answer: object) -> None:
        if isinstance(answer, SecMTPError):
            self.failures[at.key.name] += 1
            self._tell("a witness didn't help", witness=at.key.name, reason=answer.message)


def _median(times: Sequence[int]) -> int:
    ordered = sorted(times)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) // 2


def _no_proof(_old: int) -> tuple[bytes, ...]:
    return ()


def _guarded(ask: Callable[[WitnessAt], T], at: WitnessAt) -> T | SecMTPError:
    try:
        return ask(at)
    except SecMTPError as error:
        return error
    except Exception as error:  # noqa: BLE001  (whatever a stranger's answer leads to is that witness's failure)
        return Unavailable(f"{type(error).__name__} when it was asked")


def _believed(size: int, known: int) -> int:
    """Return the size that a witness says it cosigned, unless it forgot one that was known before it was asked (T6)."""
    if known > size:
        raise Unavailable(
            f"it says that it cosigned {size} entries, its signature over {known} is here: it lost its state and "
            "needs a new key"
        )
    return size


def _body(old: int, submission: _Submission) -> bytes:
    return AddCheckpoint(old, submission.prove(old), submission.note).encode()


def _reasons(answers: Mapping[WitnessAt, object]) -> str:
    failed = [f"{at.key.name}: {answer.message}" for at, answer in answers.items() if isinstance(answer, SecMTPError)]
    return "; ".join(failed)


def policy_of(witnesses: Sequence[WitnessAt], terms: Terms) -> Policy:
    """Return the policy that the terms make. Raises ConfigurationError for terms that can't hold."""
    organisations = Counter(policies.organisation(at.key.name) for at in witnesses)
    twice = [name for name, count in organisations.items() if count > 1]
    if twice:
        raise ConfigurationError(f"witnesses: {', '.join(twice)} is there twice; an organisation counts once")
    if not terms.faulty < terms.quorum <= len(witnesses):
        raise ConfigurationError(
            f"quorum: {terms.quorum} of {len(witnesses)} witnesses with {terms.faulty} faulty can't be; a quorum is "
            "larger than the number of faulty ones, and at most the number of witnesses"
        )
    try:
        return policies.of_quorum([at.key for at in witnesses], terms.quorum)
    except Malformed as error:
        raise ConfigurationError(f"witnesses: {error.message}") from error
