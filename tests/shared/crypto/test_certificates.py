"""Certificates: the whole matrix of chains that are accepted, and at which step the others are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.crypto import paths
from shared.crypto.certificates import (
    CHAIN,
    DEPTH,
    NAMES,
    PURPOSE,
    SYNTAX,
    VALIDITY,
    Purpose,
    TrustRoot,
    VerifiedCertificate,
    verify_chain,
    verify_domain_ca,
)
from shared.crypto.keys import key_id
from shared.errors import ConfigurationError, EvidenceFault
from tests.doubles import forge
from tests.doubles.forge import DAY, NOW, WINDOW, Authority, Extension, Key, dns, edwards, mail, p256, uri

EVERY = frozenset(Purpose)
USERS = (Purpose.ORIGIN, Purpose.RECEIPT_GATEWAY, Purpose.RECEIPT_USER)
BOB = [mail("bob@b.example")]
ORIGIN_OID = Purpose.ORIGIN.oid
NAMES_OF: dict[Purpose, list[x509.GeneralName]] = {
    Purpose.NRD: [dns("ttp.example")],
    Purpose.LEDGER: [uri("https://ttp.example/ledger")],
    Purpose.NODE: [dns("b.example"), dns("mx.b.example")],
    Purpose.NODE_REQUEST: [dns("b.example"), dns("b2.example")],
    Purpose.ORIGIN: list(BOB),
    Purpose.RECEIPT_GATEWAY: list(BOB),
    Purpose.RECEIPT_USER: list(BOB),
    Purpose.AGENT: [dns("agent.example")],
    Purpose.TTP: [dns("ttp.example"), x509.IPAddress(ip_address("127.0.0.1"))],
}
TLS = (Purpose.NODE, Purpose.TTP)


@dataclass(frozen=True)
class World:
    """A root, a domain CA under it, and another root that nobody trusts."""

    root: Authority
    domain: Authority
    foreign: Authority
    trust: TrustRoot


@cache
def world() -> World:
    """Make the world once."""
    root = forge.root()
    return World(root, forge.domain_ca(root), forge.root("Foreign root"), TrustRoot.from_der(root.certificate))


def key_for(purpose: Purpose) -> Key:
    """Make a key of the kind that the purpose has."""
    return p256() if purpose in TLS else edwards()


def user(
    extensions: Sequence[Extension] | None = None,
    issuer: Authority | None = None,
    key: Key | None = None,
    window: tuple[int, int] = WINDOW,
) -> list[bytes]:
    """Make a user's chain under the domain CA, good unless an argument spoils it."""
    by = issuer or world().domain
    shape = forge.leaf_extensions(Purpose.ORIGIN, BOB) if extensions is None else extensions
    return [forge.forge(by, key or edwards(), shape, window=window), by.certificate]


def named(*names: x509.GeneralName, purpose: Purpose = Purpose.ORIGIN) -> list[bytes]:
    """Make a chain whose leaf has these names."""
    if purpose in USERS:
        return user(forge.leaf_extensions(purpose, names))
    return direct(purpose, forge.leaf_extensions(purpose, names))


def direct(purpose: Purpose, extensions: Sequence[Extension] | None = None, key: Key | None = None) -> list[bytes]:
    """Make a chain of one under the root."""
    shape = forge.leaf_extensions(purpose, NAMES_OF[purpose]) if extensions is None else extensions
    return [forge.forge(world().root, key or key_for(purpose), shape)]


def verify(chain: Sequence[bytes], purposes: frozenset[Purpose] = EVERY, at: int = NOW) -> VerifiedCertificate:
    """Verify a chain under the world's root."""
    return verify_chain(chain, world().trust, purposes, at)


def failure(chain: Sequence[bytes], purposes: frozenset[Purpose] = EVERY, at: int = NOW) -> EvidenceFault:
    """Return the fault with which a chain is refused."""
    with pytest.raises(EvidenceFault) as raised:
        verify(chain, purposes, at)
    return raised.value


def by_domain_ca(*more: Extension, without: type[x509.ExtensionType] | None = None) -> list[bytes]:
    """Make a user's chain under a domain CA that has more or fewer extensions than it may."""
    shape = [one for one in forge.domain_ca_extensions() if without is None or not isinstance(one[0], without)]
    return user(issuer=forge.domain_ca(world().root, [*shape, *more]))


def shaped(shape: Sequence[Extension]) -> list[bytes]:
    """Make a user's chain under a domain CA of this shape."""
    return user(issuer=forge.domain_ca(world().root, shape))


def constrained(
    permitted: list[x509.GeneralName] | None, excluded: list[x509.GeneralName] | None = None
) -> list[bytes]:
    """Make a user's chain under a domain CA with this name constraint."""
    limit = x509.NameConstraints(permitted, excluded)
    return shaped([*forge.domain_ca_extensions()[:2], (limit, True)])


