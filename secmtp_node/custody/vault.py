"""Users' keys, wrapped: the origin key opens only with the login, the others also for the node if delegated.

Wrapping keys come from ClientKey, which a login yields and nothing stores, and from the master key.
What a key is for stands in the associated data, so that no wrapped key can take another's place.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secmtp_node.custody.at_rest import NONCE, MasterKey, derive, unwrap, wrap
from secmtp_node.ports.services import SigningPair
from secmtp_node.ports.values import KeyUse, UserKey
from shared.crypto.keys import HpkePrivateKey
from shared.encoding.labels import frame
from shared.errors import Forbidden, OurFault

LOGIN_LABEL = "user key by login"
NODE_USES = frozenset({KeyUse.RECEIPT, KeyUse.HPKE})


class KeyVault:
    """Wraps and opens users' keys."""

    def __init__(
        self, master: MasterKey, draw: Callable[[int], bytes], chain: Callable[[UserKey], tuple[bytes, ...]]
    ) -> None:
        self._master = master
        self._draw = draw
        self._chain = chain

    def wrap(
        self, private: bytes, about: tuple[str, KeyUse, int], client_key: bytes, *, delegated: bool
    ) -> tuple[bytes, bytes | None]:
        """Return a private key wrapped by the login and, where delegation allows it, by the node."""
        aad = _aad(*about)
        by_login = wrap(derive(client_key, LOGIN_LABEL), private, aad, self._draw(NONCE))
        if not delegated or about[1] not in NODE_USES:
            return by_login, None
        return by_login, wrap(self._master.users, private, aad, self._draw(NONCE))

    def origin(self, key: UserKey, client_key: bytes) -> SigningPair:
        """Open an origin key with the ClientKey that a login yielded."""
        if key.use is not KeyUse.ORIGIN:
            raise OurFault(f"{key.use} isn't an origin key")
        private = _open(derive(client_key, LOGIN_LABEL), key.by_login, key)
        return SigningPair(Ed25519PrivateKey.from_private_bytes(private), self._chain(key))

    def receipt(self, key: UserKey) -> SigningPair:
        """Open a delegated receipt key. Raises Forbidden without delegation."""
        private = self._by_node(key, KeyUse.RECEIPT)
        return SigningPair(Ed25519PrivateKey.from_private_bytes(private), self._chain(key))

    def hpke(self, key: UserKey) -> HpkePrivateKey:
        """Open a delegated HPKE key. Raises Forbidden without delegation."""
        if key.public is None:
            raise OurFault("a stored HPKE key has no public half")
        return HpkePrivateKey(key.public.kind, self._by_node(key, KeyUse.HPKE))

    def _by_node(self, key: UserKey, use: KeyUse) -> bytes:
        if key.use is not use:
            raise OurFault(f"{key.use} isn't a key for {use}")
        if key.by_node is None:
            raise Forbidden(f"{key.address} hasn't delegated this key to the node")
        return _open(self._master.users, key.by_node, key)


def _open(wrapping: bytes, wrapped: bytes, key: UserKey) -> bytes:
    try:
        return unwrap(wrapping, wrapped, _aad(key.address, key.use, key.version))
    except (InvalidTag, ValueError) as error:
        raise OurFault(f"the {key.use} key of a user doesn't open: wrong master key or damaged database") from error


def _aad(address: str, use: KeyUse, version: int) -> bytes:
    return frame("user key", address.encode(), use.value.encode(), str(version).encode())
