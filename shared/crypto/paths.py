"""Trust roots, and the path from a chain to one of them at an instant (evidence.md C1 to C3).

The library builds the path by RFC 5280 with policies of our own. A path that was found may be used
again for the very same octets, but its validity is compared with the instant each time: neither a
cache nor a certificate ever supplies the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification

from shared.crypto.keys import P256, key_id
from shared.errors import ConfigurationError, EvidenceFault, SecMTPError

SYNTAX = "certificate.syntax"
CHAIN = "certificate.chain"
VALIDITY = "certificate.validity"

MAX_CHAIN = 4
MAX_CERTIFICATE = 8 * 1024
MAX_ROOTS = 16
MAX_INSTANT = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that X.509 can say
CACHED_PATHS = 2048
# What the library was seen to raise on strange certificates, whatever its documentation says. `Warning` is for
# programs that turn warnings into errors, as our tests do.
LIBRARY_ERRORS = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    Warning,
)


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """The root certificates (DER) that a relying party trusts: one, or several while a root is renewed.

    Raises ConfigurationError for what can't be a root: whoever configured it must look again.
    """

    certificates: tuple[bytes, ...]
    _parsed: tuple[x509.Certificate, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.certificates) <= MAX_ROOTS:
            raise ConfigurationError(
                f"the trust root holds {len(self.certificates)} certificates, 1 to {MAX_ROOTS} may be"
            )
        object.__setattr__(self, "_parsed", tuple(_root(der) for der in self.certificates))

    @classmethod
    def from_pem(cls, pem: bytes) -> TrustRoot:
        """Read one or several PEM certificates."""
        try:
            found = x509.load_pem_x509_certificates(pem)
        except LIBRARY_ERRORS as error:
            raise ConfigurationError("the trust root isn't a file of PEM certificates") from error
        return cls(tuple(certificate.public_bytes(Encoding.DER) for certificate in found))

    @classmethod
    def from_der(cls, der: bytes) -> TrustRoot:
        """Read a single DER certificate."""
        return cls((der,))

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        """The key ids of the root keys, 32 octets each."""
        return tuple(key_id(authority_key(certificate, CHAIN)) for certificate in self._parsed)

    def to_library(self) -> tuple[x509.Certificate, ...]:
        """Return the library's objects for these certificates."""
        return self._parsed

    def to_pem(self) -> bytes:
        """Return the PEM file of these certificates."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self._parsed)


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """A chain that leads to a root: leaf first, root last. `chain` is the octets as they were shown.

    From `not_before` to `not_after` (UTC seconds, inclusive) all of its certificates are valid.
    """

    chain: tuple[bytes, ...]
    certificates: tuple[x509.Certificate, ...]
    not_before: int
    not_after: int

    @property
    def leaf(self) -> x509.Certificate:
        """What the path is for: the first certificate."""
        return self.certificates[0]

    @property
    def issuer(self) -> x509.Certificate:
        """The certificate of whoever issued the leaf; for a root that is the root itself."""
        return self.certificates[min(1, len(self.certificates) - 1)]

    def valid_at(self, at: int) -> bool:
        """Whether every certificate of the path, the root too, is valid at the instant."""
        return self.not_before <= at <= self.not_after


def path_at(root: TrustRoot, chain: Sequence[bytes], at: int) -> Path:
    """Return the path of a chain (DER, leaf first, without the root) at an instant (UTC seconds).

    Raises EvidenceFault `certificate.syntax`, `certificate.chain` or `certificate.validity`.
    """
    octets = tuple(chain)
    _check_bounds(octets, at)
    path = _build(root, octets, _Instant(at))
    if not path.valid_at(at):
        # A path found at another instant. At this one there may be another, to another root.
        path = _build.__wrapped__(root, octets, _Instant(at))
    return path


@contextmanager
def reading(step: str) -> Iterator[None]:
    """Turn whatever the library raises on strange certificates into the failure of a step."""
    try:
        yield
    except EvidenceFault:
        raise
    except SecMTPError as error:
        raise EvidenceFault(step, error.message) from error
    except LIBRARY_ERRORS as error:
        raise EvidenceFault(step, f"the certificate can't be read: {type(error).__name__}") from error


def authority_key(certificate: x509.Certificate, step: str) -> ec.EllipticCurvePublicKey:
    """Return the key of a CA. Raises EvidenceFault(step) unless it is of the kind P-256."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise EvidenceFault(step, f"a CA's key is of the kind {P256}, this one is of type {type(key).__name__}")
    return key


def seconds(moment: datetime) -> int:
    """Return a certificate's time as UTC seconds."""
    return int(moment.timestamp())


@dataclass(frozen=True, slots=True)
class _Instant:
    """An instant that compares equal to any other: it isn't part of a cached path's name."""

    at: int = field(compare=False)


def _check_bounds(chain: tuple[bytes, ...], at: int) -> None:
    if not 0 < len(chain) <= MAX_CHAIN:
        raise EvidenceFault(SYNTAX, f"the chain holds {len(chain)} certificates, expected 1 to {MAX_CHAIN}")
    longest = max(map(len, chain))
    if longest > MAX_CERTIFICATE:
        raise EvidenceFault(SYNTAX, f"a certificate has {longest} octets, at most {MAX_CERTIFICATE} are allowed")
    if not 0 <= at <= MAX_INSTANT:
        raise EvidenceFault(VALIDITY, f"{at} isn't an instant at which a certificate can be valid")


