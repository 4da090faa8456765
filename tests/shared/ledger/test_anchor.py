"""Anchors: digests under one entry, each shown without the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.encoding import base64url, canonical
from shared.encoding.labels import H
from shared.errors import EvidenceFault, Malformed, NotFound, TooLarge
from shared.ledger import anchor
from shared.ledger.anchor import MAX_BATCH, Anchored, Batch
from shared.ledger.entry import AnchorEntry, body_digest, decode, encode
from shared.ledger.merkle import leaf_hash
from tests.doubles.tree import Tree

SALT, TIME = bytes([7]) * 32, 1_764_000_000
DIGESTS = [H("token", bytes([number])) for number in range(9)]
BATCH = anchor.batch(DIGESTS)
GOOD = BATCH.prove(DIGESTS[0], SALT)


def refused(step: str, anchored: Anchored, digest: bytes = DIGESTS[0]) -> None:
    """Assert that verification fails at this step."""
    with pytest.raises(EvidenceFault) as fault:
        anchor.verify(anchored, digest, TIME)
    assert fault.value.step == step


class TestBatch:
    def test_order_and_repeats(self) -> None:
        """However the digests come, and however often, they are one batch with one root."""
        assert anchor.batch([*reversed(DIGESTS), DIGESTS[3]]) == BATCH
        assert BATCH.root == Tree(map(leaf_hash, sorted(DIGESTS))).root()

    def test_entry(self) -> None:
        """The entry names the batch by a salted id and its body by a salted hash, and survives its octets."""
        body = canonical.encode({"v": 1, "root": base64url.encode(BATCH.root), "size": 9})
        entry = BATCH.entry(SALT, TIME)
        assert BATCH.body == body
        assert entry == AnchorEntry(H("anchor", SALT, BATCH.root), body_digest(SALT, body), TIME)
        assert decode(encode(entry)) == entry

    def test_nothing_shows(self) -> None:
        """Two anchors of one batch have nothing in common but their time."""
        first, second = BATCH.entry(SALT, TIME), BATCH.entry(bytes(32), TIME)
        assert not {first.id, first.body} & {second.id, second.body}

    @pytest.mark.parametrize(
        "digests", [(), (DIGESTS[0][:31],), (bytes(33),), (bytes(32), bytes(32)), (b"\2" * 32, b"\1" * 32)]
    )
    def test_refused(self, digests: tuple[bytes, ...]) -> None:
        """A batch of nothing, of other lengths, out of order or with a repeat can't be made."""
        with pytest.raises(Malformed):
            Batch(digests)

    def test_bound(self) -> None:
        """4,096 digests are the most."""
        digests = [number.to_bytes(32, "big") for number in range(MAX_BATCH + 1)]
        whole = anchor.batch(digests[:-1])
        anchor.verify(whole.prove(digests[4095], SALT), digests[4095], TIME)
        with pytest.raises(TooLarge):
            anchor.batch(digests)


class TestVerify:
    @settings(max_examples=60, deadline=None)
    @given(st.sets(st.binary(min_size=32, max_size=32), min_size=1, max_size=600), st.data())
    def test_every_digest(self, digests: set[bytes], data: st.DataObject) -> None:
        """Each digest of a batch is shown to be in it, and leads to the batch's entry."""
        made = anchor.batch(digests)
        digest = data.draw(st.sampled_from(sorted(digests)))
        assert anchor.verify(made.prove(digest, SALT), digest, TIME) == made.entry(SALT, TIME)

    def test_another_digest(self) -> None:
        """A digest that isn't in the batch can't be shown, with whatever path."""
        with pytest.raises(NotFound):
            BATCH.prove(bytes(32), SALT)
        for digest in (bytes(32), DIGESTS[1], GOOD.path[0], b"", bytes(33)):
            refused("anchor.inclusion", GOOD, digest)

    def test_inner_node(self) -> None:
        """An inner node of the batch isn't a digest of it, although it leads to the root."""
        refused("anchor.inclusion", replace(GOOD, index=0, path=GOOD.path[1:]), leaf_hash(DIGESTS[0]))

    @pytest.mark.parametrize("index", [-1, 1, 8, 9, 2**70])
    def test_another_index(self, index: int) -> None:
        """The digest stands at its place and at no other."""
        at = BATCH.digests.index(DIGESTS[0])
        refused("anchor.inclusion", replace(GOOD, index=index if index != at else index + 1))

    def test_another_path(self) -> None:
        """A path with a hash missing, doubled or changed leads nowhere."""
        for path in (GOOD.path[1:], GOOD.path[:-1], (*GOOD.path, GOOD.path[0]), (bytes(32), *GOOD.path[1:]), (b"",)):
            refused("anchor.inclusion", replace(GOOD, path=path))

    def test_another_salt(self) -> None:
        """With another salt it is another entry."""
        assert anchor.verify(replace(GOOD, salt=bytes(32)), DIGESTS[0], TIME) != BATCH.entry(SALT, TIME)

    @pytest.mark.parametrize(
        "change",
        [{"v": 2}, {"size": 0}, {"size": MAX_BATCH + 1}, {"size": "9"}, {"root": ""}, {"more": 1}, {"root": None}],
    )
    def test_body(self, change: dict[str, object]) -> None:
        """A body of another form, version or size is refused."""
        members = {"v": 1, "root": base64url.encode(BATCH.root), "size": 9, **change}
        refused("anchor.syntax", replace(GOOD, body=canonical.encode(members)))
        refused("anchor.syntax", replace(GOOD, body=GOOD.body + b" "))
