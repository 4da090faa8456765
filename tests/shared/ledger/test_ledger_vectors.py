"""tests/vectors/ledger: they are made again octet for octet, and we accept and refuse what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.encoding.labels import blob_digest
from shared.errors import EvidenceFault, Malformed, SecMTPError
from shared.ledger import anchor, tiles
from shared.ledger import entry as codec
from shared.ledger import proof as proofs
from shared.ledger.anchor import Anchored
from shared.ledger.checkpoint import open_checkpoint
from shared.ledger.merkle import HASH, leaf_hash, verify_consistency
from shared.ledger.note import decode_vkey
from shared.ledger.tiles import WIDTH, Edge, TileName
from tests.doubles.tree import Tree
from tests.vectors import make_ledger

PLACE = Path(__file__).parents[2] / "vectors" / "ledger"
TEXT = (PLACE / "ledger.json").read_text("utf-8")
VECTORS: dict[str, Any] = json.loads(TEXT)
PUBLISHED: dict[str, Any] = json.loads((PLACE / "rfc6962.json").read_text("utf-8"))
LOG, WITNESS = decode_vkey(VECTORS["log"]["vkey"]), decode_vkey(VECTORS["witness"]["vkey"])
REFUSED = VECTORS["refused"]


def octets(texts: list[str]) -> tuple[bytes, ...]:
    """Return the octets of hexadecimal texts."""
    return tuple(bytes.fromhex(text) for text in texts)


class TestMadeAgain:
    def test_same(self) -> None:
        """The committed generator gives the committed file."""
        assert json.dumps(make_ledger.vectors(), indent=1, ensure_ascii=False) + "\n" == TEXT

    def test_field_cases(self) -> None:
        """The published trees are the ones of the cases from the field."""
        case = json.loads((PLACE.parents[1] / "cases" / "case70.json").read_text("utf-8"))
        assert {name: case[name] for name in ("roots", "leaves", "inclusion", "consistency")} == {
            name: PUBLISHED[name] for name in ("roots", "leaves", "inclusion", "consistency")
        }


class TestPublished:
    def test_tiles(self) -> None:
        """Roots and proofs that are computed from tiles are the published ones."""
        edge = Edge().extend(map(leaf_hash, octets(PUBLISHED["leaves"]))).edge

        def read(level: int, number: int, width: int) -> bytes:
            hashes = edge.read(level, number, width)
            assert hashes is not None
            return hashes

        for size, root in PUBLISHED["roots"].items():
            assert tiles.root_at(int(size), read).hex() == root
        for case in PUBLISHED["inclusion"]:
            assert tiles.inclusion(case["index"], case["size"], read) == octets(case["path"])
        for case in PUBLISHED["consistency"]:
            assert tiles.consistency(case["old"], case["new"], read) == octets(case["path"])


class TestAccepted:
    def test_entries(self) -> None:
        """Entries of each kind are read, and have their leaf hash."""
        for case in VECTORS["entries"]:
            data = case["entry"].encode()
            assert codec.encode(codec.decode(data)) == data
            assert leaf_hash(data).hex() == case["leaf"]

    def test_mask(self) -> None:
        """The first entry's masked share is unmasked with nonce and hM."""
        share, nonce, exchange = (bytes.fromhex(VECTORS["mask"][name]) for name in ("share", "nonce", "exchange"))
        entry = codec.decode(VECTORS["entries"][0]["entry"].encode())
        assert isinstance(entry, codec.ExchangeEntry)
        assert entry.masked is not None
        assert codec.unmask(entry.masked, nonce, exchange) == share

    def test_tiles(self) -> None:
        """Tiles and bundles have these octets; a plain tree over the bundles' entries has these roots."""
        log = make_ledger.Log()
        tree = Tree(map(leaf_hash, log.entries))
        assert {int(size): tree.root_at(int(size)).hex() for size in VECTORS["roots"]} == {
            int(size): root for size, root in VECTORS["roots"].items()
        }
        for case in VECTORS["tiles"]:
            name = tiles.parse_path(case["path"])
            data = log.octets(name)
            assert (len(data), data.hex() if "octets" in case else blob_digest(data).hex()) == (
                case["length"],
                case.get("octets", case.get("sha256")),
            )
            if name.level == 0:
                first = name.number * WIDTH
                assert data == b"".join(map(leaf_hash, log.entries[first : first + name.width]))
                assert len(data) == name.width * HASH

    def test_paths(self) -> None:
        """Paths are read as what they name."""
        for text, name in VECTORS["paths"].items():
            assert tiles.parse_path(text) == TileName(*name)

    def test_proofs(self) -> None:
        """Checkpoints verify with their cosignature, and proofs under them."""
        for size, data in VECTORS["checkpoints"].items():
            opened = open_checkpoint(data.encode(), LOG, {WITNESS})
            assert (opened.size, len(opened.cosignatures)) == (int(size), 1)
        for case in VECTORS["inclusion"]:
            verified = proofs.verify(proofs.decode(case["proof"].encode()), case["entry"].encode(), LOG, {WITNESS})
            assert verified.witnessed == 1
        read = make_ledger.Log().read
        for case in VECTORS["consistency"]:
            old, new = case["old"], case["new"]
            verify_consistency(old, tiles.root_at(old, read), new, tiles.root_at(new, read), octets(case["path"]))

    def test_anchor(self) -> None:
        """A digest is shown to be in the anchor's batch."""
        case = VECTORS["anchor"]
        shown = case["shown"]
        anchored = Anchored(case["body"].encode(), bytes.fromhex(case["salt"]), shown["index"], octets(shown["path"]))
        entry = anchor.verify(anchored, bytes.fromhex(shown["digest"]), case["time"])
        assert codec.encode(entry).decode() == case["entry"]
        assert anchor.batch(octets(case["digests"])).root.hex() == case["root"]


