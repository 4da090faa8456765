"""The manifest: one form, one id, closed members."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.encoding import canonical
from shared.errors import Malformed
from shared.evidence import manifest as manifests
from shared.evidence.manifest import size_class
from tests.doubles.parties import DIRECT, EXPIRES, NOW, parties


def document() -> canonical.JSON:
    """A good manifest as JSON."""
    return canonical.parse_object(parties().exchange().manifest.octets, what="manifest")


def paths(value: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every member."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield (*prefix, name)
            yield from paths(member, (*prefix, name))


def at(document: canonical.JSON, path: tuple[str, ...]) -> tuple[Any, str]:
    """Return the object that holds a member, and its name."""
    for name in path[:-1]:
        document = document[name]
    return document, path[-1]


class TestForm:
    def test_round_trip(self) -> None:
        """A manifest's octets decode to an equal manifest with the same id."""
        manifest = parties().exchange().manifest
        again = manifests.decode(manifest.octets)
        assert again == manifest
        assert again.exchange == manifest.exchange
        assert again.core.digest == manifest.core.digest

    @pytest.mark.parametrize("path", list(paths(document())))
    def test_every_member_is_needed(self, path: tuple[str, ...]) -> None:
        """Without any one of its members a manifest is malformed."""
        value = document()
        holder, name = at(value, path)
        del holder[name]
        with pytest.raises(Malformed, match=name):
            manifests.decode(canonical.encode(value))

    @pytest.mark.parametrize("path", [(), ("core",), ("core", "sender"), ("core", "recipient"), ("core", "ttp")])
    def test_no_other_member(self, path: tuple[str, ...]) -> None:
        """A member that this version doesn't know is refused wherever it stands."""
        value = document()
        holder, name = at(value, (*path, "new"))
        holder[name] = 1
        with pytest.raises(Malformed, match="'new'"):
            manifests.decode(canonical.encode(value))

    @pytest.mark.parametrize("path", list(paths(document())))
    def test_every_member_is_typed(self, path: tuple[str, ...]) -> None:
        """A member of another type is malformed."""
        others: tuple[object, ...] = (None, True, [], -1, "", "x" * 4000)
        for other in others:
            value = document()
            holder, name = at(value, path)
            holder[name] = other
            with pytest.raises(Malformed):
                manifests.decode(canonical.encode(value))

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("v",), 2),
            (("core", "mode"), "offline"),
            (("core", "suite"), "NULL+NULL+NULL"),
            (("core", "recipient", "level"), "root"),
            (("core", "sender", "address"), "alice@A.example"),
            (("core", "sender", "address"), "alice"),
            (("core", "expires"), NOW),
            (("core", "size"), 1_000_001),
        ],
    )
    def test_values_that_are_not_allowed(self, path: tuple[str, ...], value: object) -> None:
        """Unknown versions, modes, suites and levels, other spellings of addresses, and bad times are refused."""
        changed = document()
        holder, name = at(changed, path)
        holder[name] = value
        with pytest.raises(Malformed):
            manifests.decode(canonical.encode(changed))


class TestIdentity:
    def test_every_value_is_in_the_id(self) -> None:
        """A change of any one value gives another exchange."""
        manifest = parties().exchange().manifest
        core = manifest.core
        others = [
            replace(manifest, com_T=bytes(32)),
            replace(manifest, h_ct=bytes(32)),
            replace(manifest, core=replace(core, notice="other")),
            replace(manifest, core=replace(core, created=core.created + 1)),
            replace(manifest, core=replace(core, ttp=replace(core.ttp, epoch=2))),
            replace(manifest, core=replace(core, recipient=replace(core.recipient, level="user"))),
        ]
        assert len({manifest.exchange, *(other.exchange for other in others)}) == len(others) + 1

    def test_core_digest_ignores_what_comes_after_it(self) -> None:
        """Commitments and digests aren't in hC, so nothing is hashed in a circle."""
        manifest = parties().exchange().manifest
        assert replace(manifest, com_T=bytes(32), h_ET=bytes(32)).core.digest == manifest.core.digest


class TestSizeClass:
    @given(st.integers(0, 1 << 40))
    def test_padme(self, octets: int) -> None:
        """A size class is at least the size, itself a size class, and at most 12 % above."""
        rounded = size_class(octets)
        assert rounded >= octets
        assert size_class(rounded) == rounded
        assert octets < 10 or rounded <= octets * 1.12

    def test_values(self) -> None:
        """Fixed values, so that other implementations agree."""
        assert [size_class(n) for n in (0, 1, 2, 9, 100, 1000, 1_000_000)] == [2, 2, 2, 10, 104, 1024, 1_015_808]


class TestModes:
    """Members follow from the mode."""

    def test_offline(self) -> None:
        """A manifest of offline mode says until when the key may be released directly, and decodes to itself."""
        manifest = parties().offline().manifest
        assert manifests.decode(manifest.octets) == manifest
        assert manifest.core.to_json()["direct_until"] == DIRECT

    def test_online_has_no_time_for_it(self) -> None:
        """An online manifest holds no `direct_until`, and one that does is refused."""
        value = document()
        assert "direct_until" not in value["core"]
        value["core"]["direct_until"] = DIRECT
        with pytest.raises(Malformed, match="direct_until"):
            manifests.decode(canonical.encode(value))

    def test_offline_needs_it(self) -> None:
        """A manifest of offline mode without `direct_until` is refused."""
        value = canonical.parse_object(parties().offline().manifest.octets, what="manifest")
        del value["core"]["direct_until"]
        with pytest.raises(Malformed, match="direct_until"):
            manifests.decode(canonical.encode(value))

    @pytest.mark.parametrize(("time", "good"), [(NOW, False), (NOW + 1, True), (EXPIRES - 1, True), (EXPIRES, False)])
    def test_order_of_times(self, time: int, good: bool) -> None:
        """`direct_until` lies between `created` and `expires`; how far is each node's own policy."""
        octets = parties().offline(direct_until=time).manifest.octets
        if good:
            assert manifests.decode(octets).core.direct_until == time
        else:
            with pytest.raises(Malformed, match="direct_until"):
                manifests.decode(octets)

    @pytest.mark.parametrize("mode", ["hybrid", "Offline", "off-line", ""])
    def test_unknown_mode(self, mode: str) -> None:
        """A mode that this version doesn't know is refused."""
        value = document()
        value["core"]["mode"] = mode
        with pytest.raises(Malformed, match="mode"):
            manifests.decode(canonical.encode(value))
