"""What operators get out of a node by its command line: evidence, proofs of faults, alarms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from secmtp_node import settings
from secmtp_node.cli import app
from shared.crypto import stream
from shared.crypto.shares import Shares
from shared.encoding.labels import blob_digest
from shared.errors import ConfigurationError, EvidenceFault, Malformed, NotFound
from shared.evidence import bundle as bundles
from shared.evidence import composition
from shared.evidence.receipt import verify_bundle
from tests.doubles.crafted import ALICE, BOB, Crafted
from tests.doubles.nodes import TwoNodes
from tests.doubles.parties import LETTER


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TwoNodes]:
    """Two nodes with settings, so that commands work on their directories."""
    made = TwoNodes(tmp_path)
    for node in (made.a, made.b):
        (node.place / settings.FILE).write_text(settings.render([node.domain.name], ["localhost"], (0, 0, 0)))
    yield made
    made.close()


def run(*arguments: object) -> str:
    """Run a command; its errors are raised as they are."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None:
        raise result.exception
    return result.output


class TestEvidence:
    """secmtp node evidence."""

    def test_both_sides(self, world: TwoNodes, tmp_path: Path) -> None:
        """Sender's and recipient's node give the same receipt, without openings, for the owner's eyes."""
        world.a.submit(ALICE, [BOB], LETTER)
        world.settle(4)
        (exchange,) = world.a.exchanges()
        files = [tmp_path / "one", tmp_path / "two"]
        for node, out in zip((world.a, world.b), files, strict=True):
            run("evidence", exchange.hex(), "--dir", node.place, "--out", out)
            assert out.stat().st_mode & 0o777 == 0o600
        tokens = set()
        for out in files:
            bundle = bundles.decode(out.read_bytes())
            assert bundle.openings is None
            tokens.add(verify_bundle(bundle, world.root.trust).nrd.compact)
        assert len(tokens) == 1

    def test_nothing_there(self, world: TwoNodes, tmp_path: Path) -> None:
        """An unknown exchange and a malformed id are said to be so, and nothing is written."""
        out = tmp_path / "out"
        with pytest.raises(ConfigurationError):
            run("evidence", "00" * 32, "--dir", world.a.place, "--out", out)
        for wrong in ("00" * 31, "xyz", ""):
            with pytest.raises(Malformed):
                run("evidence", wrong, "--dir", world.a.place, "--out", out)
        assert not out.exists()


class TestFault:
    """secmtp node fault."""

    def test_shown_to_a_stranger(self, world: TwoNodes, tmp_path: Path) -> None:
        """From the exported files and the root alone anybody sees that commitments open and decryption fails."""
        envelope = Crafted(world).envelope(ciphertext=lambda made: made[:-1] + bytes([made[-1] ^ 1]))
        world.b.accept(envelope)
        world.b.work()
        out = tmp_path / "proof"
        assert "content.chunk" in run("fault", envelope.exchange.hex(), "--dir", world.b.place, "--out", out)
        bundle = bundles.decode((out / "proof.secmtp.json").read_bytes())
        ciphertext = (out / "ciphertext").read_bytes()
        receipt = verify_bundle(bundle, world.root.trust)
        assert bundle.openings is not None
        assert blob_digest(ciphertext) == receipt.manifest.h_ct
        both = Shares(receipt.nrd.share, bundle.openings.recipient_share)
        key = composition.content_key(receipt.manifest, both, bundle.openings.wrapped_key)
        with pytest.raises(EvidenceFault, match=r"content\.chunk"):
            list(stream.decrypt(key, [ciphertext]))

    def test_no_fault(self, world: TwoNodes, tmp_path: Path) -> None:
        """For an exchange without a fault there is nothing to export."""
        with pytest.raises(NotFound):
            run("fault", "00" * 32, "--dir", world.b.place, "--out", tmp_path / "proof")
        assert not (tmp_path / "proof").exists()


class TestAlarms:
    """secmtp node alarms."""

    def test_listed(self, world: TwoNodes) -> None:
        """Alarms are listed with time, exchange and reason; a quiet node lists nothing."""
        assert run("alarms", "--dir", world.a.place) == ""
        world.ttp.faults.bend = lambda bundle: replace(bundle, salt=bytes(32))
        world.a.submit(ALICE, [BOB], LETTER)
        world.settle(3)
        (exchange,) = world.a.exchanges()
        (line,) = run("alarms", "--dir", world.a.place).splitlines()
        assert exchange.hex() in line
        assert "bad bundle in the feed" in line