class TestGoodChains:
    """verify_chain, where everything is as it must be."""

    @pytest.mark.parametrize("purpose", Purpose)
    def test_every_purpose(self, purpose: Purpose) -> None:
        """A certificate for each purpose is accepted for it and shows what it certifies."""
        key = key_for(purpose)
        shape = forge.leaf_extensions(purpose, NAMES_OF[purpose])
        issuer = world().domain if purpose in USERS else world().root
        leaf = forge.forge(issuer, key, shape)
        found = verify([leaf, world().domain.certificate] if purpose in USERS else [leaf], frozenset({purpose}))
        assert found.purpose is purpose
        assert found.key_id == key_id(key.public_key())  # type: ignore[arg-type]
        assert found.names == tuple(one.value for one in NAMES_OF[purpose] if isinstance(one, x509.DNSName))
        assert found.address == ("bob@b.example" if purpose in USERS else None)
        assert found.origin == ("ttp.example/ledger" if purpose is Purpose.LEDGER else None)
        assert (found.not_before, found.not_after) == WINDOW
        assert found.issuer_key_id == key_id(issuer.key.public_key())  # type: ignore[arg-type]
        assert found.certificate == leaf

    @pytest.mark.parametrize(
        "address", ["Bob@b.example", "b.o+b=x'y@b.example", "x" * 65 + "@b.example", "0@b.example"]
    )
    def test_local_parts(self, address: str) -> None:
        """The local part is the domain's own business: kept as it is, in any letter case and length."""
        assert verify(named(mail(address))).address == address

    def test_a_label(self) -> None:
        """An internationalised domain is certified, and constrained, as A-labels."""
        domain = "xn--bcher-kva.example"
        ca = forge.domain_ca(world().root, forge.domain_ca_extensions(domains=["b.example", domain]))
        chain = user(forge.leaf_extensions(Purpose.ORIGIN, [mail(f"bob@{domain}")]), ca)
        assert verify(chain).address == f"bob@{domain}"

    def test_harmless_extensions(self) -> None:
        """Extensions that ordinary tools add and nobody must understand don't matter."""
        point = x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.CA_ISSUERS, uri("http://b.example/ca"))
        more: list[Extension] = [
            (x509.AuthorityInformationAccess([point]), False),
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), False),
        ]
        assert verify(user([*forge.leaf_extensions(Purpose.ORIGIN, BOB), *more])).address == "bob@b.example"

    def test_no_basic_constraints(self) -> None:
        """A leaf that doesn't say that it is no CA is none."""
        assert verify(user(forge.leaf_extensions(Purpose.ORIGIN, BOB)[1:])).purpose is Purpose.ORIGIN

    def test_one_of_several_roots(self) -> None:
        """While a root is renewed, chains to the old and to the new one are both good."""
        old, new = world().root, forge.root("New root")
        both = TrustRoot.from_pem(TrustRoot.from_der(old.certificate).to_pem() + TrustRoot((new.certificate,)).to_pem())
        shape = forge.leaf_extensions(Purpose.NRD, NAMES_OF[Purpose.NRD])
        for root in (old, new):
            leaf = forge.forge(root, edwards(), shape)
            assert verify_chain([leaf], both, {Purpose.NRD}, NOW).issuer_key_id == key_id(root.key.public_key())  # type: ignore[arg-type]


def csr() -> bytes:
    """A certificate request."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(forge.name("x"))
    return builder.sign(p256(), hashes.SHA256()).public_bytes(Encoding.DER)


def fat() -> Extension:
    """An extension that takes a certificate over the bound."""
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(paths.MAX_CERTIFICATE)), False


def unknown() -> Extension:
    """A critical extension that nobody knows."""
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True


def doubled_extension() -> bytes:
    """A certificate with the same extension twice, made by renaming one of two."""
    one, two = (x509.ObjectIdentifier(text) for text in ("1.2.3.4", "1.2.3.5"))
    shape: list[Extension] = [(x509.UnrecognizedExtension(oid, b"\x05\x00"), False) for oid in (one, two)]
    return forge.forge(world().domain, edwards(), shape).replace(b"\x2a\x03\x05", b"\x2a\x03\x04")


def self_signed() -> bytes:
    """A leaf that nobody but itself vouches for."""
    key = p256()
    return forge.forge(Authority("bob", key), key, forge.leaf_extensions(Purpose.ORIGIN, BOB), subject="bob")


def by_user() -> Authority:
    """A user who signs as if he were a CA."""
    key = p256()
    leaf = forge.forge(world().root, key, forge.leaf_extensions(Purpose.NODE, NAMES_OF[Purpose.NODE]), subject="user")
    return Authority("user", key, leaf)


def below_a_domain_ca() -> list[bytes]:
    """A chain of three, through a CA that a domain CA made."""
    lower = forge.domain_ca(world().domain, title="lower")
    return [*user(issuer=lower), world().domain.certificate]


def no_ca() -> bytes:
    """A self-signed certificate that says it is no CA."""
    key = p256()
    shape = [forge.constraints(ca=False, path_length=None), forge.key_usage(ca=False)]
    return forge.forge(Authority("no CA", key), key, shape, subject="no CA")


def with_usages(*usages: x509.ObjectIdentifier, names: Sequence[x509.GeneralName] = tuple(BOB)) -> list[Extension]:
    """A leaf's extensions with exactly these usages."""
    shape = without_usages(names)
    return [*shape, (x509.ExtendedKeyUsage(usages), False)]


