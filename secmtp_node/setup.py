"""Setting up a node: keys and request, certificates, enrolment, users. The command line and the demo call this."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from secmtp_node import clock
from secmtp_node import settings as settings_module
from secmtp_node.agents.opening import PROOF
from secmtp_node.agents.users import add_user as register
from secmtp_node.app import build_registry, build_ttp, build_vault, database_url
from secmtp_node.custody import identity as identities
from secmtp_node.custody.at_rest import MasterKey, make_master_key
from secmtp_node.custody.passwords import SALT, make_verifier
from secmtp_node.custody.witness import new_witness
from secmtp_node.ports.values import KeyUse
from secmtp_node.settings import TTPAddress
from secmtp_node.store.database import SqlStore, open_engine, upgrade
from secmtp_node.store.files import FileBox
from shared.api.messages import Enrolment
from shared.crypto import requests
from shared.crypto.certificates import Purpose, TrustRoot
from shared.crypto.requests import NodeNames
from shared.encoding.address import normal_domain
from shared.errors import ConfigurationError, NotFound
from shared.evidence.records import verify_ttp
from shared.evidence.verification import require
from shared.programs.files import keep_public, private_directory, read_bounded, write_public, write_secret

REQUEST = "request.json"
PROOF_FILE = "proof.secmtp.json"
CIPHERTEXT_FILE = "ciphertext"
FREE_PORTS = (0, 0, 0)


def initialise(
    directory: Path, *, domains: Sequence[str], hosts: Sequence[str], now: int, ports: tuple[int, int, int] = FREE_PORTS
) -> Path:
    """Make keys, settings, database and the CA's request in a new directory; return the request's path."""
    if (directory / settings_module.FILE).exists():
        raise ConfigurationError(f"{directory} holds a node already; name another directory")
    names = NodeNames(tuple(normal_domain(domain) for domain in domains), tuple(hosts))
    for place in (directory, directory / "keys", directory / "data"):
        private_directory(place)
    keys = identities.make_keys(directory / "keys")
    make_master_key(directory / "keys", clock.draw)
    new_witness(directory / "keys", names.domains[0])
    domain_key = keys[identities.DOMAIN_CA]
    if not isinstance(domain_key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError("the domain CA's key must be P-256")
    leaves = {Purpose.NODE: keys[identities.TLS], Purpose.NODE_REQUEST: keys[identities.REQUEST]}
    write_public(directory / REQUEST, requests.make_request(names, leaves, domain_key))
    text = settings_module.render(names.domains, hosts, ports)
    write_public(directory / settings_module.FILE, text.encode())
    upgrade(open_engine(database_url(directory, settings_module.load(directory))))
    return directory / REQUEST


def install_certificates(directory: Path, file: Path, root_file: Path, *, now: int) -> None:
    """Check what the CA issued against the keys here and the root, and keep it."""
    root_pem = read_bounded(root_file, identities.MAX_ROOT)
    data = read_bounded(file, requests.MAX_FILE)
    certificates = requests.decode_certificates(data)
    identities.check_certificates(directory, certificates, TrustRoot.from_pem(root_pem), now)
    keep_public(directory / identities.ROOT, root_pem)
    # Written last, it says that all is there: after a crash before it the same command goes on.
    write_public(directory / identities.CERTIFICATES, data)


def enrol(directory: Path, *, ttp_url: str, ttp_name: str, token: str, now: int) -> None:
    """Check the TTP's record, enrol with the operator's token, and remember the TTP. May be repeated."""
    identity = identities.load_identity(directory, now)
    address = TTPAddress(name=ttp_name, url=ttp_url)
    ttp = build_ttp(identity, address)
    try:
        record = verify_ttp(ttp.record(), identity.root, now).record
        require(record.name == ttp_name, "ttp.name", f"asked for {ttp_name}, {record.name} answered")
        ttp.enrol(Enrolment(token, identity.request_certificate, (identity.domain_ca.certificate,)))
    finally:
        ttp.close()
    path = directory / settings_module.TTP_FILE
    path.unlink(missing_ok=True)
    write_public(path, json.dumps({"name": address.name, "url": address.url}).encode())


def export_fault(directory: Path, exchange: bytes, out: Path) -> str:
    """Write the proof of a sender's fault into a new directory: the bundle with openings, and the ciphertext.

    Returns the step that failed. Raises NotFound when there is no such proof.
    """
    engine = open_engine(database_url(directory, settings_module.load(directory)))
    upgrade(engine)
    with SqlStore(engine).transaction() as unit:
        fault, incoming = unit.evidence.find_fault(exchange), unit.incoming.find(exchange)
    engine.dispose()
    if fault is None or incoming is None:
        raise NotFound("this node has no proof of a fault in that exchange")
    master = MasterKey(directory / "keys", clock.draw)
    private_directory(out)
    write_secret(out / PROOF_FILE, master.open(fault.proof, PROOF, exchange))
    # Copied octet for octet: its digest stands in the manifest, its size may be anything.
    with (out / CIPHERTEXT_FILE).open("xb") as file:
        for piece in FileBox(directory / "data" / "ciphertexts").read(incoming.ciphertext):
            file.write(piece)
    return fault.step


def add_user(directory: Path, address: str, password: str, *, now: int) -> str:
    """Make a user; the running node publishes the binding within seconds. Returns the address in normal form."""
    settings = settings_module.load(directory)
    identity = identities.load_identity(directory, now)
    engine = open_engine(database_url(directory, settings))
    upgrade(engine)
    store = SqlStore(engine)
    vault = build_vault(identity, MasterKey(directory / "keys", clock.draw))
    verifier, client_key = make_verifier(password, clock.draw(SALT))

    def wrap(private: bytes, about: tuple[str, KeyUse, int], key: bytes, delegated: bool) -> tuple[bytes, bytes | None]:
        return vault.wrap(private, about, key, delegated=delegated)

    registry = build_registry(directory, settings, identity, store)
    try:
        return register(registry, address, verifier, client_key, wrap)
    finally:
        engine.dispose()
