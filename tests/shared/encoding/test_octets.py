"""base64url, labelled bytes, closed fields and addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.encoding import base64url
from shared.encoding.address import domain_of, is_normal, normal_address, normal_domain
from shared.encoding.fields import Fields
from shared.encoding.labels import BlobDigest, H, blob_digest, frame
from shared.errors import Malformed


class TestBase64url:
    @given(st.binary(max_size=80))
    def test_round_trip(self, data: bytes) -> None:
        """Any octets come back."""
        assert base64url.decode(base64url.encode(data)) == data

    @given(st.text(max_size=12))
    def test_one_text_for_one_value(self, text: str) -> None:
        """Any text is refused or is the one text of its octets."""
        try:
            data = base64url.decode(text)
        except Malformed:
            return
        assert base64url.encode(data) == text

    @pytest.mark.parametrize("text", ["QQ==", "QR", "Q", "Q Q", "QQ\n", "+/8", "ÄÄ"])
    def test_lenient_forms(self, text: str) -> None:
        """Padding, spare bits, blanks, the standard alphabet and foreign characters are refused."""
        with pytest.raises(Malformed):
            base64url.decode(text)

    def test_length(self) -> None:
        """A value of another length than demanded is refused, naming both lengths."""
        with pytest.raises(Malformed, match="has 1 octets, expected 32"):
            base64url.decode("QQ", length=32)


class TestLabels:
    def test_vector(self) -> None:
        """H is SHA-256 of prefix, label, zero octet and length-prefixed parts: a fixed value."""
        assert frame("x", b"a", b"") == b"SecMTP v1 x\x00" + bytes(7) + b"\x01a" + bytes(8)
        assert H("x", b"a").hex() == "50656eb26f2c05549c2502ee03fd6aef9d8fcefa8db87d8d35d8b672900d057b"

    @given(st.lists(st.binary(max_size=5), max_size=4), st.lists(st.binary(max_size=5), max_size=4))
    def test_no_two_splits_agree(self, one: list[bytes], other: list[bytes]) -> None:
        """Different parts give different frames, however they are cut."""
        assert (frame("l", *one) == frame("l", *other)) == (one == other)

    @given(st.lists(st.binary(max_size=50), max_size=6))
    def test_digest_in_pieces(self, pieces: list[bytes]) -> None:
        """The digest of a blob doesn't depend on how it is cut."""
        digest = BlobDigest()
        for piece in pieces:
            digest.update(piece)
        assert digest.digest() == blob_digest(b"".join(pieces))
        assert digest.octets == sum(map(len, pieces))


class TestFields:
    def test_left_over_member(self) -> None:
        """A member that the version doesn't know is refused, by name."""
        fields = Fields({"v": 1, "new": 2}, "thing")
        fields.version()
        with pytest.raises(Malformed, match="'new'"):
            fields.end()

    @pytest.mark.parametrize("version", [0, 2, True, "1", 1.0, None])
    def test_other_version(self, version: object) -> None:
        """Only version 1 is spoken, and true isn't 1."""
        with pytest.raises(Malformed):
            Fields({"v": version}, "thing").version()

    @pytest.mark.parametrize("value", [-1, True, "1", None, [1]])
    def test_integer(self, value: object) -> None:
        """An integer member is a non-negative integer and nothing that looks like one."""
        with pytest.raises(Malformed):
            Fields({"n": value}, "thing").integer("n")

    @pytest.mark.parametrize(("octets", "fits"), [(1, True), (10, True), (11, False), (12, False), (13, False)])
    def test_bound_of_octets(self, octets: int, *, fits: bool) -> None:
        """A bound on octets is meant to the octet, not to the next group of base64url."""
        fields = Fields({"o": base64url.encode(bytes(octets))}, "thing")
        if fits:
            assert fields.octets("o", limit=10) == bytes(octets)
            return
        with pytest.raises(Malformed):
            fields.octets("o", limit=10)

    def test_missing_member(self) -> None:
        """A missing member is named."""
        with pytest.raises(Malformed, match="lacks the member 'n'"):
            Fields({}, "thing").text("n")


class TestAddress:
    @pytest.mark.parametrize(
        ("given_address", "normal"),
        [
            ("Alice@A.Example", "Alice@a.example"),
            ("bob@bücher.example", "bob@xn--bcher-kva.example"),
            ("bob@xn--bcher-kva.example", "bob@xn--bcher-kva.example"),
            ('"a b"@b.example', '"a b"@b.example'),
            ("ü@b.example", "ü@b.example"),
        ],
    )
    def test_normal_form(self, given_address: str, normal: str) -> None:
        """The domain becomes lower-case A-labels; the local part stays as it is."""
        assert normal_address(given_address) == normal
        assert is_normal(normal)
        assert domain_of(normal) == normal_domain(given_address.rpartition("@")[2])

    @pytest.mark.parametrize("text", ["", "bob", "@b.example", "bob@", "bob@-b.example", "b\r\nob@b.example", "b@b..c"])
    def test_not_an_address(self, text: str) -> None:
        """What can't be a mail address is refused."""
        with pytest.raises(Malformed):
            normal_address(text)