def without_usages(names: Sequence[x509.GeneralName] = tuple(BOB)) -> list[Extension]:
    """A leaf's extensions without usages."""
    shape = forge.leaf_extensions(Purpose.ORIGIN, names)
    return [one for one in shape if not isinstance(one[0], x509.ExtendedKeyUsage)]


def replaced_usage(usage: Extension) -> list[Extension]:
    """A leaf's extensions with another key usage."""
    shape = forge.leaf_extensions(Purpose.ORIGIN, BOB)
    return [usage if isinstance(one[0], x509.KeyUsage) else one for one in shape]


# Each: what is wrong, at which step it is refused, and how the chain is made.
REFUSED: list[tuple[str, str, Callable[[], list[bytes]]]] = [
    # C1 syntax
    ("no certificate", SYNTAX, list),
    ("five certificates", SYNTAX, lambda: user() + user() + user()),
    ("empty octets", SYNTAX, lambda: [b""]),
    ("text", SYNTAX, lambda: [b"-----BEGIN CERTIFICATE-----"]),
    ("trailing octet", SYNTAX, lambda: [user()[0] + b"\x00", user()[1]]),
    ("cut short", SYNTAX, lambda: [user()[0][:-1], user()[1]]),
    ("a request instead", SYNTAX, lambda: [csr()]),
    ("a certificate over the bound", SYNTAX, lambda: [forge.forge(world().domain, edwards(), [fat()])]),
    ("garbage behind a good chain", SYNTAX, lambda: [*user(), b"\x30\x03\x02\x01\x01"]),
    ("an extension twice", SYNTAX, lambda: [doubled_extension()]),
    # C2 chain
    ("foreign root", CHAIN, lambda: user(issuer=forge.domain_ca(world().foreign))),
    ("foreign root of the same name", CHAIN, lambda: user(issuer=forge.domain_ca(Authority("Test root")))),
    (
        "leaf of a foreign root",
        CHAIN,
        lambda: [forge.forge(world().foreign, edwards(), forge.leaf_extensions(Purpose.NRD, NAMES_OF[Purpose.NRD]))],
    ),
    ("intermediate missing", CHAIN, lambda: user()[:1]),
    ("another CA of the same name", CHAIN, lambda: [user()[0], forge.domain_ca(world().root).certificate]),
    ("self-signed leaf", CHAIN, lambda: [self_signed()]),
    ("address outside the constraint", CHAIN, lambda: named(mail("bob@c.example"))),
    ("subdomain of a permitted domain", CHAIN, lambda: named(mail("bob@mx.b.example"))),
    ("parent of a permitted domain", CHAIN, lambda: named(mail("bob@example"))),
    ("permitted domain as a suffix", CHAIN, lambda: named(mail("bob@evilb.example"))),
    ("a domain in place of an address", CHAIN, lambda: named(mail("b.example"))),
    ("quoted local part", CHAIN, lambda: named(mail('"bob"@b.example'))),
    ("two at signs", CHAIN, lambda: named(mail("bob@c.example@b.example"))),
    ("Ed25519 CA", CHAIN, lambda: user(issuer=forge.domain_ca(world().root, key=edwards()))),
    ("a user's key as CA", CHAIN, lambda: user(issuer=by_user())),
    ("a CA below a domain CA", CHAIN, below_a_domain_ca),
    (
        "CA flag missing",
        CHAIN,
        lambda: by_domain_ca(forge.constraints(ca=False, path_length=None), without=x509.BasicConstraints),
    ),
    ("no basic constraints in the CA", CHAIN, lambda: by_domain_ca(without=x509.BasicConstraints)),
    ("no key usage in the CA", CHAIN, lambda: by_domain_ca(without=x509.KeyUsage)),
    (
        "a CA that may not sign certificates",
        DEPTH,
        lambda: by_domain_ca(forge.key_usage(ca=False), without=x509.KeyUsage),
    ),
    ("unknown critical extension", CHAIN, lambda: user([*forge.leaf_extensions(Purpose.ORIGIN, BOB), unknown()])),
    ("unknown critical extension in the CA", CHAIN, lambda: by_domain_ca(unknown())),
    # C4 purpose
    ("chain in the wrong order", PURPOSE, lambda: user()[::-1]),
    ("domain CA as a leaf", PURPOSE, lambda: [world().domain.certificate]),
    ("the root as a leaf", PURPOSE, lambda: [world().root.certificate]),
    ("no extended key usage", PURPOSE, lambda: user(without_usages())),
    ("only a TLS usage", PURPOSE, lambda: user(with_usages(ExtendedKeyUsageOID.CLIENT_AUTH))),
    ("any usage", PURPOSE, lambda: user(with_usages(ORIGIN_OID, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE))),
    ("two of our usages", PURPOSE, lambda: user(with_usages(ORIGIN_OID, Purpose.RECEIPT_USER.oid))),
    ("the same usage twice", PURPOSE, lambda: user(with_usages(ORIGIN_OID, ORIGIN_OID))),
    ("a usage beside ours", PURPOSE, lambda: user(with_usages(ORIGIN_OID, ExtendedKeyUsageOID.EMAIL_PROTECTION))),
    (
        "a usage of ours that doesn't exist",
        PURPOSE,
        lambda: user(with_usages(x509.ObjectIdentifier(ORIGIN_OID.dotted_string + "0"))),
    ),
    (
        "node without clientAuth",
        PURPOSE,
        lambda: direct(
            Purpose.NODE, with_usages(Purpose.NODE.oid, ExtendedKeyUsageOID.SERVER_AUTH, names=NAMES_OF[Purpose.NODE])
        ),
    ),
    (
        "NRD with serverAuth",
        PURPOSE,
        lambda: direct(
            Purpose.NRD, forge.leaf_extensions(Purpose.NRD, NAMES_OF[Purpose.NRD], ExtendedKeyUsageOID.SERVER_AUTH)
        ),
    ),
    (
        "CA flag on a leaf",
        PURPOSE,
        lambda: user([forge.constraints(ca=True, path_length=None), *forge.leaf_extensions(Purpose.ORIGIN, BOB)[1:]]),
    ),
    ("leaf that may sign certificates", PURPOSE, lambda: user(replaced_usage(forge.key_usage(ca=True)))),
    ("leaf that may not sign", PURPOSE, lambda: user(replaced_usage(forge.key_usage(ca=False, signs=False)))),
    (
        "leaf without key usage",
        PURPOSE,
        lambda: user(
            [one for one in forge.leaf_extensions(Purpose.ORIGIN, BOB) if not isinstance(one[0], x509.KeyUsage)]
        ),
    ),
    ("P-256 key for an origin", PURPOSE, lambda: user(key=p256())),
    ("Ed25519 key for a node", PURPOSE, lambda: direct(Purpose.NODE, key=edwards())),
    ("P-384 key for a node", PURPOSE, lambda: direct(Purpose.NODE, key=ec.generate_private_key(ec.SECP384R1()))),
    ("Ed448 key for an origin", PURPOSE, lambda: user(key=ed448.Ed448PrivateKey.generate())),
    ("ML-DSA key for an origin", PURPOSE, lambda: user(key=mldsa.MLDSA65PrivateKey.generate())),
    # C5 depth
    ("user directly under the root", DEPTH, lambda: direct(Purpose.ORIGIN, key=edwards())),
    ("user under the root beside a domain CA", DEPTH, lambda: [*direct(Purpose.ORIGIN), world().domain.certificate]),
    ("NRD under a domain CA", DEPTH, lambda: user(forge.leaf_extensions(Purpose.NRD, NAMES_OF[Purpose.NRD]))),
    (
        "node under a domain CA",
        DEPTH,
        lambda: user(forge.leaf_extensions(Purpose.NODE, NAMES_OF[Purpose.NODE]), key=p256()),
    ),
    ("agent under a domain CA", DEPTH, lambda: user(forge.leaf_extensions(Purpose.AGENT, NAMES_OF[Purpose.AGENT]))),
    ("root included", DEPTH, lambda: [*user(), world().root.certificate]),
    ("root included behind an NRD", DEPTH, lambda: [*direct(Purpose.NRD), world().root.certificate]),
    ("extra certificate", DEPTH, lambda: [*user(), user()[0]]),
    (
        "extra certificate in front of the CA",
        DEPTH,
        lambda: [user()[0], forge.domain_ca(world().root, title="x").certificate, world().domain.certificate],
    ),
    ("domain CA behind a node", DEPTH, lambda: [*direct(Purpose.NODE), world().domain.certificate]),
    (
        "path length 1 in the domain CA",
        DEPTH,
        lambda: by_domain_ca(forge.constraints(ca=True, path_length=1), without=x509.BasicConstraints),
    ),
    (
        "no path length in the domain CA",
        DEPTH,
        lambda: by_domain_ca(forge.constraints(ca=True, path_length=None), without=x509.BasicConstraints),
    ),
    ("EKU in the domain CA", DEPTH, lambda: by_domain_ca((x509.ExtendedKeyUsage([ORIGIN_OID]), False))),
    ("SAN in the domain CA", DEPTH, lambda: by_domain_ca((x509.SubjectAlternativeName([dns("b.example")]), False))),
    (
        "P-384 CA",
        DEPTH,
        lambda: user(issuer=forge.domain_ca(world().root, key=ec.generate_private_key(ec.SECP384R1()))),
    ),
    ("RSA CA", DEPTH, lambda: user(issuer=forge.domain_ca(world().root, key=rsa.generate_private_key(65537, 2048)))),
    ("ML-DSA CA", DEPTH, lambda: user(issuer=forge.domain_ca(world().root, key=mldsa.MLDSA65PrivateKey.generate()))),
    # C6 names
    ("no name", NAMES, named),
    ("two addresses", NAMES, lambda: named(*BOB, mail("eve@b.example"))),
    ("the same address twice", NAMES, lambda: named(*BOB, *BOB)),
    ("a host beside the address", NAMES, lambda: named(*BOB, dns("b.example"))),
    ("a host in place of the address", NAMES, lambda: named(dns("b.example"))),
    ("a URI beside the address", NAMES, lambda: named(*BOB, uri("https://b.example"))),
    ("an IP address beside the address", NAMES, lambda: named(*BOB, x509.IPAddress(ip_address("127.0.0.1")))),
    ("a directory name beside the address", NAMES, lambda: named(*BOB, x509.DirectoryName(forge.name("bob")))),
    (
        "a registered id beside the address",
        NAMES,
        lambda: named(*BOB, x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))),
    ),
    ("SmtpUTF8Mailbox of another domain", NAMES, lambda: named(forge.utf8_mailbox("bob@evil.example"))),
    ("SmtpUTF8Mailbox of the own domain", NAMES, lambda: named(forge.utf8_mailbox("bøb@b.example"))),
    ("SmtpUTF8Mailbox beside the address", NAMES, lambda: named(*BOB, forge.utf8_mailbox("bob@evil.example"))),
    ("upper-case domain", NAMES, lambda: named(mail("bob@B.example"))),
    (
        "constraint not critical",
        NAMES,
        lambda: shaped(
            [
                *forge.domain_ca_extensions()[:2],
                (x509.NameConstraints([mail("b.example")], None), False),
            ]
        ),
    ),
    ("no constraint", NAMES, lambda: by_domain_ca(without=x509.NameConstraints)),
    ("constraint on a whole subtree", NAMES, lambda: constrained([mail(".b.example"), mail("b.example")])),
    ("constraint on one mailbox", NAMES, lambda: constrained([mail("bob@b.example")])),
    ("constraint on hosts", NAMES, lambda: constrained([mail("b.example"), dns("b.example")])),
    ("exclusions beside it", NAMES, lambda: constrained([mail("b.example")], [mail("c.example")])),
    ("only exclusions", NAMES, lambda: constrained(None, [mail("c.example")])),
    ("constraint in upper case", NAMES, lambda: constrained([mail("B.example")])),
    ("two NRD names", NAMES, lambda: named(dns("ttp.example"), dns("ttp2.example"), purpose=Purpose.NRD)),
    ("NRD with a mail address", NAMES, lambda: named(*BOB, purpose=Purpose.NRD)),
    ("wildcard", NAMES, lambda: named(dns("*.b.example"), purpose=Purpose.NODE)),
    (
        "U-label",
        NAMES,
        lambda: named(
            dns("xn--\N{LATIN SMALL LETTER SHARP S}.example".encode("utf-8").decode("latin-1")), purpose=Purpose.NODE
        ),
    ),
    ("upper-case host", NAMES, lambda: named(dns("MX.b.example"), purpose=Purpose.NODE)),
    ("host with a trailing dot", NAMES, lambda: named(dns("mx.b.example."), purpose=Purpose.NODE)),
    ("empty host", NAMES, lambda: named(dns(""), purpose=Purpose.NODE)),
    ("address of a node", NAMES, lambda: named(x509.IPAddress(ip_address("127.0.0.1")), purpose=Purpose.NODE)),
    ("65 hosts", NAMES, lambda: named(*(dns(f"h{n}.b.example") for n in range(65)), purpose=Purpose.NODE)),
    ("ledger without https", NAMES, lambda: named(uri("http://ttp.example/ledger"), purpose=Purpose.LEDGER)),
    ("ledger without origin", NAMES, lambda: named(uri("https://"), purpose=Purpose.LEDGER)),
    ("ledger with a blank", NAMES, lambda: named(uri("https://ttp.example/led ger"), purpose=Purpose.LEDGER)),
    ("ledger with a line end", NAMES, lambda: named(uri("https://ttp.example/ledger\n"), purpose=Purpose.LEDGER)),
    (
        "two ledgers",
        NAMES,
        lambda: named(uri("https://a.example/l"), uri("https://b.example/l"), purpose=Purpose.LEDGER),
    ),
    ("ledger with a host", NAMES, lambda: named(dns("ttp.example"), purpose=Purpose.LEDGER)),
]


