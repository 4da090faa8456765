"""Canonical JSON: one value, one text; everything else is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.encoding import canonical
from shared.errors import Malformed, TooLarge

names = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=8)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER),
    st.text(st.characters(codec="utf-8"), max_size=12),
)
objects = st.recursive(
    st.dictionaries(names, scalars, max_size=4),
    lambda inner: st.dictionaries(names, st.one_of(scalars, inner, st.lists(scalars, max_size=3)), max_size=4),
    max_leaves=12,
)


class TestRoundTrip:
    @given(objects)
    def test_decode_of_encode(self, value: canonical.JSON) -> None:
        """What was encoded decodes to the same value."""
        assert canonical.decode(canonical.encode(value), what="value") == value

    @given(st.binary(max_size=64))
    def test_garbage(self, data: bytes) -> None:
        """Any octets either decode and encode to themselves, or are refused as malformed."""
        try:
            value = canonical.decode(data, what="garbage")
        except Malformed:
            return
        assert canonical.encode(value) == data


class TestRefusals:
    @pytest.mark.parametrize(
        "text",
        [
            '{"a":1,"a":2}',
            '{"b":1,"a":2}',
            '{"a": 1}',
            '{"a":1} ',
            '{"a":1.0}',
            '{"a":1e2}',
            '{"a":-0}',
            '{"a":NaN}',
            '{"a":9007199254740992}',
            '{"a":"\\u0041"}',
            '{"a":"\\/"}',
            '{"a":"\\ud800"}',
            '{"ä":1}',
            '{"":1}',
            "[]",
            '"a"',
            "",
            "\ufeff{}",
            "{" * 20 + "}" * 20,
            '{"a":' * 17 + "1" + "}" * 17,
            "[" * 100_000,
            '{"a":' + "1" * 5000 + "}",
        ],
    )
    def test_other_spellings(self, text: str) -> None:
        """Every spelling but the canonical one is refused, without any other exception."""
        with pytest.raises(Malformed):
            canonical.decode(text.encode(), what="text", limit=1 << 20)

    def test_bound_before_parsing(self) -> None:
        """An object over the bound is refused as too large before it is parsed."""
        with pytest.raises(TooLarge, match="at most 8"):
            canonical.decode(b"not even JSON, but long", what="text", limit=8)

    def test_field_case(self, cases: Path) -> None:
        """Floats and integers beyond 2^53, as languages re-serialise them differently, are refused."""
        text = (cases / "case66.json").read_bytes()
        json.loads(text)
        with pytest.raises(Malformed):
            canonical.decode(text, what="case66")

    @pytest.mark.parametrize("value", [{"a": 1.5}, {"a": b"x"}, {"a": 2**53}, {"é": 1}, {"a": "\ud800"}])
    def test_encode_refuses(self, value: canonical.JSON) -> None:
        """Values that have no canonical form aren't encoded."""
        with pytest.raises(Malformed):
            canonical.encode(value)
