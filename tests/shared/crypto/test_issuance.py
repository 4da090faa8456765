"""Issuance: everything issued is accepted by the checks, and nothing else can be issued."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from shared.crypto import issuance
from shared.crypto.certificates import Purpose, TrustRoot, verify_chain, verify_domain_ca
from shared.crypto.issuance import BACKDATE, Issuer, Validity, issue_domain_ca, issue_leaf, issue_root
from shared.crypto.keys import SigningKey, ed25519_from_seed, generate_ed25519, generate_p256, key_id, p256_from_scalar
from shared.crypto.purposes import RULES
from shared.errors import Malformed

NOW = 1_800_000_000
VALID = Validity.starting(NOW, issuance.YEAR)
ROOT_KEY = p256_from_scalar(bytes(range(32)))
ROOT = Issuer(issue_root("Test root", ROOT_KEY, 1, VALID), ROOT_KEY)
TRUST = TrustRoot.from_der(ROOT.certificate)
DOMAIN_KEY = p256_from_scalar(bytes(range(1, 33)))
DOMAIN = Issuer(issue_domain_ca(DOMAIN_KEY.public_key(), ["b.example", "b2.example"], ROOT, 2, VALID), DOMAIN_KEY)
NAMES = {
    Purpose.NRD: ["ttp.example"],
    Purpose.LEDGER: ["ttp.example/ledger"],
    Purpose.NODE: ["b.example", "b2.example", "mx.b.example", "localhost"],
    Purpose.NODE_REQUEST: ["b.example", "b2.example"],
    Purpose.ORIGIN: ["Bob@b2.example"],
    Purpose.RECEIPT_GATEWAY: ["bob@b.example"],
    Purpose.RECEIPT_USER: ["bob@b.example"],
    Purpose.AGENT: ["agent.example"],
    Purpose.TTP: ["ttp.example", "127.0.0.1", "::1"],
}


def key_for(purpose: Purpose) -> SigningKey:
    """Make a key of the kind that the purpose has."""
    return generate_p256() if purpose in {Purpose.NODE, Purpose.TTP} else generate_ed25519()


def issuer_of(purpose: Purpose) -> Issuer:
    """Return who issues for the purpose."""
    return DOMAIN if RULES[purpose].by_domain else ROOT


def chain_of(leaf: bytes, purpose: Purpose) -> list[bytes]:
    """Return the chain of a leaf."""
    return [leaf, DOMAIN.certificate] if RULES[purpose].by_domain else [leaf]


class TestIssueLeaf:
    """issue_leaf."""

    @pytest.mark.parametrize("purpose", Purpose)
    def test_accepted(self, purpose: Purpose) -> None:
        """What is issued for a purpose verifies for it, with the names, key and times asked for."""
        public = key_for(purpose).public_key()
        leaf = issue_leaf(purpose, public, NAMES[purpose], issuer_of(purpose), 77, VALID)
        found = verify_chain(chain_of(leaf, purpose), TRUST, {purpose}, NOW)
        assert found.key_id == key_id(public)
        assert (found.not_before, found.not_after) == (NOW - BACKDATE, NOW + issuance.YEAR)
        shown = [*found.names, *filter(None, [found.address, found.origin])]
        assert shown == [name for name in NAMES[purpose] if name not in {"127.0.0.1", "::1"}]

    def test_same_again(self) -> None:
        """The same arguments give the same octets, so that certificates can be vectors."""
        public = ed25519_from_seed(bytes(32)).public_key()
        made = {issue_leaf(Purpose.ORIGIN, public, ["bob@b.example"], DOMAIN, 5, VALID) for _ in range(3)}
        assert len(made) == 1

    def test_small(self) -> None:
        """A user's certificate stays under 420 octets: it travels in every token."""
        leaf = issue_leaf(Purpose.ORIGIN, generate_ed25519().public_key(), ["bob@b.example"], DOMAIN, 2**158, VALID)
        assert len(leaf) <= 420

    def test_repeated_name(self) -> None:
        """A name that is given twice stands once in the certificate."""
        names = ["b.example", "mx.b.example", "b.example"]
        leaf = issue_leaf(Purpose.NODE, generate_p256().public_key(), names, ROOT, 5, VALID)
        assert verify_chain([leaf], TRUST, {Purpose.NODE}, NOW).names == ("b.example", "mx.b.example")

    @pytest.mark.parametrize(
        ("purpose", "names"),
        [
            (Purpose.ORIGIN, []),
            (Purpose.ORIGIN, ["bob@b.example", "eve@b.example"]),
            (Purpose.ORIGIN, ["bob@c.example"]),
            (Purpose.ORIGIN, ["bob@mx.b.example"]),
            (Purpose.ORIGIN, ["b.example"]),
            (Purpose.ORIGIN, ["bob@B.example"]),
            (Purpose.ORIGIN, ["bob@b.example."]),
            (Purpose.ORIGIN, ["b\N{LATIN SMALL LETTER O WITH STROKE}b@b.example"]),
            (Purpose.ORIGIN, ['"bob"@b.example']),
            (Purpose.ORIGIN, ["bob @b.example"]),
            (Purpose.ORIGIN, [".bob@b.example"]),
            (Purpose.ORIGIN, ["bo..b@b.example"]),
            (Purpose.ORIGIN, ["eve@c.example@b.example"]),
            (Purpose.ORIGIN, ["bob@b.example\n"]),
            (Purpose.NRD, ["ttp.example", "ttp2.example"]),
            (Purpose.NRD, ["TTP.example"]),
            (Purpose.NRD, [""]),
            (Purpose.LEDGER, [""]),
            (Purpose.LEDGER, ["ttp.example/led ger"]),
            (Purpose.LEDGER, ["ttp.example/l\N{LATIN SMALL LETTER E WITH ACUTE}dger"]),
            (Purpose.LEDGER, ["ttp.example/ledger\n"]),
            (Purpose.NODE, ["*.b.example"]),
            (Purpose.NODE, ["127.0.0.1 "]),
            (Purpose.NODE, ["b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example"]),
            (Purpose.NODE, [f"h{n}.b.example" for n in range(65)]),
            (Purpose.TTP, ["127.0.0.256 x"]),
        ],
    )
    def test_refused_names(self, purpose: Purpose, names: list[str]) -> None:
        """Names that would be refused later, or that the issuer may not certify, aren't certified."""
        with pytest.raises(Malformed):
            issue_leaf(purpose, key_for(purpose).public_key(), names, issuer_of(purpose), 5, VALID)

    @pytest.mark.parametrize("purpose", Purpose)
    def test_refused_keys(self, purpose: Purpose) -> None:
        """A key of another kind than the purpose has isn't certified."""
        other = generate_ed25519() if purpose in {Purpose.NODE, Purpose.TTP} else generate_p256()
        with pytest.raises(Malformed, match="of kind"):
            issue_leaf(purpose, other.public_key(), NAMES[purpose], issuer_of(purpose), 5, VALID)

    def test_user_by_the_root(self) -> None:
        """The root doesn't certify users: only a domain's CA speaks for its addresses."""
        with pytest.raises(Malformed, match="no domain CA"):
            issue_leaf(Purpose.ORIGIN, generate_ed25519().public_key(), ["bob@b.example"], ROOT, 5, VALID)

    @pytest.mark.parametrize("serial", [0, -1, 2**159])
    def test_serials(self, serial: int) -> None:
        """Serial numbers are positive and fit 20 octets."""
        with pytest.raises(Malformed, match="serial"):
            issue_leaf(Purpose.NRD, generate_ed25519().public_key(), ["ttp.example"], ROOT, serial, VALID)


