r"""Scripts of what clients in the field say, played against real listeners.

A script's lines: `C` sends octets (\r \n \t \0 \\ \xHH), `R n` sends them n times, `S` is a regular
expression that the next reply must match at its start, `N` wants silence, `TLS` starts TLS, `EOF` ends our half,
`CLOSE` resets, `W` waits for the server to close, `STORED` is the content that must be held, `STORED#` its
SHA-256, `NONE` says that nothing may be held.
"""

from __future__ import annotations

import hashlib
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.doubles.listening import Dialog, Edge, until

DIALOGS = sorted((Path(__file__).parent / "dialogs").glob("*.smtp"))
_ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}


def octets_of(text: str) -> bytes:
    """Return the octets that a script writes with escapes."""
    parts = re.split(r"\\(x[0-9a-fA-F]{2}|[rnt0\\])", text)
    odd = [bytes.fromhex(part[1:]) if part.startswith("x") else _ESCAPES[part] for part in parts[1::2]]
    return b"".join(plain.encode() + escaped for plain, escaped in zip(parts[::2], [*odd, b""], strict=True))


@dataclass
class Player:
    """Plays one script."""

    dialog: Dialog
    edge: Edge
    wanted: list[str] = field(default_factory=list)
    nothing: bool = False
    closed: bool = False

    def play(self, script: Path) -> None:
        """Play all lines."""
        for number, line in enumerate(script.read_text(encoding="utf-8").split("\n"), 1):
            if line.strip() and not line.startswith("#"):
                verb, _, argument = line.partition(" ")
                self._step(verb, argument, f"{script.name}:{number}")
        if not self.closed:
            self.dialog.remainder()

    def _step(self, verb: str, argument: str, place: str) -> None:
        match verb:
            case "C" | "R":
                self._send(verb, argument)
            case "S":
                reply = self.dialog.reply()
                assert re.match(argument, reply), f"{place}: wanted {argument}, got {reply[:200]!r}"
            case "N":
                assert self.dialog.silent(float(argument)), f"{place}: the server spoke"
            case "TLS":
                self.dialog.start_tls(self.edge.certified.trusting())
            case "EOF":
                self.dialog.socket.shutdown(socket.SHUT_WR)
            case "CLOSE":
                self.dialog.abort()
                self.closed = True
            case "W":
                self.dialog.remainder()
            case _:
                self._expect(verb, argument)

    def _expect(self, verb: str, argument: str) -> None:
        match verb:
            case "STORED":
                self.wanted.append(hashlib.sha256(octets_of(argument)).hexdigest())
            case "STORED#":
                self.wanted.append(argument.strip())
            case "NONE":
                self.nothing = True
            case _:
                raise AssertionError(f"{verb} isn't known")

    def _send(self, verb: str, argument: str) -> None:
        count, _, text = ("1", "", argument) if verb == "C" else argument.partition(" ")
        self.dialog.send(b"".join(octets_of(text.replace("{i}", str(i))) for i in range(int(count))))


def connect(edge: Edge, script: Path) -> Dialog:
    """Connect to the kind of listener that the script's mode names."""
    mode = re.search(r"^# mode: (\w+)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    assert mode is not None
    match mode.group(1):
        case "plain":
            return Dialog(edge.plain())
        case "starttls":
            return Dialog(edge.tls(implicit=False))
        case "auth":
            return Dialog(edge.tls(implicit=True), edge.certified.trusting())
    raise AssertionError(mode)


class TestDialogs:
    @pytest.mark.parametrize("script", DIALOGS, ids=lambda script: script.stem)
    def test_script(self, edge: Edge, script: Path) -> None:
        """The listener answers the script as it says, and holds what it says."""
        with connect(edge, script) as dialog:
            player = Player(dialog, edge)
            player.play(script)
        if player.wanted:
            assert [hashlib.sha256(held.content).hexdigest() for held in edge.mail.held] == player.wanted
        if player.nothing:
            assert edge.mail.held == []

    def test_blind_copies_leave_no_trace(self, edge: Edge) -> None:
        """The content that is held for all has no Bcc field, and the recipients come from the envelope."""
        script = next(path for path in DIALOGS if path.stem == "case43")
        with connect(edge, script) as dialog:
            Player(dialog, edge).play(script)
        (held,) = edge.mail.held
        assert held.recipients == ("bob@example.net", "carol@example.com")
        assert b"carol" not in held.content
        assert b"dave" not in held.content

    def test_repeated_submission(self, edge: Edge) -> None:
        """A client that loses the reply and sends again hands over the same octets each time, whole."""
        script = next(path for path in DIALOGS if path.stem == "case50")
        for _ in range(2):
            with connect(edge, script) as dialog:
                Player(dialog, edge).play(script)
            until(lambda: not edge.spooled())
        assert len({(held.recipients, held.content) for held in edge.mail.held}) <= 1

    def test_a_session_in_one_write(self, edge: Edge) -> None:
        """A sender that writes everything and ends its half still gets its message stored, once."""
        script = next(path for path in DIALOGS if path.stem == "case52")
        with connect(edge, script) as dialog:
            Player(dialog, edge).play(script)
        assert [held.content for held in edge.mail.held] == [b"Subject: t\r\n\r\nx\r\n"]
