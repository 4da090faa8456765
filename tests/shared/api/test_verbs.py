"""The verbs of the SECMTP extension as octets: bounds of SMTP, one form, no other exchange's answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.api import verbs
from shared.api.verbs import Answer, Command, Kind, Verb
from shared.encoding import base64url
from shared.errors import Malformed, TooLarge

HM = bytes(range(32))
SHARE = bytes(range(32, 64))
TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=32 * 1024)


class TestCommands:
    @pytest.mark.parametrize("verb", Verb)
    def test_round_trip(self, verb: Verb) -> None:
        """What one end writes the other end reads, in a line that SMTP allows."""
        command = Command(HM, SHARE if verb is Verb.KEY else None)
        line = verbs.format_command(verb, command)
        assert len(line) + 2 <= 512
        assert verbs.parse_command(verb, line.partition(" ")[2]) == command

    @pytest.mark.parametrize(
        ("verb", "argument"),
        [
            (Verb.NRR, ""),
            (Verb.NRR, HM.hex().upper()[:-2] + "AB"),
            (Verb.NRR, HM.hex()[2:]),
            (Verb.NRR, HM.hex() + " x"),
            (Verb.KEY, HM.hex()),
            (Verb.KEY, HM.hex() + "  " + base64url.encode(SHARE)),
            (Verb.KEY, HM.hex() + " " + base64url.encode(SHARE[1:])),
            (Verb.KEY, HM.hex() + " " + base64url.encode(SHARE) + "="),
            (Verb.ACK, HM.hex() + " " + base64url.encode(SHARE)),
        ],
    )
    def test_refused(self, verb: Verb, argument: str) -> None:
        """Arguments have one form; the refusal repeats nothing of a share."""
        with pytest.raises(Malformed) as fault:
            verbs.parse_command(verb, argument)
        assert base64url.encode(SHARE)[:20] not in str(fault.value)

    def test_share_is_not_shown(self) -> None:
        """Neither a command nor an answer shows s_T when it is printed."""
        shown = repr(Command(HM, SHARE)) + repr(Answer(Kind.GIVEN, HM, base64url.encode(SHARE)))
        assert base64url.encode(SHARE) not in shown
        assert repr(SHARE) not in shown


class TestAnswers:
    @given(TOKENS)
    def test_round_trip(self, token: str) -> None:
        """A token of any allowed size comes back whole from lines of at most 500 octets, each of which names hM."""
        lines = verbs.answer_lines(Answer(Kind.GIVEN, HM, token))
        assert all(len(line) <= 500 and HM.hex() in line for line in lines)
        assert [line[3] for line in lines] == ["-"] * (len(lines) - 1) + [" "]
        assert verbs.parse_answer(250, [line[4:] for line in lines], HM) == Answer(Kind.GIVEN, HM, token)

    @given(TOKENS)
    def test_lines_after_go_ahead(self, token: str) -> None:
        """A token that is brought comes back whole from the lines before the dot."""
        *lines, end = verbs.token_lines(token)
        assert end == "."
        assert verbs.join_lines(lines) == token

    def test_other_exchange(self) -> None:
        """An answer that names another exchange, in any of its lines, is none."""
        lines = [line[4:] for line in verbs.answer_lines(Answer(Kind.GIVEN, HM, "x" * 900))]
        lines[1] = lines[1].replace(HM.hex(), SHARE.hex())
        with pytest.raises(Malformed, match="doesn't name"):
            verbs.parse_answer(250, lines, HM)

    @pytest.mark.parametrize(("code", "enhanced"), [(250, "2.1.0"), (500, "5.5.1"), (451, "4.3.0")])
    def test_not_of_the_extension(self, code: int, enhanced: str) -> None:
        """A reply of plain SMTP isn't taken for an answer."""
        with pytest.raises(Malformed):
            verbs.parse_answer(code, [f"{enhanced} {HM.hex()} words"], HM)

    def test_bounds(self) -> None:
        """Too long a token is neither sent nor taken."""
        with pytest.raises(TooLarge):
            verbs.answer_lines(Answer(Kind.GIVEN, HM, "x" * (400 * 128 + 1)))
        with pytest.raises(TooLarge):
            verbs.join_lines(["x" * 400] * 129)
        with pytest.raises(TooLarge):
            verbs.join_lines(["x" * 401])
        with pytest.raises(TooLarge):
            verbs.parse_answer(250, [f"2.0.0 {HM.hex()} x"] * 129, HM)
