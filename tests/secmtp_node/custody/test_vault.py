"""Users' keys at rest: who steals the database has no key, and the node itself has no origin key."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secmtp_node.custody.at_rest import MasterKey, make_master_key
from secmtp_node.custody.vault import KeyVault
from secmtp_node.ports.values import KeyUse, UserKey
from shared.crypto.keys import generate_hpke
from shared.errors import ConfigurationError, Forbidden, OurFault
from shared.programs.files import private_directory

ALICE = "alice@a.example"
CLIENT_KEY = b"\x07" * 32


def master(place: Path) -> MasterKey:
    """A fresh master key in a directory."""
    private_directory(place)
    make_master_key(place, secrets.token_bytes)
    return MasterKey(place, secrets.token_bytes)


def vault(key: MasterKey) -> KeyVault:
    """A vault under a master key."""
    return KeyVault(key, secrets.token_bytes, lambda key: (key.certificate,))


@pytest.fixture
def own(tmp_path: Path) -> KeyVault:
    """The node's vault."""
    return vault(master(tmp_path / "own"))


def stored(own: KeyVault, use: KeyUse, *, delegated: bool = True) -> UserKey:
    """A key as the database has it."""
    hpke = generate_hpke("X25519")
    private = hpke.raw if use is KeyUse.HPKE else Ed25519PrivateKey.generate().private_bytes_raw()
    by_login, by_node = own.wrap(private, (ALICE, use, 1), CLIENT_KEY, delegated=delegated)
    public = hpke.public if use is KeyUse.HPKE else None
    return UserKey(ALICE, use, 1, bytes(32), public, b"certificate", by_login, by_node)


class TestWithTheRightKeys:
    def test_login_opens_the_origin_key(self, own: KeyVault) -> None:
        """The ClientKey of a login opens the origin key, with its chain."""
        pair = own.origin(stored(own, KeyUse.ORIGIN), CLIENT_KEY)
        assert pair.chain == (b"certificate",)

    def test_node_opens_what_was_delegated(self, own: KeyVault) -> None:
        """The node opens delegated receipt and HPKE keys without anybody's login."""
        assert own.receipt(stored(own, KeyUse.RECEIPT)).chain == (b"certificate",)
        key = stored(own, KeyUse.HPKE)
        assert own.hpke(key).public == key.public


class TestThief:
    def test_database_without_the_master_key(self, own: KeyVault, tmp_path: Path) -> None:
        """Who has the database and another master key can sign nothing and read nothing."""
        thief = vault(master(tmp_path / "thief"))
        with pytest.raises(OurFault):
            thief.receipt(stored(own, KeyUse.RECEIPT))
        with pytest.raises(OurFault):
            thief.hpke(stored(own, KeyUse.HPKE))
        with pytest.raises(OurFault):
            thief.origin(stored(own, KeyUse.ORIGIN), bytes(32))

    def test_node_has_no_origin_key(self, own: KeyVault) -> None:
        """The origin key is never wrapped for the node: even with the master key nobody signs as Alice."""
        key = stored(own, KeyUse.ORIGIN)
        assert key.by_node is None
        with pytest.raises(OurFault):
            own.origin(key, bytes(32))

    def test_without_delegation(self, own: KeyVault) -> None:
        """A user who doesn't delegate leaves nothing that the node could open."""
        for use, open_it in ((KeyUse.RECEIPT, own.receipt), (KeyUse.HPKE, own.hpke)):
            key = stored(own, use, delegated=False)
            assert key.by_node is None
            with pytest.raises(Forbidden, match="hasn't delegated"):
                open_it(key)

    def test_a_wrapped_key_in_anothers_place(self, own: KeyVault) -> None:
        """A wrapped key moved to another user, use or version doesn't open."""
        receipt, hpke = stored(own, KeyUse.RECEIPT), stored(own, KeyUse.HPKE)
        moved = (
            replace(receipt, address="mallory@a.example"),
            replace(receipt, version=2),
            replace(receipt, by_node=hpke.by_node),
        )
        for key in moved:
            with pytest.raises(OurFault):
                own.receipt(key)
        with pytest.raises(OurFault):
            own.receipt(hpke)

    def test_altered(self, own: KeyVault) -> None:
        """A wrapped key with any octet altered, or cut, doesn't open."""
        key = stored(own, KeyUse.RECEIPT)
        assert key.by_node is not None
        for place in range(len(key.by_node)):
            altered = bytearray(key.by_node)
            altered[place] ^= 1
            with pytest.raises(OurFault):
                own.receipt(replace(key, by_node=bytes(altered)))
        for length in (0, 5, 12, 20):
            with pytest.raises(OurFault):
                own.receipt(replace(key, by_node=key.by_node[:length]))

    def test_nothing_secret_is_shown(self, own: KeyVault) -> None:
        """Neither a stored key nor an opened one shows its octets."""
        key = stored(own, KeyUse.HPKE)
        assert key.by_login.hex() not in repr(key)
        assert repr(key.by_node) not in repr(key)
        assert repr(own.hpke(key).raw) not in repr(own.hpke(key))


class TestAtRest:
    def test_round_trip_and_binding(self, tmp_path: Path) -> None:
        """A sealed secret opens for the same purpose and subject only."""
        key = master(tmp_path / "own")
        sealed = key.seal(b"secret", "share", b"exchange")
        assert key.open(sealed, "share", b"exchange") == b"secret"
        assert b"secret" not in sealed
        for what, about in (("other", b"exchange"), ("share", b"other")):
            with pytest.raises(ConfigurationError):
                key.open(sealed, what, about)

    def test_another_master_key(self, tmp_path: Path) -> None:
        """Under another master key nothing opens, and the error says which file to look for."""
        sealed = master(tmp_path / "own").seal(b"secret", "share", b"exchange")
        with pytest.raises(ConfigurationError, match=r"master\.key"):
            master(tmp_path / "other").open(sealed, "share", b"exchange")

    def test_file(self, tmp_path: Path) -> None:
        """The master key's file is for its owner only; a shorter one, or one that others may read, is refused."""
        master(tmp_path / "own")
        path = tmp_path / "own" / "master.key"
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o640)
        with pytest.raises(ConfigurationError, match="chmod"):
            MasterKey(tmp_path / "own", secrets.token_bytes)
        path.chmod(0o600)
        path.write_bytes(b"short")
        with pytest.raises(ConfigurationError, match="expected 32"):
            MasterKey(tmp_path / "own", secrets.token_bytes)