@lru_cache(maxsize=CACHED_PATHS)
def _build(root: TrustRoot, chain: tuple[bytes, ...], instant: _Instant) -> Path:
    """Parse and build at the instant. Only successes are remembered, so garbage can't empty the cache."""
    certificates = tuple(_parse(der) for der in chain)
    try:
        found = _verify(root.to_library(), certificates, instant.at)
    except verification.VerificationError as error:
        with reading(CHAIN):
            fault = _explain(root.to_library(), certificates, instant.at, error)
        raise fault from error
    return Path(
        chain,
        found,
        not_before=max(seconds(certificate.not_valid_before_utc) for certificate in found),
        not_after=min(seconds(certificate.not_valid_after_utc) for certificate in found),
    )


def _parse(der: bytes) -> x509.Certificate:
    """Parse everything that is looked at later (the library reads late), and demand the one DER form."""
    with reading(SYNTAX):
        certificate = x509.load_der_x509_certificate(der)
        _ = certificate.subject, certificate.issuer, list(certificate.extensions)
        # The count of unused bits before the signature isn't covered by it, and the library lets it vary.
        if certificate.public_bytes(Encoding.DER) != der or not der.endswith(b"\x00" + certificate.signature):
            raise EvidenceFault(SYNTAX, "the certificate isn't in DER")
        if certificate.serial_number <= 0:
            raise EvidenceFault(SYNTAX, "the certificate's serial number isn't positive (RFC 5280 §4.1.2.2)")
        return certificate


def _policies() -> tuple[verification.ExtensionPolicy, verification.ExtensionPolicy]:
    """Return the policies for CAs and for leaves: structure only, the rest is for the steps C4 to C6.

    The library's web defaults refuse our CAs (no EKU there) and want names of hosts in leaves.
    """
    everything = verification.ExtensionPolicy.permit_all()
    critical = verification.Criticality.CRITICAL
    authority = everything.require_present(x509.BasicConstraints, critical, None)
    return authority.require_present(x509.KeyUsage, critical, None), everything


_CA_POLICY, _LEAF_POLICY = _policies()


def _verify(
    roots: Sequence[x509.Certificate], chain: Sequence[x509.Certificate], at: int
) -> tuple[x509.Certificate, ...]:
    with _library_errors():
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(list(roots)))
            .time(datetime.fromtimestamp(at, UTC))
            .max_chain_depth(1)
            .extension_policies(ca_policy=_CA_POLICY, ee_policy=_LEAF_POLICY)
            .build_client_verifier()
        )
        return tuple(verifier.verify(chain[0], list(chain[1:])).chain)


@contextmanager
def _library_errors() -> Iterator[None]:
    try:
        yield
    except verification.VerificationError:
        raise
    except LIBRARY_ERRORS as error:  # a key or a name that the verifier can't even look at
        raise EvidenceFault(CHAIN, f"the chain can't be checked: {type(error).__name__}") from error


def _explain(
    roots: Sequence[x509.Certificate], chain: Sequence[x509.Certificate], at: int, error: Exception
) -> EvidenceFault:
    """Name the step: C3 if the path would hold but for its dates, else C2."""
    for root in roots:
        members = (*chain, root)
        outside = _outside(members, at)
        if outside is not None and _holds_at_some_time(root, chain):
            return EvidenceFault(VALIDITY, _says_when(members.index(outside), outside, at))
    issuer = chain[-1].issuer
    if all(issuer != known.subject for known in (*roots, *chain)):
        return EvidenceFault(CHAIN, f"the chain is incomplete, or leads to a root that isn't trusted: {_text(issuer)}")
    return EvidenceFault(CHAIN, f"no path from this chain to the trusted root: {_shortened(str(error))}")


def _holds_at_some_time(root: x509.Certificate, chain: Sequence[x509.Certificate]) -> bool:
    """Whether the path holds but for its dates. It only chooses the words of a refusal, it accepts nothing."""
    members = (*chain, root)
    start = max(seconds(member.not_valid_before_utc) for member in members)
    try:
        if _outside(members, start) is None:
            _verify((root,), chain, start)
        else:  # never all valid at once: no instant to ask the verifier about
            for issued, issuer in pairwise(members):
                issued.verify_directly_issued_by(issuer)
    except (verification.VerificationError, EvidenceFault, InvalidSignature, *LIBRARY_ERRORS):
        return False
    return True


def _outside(certificates: Sequence[x509.Certificate], at: int) -> x509.Certificate | None:
    for certificate in certificates:
        if not seconds(certificate.not_valid_before_utc) <= at <= seconds(certificate.not_valid_after_utc):
            return certificate
    return None


def _says_when(place: int, certificate: x509.Certificate, at: int) -> str:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    now = datetime.fromtimestamp(at, UTC)
    return f"certificate {place + 1} of the path is valid from {start} to {end}; the instant checked is {now} ({at})"


def _text(name: x509.Name) -> str:
    return _shortened(name.rfc4514_string() or "(no name)")


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "…"


def _root(der: bytes) -> x509.Certificate:
    try:
        certificate = _parse(der)
        authority_key(certificate, CHAIN)
        certificate.verify_directly_issued_by(certificate)
        extensions = certificate.extensions
        authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        signs = extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except (EvidenceFault, InvalidSignature, *LIBRARY_ERRORS) as error:
        raise ConfigurationError(f"a trust root isn't a self-signed {P256} CA certificate: {error}") from error
    if not authority or not signs:
        raise ConfigurationError("a trust root's certificate isn't that of a CA")
    return certificate
