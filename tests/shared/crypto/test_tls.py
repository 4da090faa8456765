"""The certificates in real TLS: the standard library's, in its strict mode, on both sides."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest

from shared.crypto import issuance
from shared.crypto.certificates import Purpose, TrustRoot
from shared.crypto.issuance import Issuer, Validity, issue_leaf, issue_root
from shared.crypto.keys import encode_signing, generate_p256

VALID = Validity.starting(int(time.time()), issuance.YEAR)  # TLS reads the clock
ROOT_KEY = generate_p256()
ROOT = Issuer(issue_root("Root", ROOT_KEY, 1, VALID), ROOT_KEY)
NODE_NAMES = ["b.example", "mx.b.example"]


def context(side: int, place: Path, purpose: Purpose, names: list[str]) -> ssl.SSLContext:
    """Make a side's context: its certificate for the purpose, and the root as the only trust."""
    key = generate_p256()
    leaf = issue_leaf(purpose, key.public_key(), names, ROOT, 7, VALID)
    place.mkdir()
    (place / "leaf.pem").write_text(ssl.DER_cert_to_PEM_cert(leaf), encoding="ascii")
    (place / "key.pem").write_bytes(encode_signing(key))
    made = ssl.SSLContext(side)
    made.load_verify_locations(cadata=TrustRoot.from_der(ROOT.certificate).to_pem().decode())
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_cert_chain(place / "leaf.pem", place / "key.pem")
    return made


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """Shake hands in memory and return the server's side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    return ends[1]


class TestNode:
    """Two nodes with client certificates on both sides."""

    def test_mutual(self, tmp_path: Path) -> None:
        """Nodes authenticate each other, the server by the mail domain that the letter goes to."""
        client = context(ssl.PROTOCOL_TLS_CLIENT, tmp_path / "a", Purpose.NODE, ["a.example"])
        server = context(ssl.PROTOCOL_TLS_SERVER, tmp_path / "b", Purpose.NODE, NODE_NAMES)
        for name in NODE_NAMES:
            peer = handshake(client, server, name).getpeercert()
            assert peer is not None
            assert peer["subjectAltName"] == (("DNS", "a.example"),)

    def test_other_domain(self, tmp_path: Path) -> None:
        """A node isn't taken for the node of another domain."""
        client = context(ssl.PROTOCOL_TLS_CLIENT, tmp_path / "a", Purpose.NODE, ["a.example"])
        server = context(ssl.PROTOCOL_TLS_SERVER, tmp_path / "b", Purpose.NODE, NODE_NAMES)
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            handshake(client, server, "c.example")

    def test_ttp_is_no_client(self, tmp_path: Path) -> None:
        """A TTP's certificate doesn't open a connection to a node: it has no clientAuth."""
        client = context(ssl.PROTOCOL_TLS_CLIENT, tmp_path / "t", Purpose.TTP, ["ttp.example"])
        server = context(ssl.PROTOCOL_TLS_SERVER, tmp_path / "b", Purpose.NODE, NODE_NAMES)
        with pytest.raises(ssl.SSLError):
            handshake(client, server, "b.example")


class TestTTP:
    """The TTP's service."""

    @pytest.mark.parametrize("name", ["ttp.example", "127.0.0.1", "::1"])
    def test_names_and_addresses(self, tmp_path: Path, name: str) -> None:
        """The service is reached by any name or address in its certificate."""
        client = context(ssl.PROTOCOL_TLS_CLIENT, tmp_path / "a", Purpose.NODE, ["a.example"])
        server = context(ssl.PROTOCOL_TLS_SERVER, tmp_path / "t", Purpose.TTP, ["ttp.example", "127.0.0.1", "::1"])
        assert handshake(client, server, name).version() == "TLSv1.3"
