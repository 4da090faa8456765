"""`secmtp evidence`: what it says, how it exits, and that it needs nothing but the two files."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.evidence import bundle as bundles
from shared.evidence import refusal as refusals
from shared.evidence.bundle import AnyBundle
from tests.doubles.parties import EXPIRES, LETTER, parties
from tests.doubles.witnesses import cosigned, policy_file


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Run the command as a process of its own."""
    command: Sequence[str] = [sys.executable, "-m", "shared.cli", "evidence", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def verify_json(bundle: Path, root: Path, *more: str | Path) -> tuple[int, dict[str, Any]]:
    """Verify and parse the line of JSON."""
    code, out, _ = run("verify", bundle, "--trust", root, "--json", *more)
    value: dict[str, Any] = json.loads(out)
    return code, value


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root certificate."""
    path = tmp_path / "root.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(parties().root.certificate))
    return path


def put(path: Path, bundle: AnyBundle) -> Path:
    """Write a bundle."""
    path.write_bytes(bundles.encode(bundle))
    return path


@pytest.fixture
def receipt(tmp_path: Path) -> Path:
    """A valid receipt with openings."""
    exchange = parties().exchange()
    return put(tmp_path / "receipt.secmtp.json", parties().ttp.trade(exchange).opened(exchange.openings))


class TestDirect:
    """Bundles of direct exchanges."""

    def test_carried_by_the_ack(self, tmp_path: Path, root: Path) -> None:
        """A direct receipt says that the ACK carries it, and since when the ledger knows it."""
        file = put(tmp_path / "direct.secmtp.json", parties().direct(parties().offline()))
        code, result = verify_json(file, root)
        assert (code, result["carried_by"], result["mode"]) == (0, "NRR + ACK, anchored", "offline")
        _, out, _ = run("verify", file, "--trust", root)
        assert "anchored" in out
        assert "traded" not in out

    def test_not_evidence_yet(self, tmp_path: Path, root: Path) -> None:
        """One that isn't anchored exits 1 and says that it isn't evidence yet."""
        bundle = replace(parties().direct(parties().offline()), anchor=None)
        file = put(tmp_path / "direct.secmtp.json", bundle)
        code, result = verify_json(file, root)
        assert (code, result["step"]) == (1, "anchor.missing")
        assert "isn't evidence yet" in result["reason"]
        assert "no anchor yet" in run("show", file)[1]

    def test_refused(self, tmp_path: Path, root: Path) -> None:
        """A refusal file exits 1: it is sound evidence of a refusal, no receipt, and no word about one."""
        file = tmp_path / "refusal.secmtp.json"
        file.write_bytes(refusals.encode(parties().refused(parties().offline())))
        code, result = verify_json(file, root)
        assert (code, result["outcome"], result["step"]) == (1, "REFUSED", "receipt.completion")
        assert "didn't want to sign" in run("verify", file, "--trust", root)[1]
        assert "REFUSE" in run("show", file)[1]
        other = replace(parties().refused(parties().offline()), refuse=parties().offline().nrr)
        file.write_bytes(refusals.encode(other))
        code, result = verify_json(file, root)
        assert (code, result["step"]) == (1, "refuse.syntax")
        assert "outcome" not in result

    def test_aborted(self, tmp_path: Path, root: Path) -> None:
        """An aborted exchange exits 1 and is called sound evidence that no trade happened."""
        exchange = parties().offline()
        file = put(tmp_path / "aborted.secmtp.json", parties().ttp.abort(exchange, parties().abort(exchange)))
        code, result = verify_json(file, root)
        assert (code, result["outcome"]) == (1, "ABORTED")


class TestVerify:
    def test_valid(self, receipt: Path, root: Path) -> None:
        """A valid receipt exits 0 and says who answers, at which level, and that nobody witnessed the ledger."""
        code, result = verify_json(receipt, root)
        assert code == 0
        assert result["valid"] is True
        assert result["answers"] == "b.example answers for bob@b.example, level gateway"
        assert result["witnessed"] == "0 of 0, ledger not witnessed"

    def test_for_people(self, receipt: Path, root: Path) -> None:
        """Without --json the result is a few lines that a person can read."""
        code, out, _ = run("verify", receipt, "--trust", root)
        assert code == 0
        assert out.startswith("VALID receipt for exchange ")
        assert "witnessed: 0 of 0, ledger not witnessed" in out

    def test_message(self, receipt: Path, root: Path, tmp_path: Path) -> None:
        """With the message the receipt is for exactly these octets, or exits 1 at content.digest."""
        letter = tmp_path / "letter.eml"
        letter.write_bytes(LETTER)
        assert verify_json(receipt, root, "--message", letter)[1]["content"] == "proven"
        letter.write_bytes(LETTER + b"\r\n")
        code, result = verify_json(receipt, root, "--message", letter)
        assert (code, result["step"]) == (1, "content.digest")

    def test_policy(self, root: Path, tmp_path: Path) -> None:
        """With --policy the quorum is met and counted, or missed: then it exits 1, and says why nobody counts."""
        world = parties()
        bundle = cosigned(world.ttp.trade(world.exchange()), "x.test/w", "b.example/witness")
        path, file = put(tmp_path / "cosigned.json", bundle), tmp_path / "policy"
        file.write_bytes(policy_file("1", "x.test/w", "y.test/w"))
        code, result = verify_json(path, root, "--policy", file)
        assert (code, result["witnessed"]) == (0, "1 of 2, quorum met")
        file.write_bytes(policy_file("2", "x.test/w", "b.example/witness"))
        code, result = verify_json(path, root, "--policy", file)
        assert (code, result["step"]) == (1, "ledger.quorum")
        missed = "witnessed: 1 of 2, quorum missed: not witnessed (a party's own: b.example)"
        assert result["reason"] == missed
        assert missed in run("verify", path, "--trust", root, "--policy", file)[1]
        assert verify_json(path, root)[1]["witnessed"] == "0 of 0, ledger not witnessed"

    def test_unusable_policy(self, receipt: Path, root: Path, tmp_path: Path) -> None:
        """A policy that can't be read exits 2 and names the line."""
        file = tmp_path / "policy"
        file.write_text("quorum nobody\n")
        code, result = verify_json(receipt, root, "--policy", file)
        assert code == 2
        assert "line 1 of the policy" in result["reason"]

    def test_message_without_openings(self, root: Path, tmp_path: Path) -> None:
        """A bundle without openings can't prove a content, and says so."""
        bundle = put(tmp_path / "b.json", parties().ttp.trade(parties().exchange()))
        code, result = verify_json(bundle, root, "--message", root)
        assert (code, result["step"]) == (1, "openings.missing")

    def test_not_valid(self, root: Path, tmp_path: Path) -> None:
        """A receipt that was traded too late exits 1 and names the step."""
        bundle = put(tmp_path / "b.json", parties().ttp.trade(parties().exchange(), time=EXPIRES))
        code, result = verify_json(bundle, root)
        assert (code, result["valid"], result["step"]) == (1, False, "nrd.time")

    def test_no_trade(self, root: Path, tmp_path: Path) -> None:
        """EXPIRED is no receipt (exit 1), and the output says that it is sound evidence of no trade."""
        bundle = put(tmp_path / "b.json", parties().ttp.refuse(parties().exchange(), "EXPIRED", EXPIRES))
        code, result = verify_json(bundle, root)
        assert (code, result["step"], result["outcome"]) == (1, "receipt.completion", "EXPIRED")
        assert "no trade happened" in run("verify", bundle, "--trust", root)[1]

    @pytest.mark.parametrize("octets", [b"", b"{}", b"not json", b"\xff" * 100, b"[" * 300_000])
    def test_unusable_bundle(self, root: Path, tmp_path: Path, octets: bytes) -> None:
        """What isn't a bundle exits 2 with a reason."""
        path = tmp_path / "b.json"
        path.write_bytes(octets)
        code, result = verify_json(path, root)
        assert (code, result["step"]) == (2, "input")

    def test_unusable_files(self, receipt: Path, root: Path, tmp_path: Path) -> None:
        """A missing file, a root that is none and a message that isn't there exit 2, without a traceback."""
        empty = tmp_path / "empty.pem"
        empty.write_bytes(b"")
        missing = tmp_path / "missing"
        for arguments in (
            ("verify", missing, "--trust", root),
            ("verify", receipt, "--trust", empty),
            ("verify", receipt, "--trust", missing),
            ("verify", receipt, "--trust", root, "--message", missing),
            ("verify", receipt),
        ):
            code, _, errors = run(*arguments)
            assert code == 2, arguments
            assert "Traceback" not in errors


class TestShow:
    def test_says_that_nothing_was_checked(self, receipt: Path) -> None:
        """`show` prints what a bundle says, and that it didn't check it."""
        code, out, _ = run("show", receipt)
        assert code == 0
        assert "nothing was checked" in out
        assert "alice@a.example" in out
        assert "keep it confidential" in out


def test_needs_little() -> None:
    """Verifying imports no database, HTTP, settings, SMTP or server."""
    code = "import sys, shared.commands.evidence; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    unwanted = {"sqlalchemy", "alembic", "httpx", "pydantic", "starlette", "uvicorn", "aiosmtpd", "structlog"}
    assert not loaded & (unwanted | {"ttp_server", "secmtp_node"})