class TestRefused:
    @pytest.mark.parametrize("case", REFUSED["checkpoints"], ids=lambda case: case["step"])
    def test_checkpoints(self, case: dict[str, str]) -> None:
        """What isn't the log's signed checkpoint is refused at the step that is said."""
        with pytest.raises(EvidenceFault) as fault:
            open_checkpoint(case["note"].encode(), LOG, {WITNESS})
        assert fault.value.step == case["step"]

    @pytest.mark.parametrize("data", REFUSED["inclusion"]["proofs"])
    def test_inclusion(self, data: str) -> None:
        """A proof with another index, path or tree proves nothing."""
        entry = REFUSED["inclusion"]["entry"].encode()
        with pytest.raises(EvidenceFault) as fault:
            proofs.verify(proofs.decode(data.encode()), entry, LOG)
        assert fault.value.step == "ledger.inclusion"

    @pytest.mark.parametrize("path", REFUSED["consistency"]["paths"])
    def test_consistency(self, path: list[str]) -> None:
        """Another path proves no consistency."""
        old, new = REFUSED["consistency"]["old"], REFUSED["consistency"]["new"]
        read = make_ledger.Log().read
        with pytest.raises(EvidenceFault):
            verify_consistency(old, tiles.root_at(old, read), new, tiles.root_at(new, read), octets(path))

    @pytest.mark.parametrize("data", REFUSED["entries"])
    def test_entries(self, data: str) -> None:
        """What isn't an entry in its one form is refused."""
        with pytest.raises(SecMTPError):
            codec.decode(data.encode())

    @pytest.mark.parametrize("path", REFUSED["paths"])
    def test_paths(self, path: str) -> None:
        """What isn't a tile's path in its one form is refused."""
        with pytest.raises(Malformed):
            tiles.parse_path(path)

    @pytest.mark.parametrize("data", REFUSED["bundles"])
    def test_bundles(self, data: str) -> None:
        """What isn't a bundle of two entries is refused."""
        with pytest.raises(Malformed):
            tiles.decode_entries(bytes.fromhex(data), 2)
