"""The verbs of offline mode: short lines, every reply about one exchange, no secret in a log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.api import verbs
from shared.api.verbs import Command, Verb, parse_command
from shared.encoding import base64url
from shared.errors import Malformed
from tests.doubles.parties import Parties, parties

EXCHANGE, SHARE = bytes(range(32)), b"T" * 32
NRR = Command(Verb.NRR, EXCHANGE).line
TOKENS = st.text(alphabet="Aa0-_.", min_size=1, max_size=5000)


class TestCommands:
    @pytest.mark.parametrize("verb", list(Verb))
    def test_round_trip(self, verb: Verb) -> None:
        """A command's line parses to the command, in either letter case of the verb, and fits its bound."""
        command = Command(verb, EXCHANGE, SHARE if verb is Verb.KEY else None)
        assert parse_command(command.line) == command
        assert parse_command(command.line.replace(verb, verb.lower())) == command
        assert len(command.line) <= verbs.MAX_COMMAND - 2

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "NRR",
            "NRR ",
            NRR.upper().replace("NRR", "NRR") + "0",
            NRR[:-1],
            NRR.replace("0a", "0A"),
            NRR + " x",
            NRR + " ",
            NRR.replace(" ", "  "),
            NRR.replace("NRR", "KEY"),
            NRR.replace("NRR", "KEY") + " " + base64url.encode(b"short"),
            NRR.replace("NRR", "KEY") + " " + base64url.encode(SHARE) + "=",
            NRR.replace("NRR", "NOOP"),
            "KEY " + "0" * 600,
        ],
    )
    def test_malformed(self, line: str) -> None:
        """Any other line is malformed."""
        with pytest.raises(Malformed):
            parse_command(line)

    def test_no_share_in_a_log(self) -> None:
        """s_T stands neither in what is logged of a command, nor in its representation, nor in an error about it."""
        command, secret = Command(Verb.KEY, EXCHANGE, SHARE), base64url.encode(SHARE)
        assert secret not in command.shown + repr(command)
        with pytest.raises(Malformed) as caught:
            parse_command(command.line + "x")
        assert secret not in str(caught.value)


class TestTokens:
    @given(token=TOKENS)
    def test_replies(self, token: str) -> None:
        """A token comes back from its reply lines, each of which has at most 500 octets and names hM."""
        texts = verbs.token_texts(EXCHANGE, token)
        assert all(len(f"250-2.0.0 {line}") + 2 <= 500 for line in texts)
        assert verbs.join_reply(EXCHANGE, texts) == token

    @given(token=TOKENS)
    def test_data(self, token: str) -> None:
        """A token comes back from its data lines; none but the last is a lone dot, and dots are doubled."""
        *lines, dot = verbs.data_lines(token)
        assert dot == "."
        assert "." not in lines
        assert all(len(line) + 2 <= 500 for line in lines)
        assert verbs.join_data(lines) == token

    @pytest.mark.parametrize("kem", ["X25519", "MLKEM768_X25519"])
    def test_real_tokens_fit(self, kem: str) -> None:
        """NRR, ACK and REFUSE of a real exchange fit into a reply with room to spare."""
        world = Parties(kem)
        exchange = world.offline()
        for token in (exchange.nrr, world.ack(exchange), world.refuse(exchange)):
            assert len(list(verbs.pieces(token))) < verbs.MAX_PIECES / 4

    def test_another_exchange(self) -> None:
        """A reply with a line about another exchange is refused whole."""
        texts = verbs.token_texts(EXCHANGE, "x" * 900)
        texts[1] = texts[1].replace(EXCHANGE.hex(), bytes(32).hex())
        with pytest.raises(Malformed, match="name the exchange"):
            verbs.join_reply(EXCHANGE, texts)

    @pytest.mark.parametrize("texts", [[], [""], ["a b"], ["ä"], ["x" * 401], ["x"] * 129])
    def test_malformed(self, texts: list[str]) -> None:
        """No piece, an empty, a long or a foreign one, or too many of them, are malformed."""
        with pytest.raises(Malformed):
            verbs.join_reply(EXCHANGE, [verbs.text(EXCHANGE, piece) for piece in texts])
        with pytest.raises(Malformed):
            verbs.join_data(texts)

    @pytest.mark.parametrize("token", ["", "a b", "x" * (400 * 128 + 1), "a\r\nb"])
    def test_what_is_no_token(self, token: str) -> None:
        """What isn't a token isn't sent: nothing can smuggle a line."""
        with pytest.raises(Malformed):
            verbs.token_texts(EXCHANGE, token)
        with pytest.raises(Malformed):
            verbs.data_lines(token)


def test_share_in_a_reply() -> None:
    """The reply to SIGNED brings s_T in one line, and anything else there is malformed."""
    reply = verbs.text(EXCHANGE, base64url.encode(SHARE))
    assert verbs.decode_share(verbs.join_reply(EXCHANGE, [reply])) == SHARE
    with pytest.raises(Malformed):
        verbs.decode_share(parties().offline().nrr)
