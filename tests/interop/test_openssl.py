"""OpenSSL verifies what our log and our witness signed; the notes are taken apart by hand, without the product."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

PLACE = Path(__file__).parents[1] / "vectors" / "ledger"
VECTORS: dict[str, Any] = json.loads((PLACE / "ledger.json").read_text("utf-8"))
GOLDEN: dict[str, Any] = json.loads((PLACE / "c2sp.json").read_text("utf-8"))["checkpoint"]
KEYS = {vkey.partition("+")[0]: vkey for vkey in (VECTORS["log"]["vkey"], VECTORS["witness"]["vkey"])}
SPKI = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: what stands before a raw Ed25519 key


def accepted(place: Path, vkey: str, message: bytes, signature: bytes) -> bool:
    """Whether OpenSSL accepts a signature over a message."""
    public = base64.b64decode(vkey.split("+", 2)[2])[1:]
    pem = base64.encodebytes(SPKI + public).decode()
    (place / "key.pem").write_text(f"-----BEGIN PUBLIC KEY-----\n{pem}-----END PUBLIC KEY-----\n")
    (place / "message").write_bytes(message)
    (place / "signature").write_bytes(signature)
    command = "openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in message -sigfile signature"
    done = subprocess.run(command.split(), cwd=place, capture_output=True, timeout=30, check=False)
    assert (done.returncode == 0) == (b"Signature Verified Successfully" in done.stdout)
    return done.returncode == 0


def parts(note: str) -> tuple[bytes, dict[str, bytes]]:
    """Take a note apart: its text, and by name what follows the key id on each signature line."""
    text, _, lines = note.rpartition("\n\n")
    named = [line.removeprefix("— ").split(" ") for line in lines.splitlines()]
    return f"{text}\n".encode(), {name: base64.b64decode(octets)[4:] for name, octets in named}


def cosigned(text: bytes, line: bytes) -> bytes:
    """Return what a witness signs: the time of its line, and the text."""
    return b"cosignature/v1\ntime %d\n" % int.from_bytes(line[:8], "big") + text


NOTES = [*VECTORS["checkpoints"].values(), GOLDEN["note"]]


@pytest.mark.parametrize("note", NOTES, ids=range(len(NOTES)))
def test_signatures(note: str, tmp_path: Path) -> None:
    """The log's signature is over the text, the witness's over header, time and text; another text has neither."""
    text, lines = parts(note)
    log, witness = KEYS
    other = text.replace(b"/ledger\n", b"/ledger\n1", 1)
    assert other != text
    assert accepted(tmp_path, KEYS[log], text, lines[log])
    assert not accepted(tmp_path, KEYS[log], other, lines[log])
    line = lines[witness]
    assert accepted(tmp_path, KEYS[witness], cosigned(text, line), line[8:])
    assert not accepted(tmp_path, KEYS[witness], cosigned(other, line), line[8:])
    assert not accepted(tmp_path, KEYS[witness], cosigned(text, bytes(8)), line[8:])
    assert not accepted(tmp_path, KEYS[witness], text, line[8:])
    assert not accepted(tmp_path, KEYS[log], cosigned(text, line), line[8:])