class TestRefusedChains:
    """verify_chain, where one thing is wrong."""

    @pytest.mark.parametrize(("step", "make"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
    def test_step(self, step: str, make: Callable[[], list[bytes]]) -> None:
        """A chain with one thing wrong is refused at the step where that belongs."""
        assert failure(make()).step == step

    @pytest.mark.parametrize("purpose", Purpose)
    def test_other_purpose(self, purpose: Purpose) -> None:
        """A good certificate for one purpose is refused for all the others."""
        chain = named(*NAMES_OF[purpose], purpose=purpose)
        fault = failure(chain, EVERY - {purpose})
        assert fault.step == PURPOSE
        assert f"is for {purpose.value}" in fault.reason

    def test_incomplete_is_said(self) -> None:
        """A leaf without its intermediate is called an incomplete chain, with the missing issuer's name."""
        assert "incomplete" in failure(user()[:1]).reason
        assert "CA of b.example" in failure(user()[:1]).reason

    def test_signature_of_another(self) -> None:
        """A leaf whose signature was taken from another of the same CA is refused."""
        first, second = user()[0], user()[0]
        assert failure([first[:-64] + second[-64:], world().domain.certificate]).step in {CHAIN, SYNTAX}


class TestValidity:
    """The instant."""

    @pytest.mark.parametrize("at", [WINDOW[0], NOW, WINDOW[1]])
    def test_bounds_are_inclusive(self, at: int) -> None:
        """A certificate is valid from its first second to its last."""
        assert verify(user(), at=at).address == "bob@b.example"

    @pytest.mark.parametrize("at", [0, WINDOW[0] - 1, WINDOW[1] + 1, 253_402_300_799])
    def test_outside(self, at: int) -> None:
        """A second too early or too late is refused, and the message says which instant was used."""
        fault = failure(user(), at=at)
        assert fault.step == VALIDITY
        assert f"({at})" in fault.reason

    @pytest.mark.parametrize("at", [-1, 253_402_300_800, 2**53, -(2**63)])
    def test_no_instant(self, at: int) -> None:
        """A number that is no instant of X.509 is refused like any other at which nothing is valid."""
        assert failure(user(), at=at).step == VALIDITY

    @pytest.mark.parametrize("window", [(NOW - 9 * DAY, NOW - 1), (NOW + 1, NOW + DAY)], ids=["expired", "not yet"])
    def test_each_member(self, window: tuple[int, int]) -> None:
        """One member of the path that isn't valid is enough: leaf, domain CA or root."""
        leaf = user(window=window)
        middle = user(issuer=forge.domain_ca(world().root, window=window))
        assert [failure(chain).step for chain in (leaf, middle)] == [VALIDITY, VALIDITY]
        root = forge.root(window=window)
        with pytest.raises(EvidenceFault, match="certificate 3 of the path") as raised:
            verify_chain(user(issuer=forge.domain_ca(root)), TrustRoot.from_der(root.certificate), EVERY, NOW)
        assert raised.value.step == VALIDITY

    def test_asked_in_any_order(self) -> None:
        """A chain that was good at one instant is refused at another, and good again: nothing is remembered of time."""
        chain = user()
        for _ in range(3):
            assert verify(chain).purpose is Purpose.ORIGIN
            assert failure(chain, at=WINDOW[1] + 1).step == VALIDITY
            assert failure(chain, at=WINDOW[0] - 1).step == VALIDITY

    def test_refused_first(self) -> None:
        """A chain that was refused for its time isn't held against it at an instant when it is good."""
        chain = user()
        assert failure(chain, at=WINDOW[1] + 1).step == VALIDITY
        assert verify(chain).purpose is Purpose.ORIGIN

    def test_valid_then_expired_now(self) -> None:
        """The instant asked decides, long after everything has expired: the verifier's own clock has no say."""
        window = (NOW - 20 * 365 * DAY, NOW - 19 * 365 * DAY)
        root = forge.root(window=window)
        ca = forge.domain_ca(root, window=window)
        chain = user(issuer=ca, window=window)
        assert (
            verify_chain(chain, TrustRoot.from_der(root.certificate), EVERY, window[0] + DAY).purpose is Purpose.ORIGIN
        )

    def test_forged_and_expired(self) -> None:
        """A chain that is no chain at any time fails as such, not for its dates."""
        chain = user(issuer=forge.domain_ca(world().foreign), window=(NOW - 9 * DAY, NOW - DAY))
        assert failure(chain).step == CHAIN

    def test_never_valid_together(self) -> None:
        """A leaf that began after its CA had ended is refused at every instant."""
        ca = forge.domain_ca(world().root, window=(NOW - DAY, NOW))
        chain = user(issuer=ca, window=(NOW + 1, NOW + DAY))
        for at in (NOW - DAY, NOW, NOW + 1, NOW + DAY):
            assert failure(chain, at=at).step == VALIDITY
        forged = user(issuer=Authority(ca.name, p256(), ca.certificate), window=(NOW + 1, NOW + DAY))
        assert failure(forged).step == CHAIN

    def test_renewed_root(self) -> None:
        """Of two certificates of one root key, whichever is valid at the instant is taken, in any order of asking."""
        key = p256()
        old = forge.root(key=key, window=(NOW - 10 * DAY, NOW))
        new = forge.root(key=key, window=(NOW - DAY, NOW + 10 * DAY))
        trust = TrustRoot((old.certificate, new.certificate))
        window = (NOW - 10 * DAY, NOW + 10 * DAY)
        chain = user(issuer=forge.domain_ca(old, window=window), window=window)
        for at in (NOW - 5 * DAY, NOW + 5 * DAY, NOW, NOW - 5 * DAY):
            assert verify_chain(chain, trust, EVERY, at).purpose is Purpose.ORIGIN
        for at in (NOW - 11 * DAY, NOW + 11 * DAY):
            with pytest.raises(EvidenceFault, match="instant"):
                verify_chain(chain, trust, EVERY, at)


class TestCache:
    """What is remembered of a path."""

    def test_exact_octets(self) -> None:
        """A chain that differs in one octet from a remembered one is checked anew."""
        chain = user()
        verify(chain)
        assert failure([chain[0][:-1] + bytes([chain[0][-1] ^ 1]), chain[1]]).step == CHAIN

    def test_other_root(self) -> None:
        """A path remembered for one root isn't taken for another."""
        chain = user()
        verify(chain)
        with pytest.raises(EvidenceFault):
            verify_chain(chain, TrustRoot.from_der(world().foreign.certificate), EVERY, NOW)

    def test_other_purposes(self) -> None:
        """What was accepted for one purpose is refused for another."""
        chain = user()
        verify(chain, frozenset({Purpose.ORIGIN}))
        assert failure(chain, frozenset({Purpose.RECEIPT_USER})).step == PURPOSE

    def test_bounded_and_not_for_garbage(self) -> None:
        """The cache has a bound, and refused chains don't enter it."""
        before = paths._build.cache_info()
        for _ in range(5):
            failure(user(issuer=forge.domain_ca(world().foreign)))
        after = paths._build.cache_info()
        assert after.maxsize is not None
        assert after.currsize == before.currsize


class TestGarbage:
    """Octets that no CA made."""

    @pytest.mark.parametrize("place", [0, 1], ids=["leaf", "domain CA"])
    def test_bit_flips(self, place: int) -> None:
        """No chain with one flipped bit is accepted, and none raises anything but EvidenceFault."""
        chain = user()
        for index in range(len(chain[place])):
            for bit in range(8):
                spoilt = bytearray(chain[place])
                spoilt[index] ^= 1 << bit
                changed = [bytes(spoilt), chain[1]] if place == 0 else [chain[0], bytes(spoilt)]
                failure(changed, frozenset({Purpose.ORIGIN}))

    def test_cut_anywhere(self) -> None:
        """A certificate cut at any octet is refused as such."""
        chain = user()
        assert {failure([chain[0][:end], chain[1]]).step for end in range(len(chain[0]))} == {SYNTAX}

    @given(data=st.binary(max_size=600), at=st.integers(-(2**60), 2**60))
    @settings(deadline=None)
    def test_arbitrary_octets(self, data: bytes, at: int) -> None:
        """Arbitrary octets at an arbitrary instant raise EvidenceFault and nothing else."""
        failure([data], at=at)
        failure([user()[0], data], at=at)
        with pytest.raises(EvidenceFault):
            verify_domain_ca(data, world().trust, at)

    @given(data=st.data())
    @settings(deadline=None)
    def test_spliced(self, data: st.DataObject) -> None:
        """Pieces of good certificates put together at random are refused."""
        first, second = user()[0], world().domain.certificate
        cut = data.draw(st.integers(1, 300))
        end = data.draw(st.integers(0, 300))
        failure([first[:cut] + second[end:], second])


class TestDomainCA:
    """verify_domain_ca."""

    def test_good(self) -> None:
        """A domain CA shows its domains, key and validity."""
        ca = forge.domain_ca(world().root, forge.domain_ca_extensions(domains=["b.example", "b2.example"]))
        found = verify_domain_ca(ca.certificate, world().trust, NOW)
        assert found.domains == ("b.example", "b2.example")
        assert found.key_id == key_id(ca.key.public_key())  # type: ignore[arg-type]
        assert found.issuer_key_id == key_id(world().root.key.public_key())  # type: ignore[arg-type]
        assert (found.not_before, found.not_after, found.certificate) == (*WINDOW, ca.certificate)

    @pytest.mark.parametrize(
        ("step", "make"),
        [
            (PURPOSE, lambda: world().root.certificate),
            (PURPOSE, lambda: direct(Purpose.NODE)[0]),
            (PURPOSE, lambda: by_domain_ca((x509.ExtendedKeyUsage([ORIGIN_OID]), False))[1]),
            (PURPOSE, lambda: by_domain_ca((x509.SubjectAlternativeName([*BOB]), False))[1]),
            (PURPOSE, lambda: by_domain_ca(without=x509.BasicConstraints)[1]),
            (PURPOSE, lambda: by_domain_ca(without=x509.KeyUsage)[1]),
            (PURPOSE, lambda: forge.domain_ca(world().root, key=rsa.generate_private_key(65537, 2048)).certificate),
            (CHAIN, lambda: user()[0]),
            (CHAIN, lambda: forge.domain_ca(world().foreign).certificate),
            (CHAIN, lambda: forge.domain_ca(world().domain, title="lower").certificate),
            (NAMES, lambda: by_domain_ca(without=x509.NameConstraints)[1]),
            (NAMES, lambda: constrained([mail(".b.example")])[1]),
            (SYNTAX, lambda: b"\x30\x00"),
        ],
        ids=[
            "root", "node", "with EKU", "with SAN", "no basic constraints", "no key usage", "RSA", "user",
            "foreign root", "below a domain CA", "no constraint", "subtree", "garbage",
        ],
    )  # fmt: skip
    def test_refused(self, step: str, make: Callable[[], bytes]) -> None:
        """What isn't a domain CA of the root, in the shape that it must have, is refused at its step."""
        with pytest.raises(EvidenceFault) as raised:
            verify_domain_ca(make(), world().trust, NOW)
        assert raised.value.step == step

    def test_expired(self) -> None:
        """A domain CA is good in its time only."""
        verify_domain_ca(world().domain.certificate, world().trust, NOW)
        with pytest.raises(EvidenceFault, match=r"certificate\.validity"):
            verify_domain_ca(world().domain.certificate, world().trust, WINDOW[1] + 1)


class TestTrustRoot:
    """TrustRoot."""

    def test_forms(self) -> None:
        """A root survives PEM and DER, and shows its key id."""
        root = world().root
        trust = TrustRoot.from_der(root.certificate)
        assert TrustRoot.from_pem(trust.to_pem()) == trust
        assert trust.key_ids == (key_id(root.key.public_key()),)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "make",
        [
            lambda: forge.root(key=edwards()).certificate,
            lambda: forge.root(key=ec.generate_private_key(ec.SECP384R1())).certificate,
            lambda: forge.root(key=rsa.generate_private_key(65537, 2048)).certificate,
            lambda: world().domain.certificate,
            lambda: direct(Purpose.NODE)[0],
            self_signed,
            lambda: b"",
            lambda: world().root.certificate + b"\x00",
            lambda: world().root.certificate[:-1] + bytes([world().root.certificate[-1] ^ 1]),
            no_ca,
        ],
        ids=["Ed25519", "P-384", "RSA", "domain CA", "leaf", "self-signed leaf", "empty", "trailing", "flip", "no CA"],
    )
    def test_refused(self, make: Callable[[], bytes]) -> None:
        """Only a self-signed P-256 CA can be a root; the operator is told."""
        with pytest.raises(ConfigurationError, match="trust root"):
            TrustRoot.from_der(make())

    @pytest.mark.parametrize(
        "pem", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    )
    def test_not_pem(self, pem: bytes) -> None:
        """A file without PEM certificates is refused."""
        with pytest.raises(ConfigurationError, match="PEM"):
            TrustRoot.from_pem(pem)

    def test_bounds(self) -> None:
        """A trust root holds at least one certificate and not any number."""
        for count in (0, 17):
            with pytest.raises(ConfigurationError, match="1 to 16"):
                TrustRoot((world().root.certificate,) * count)
