"""Policy files: strictness as C2SP tlog-policy has it, and what counts (witness.md P1 to P6)."""

from __future__ import annotations

from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Malformed, TooLarge
from shared.ledger import policy
from shared.ledger.note import KeyType, VerifiedSignature, VerifierKey, verifier_key
from shared.ledger.policy import NONE, Policy, decode, evaluate


def key(name: str, seed: int = 0, kind: KeyType = KeyType.COSIGNATURE) -> VerifierKey:
    """Return the key of a witness, another one for each name."""
    octets = bytes([seed]) + name.encode().ljust(31, b".")[:31]
    return verifier_key(name, kind, Ed25519PrivateKey.from_private_bytes(octets).public_key())


def text(*lines: str) -> bytes:
    """Return a policy file."""
    return "".join(f"{line}\n" for line in lines).encode()


def witnesses(*names: str) -> list[str]:
    """Return a witness line for each key name, called w0, w1 and so on."""
    return [f"witness w{number} {key(name).encode()}" for number, name in enumerate(names)]


def signed(*names: str) -> list[VerifiedSignature]:
    """Return verified cosignatures under these key names."""
    return [VerifiedSignature(key(name), 1764000000) for name in names]


LOG = key("ttp.example/ledger", kind=KeyType.LOG).encode()
THREE = ("x.example/w", "y.example/w", "z.example/w")


class TestDecode:
    """policy.decode."""

    def test_specification_example(self) -> None:
        """The example of the C2SP text, with keys filled in, is read as it says."""
        lines = [f"witness X{number} {key(f'x{number}.example').encode()}" for number in (1, 2, 3)]
        lines += [f"witness Y{number} {key(f'y{number}.example').encode()}" for number in (1, 2, 3)]
        read = decode(
            text(
                f"log {LOG}",
                "",
                *lines,
                "group X-witnesses 2 X1 X2 X3",
                "group Y-witnesses any Y1 Y2 Y3",
                "group X-and-Y all X-witnesses Y-witnesses",
                "quorum X-and-Y",
            )
        )
        assert [read.groups[name].threshold for name in ("X-witnesses", "Y-witnesses", "X-and-Y")] == [2, 1, 2]
        assert not evaluate(read, signed("x1.example", "x2.example")).met
        assert evaluate(read, signed("x1.example", "x3.example", "y2.example")).met

    def test_layout(self) -> None:
        """Blanks, tabs, comments, empty lines, addresses and opaque octets are where C2SP allows them."""
        data = b"# \xff comment\n \t \n\tquorum\t none \t\n  # more\nlog " + LOG.encode() + b" https://x/\xc3\xa9\n"
        read = decode(data)
        assert read.quorum == NONE
        assert read.logs[0].url == "https://x/é"

    def test_opaque_names(self) -> None:
        """Names are octets: two that only Unicode holds for the same letter are two, and need be no UTF-8."""
        lines = b"witness \xff %s\nwitness \xe2\x84\xaa %s\nwitness K %s\ngroup g all \xff \xe2\x84\xaa K\nquorum g\n"
        read = decode(lines % tuple(key(name).encode().encode() for name in THREE))
        assert len(read.required()) == 3

    @pytest.mark.parametrize(
        "lines",
        [
            (),
            ("quorum none", "quorum none"),
            ("quorum w0",),
            ("quorum",),
            ("quorum none none",),
            ("Quorum none",),
            ("quorum none", "log"),
            ("quorum none", f"log {LOG} a b"),
            ("quorum none", f"log {LOG}", f"log {LOG}"),
            ("quorum none", f"log {key('x.example').encode()}"),
            ("quorum none", f"witness w {LOG}"),
            ("quorum none", f"witness none {key('x.example').encode()}"),
            ("quorum none", *witnesses("x.example", "x.example")),
            ("quorum none", *witnesses("x.example"), f"witness w0 {key('y.example').encode()}"),
            ("quorum none", *witnesses(*THREE), "group w0 all w1"),
            ("quorum none", *witnesses(*THREE), "group g all"),
            ("quorum none", *witnesses(*THREE), "group g 0 w0 w1"),
            ("quorum none", *witnesses(*THREE), "group g 3 w0 w1"),
            ("quorum none", *witnesses(*THREE), "group g 02 w0 w1"),
            ("quorum none", *witnesses(*THREE), "group g ALL w0 w1"),
            ("quorum none", *witnesses(*THREE), "group g all w0 w0"),
            ("quorum none", *witnesses(*THREE), "group g all w0 none"),
            ("quorum none", *witnesses(*THREE), "group g any w0", "group h any w0"),
            ("quorum none", "group g any w0", *witnesses(*THREE)),
            ("quorum none", *witnesses(*THREE), "group g any g"),
            ("quorum g", *witnesses(*THREE), "group g any w0"),
            ("quorum none\r",),
            ("quorum none", "# \x7f"),
            ("quorum none", "# \x00"),
        ],
    )
    def test_refused(self, lines: tuple[str, ...]) -> None:
        """A policy that breaks a rule of the format is refused."""
        with pytest.raises(Malformed):
            decode(text(*lines))

    def test_the_line_is_named(self) -> None:
        """The refusal says in which line the mistake is."""
        with pytest.raises(Malformed, match="line 3 of the policy"):
            decode(text("quorum none", "", "whatever"))

    def test_one_key_under_two_names(self) -> None:
        """A second vkey around the same public key is the same witness, and refused."""
        first = key("x.example")
        second = VerifierKey("y.example", KeyType.COSIGNATURE, first.public)
        with pytest.raises(Malformed, match="twice"):
            decode(text("quorum none", f"witness a {first.encode()}", f"witness b {second.encode()}"))

    def test_no_line_end(self) -> None:
        """A last line without its end was cut off."""
        with pytest.raises(Malformed, match="line end"):
            decode(b"quorum none")

    def test_bounds(self) -> None:
        """More witnesses than 32, or octets than 64 KiB, are too many."""
        with pytest.raises(TooLarge):
            decode(text("quorum none", *witnesses(*(f"w{number}.example" for number in range(33)))))
        with pytest.raises(TooLarge):
            decode(b"quorum none\n" + b"#" * 65536 + b"\n")
        assert decode(text("quorum none", *witnesses(*(f"w{number}.example" for number in range(32))))).witnesses

    @given(st.binary(max_size=200))
    def test_any_octets(self, data: bytes) -> None:
        """Any octets are read or refused as malformed, never anything else."""
        with suppress(Malformed):
            decode(data)


