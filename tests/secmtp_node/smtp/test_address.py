from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmtp_node.smtp.address import format_path, parse_mailbox, parse_parameters, split_path
from shared.errors import Malformed


class TestSplitPath:
    @pytest.mark.parametrize(
        ("argument", "path", "rest"),
        [
            ("FROM:<a@b.example>", "a@b.example", ""),
            ("from:<a@b.example> SIZE=1", "a@b.example", " SIZE=1"),
            ("FROM: <a@b.example>", "a@b.example", ""),
            ("FROM:<>", "", ""),
            ('FROM:<"a> SIZE=1"@b.example> BODY=7BIT', '"a> SIZE=1"@b.example', " BODY=7BIT"),
            (r'FROM:<"a\"> X"@b.example>', r'"a\"> X"@b.example', ""),
        ],
    )
    def test_taken(self, argument: str, path: str, rest: str) -> None:
        """The path ends at the first `>` outside quotes, and the parameters are what follows."""
        assert split_path(argument, "FROM") == (path, rest)

    @pytest.mark.parametrize(
        "argument", ["", "FROM", "FROM:", "FROM:a@b", "TO:<a@b>", "FROM:<a@b", 'FROM:<"a@b>', "<a@b>"]
    )
    def test_refused(self, argument: str) -> None:
        """What isn't FROM:<path> is Malformed."""
        with pytest.raises(Malformed):
            split_path(argument, "FROM")


class TestMailbox:
    @pytest.mark.parametrize(
        ("path", "address"),
        [
            ("Bob.Smith+x@B.Example", "Bob.Smith+x@b.example"),
            ("bob@bücher.example", "bob@xn--bcher-kva.example"),
            ("jos\u00e9@b.example", "jos\u00e9@b.example"),
            ("jose\u0301@b.example", "jose\u0301@b.example"),
            ('"bob"@b.example', "bob@b.example"),
            (r'"b\ob"@b.example', "bob@b.example"),
            ('"b o@b"@b.example', '"b o@b"@b.example'),
            ('"a> ORCPT=rfc822;x"@b.example', '"a> ORCPT=rfc822;x"@b.example'),
            ("@relay.example,@two.example:bob@b.example", "bob@b.example"),
            ("pOsTmAsTeR", "pOsTmAsTeR@home.example"),
            ("x" * 90 + "@b.example", "x" * 90 + "@b.example"),
            ("bob@[192.0.2.1]", "bob@[192.0.2.1]"),
        ],
    )
    def test_taken(self, path: str, address: str) -> None:
        """A mailbox keeps its local part, letter by letter, and gets its domain in normal form."""
        assert parse_mailbox(path, home="home.example") == address

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "bob",
            "bob@",
            "@b.example",
            "a..b@b.example",
            ".a@b.example",
            "a.@b.example",
            "a b@b.example",
            "a@@b.example",
            "a..b@@bad",
            '"a"b@b.example',
            '"a',
            "a@b example",
            "a@b..example",
            "a@-b.example",
            "a\x01@b.example",
            "a@b.example>",
            "<a@b.example",
            "a,c@b.example",
            '"a\x00"@b.example',
            "a@[1 2]",
            "bob@b.example\x7f",
        ],
    )
    def test_refused(self, path: str) -> None:
        """What isn't local@domain is Malformed."""
        with pytest.raises(Malformed):
            parse_mailbox(path, home="home.example")

    @given(st.text(max_size=40))
    def test_any_text(self, text: str) -> None:
        """Any text is a mailbox that can be written again and read the same, or Malformed, and nothing else."""
        try:
            address = parse_mailbox(text, home="home.example")
        except Malformed:
            return
        path, rest = split_path("TO:" + format_path(address), "TO")
        assert rest == ""
        assert parse_mailbox(path, home="home.example") == address
        assert "\r" not in address
        assert "\n" not in address

    @given(
        st.text(
            st.characters(codec="ascii", exclude_characters='"\\', categories=["L", "N", "P", "S", "Zs"]), min_size=1
        )
    )
    def test_quoted(self, local: str) -> None:
        """A quoted local part is read back whatever stands between the quotes."""
        address = parse_mailbox(f'"{local}"@b.example', home="home.example")
        assert address.removesuffix("@b.example").strip('"') == local


class TestParameters:
    def test_taken(self) -> None:
        """Keywords are in upper case and values as they are."""
        assert parse_parameters(" size=100 BODY=8bitMIME  SMTPUTF8") == {
            "SIZE": "100",
            "BODY": "8bitMIME",
            "SMTPUTF8": "",
        }

    @pytest.mark.parametrize("text", [" SIZE=", " =1", " SIZE=1 size=2", " S_E=1", " A=b=c", " A=\t", "A=é", " -A=1"])
    def test_refused(self, text: str) -> None:
        """What RFC 5321 §4.1.2 doesn't allow, and a keyword that stands twice, is Malformed."""
        with pytest.raises(Malformed):
            parse_parameters(text)


class TestFormatPath:
    @pytest.mark.parametrize(
        "address", ["a b@b.example", "a\r\n@b.example", 'a"@b.example', "a>b@b.example", "@b.example"]
    )
    def test_refused(self, address: str) -> None:
        """An address that would need another form than it has isn't put on the wire."""
        with pytest.raises(Malformed):
            format_path(address)
