"""Logins: who a mail program speaks for, and the origin key that only this login opens.

An unknown user costs as much as a known one and is answered alike. What the login yields lives as long
as the session and is stored nowhere.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field

from secmtp_node.ports.services import Draw, Passwords, SigningPair, Vault
from secmtp_node.ports.store import Store
from secmtp_node.ports.values import KeyUse, User, UserKey, Verifier
from shared.encoding.address import normal_address
from shared.errors import Malformed, OurFault, Unauthenticated

NONCE = 18
MAX_MESSAGE = 2048
_WRONG = "user name or password is wrong"


@dataclass(frozen=True, slots=True)
class Login:
    """An authenticated user, and the origin key that this login opened."""

    address: str
    origin: SigningPair = field(repr=False)
    origin_key: UserKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class ScramChallenge:
    """A SCRAM exchange after the server's first message, which is `message`."""

    message: str
    address: str
    nonce: str
    client_first_bare: str
    gs2_header: str
    verifier: Verifier = field(repr=False)


class Logins:
    """Checks who logs in."""

    def __init__(self, store: Store, passwords: Passwords, vault: Vault, draw: Draw) -> None:
        self._store = store
        self._passwords = passwords
        self._vault = vault
        self._draw = draw

    def by_password(self, user: str, password: str) -> Login:
        """Check a password (AUTH PLAIN, LOGIN). Raises Unauthenticated."""
        address, known, verifier = self._look_up(user)
        client_key = self._passwords.by_password(password, verifier)
        return self._open(address, known, client_key)

    def scram_first(self, client_first: str) -> ScramChallenge:
        """Answer a client's first SCRAM-SHA-256 message (RFC 5802 §5). Raises Malformed."""
        gs2_header, bare = _client_first(client_first)
        fields = _attributes(bare, "nr")
        address, _, verifier = self._look_up(_unescape(fields["n"]))
        nonce = fields["r"] + base64.b64encode(self._draw(NONCE)).decode("ascii")
        salt = base64.b64encode(verifier.salt).decode("ascii")
        message = f"r={nonce},s={salt},i={verifier.iterations}"
        return ScramChallenge(message, address, nonce, bare, gs2_header, verifier)

    def scram_final(self, challenge: ScramChallenge, client_final: str) -> tuple[Login, str]:
        """Check a client's final message; return the login and the server's final message.

        Raises Malformed or Unauthenticated.
        """
        if len(client_final) > MAX_MESSAGE:
            raise Malformed("the SCRAM message is too long")
        without_proof = client_final.rpartition(",p=")[0]
        fields = _attributes(client_final, "crp")
        bound = base64.b64encode(challenge.gs2_header.encode()).decode("ascii")
        auth_message = f"{challenge.client_first_bare},{challenge.message},{without_proof}".encode()
        client_key = self._passwords.by_proof(_octets(fields["p"]), auth_message, challenge.verifier)
        if fields["c"] != bound or not hmac.compare_digest(fields["r"].encode(), challenge.nonce.encode()):
            raise Unauthenticated(_WRONG)
        _, known, _ = self._look_up(challenge.address)
        login = self._open(challenge.address, known, client_key)
        answer = self._passwords.answer(auth_message, challenge.verifier)
        return login, "v=" + base64.b64encode(answer).decode("ascii")

    def _look_up(self, name: str) -> tuple[str, User | None, Verifier]:
        try:
            address = normal_address(name)
        except Malformed:
            address = name
        with self._store.transaction() as unit:
            user = unit.users.find(address)
        return address, user, user.verifier if user is not None else self._passwords.fake(address)

    def _open(self, address: str, user: User | None, client_key: bytes | None) -> Login:
        if user is None or client_key is None:
            raise Unauthenticated(_WRONG)
        with self._store.transaction() as unit:
            keys = unit.users.keys(address)
        origin = next((key for key in keys if key.use is KeyUse.ORIGIN), None)
        if origin is None:
            raise OurFault(f"{address} has no origin key; add the user anew")
        return Login(address, self._vault.origin(origin, client_key), origin)


def _client_first(message: str) -> tuple[str, str]:
    if len(message) > MAX_MESSAGE:
        raise Malformed("the SCRAM message is too long")
    flag, authzid, bare = [*message.split(",", 2), "", ""][:3]
    # "y": the client could bind to the channel and thinks that we can't, which is so.
    if flag not in {"n", "y"} or authzid or not bare:
        raise Malformed("SCRAM without channel binding and without an authorization identity is offered")
    return f"{flag},{authzid},", bare


def _attributes(message: str, expected: str) -> dict[str, str]:
    """Read exactly these attributes, in this order; an extension `m=` or any other isn't understood."""
    parts = message.split(",")
    if [part[:2] for part in parts] != [f"{name}=" for name in expected]:
        raise Malformed(f"the SCRAM message hasn't the attributes {', '.join(expected)}")
    fields = {part[0]: part[2:] for part in parts}
    if not all(fields.values()):
        raise Malformed("the SCRAM message has an empty attribute")
    return fields


def _unescape(name: str) -> str:
    if "=" in name.replace("=2C", "").replace("=3D", ""):
        raise Malformed("the SCRAM user name has a bad escape")
    return name.replace("=2C", ",").replace("=3D", "=")


def _octets(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise Malformed("the SCRAM proof isn't base64") from error