class TestAuthorities:
    """issue_root and issue_domain_ca."""

    def test_root(self) -> None:
        """A root is a trust root, with path length 1."""
        certificate = TRUST.to_library()[0]
        limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (limits.critical, limits.value.path_length) == (True, 1)
        assert TRUST.key_ids == (key_id(ROOT_KEY.public_key()),)

    def test_domain_ca(self) -> None:
        """A domain CA verifies, and speaks for exactly the domains asked for."""
        found = verify_domain_ca(DOMAIN.certificate, TRUST, NOW)
        assert found.domains == ("b.example", "b2.example")
        assert found.key_id == key_id(DOMAIN_KEY.public_key())

    def test_long_names(self) -> None:
        """Names longer than X.520 allows are cut for show; what counts stands in full."""
        long = ".".join(["x" * 60] * 4)
        key = generate_p256()
        der = issue_domain_ca(key.public_key(), [long], ROOT, 5, VALID)
        assert verify_domain_ca(der, TRUST, NOW).domains == (long,)
        assert TrustRoot.from_der(issue_root("R" * 200, key, 1, VALID)).key_ids == (key_id(key.public_key()),)

    @pytest.mark.parametrize(
        "domains", [[], ["B.example"], [".b.example"], ["bob@b.example"], ["*.b.example"], ["b.example "]]
    )
    def test_refused_domains(self, domains: list[str]) -> None:
        """Only exact domains in normal form are permitted to a CA."""
        with pytest.raises(Malformed):
            issue_domain_ca(generate_p256().public_key(), domains, ROOT, 5, VALID)

    def test_refused_keys(self) -> None:
        """A CA's key is of the kind P-256."""
        for key in (generate_ed25519(), ec.generate_private_key(ec.SECP384R1())):
            with pytest.raises(Malformed):
                issue_domain_ca(key.public_key(), ["b.example"], ROOT, 5, VALID)

    def test_nameless_root(self) -> None:
        """A root without a name isn't made: people must be able to tell roots apart."""
        with pytest.raises(Malformed, match="name"):
            issue_root("", generate_p256(), 1, VALID)


class TestValidity:
    """Validity."""

    def test_backdated(self) -> None:
        """A certificate is good at once on a host whose clock is some minutes late."""
        leaf = issue_leaf(Purpose.NRD, generate_ed25519().public_key(), ["ttp.example"], ROOT, 5, VALID)
        assert verify_chain([leaf], TRUST, {Purpose.NRD}, NOW - BACKDATE).purpose is Purpose.NRD

    def test_lifetimes(self) -> None:
        """The default lifetimes: root 20 years, services and domains 2, users 1."""
        year = 365 * 24 * 3600
        lifetimes = (
            issuance.ROOT_LIFETIME,
            issuance.SERVICE_LIFETIME,
            issuance.DOMAIN_LIFETIME,
            issuance.USER_LIFETIME,
        )
        assert lifetimes == (20 * year, 2 * year, 2 * year, year)
