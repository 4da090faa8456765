"""Certificate requests and what comes back: each key is bound to the names that it asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from shared.crypto import issuance, requests
from shared.crypto.certificates import Purpose, TrustRoot
from shared.crypto.issuance import Issuer, Validity
from shared.crypto.keys import SigningKey, generate_ed25519, generate_p256, key_id
from shared.crypto.requests import (
    DOMAIN_CA,
    NodeNames,
    TTPNames,
    decode_certificates,
    decode_request,
    encode_certificates,
    make_request,
    verify_certificates,
)
from shared.encoding import base64url, canonical
from shared.errors import EvidenceFault, Malformed

NOW = 1_800_000_000
ROOT_KEY = generate_p256()
ROOT = Issuer(issuance.issue_root("Root", ROOT_KEY, 1, Validity.starting(NOW, issuance.ROOT_LIFETIME)), ROOT_KEY)
TRUST = TrustRoot.from_der(ROOT.certificate)
NODE = NodeNames(("b.example", "b2.example"), ("mx.b.example", "localhost"))
TTP = TTPNames("ttp.example", "ttp.example/ledger", ("ttp.example", "127.0.0.1"))
Keys = dict[Purpose, SigningKey]


def node_keys() -> Keys:
    """Make a node's keys."""
    return {Purpose.NODE: generate_p256(), Purpose.NODE_REQUEST: generate_ed25519()}


def ttp_keys() -> Keys:
    """Make a TTP's keys."""
    return {Purpose.NRD: generate_ed25519(), Purpose.LEDGER: generate_ed25519(), Purpose.TTP: generate_p256()}


def node_request(names: NodeNames = NODE) -> bytes:
    """Make a node's request with fresh keys."""
    return make_request(names, node_keys(), generate_p256())


def changed(request: bytes, change: Callable[[Any], None]) -> bytes:
    """Return a request with its members changed."""
    members = canonical.decode(request, what="request", limit=requests.MAX_FILE)
    change(members)
    return canonical.encode(members)


