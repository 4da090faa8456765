from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmtp_node.smtp import replies
from secmtp_node.smtp.message import Loop
from secmtp_node.smtp.replies import MAX_LINE, NOT_NOW, Reply, of_error
from shared import errors
from shared.errors import EvidenceFault, OurFault, SecMTPError

EXPECTED = {
    errors.SecMTPError: (451, "4.3.0"),
    errors.OurFault: (451, "4.3.0"),
    errors.ConfigurationError: (451, "4.3.0"),
    errors.Unavailable: (451, "4.3.0"),
    errors.PeerFault: (554, "5.5.0"),
    errors.Malformed: (554, "5.6.0"),
    errors.TooLarge: (552, "5.3.4"),
    errors.Unauthenticated: (535, "5.7.8"),
    errors.Forbidden: (550, "5.7.1"),
    errors.NotFound: (550, "5.1.1"),
    errors.Conflict: (554, "5.5.0"),
}


def tree(root: type[SecMTPError]) -> set[type[SecMTPError]]:
    """Return a class and all below it in the module of errors."""
    below = set().union(*(tree(kind) for kind in root.__subclasses__()))
    return {kind for kind in {root, *below} if kind.__module__ == errors.__name__}


class TestOfError:
    def test_whole_tree(self) -> None:
        """Every class of the error tree has its reply of the table in smtp.md."""
        assert tree(SecMTPError) == {*EXPECTED, EvidenceFault}
        for kind, expected in EXPECTED.items():
            reply = of_error(kind("why"))
            assert (reply.code, reply.enhanced) == expected, kind

    @pytest.mark.parametrize(
        ("step", "enhanced"),
        [("ciphertext.digest", "5.7.7"), ("content.length", "5.7.7"), ("nro.signature", "5.7.5"), ("chain", "5.7.5")],
    )
    def test_evidence(self, step: str, enhanced: str) -> None:
        """A failed verification step is named in the reply; what doesn't fit its digest has a status of its own."""
        assert of_error(EvidenceFault(step, "expected a, got b")) == Reply(554, enhanced, f"{step}: expected a, got b")

    @pytest.mark.parametrize("kind", [OurFault, errors.ConfigurationError, SecMTPError])
    def test_our_fault(self, kind: type[SecMTPError]) -> None:
        """Faults of ours give no details away."""
        assert of_error(kind("/srv/keys/master isn't readable")) == NOT_NOW

    def test_below_the_tree(self) -> None:
        """An error of a module is answered as the class that it belongs to."""
        assert of_error(Loop("a loop")).code == 554

    def test_codes_fit(self) -> None:
        """The class of a status code is that of its reply code, in every reply that there is."""
        for name, reply in vars(replies).items():
            if isinstance(reply, Reply):
                assert re.fullmatch(r"[245]\.\d\.\d{1,2}", reply.enhanced), name
                assert reply.enhanced[0] == str(reply.code)[0], name


class TestLine:
    @given(st.text(max_size=600))
    def test_any_text(self, text: str) -> None:
        """A reply is one line of printable ASCII of at most 500 octets, whatever its text."""
        line = NOT_NOW.saying(text).line()
        assert re.fullmatch(r"451 4\.3\.0 [ -~]*", line)
        assert len(line) <= MAX_LINE

    def test_no_second_line(self) -> None:
        """A line end in a text doesn't begin another reply."""
        assert NOT_NOW.saying("x\r\n250 2.0.0 stored").line() == "451 4.3.0 x??250 2.0.0 stored"
