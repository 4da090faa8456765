"""Attack: read the public log, and tell which exchanges are whose."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from copy import copy

import pytest

from shared.encoding import base64url
from shared.encoding.labels import H, blob_digest
from shared.ledger import entry as entries
from shared.ledger import tiles
from shared.ledger.audit import Checked, Replay
from shared.ledger.entry import ExchangeEntry, encode, unmask
from tests.doubles.ledger import stored_entries
from tests.doubles.parties import NOW, Exchange, User
from tests.doubles.served import NodeClient, Served, served

EACH = 40
FIELDS = ("exchange", "masked", "body")
LABELS = ("anchor", "binding", "body", "cek", "core", "key", "manifest", "revocation", "sR", "sT", "token")


class Log:
    """What everybody sees, and what only this test knows: which leaf is whose."""

    def __init__(self, world: Served) -> None:
        self.pairs = [(world.parties.alice, world.parties.bob), others(world)]
        node = NodeClient(world, "b.example")
        assert node.enrol(world.parties.b).status_code == 201
        self.exchanges: list[tuple[int, Exchange]] = []
        first = world.parties
        for number in range(EACH):
            for side, pair in enumerate(self.pairs):
                world.parties = copy(first)
                world.parties.alice, world.parties.bob = pair
                exchange = world.exchange(b"letter %d" % number)
                assert node.complete(exchange).status_code == 200
                self.exchanges.append((side, exchange))
        self.leaves = read_log(world)
        known = {exchange.manifest.exchange: side for side, exchange in self.exchanges}
        self.sides = [known[entry.exchange] for entry in map(decoded, self.leaves)]


def others(world: Served) -> tuple[User, User]:
    """Return two users of the same domains, so that nothing but who they are differs."""
    return User("carol@a.example", world.parties.a), User("dave@b.example", world.parties.b)


def read_log(world: Served) -> list[bytes]:
    """Read the exchanges' leaves as anybody can."""
    size = len(stored_entries(world))
    path = tiles.path(tiles.ENTRIES, 0, size)
    found = tiles.decode_entries(world.client.get(f"/ledger/{path}").content, size)
    return [leaf for leaf in found if b'"kind":"exchange"' in leaf]


def decoded(leaf: bytes) -> ExchangeEntry:
    """Read an exchange's leaf."""
    entry = entries.decode(leaf)
    assert isinstance(entry, ExchangeEntry)
    return entry


def value(leaf: bytes, field: str) -> bytes:
    """Return the octets of a leaf's member."""
    octets: bytes = base64url.decode(json.loads(leaf)[field], what=field)
    return octets


def hits(leaves: Sequence[bytes], sides: Sequence[int]) -> float:
    """Guess each leaf's side from the leaf nearest to it among all others; return the share of right guesses."""
    joined = [int.from_bytes(b"".join(value(leaf, field) for field in FIELDS), "big") for leaf in leaves]
    right = 0
    for at, own in enumerate(joined):
        distances = [(own ^ other).bit_count() if other_at != at else 10**6 for other_at, other in enumerate(joined)]
        right += sides[distances.index(min(distances))] == sides[at]
    return right / len(leaves)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A TTP."""
    with served(tmp_path_factory.mktemp("ttp")) as made:
        yield made


@pytest.fixture(scope="module")
def log(world: Served) -> Log:
    """A log with as many exchanges of one pair as of another."""
    return Log(world)


def test_names_and_keys(log: Log) -> None:
    """Nothing that is known of the parties stands in a leaf, plain or hashed under any label."""
    users = [user for pair in log.pairs for user in pair]
    words = [user.address for user in users] + ["alice", "bob", "carol", "dave", "a.example", "b.example"]
    octets = [word.encode() for word in words]
    for user in users:
        octets += [*user.origin_chain, *user.receipt_chain, user.hpke.public.raw, user.hpke.key_id]
        octets += [user.origin.public_key().public_bytes_raw(), user.receipt.public_key().public_bytes_raw()]
    hashed = {blob_digest(one) for one in octets} | {H(label, one) for label in LABELS for one in octets}
    forbidden = hashed | {H(label, one) for label in LABELS for one in hashed}
    for leaf in log.leaves:
        # Digests are base64url, in which a short name may stand by chance: they are looked at as values.
        rest = json.dumps({name: shown for name, shown in json.loads(leaf).items() if name not in FIELDS})
        assert not [word for word in words if word in rest]
        assert not forbidden & {value(leaf, field) for field in FIELDS}


def test_nothing_repeats(log: Log) -> None:
    """No two leaves have a hash, a share or an id in common, so none leads to another."""
    values = [value(leaf, field) for leaf in log.leaves for field in FIELDS]
    assert len(log.leaves) == 2 * EACH
    assert len(set(values)) == len(values)


def test_same_form(log: Log) -> None:
    """All leaves of one outcome have the same members and the same length."""
    forms = {(len(leaf), tuple(json.loads(leaf))) for leaf in log.leaves}
    assert len(forms) == 1


def test_guessing(log: Log) -> None:
    """Who guesses by likeness guesses right as often as a coin; the same guesser finds whatever would tell."""
    assert 0.2 < hits(log.leaves, log.sides) < 0.8
    telling = [
        leaf.replace(json.loads(leaf)["body"].encode(), base64url.encode(H("body", bytes([side]))).encode())
        for leaf, side in zip(log.leaves, log.sides, strict=True)
    ]
    assert hits(telling, log.sides) == 1


def test_holders_of_the_manifest(log: Log) -> None:
    """Whoever holds M finds its leaf and takes the mask off, as the specification says; another M's nonce doesn't."""
    _, exchange = log.exchanges[0]
    _, other = log.exchanges[1]
    entry = next(one for one in map(decoded, log.leaves) if one.exchange == exchange.manifest.exchange)
    assert entry.masked is not None
    share = exchange.secrets.shares.ttp
    assert unmask(entry.masked, exchange.manifest.core.nonce, entry.exchange) == share
    assert unmask(entry.masked, other.manifest.core.nonce, entry.exchange) != share


def test_second_outcome_shows(log: Log) -> None:
    """What must be visible is: a second outcome of any of these exchanges, whoever's it is."""
    entry = decoded(log.leaves[3])
    second = encode(ExchangeEntry(entry.exchange, "ABORTED", None, bytes(32), NOW))
    seen: dict[bytes, int] = {}

    def repeats(exchanges: Sequence[tuple[bytes, int]]) -> list[tuple[int, int]]:
        return [(index, seen[name]) for name, index in exchanges if seen.setdefault(name, index) != index]

    found = Replay(repeats).read(Checked(0, (*log.leaves, second)))
    assert [(one.step, one.index) for one in found] == [("exchange.outcomes", 2 * EACH)]