class TestRequests:
    """make_request and decode_request."""

    def test_node(self) -> None:
        """A node's request names its keys, each proven, and the names for each."""
        keys, authority = node_keys(), generate_p256()
        request = decode_request(make_request(NODE, keys, authority))
        assert request.names == NODE
        assert {purpose: key_id(key) for purpose, key in request.keys.items()} == {
            purpose: key_id(key.public_key()) for purpose, key in keys.items()
        }
        assert request.domain_ca is not None
        assert key_id(request.domain_ca) == key_id(authority.public_key())
        assert requests.count(request) == 3

    def test_ttp(self) -> None:
        """A TTP's request has three keys and no domain CA."""
        request = decode_request(make_request(TTP, ttp_keys()))
        assert (request.names, request.domain_ca, requests.count(request)) == (TTP, None, 3)

    def test_no_host_names(self) -> None:
        """A node without host names of its own is certified for its mail domains alone."""
        names = NodeNames(("b.example",))
        assert decode_request(node_request(names)).names == names

    @pytest.mark.parametrize(
        "names",
        [
            NodeNames(()),
            NodeNames(("B.example",)),
            NodeNames(("b.example",), ("127.0.0.1:25",)),
            TTPNames("ttp.example", "", ("ttp.example",)),
            TTPNames("ttp.example", "ttp.example/ledger", ()),
            TTPNames("not a name", "ttp.example/ledger", ("ttp.example",)),
        ],
    )
    def test_names_that_cant_be(self, names: NodeNames | TTPNames) -> None:
        """Names that couldn't be certified aren't asked for."""
        with pytest.raises(Malformed):
            make_request(names, {**node_keys(), **ttp_keys()}, generate_p256())

    @pytest.mark.parametrize("slot", ["node", "node-request", DOMAIN_CA])
    def test_csr_of_another_request(self, slot: str) -> None:
        """A CSR taken from a request for other names gets no certificate in this one."""
        other = canonical.decode(node_request(NodeNames(("c.example",))), what="", limit=requests.MAX_FILE)

        def swap(members: Any) -> None:
            members["csrs"][slot] = other["csrs"][slot]

        with pytest.raises(Malformed, match="other names"):
            decode_request(changed(node_request(), swap))

    @pytest.mark.parametrize(("slot", "other"), [("node", DOMAIN_CA), (DOMAIN_CA, "node"), ("node-request", "node")])
    def test_csr_in_another_slot(self, slot: str, other: str) -> None:
        """A CSR for one purpose isn't taken for another."""

        def move(members: Any) -> None:
            members["csrs"][slot] = members["csrs"][other]

        with pytest.raises(Malformed):
            decode_request(changed(node_request(), move))

    def test_names_added_afterwards(self) -> None:
        """Whoever passes a request on can't add a domain to it."""

        def add(members: Any) -> None:
            members["domains"].append("c.example")

        with pytest.raises(Malformed, match="other names"):
            decode_request(changed(node_request(), add))

    def test_possession(self) -> None:
        """A CSR that isn't signed by its own key is refused."""

        def spoil(members: Any) -> None:
            der = bytearray(base64url.decode(members["csrs"]["node-request"]))
            der[-1] ^= 1
            members["csrs"]["node-request"] = base64url.encode(bytes(der))

        with pytest.raises(Malformed, match="own key"):
            decode_request(changed(node_request(), spoil))

    def test_other_kind_of_key(self) -> None:
        """A key of a kind that we don't use gets nothing."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        der = builder.sign(rsa.generate_private_key(65537, 2048), hashes.SHA256()).public_bytes(Encoding.DER)

        def put(members: Any) -> None:
            members["csrs"]["node"] = base64url.encode(der)

        with pytest.raises(Malformed, match="P-256"):
            decode_request(changed(node_request(), put))

    @pytest.mark.parametrize(
        "change",
        [
            lambda members: members.update(v=2),
            lambda members: members.update(kind="agent"),
            lambda members: members.update(more=1),
            lambda members: members.update(hosts=[1]),
            lambda members: members.update(hosts=[]),
            lambda members: members.pop("domains"),
            lambda members: members["csrs"].pop("node"),
            lambda members: members["csrs"].pop(DOMAIN_CA),
            lambda members: members["csrs"].update(origin=members["csrs"]["node"]),
            lambda members: members["csrs"].update(node="AAAA"),
        ],
    )
    def test_malformed(self, change: Callable[[Any], None]) -> None:
        """Unknown versions, kinds and members, and missing ones, are refused."""
        with pytest.raises(Malformed):
            decode_request(changed(node_request(), change))

    @given(data=st.binary(max_size=300))
    def test_garbage(self, data: bytes) -> None:
        """Arbitrary octets, and arbitrary octets in place of a CSR, raise Malformed and nothing else."""
        with pytest.raises(Malformed):
            decode_request(data)
        with pytest.raises(Malformed):
            decode_request(changed(REQUEST, lambda members: members["csrs"].update(node=base64url.encode(data))))


REQUEST = node_request()


class TestIssue:
    """issue, and the certificates file."""

    @pytest.mark.parametrize("names", [NODE, TTP], ids=["node", "ttp"])
    def test_all_is_issued(self, names: NodeNames | TTPNames) -> None:
        """Everything asked for is issued, survives its file, and verifies under the root."""
        keys: Keys = node_keys() if isinstance(names, NodeNames) else ttp_keys()
        authority = generate_p256() if isinstance(names, NodeNames) else None
        request = decode_request(make_request(names, keys, authority))
        issued = requests.issue(request, ROOT, range(2, 5), NOW)
        assert decode_certificates(encode_certificates(issued)) == issued
        verified = verify_certificates(issued, TRUST, NOW)
        for purpose, key in keys.items():
            assert verified.leaves[purpose].key_id == key_id(key.public_key())
        if authority is not None:
            assert verified.domain_ca is not None
            assert verified.domain_ca.key_id == key_id(authority.public_key())
            assert verified.domain_ca.domains == NODE.domains

    def test_lifetimes(self) -> None:
        """Certificates last two years unless asked otherwise."""
        issued = requests.issue(decode_request(REQUEST), ROOT, range(2, 5), NOW)
        verified = verify_certificates(issued, TRUST, NOW)
        assert verified.leaves[Purpose.NODE].not_after == NOW + 2 * issuance.YEAR
        short = requests.issue(decode_request(REQUEST), ROOT, range(2, 5), NOW, lifetime=60, domain_lifetime=30)
        verified = verify_certificates(short, TRUST, NOW)
        assert verified.domain_ca is not None
        assert (verified.leaves[Purpose.NODE].not_after, verified.domain_ca.not_after) == (NOW + 60, NOW + 30)

    def test_root_in_the_file_is_no_authority(self) -> None:
        """Certificates of another root are refused, though the file brings that root along."""
        key = generate_p256()
        other = Issuer(issuance.issue_root("Root", key, 1, Validity.starting(NOW, 1000)), key)
        issued = requests.issue(decode_request(REQUEST), other, range(2, 5), NOW)
        with pytest.raises(EvidenceFault):
            verify_certificates(decode_certificates(encode_certificates(issued)), TRUST, NOW)

    def test_swapped_purposes(self) -> None:
        """A file whose certificates were put in each other's places is refused."""
        request = decode_request(make_request(TTP, ttp_keys()))
        issued = requests.issue(request, ROOT, range(2, 5), NOW)
        leaves = {**issued.leaves, Purpose.NRD: issued.leaves[Purpose.LEDGER]}
        with pytest.raises(EvidenceFault, match=r"certificate\.purpose"):
            verify_certificates(requests.Certificates("ttp", leaves, None, issued.root), TRUST, NOW)

    @given(data=st.binary(max_size=300))
    def test_garbage(self, data: bytes) -> None:
        """Arbitrary octets are no certificates file."""
        with pytest.raises(Malformed):
            decode_certificates(data)
