"""Users, their keys, certificates and bindings (docs/protocols/directory.md D1 to D4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from secmtp_node.ports.services import TTP, Clock, Draw, Events
from secmtp_node.ports.store import Store
from secmtp_node.ports.values import KeyUse, OwnBinding, User, UserKey, Verifier
from shared.crypto import issuance, signing
from shared.crypto.certificates import Purpose, TrustRoot, VerifiedDomainCA, verify_chain
from shared.crypto.issuance import Issuer, Validity
from shared.crypto.keys import HYBRID, HpkePrivateKey, generate_ed25519, generate_hpke, key_id
from shared.crypto.signing import token_digest
from shared.encoding import base64url
from shared.encoding.address import domain_of, normal_address
from shared.errors import ConfigurationError, EvidenceFault, Malformed, NotFound, PeerFault
from shared.evidence.binding import BindingContent, sign_binding
from shared.evidence.records import DomainRecord, sign_domain
from shared.evidence.verification import require

DAY = 24 * 3600
SIGN_AGAIN = 3 * DAY
RENEW_BEFORE = 120 * DAY  # more than the longest expiry that settings allow
SERIAL_OCTETS = 19
PURPOSES = {KeyUse.ORIGIN: Purpose.ORIGIN, KeyUse.RECEIPT: Purpose.RECEIPT_GATEWAY}

# (private octets, (address, use, version), ClientKey, delegated) → (by login, by node)
Wrap = Callable[[bytes, tuple[str, KeyUse, int], bytes, bool], tuple[bytes, bytes | None]]


@dataclass(frozen=True)
class Registry:
    """Issues for this node's domains. `key` is the domain CA's."""

    store: Store
    root: TrustRoot
    domain_ca: VerifiedDomainCA
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    now: Clock
    draw: Draw

    @property
    def issuer(self) -> Issuer:
        """The domain CA as an issuer of certificates."""
        return Issuer(self.domain_ca.certificate, self.key)


def add_user(registry: Registry, address: str, verifier: Verifier, client_key: bytes, wrap: Wrap) -> str:
    """Make a user with three fresh keys and a first binding. Raises Conflict when the address is there."""
    normal = normal_address(address)
    if domain_of(normal) not in registry.domain_ca.domains:
        domains = ", ".join(registry.domain_ca.domains)
        raise ConfigurationError(f"{normal} isn't of this node's domains ({domains})")
    origin, receipt, hpke = generate_ed25519(), generate_ed25519(), generate_hpke(HYBRID)
    keys = [
        _signing_key(registry, normal, KeyUse.ORIGIN, origin, wrap, client_key),
        _signing_key(registry, normal, KeyUse.RECEIPT, receipt, wrap, client_key),
        _hpke_key(normal, hpke, wrap, client_key),
    ]
    # Commit point: leaving this block. Before it there is no user; after it the binding waits to be published.
    with registry.store.transaction() as unit:
        unit.users.add(User(normal, verifier, True, registry.now()), keys)
        unit.users.set_binding(_binding(registry, normal, {key.use: key for key in keys}, None))
    return normal


def upkeep(registry: Registry) -> None:
    """Renew certificates that end soon and sign bindings anew that grow old. Safe to repeat."""
    with registry.store.transaction() as unit:
        for address in unit.users.addresses():
            keys = {key.use: key for key in unit.users.keys(address)}
            renewed = {use: key for use, key in keys.items() if use in PURPOSES and _ends_soon(registry, key)}
            for use, key in renewed.items():
                keys[use] = _renewed(registry, key)
                unit.users.renew(keys[use])
            current = unit.users.binding(address)
            due = current is None or registry.now() - current.issued >= SIGN_AGAIN
            # A binding that the TTP doesn't have yet must be published first: the next names it.
            if (due and (current is None or current.published)) or renewed:
                predecessor = None if current is None else current.digest
                unit.users.set_binding(_binding(registry, address, keys, predecessor))


def publish(registry: Registry, ttp: TTP, tell: Events) -> None:
    """Bring unpublished bindings to the TTP. Raises Unavailable; what was published stays so.

    One that the TTP refuses keeps no other back. It may be refused because the TTP has a binding that this
    node forgot (a restored backup), or because it lay here too long: it is then signed anew, once it can be.
    """
    with registry.store.transaction() as unit:
        bindings = [unit.users.binding(address) for address in unit.users.addresses()]
    for binding in bindings:
        if binding is None or binding.published:
            continue
        try:
            ttp.put_binding(binding.compact)
        except (PeerFault, EvidenceFault) as error:
            tell("binding refused", address=binding.address, reason=error.message)
            _sign_anew(registry, ttp, binding)
            continue
        with registry.store.transaction() as unit:
            current = unit.users.binding(binding.address)
            if current is not None and current.digest == binding.digest:
                unit.users.set_binding(replace(current, published=True))
        tell("binding published", digest=binding.digest.hex())


def _sign_anew(registry: Registry, ttp: TTP, refused: OwnBinding) -> None:
    """Sign a binding that continues the one that the TTP has, however old, if that one is this domain's own."""
    try:
        listed: bytes | None = _own_digest(registry, ttp.look_up(refused.address).binding, refused.address)
    except NotFound:
        listed = None
    except (Malformed, EvidenceFault):
        return
    too_old = registry.now() - refused.issued >= SIGN_AGAIN
    named = signing.parse(refused.compact, signing.BINDING).payload.get("predecessor")
    if not too_old and named == (None if listed is None else base64url.encode(listed)):
        return
    with registry.store.transaction() as unit:
        keys = {key.use: key for key in unit.users.keys(refused.address)}
        unit.users.set_binding(_binding(registry, refused.address, keys, listed))