def two_of(*names: str) -> Policy:
    """Return the policy: two of these."""
    members = " ".join(f"w{number}" for number in range(len(names)))
    return decode(text(*witnesses(*names), f"group g 2 {members}", "quorum g"))


class TestEvaluate:
    """policy.evaluate."""

    def test_counts(self) -> None:
        """A quorum is met by enough known witnesses, and missed by fewer or unknown ones."""
        assert evaluate(two_of(*THREE), signed(*THREE[:2])).met
        missed = evaluate(two_of(*THREE), signed(THREE[0], "stranger.example"))
        assert (missed.met, str(missed)) == (False, "1 of 3, quorum missed: not witnessed")
        assert str(evaluate(two_of(*THREE), signed(*THREE))) == "3 of 3, quorum met"

    def test_none(self) -> None:
        """Where no quorum is asked for, the result says that nothing was witnessed."""
        assert str(evaluate(decode(text("quorum none")), signed(*THREE))) == "0 of 0, ledger not witnessed"

    def test_single_witness(self) -> None:
        """A quorum may be one witness without a group."""
        read = decode(text(*witnesses(*THREE), "quorum w1"))
        assert evaluate(read, signed(THREE[1])).met
        assert not evaluate(read, signed(THREE[0], THREE[2])).met

    def test_an_organisation_counts_once(self) -> None:
        """Two witnesses of one organisation are one, in whatever letter case they write its name."""
        same = two_of("x.example/one", "X.example/two", "y.example")
        assert not evaluate(same, signed("x.example/one", "X.example/two")).met
        assert evaluate(same, signed("X.example/two", "y.example")).counted == ("x.example", "y.example")

    def test_the_better_choice_of_an_organisation(self) -> None:
        """Where an organisation signed twice, the signature counts that meets the quorum, whatever the order."""
        lines = witnesses("x.example/1", "y.example", "x.example/2", "z.example")
        read = decode(text(*lines, "group a all w0 w1", "group b all w2 w3", "group g any a b", "quorum g"))
        assert evaluate(read, signed("x.example/1", "x.example/2", "z.example")).met
        assert not evaluate(read, signed("x.example/1", "x.example/2")).met

    @pytest.mark.parametrize(
        "name",
        ["b.example/witness", "B.EXAMPLE", "mail.b.example/w", "example/w", "b.example:8443/w", "w@b.example/x"],
    )
    def test_a_party_does_not_count(self, name: str) -> None:
        """A witness at a party's mail domain, above or below it, doesn't count for that party's exchange."""
        result = evaluate(two_of(name, *THREE), signed(name, THREE[0]), ("a.test", "b.example"))
        assert not result.met
        assert len(result.passed_over) == 1
        assert evaluate(two_of(name, *THREE), signed(name, THREE[0]), ("c.test",)).met

    @pytest.mark.parametrize("name", ["bb.example/w", "b.example.org", "xb.example"])
    def test_a_neighbour_counts(self, name: str) -> None:
        """A domain that only looks like a party's counts."""
        assert evaluate(two_of(name, *THREE), signed(name, THREE[0]), ("b.example",)).met

    def test_unicode_domains(self) -> None:
        """A party's domain in Unicode and the witness's in A-labels are one."""
        result = evaluate(two_of("bücher.example/w", *THREE), signed("bücher.example/w"), ("xn--bcher-kva.example",))
        assert result.passed_over == ("bücher.example",)

    def test_whether_it_can_be_met(self) -> None:
        """Before anything is signed it can be said whether the quorum can be met for these parties."""
        read = two_of("a.example/w", "b.example/w", "z.test/w")
        assert policy.can_meet(read, ("c.example",))
        assert not policy.can_meet(read, ("a.example", "b.example"))


class TestOfQuorum:
    """policy.of_quorum."""

    def test_any_two(self) -> None:
        """A number and keys make the policy "any so many of these"."""
        keys = [key(name) for name in THREE]
        assert evaluate(policy.of_quorum(keys, 2), signed(*THREE[1:])).met
        assert not evaluate(policy.of_quorum(keys, 2), signed(THREE[1])).met
        assert evaluate(policy.of_quorum(keys, 0), ()).met

    def test_too_few_organisations(self) -> None:
        """A quorum that the organisations can't reach is refused at once."""
        with pytest.raises(Malformed, match="2 can't come from witnesses of 1"):
            policy.of_quorum([key("x.example/1"), key("x.example/2")], 2)