def _own_digest(registry: Registry, compact: str, address: str) -> bytes:
    """Return the digest of a binding that this domain signed for the address. Raises Malformed, EvidenceFault."""
    token = signing.parse(compact, signing.BINDING)
    signing.check_signature(token, registry.key.public_key(), "binding.signature")
    require(token.payload.get("address") == address, "binding.address", f"listed for {address}, and another's")
    return token.digest


def publish_domains(registry: Registry, ttp: TTP, record: DomainRecord) -> None:
    """Publish where the node is, for each of its domains. `record` is the template; its domain is replaced."""
    for domain in registry.domain_ca.domains:
        own = replace(record, domain=domain, issued=registry.now())
        ttp.put_domain(sign_domain(own, registry.key, registry.domain_ca.certificate))


def _signing_key(
    registry: Registry,
    address: str,
    use: KeyUse,
    private: Ed25519PrivateKey,
    wrap: Wrap,
    client_key: bytes,
) -> UserKey:
    public = private.public_key()
    validity = Validity.starting(registry.now(), issuance.USER_LIFETIME)
    certificate = issuance.issue_leaf(PURPOSES[use], public, [address], registry.issuer, _serial(registry), validity)
    by_login, by_node = wrap(private.private_bytes_raw(), (address, use, 1), client_key, True)
    return UserKey(address, use, 1, key_id(public), None, certificate, by_login, by_node)


def _hpke_key(address: str, private: HpkePrivateKey, wrap: Wrap, client_key: bytes) -> UserKey:
    by_login, by_node = wrap(private.raw, (address, KeyUse.HPKE, 1), client_key, True)
    return UserKey(address, KeyUse.HPKE, 1, private.key_id, private.public, b"", by_login, by_node)


def _binding(registry: Registry, address: str, keys: dict[KeyUse, UserKey], predecessor: bytes | None) -> OwnBinding:
    hpke = keys[KeyUse.HPKE].public
    if hpke is None:
        raise ConfigurationError(f"the HPKE key of {address} has no public half")
    content = BindingContent(
        address=address,
        origin=keys[KeyUse.ORIGIN].certificate,
        receipt=keys[KeyUse.RECEIPT].certificate,
        hpke=hpke,
        policy="on_delivery",
        issued=registry.now(),
        predecessor=predecessor,
    )
    compact = sign_binding(content, registry.key, registry.domain_ca.certificate)
    return OwnBinding(address, compact, token_digest(compact), content.issued, published=False)


def _ends_soon(registry: Registry, key: UserKey) -> bool:
    chain = [key.certificate, registry.domain_ca.certificate]
    try:
        verified = verify_chain(chain, registry.root, {PURPOSES[key.use]}, registry.now())
    except EvidenceFault:
        return True
    return verified.not_after - registry.now() < RENEW_BEFORE


def _renewed(registry: Registry, key: UserKey) -> UserKey:
    """Certify the same key anew. The public key is in the old certificate, valid or not."""
    public = x509.load_der_x509_certificate(key.certificate).public_key()
    if not isinstance(public, Ed25519PublicKey):
        raise ConfigurationError(f"the certificate of {key.address} isn't for an Ed25519 key")
    validity = Validity.starting(registry.now(), issuance.USER_LIFETIME)
    purpose = PURPOSES[key.use]
    renewed = issuance.issue_leaf(purpose, public, [key.address], registry.issuer, _serial(registry), validity)
    return replace(key, certificate=renewed)


def _serial(registry: Registry) -> int:
    return int.from_bytes(registry.draw(SERIAL_OCTETS), "big") >> 1 | 1
