"""Passwords, users' keys and secrets at rest: what a thief of the database can't do."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from scramp import ScramClient

from secmtp_node.custody import passwords
from secmtp_node.custody.at_rest import MasterKey, make_master_key
from secmtp_node.custody.passwords import ITERATIONS, ScramPasswords, make_verifier
from secmtp_node.ports.values import KeyUse, UserKey
from shared.errors import ConfigurationError, Forbidden, Malformed, OurFault, SecMTPError
from shared.programs.files import private_directory
from tests.doubles.crafted import ALICE, BOB, Crafted
from tests.doubles.nodes import PASSWORD, TwoNodes
from tests.doubles.parties import LETTER

FEW = 4096


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TwoNodes]:
    """Two nodes and a TTP."""
    made = TwoNodes(tmp_path)
    yield made
    made.close()


@pytest.fixture
def master(tmp_path: Path) -> MasterKey:
    """A master key."""
    private_directory(tmp_path / "keys")
    make_master_key(tmp_path / "keys", secrets.token_bytes)
    return MasterKey(tmp_path / "keys", secrets.token_bytes)


class TestVerifiers:
    """SCRAM-SHA-256."""

    # RFC 7677 section 3: user "user", password "pencil".
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    auth_message = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signature = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")

    def test_vector(self, master: MasterKey) -> None:
        """The proof of RFC 7677 yields the ClientKey, and the server's signature is the one printed there."""
        verifier, client_key = make_verifier("pencil", self.salt, FEW)
        checker = ScramPasswords(master.fingerprint)
        assert checker.by_proof(self.proof, self.auth_message, verifier) == client_key
        assert checker.answer(self.auth_message, verifier) == self.signature
        assert hashlib.sha256(client_key).digest() == verifier.stored_key

    @pytest.mark.parametrize("proof", [proof[:-1], proof + b"x", bytes(32), b"", proof[:-1] + b"x"])
    def test_wrong_proof(self, master: MasterKey, proof: bytes) -> None:
        """Any other proof yields nothing."""
        verifier, _ = make_verifier("pencil", self.salt, FEW)
        assert ScramPasswords(master.fingerprint).by_proof(proof, self.auth_message, verifier) is None

    def test_a_foreign_client(self, master: MasterKey) -> None:
        """A SCRAM client of another make proves a password, and both ways to it yield the same ClientKey."""
        verifier, _ = make_verifier("påss wörd", self.salt, FEW)
        checker = ScramPasswords(master.fingerprint)
        client = ScramClient(["SCRAM-SHA-256"], "user", "påss wörd")
        bare = client.get_client_first().removeprefix("n,,")
        nonce = bare.partition("r=")[2] + "server"
        first = f"r={nonce},s={base64.b64encode(self.salt).decode()},i={FEW}"
        client.set_server_first(first)
        final = client.get_client_final()
        without, _, proof = final.partition(",p=")
        auth_message = f"{bare},{first},{without}".encode()
        found = checker.by_proof(base64.b64decode(proof), auth_message, verifier)
        assert found is not None
        assert found == checker.by_password("påss wörd", verifier)
        client.set_server_final("v=" + base64.b64encode(checker.answer(auth_message, verifier)).decode())

    def test_iterations(self) -> None:
        """New verifiers cost a guess at least 100,000 iterations."""
        assert ITERATIONS >= 100_000
        assert make_verifier("x", self.salt)[0].iterations == ITERATIONS

    def test_saslprep(self, master: MasterKey) -> None:
        """The same password in another Unicode form, or with another kind of blank, is the same (RFC 4013)."""
        verifier, _ = make_verifier("Å b", self.salt, FEW)
        checker = ScramPasswords(master.fingerprint)
        assert checker.by_password("A\N{COMBINING RING ABOVE}\N{NO-BREAK SPACE}b", verifier) is not None
        assert checker.by_password("a\N{COMBINING RING ABOVE} b", verifier) is None

    @pytest.mark.parametrize("password", ["", "x" * 1025, "a\x07b", "\ud800"])
    def test_no_password(self, master: MasterKey, password: str) -> None:
        """What SASLprep prohibits can't be set, and never matches."""
        with pytest.raises(Malformed):
            make_verifier(password, self.salt, FEW)
        verifier, _ = make_verifier("right", self.salt, FEW)
        assert ScramPasswords(master.fingerprint).by_password(password, verifier) is None

    def test_unknown_users(self, tmp_path: Path, master: MasterKey, monkeypatch: pytest.MonkeyPatch) -> None:
        """An unknown address has a salt that never changes, another node's differs, and the work is the same."""
        checker = ScramPasswords(master.fingerprint)
        fake = checker.fake("nobody@b.example")
        assert fake == ScramPasswords(MasterKey(tmp_path / "keys", secrets.token_bytes).fingerprint).fake(
            "nobody@b.example"
        )
        assert fake.salt != checker.fake("somebody@b.example").salt
        assert (len(fake.salt), fake.iterations) == (passwords.SALT, ITERATIONS)
        counted: list[int] = []
        real = hashlib.pbkdf2_hmac

        def counting(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
            counted.append(iterations)
            return real(name, password, salt, 1)

        monkeypatch.setattr(hashlib, "pbkdf2_hmac", counting)
        assert checker.by_password("guess", fake) is None
        assert counted == [ITERATIONS]


class TestAtRest:
    """The master key."""

    def test_sealed(self, master: MasterKey) -> None:
        """What is sealed opens with the same words only, and two seals of one secret differ."""
        first, second = (master.seal(b"secret", "share", b"hM") for _ in range(2))
        assert first != second
        assert master.open(first, "share", b"hM") == b"secret"
        for what, about in (("share", b"hN"), ("other", b"hM")):
            with pytest.raises(ConfigurationError):
                master.open(first, what, about)
        for bent in (first[:-1], b"", bytes(len(first)), first[:12]):
            with pytest.raises(ConfigurationError):
                master.open(bent, "share", b"hM")

    def test_another_master_key(self, tmp_path: Path, master: MasterKey) -> None:
        """Another master key opens nothing, and says which file to look at."""
        other = tmp_path / "other"
        private_directory(other)
        make_master_key(other, secrets.token_bytes)
        with pytest.raises(ConfigurationError, match=r"master\.key"):
            MasterKey(other, secrets.token_bytes).open(master.seal(b"x", "a", b""), "a", b"")
        assert MasterKey(other, secrets.token_bytes).fingerprint(b"x") != master.fingerprint(b"x")

    def test_never_overwritten(self, tmp_path: Path, master: MasterKey) -> None:
        """A master key that is there is never replaced: everything sealed would be lost."""
        assert master.fingerprint(b"x")
        with pytest.raises(ConfigurationError):
            make_master_key(tmp_path / "keys", secrets.token_bytes)

    def test_readable_by_others(self, tmp_path: Path) -> None:
        """A master key that others may read isn't used."""
        place = tmp_path / "open"
        private_directory(place)
        make_master_key(place, secrets.token_bytes)
        (place / "master.key").chmod(0o644)
        with pytest.raises(ConfigurationError):
            MasterKey(place, secrets.token_bytes)


def keys_of(world: TwoNodes, address: str) -> dict[KeyUse, UserKey]:
    """Return the keys of a user of node b, or of node a."""
    node = world.a if address.endswith("a.example") else world.b
    with node.store.transaction() as unit:
        return {key.use: key for key in unit.users.keys(address)}


class TestVault:
    """Users' keys."""

    def test_login_opens_the_origin_key(self, world: TwoNodes) -> None:
        """The login, and nothing else, opens the origin key that is certified for the address."""
        key = keys_of(world, ALICE)[KeyUse.ORIGIN]
        assert key.by_node is None
        pair = world.a.vault.origin(key, world.a.log_in(ALICE).client_key)
        assert pair.chain[0] == key.certificate
        for wrong in (bytes(32), secrets.token_bytes(32), world.a.log_in("carol@a.example").client_key):
            with pytest.raises(OurFault):
                world.a.vault.origin(key, wrong)

    def test_no_key_in_anothers_place(self, world: TwoNodes) -> None:
        """A wrapped key that is put in another use's, user's or version's place doesn't open."""
        bob, dave = keys_of(world, BOB), keys_of(world, "dave@b.example")
        receipt = bob[KeyUse.RECEIPT]
        swapped = [
            replace(receipt, by_node=bob[KeyUse.HPKE].by_node),
            replace(receipt, by_node=dave[KeyUse.RECEIPT].by_node),
            replace(receipt, version=receipt.version + 1),
            replace(receipt, by_node=receipt.by_login),
        ]
        for key in swapped:
            with pytest.raises(OurFault):
                world.b.vault.receipt(key)

    def test_wrong_use(self, world: TwoNodes) -> None:
        """A key isn't opened for a use that isn't its own."""
        keys = keys_of(world, BOB)
        with pytest.raises(OurFault):
            world.b.vault.receipt(keys[KeyUse.HPKE])
        with pytest.raises(OurFault):
            world.b.vault.hpke(keys[KeyUse.RECEIPT])
        with pytest.raises(OurFault):
            world.b.vault.origin(keys[KeyUse.RECEIPT], bytes(32))

    def test_not_delegated(self, world: TwoNodes) -> None:
        """Without delegation the node can open none of a user's keys by itself."""
        world.b.add_user("zoe@b.example", delegated=False)
        keys = keys_of(world, "zoe@b.example")
        assert all(key.by_node is None for key in keys.values())
        with pytest.raises(Forbidden):
            world.b.vault.receipt(keys[KeyUse.RECEIPT])
        with pytest.raises(Forbidden):
            world.b.vault.hpke(keys[KeyUse.HPKE])


class TestTheft:
    """What a thief gets who has the database and all files beside it, but not the master key."""

    def test_signs_and_reads_nothing(self, world: TwoNodes, tmp_path: Path) -> None:
        """With another master key no key opens, no share, no head of a letter, and no delivery can be made."""
        world.a.submit(ALICE, [BOB], LETTER)
        envelope = Crafted(world).envelope()
        world.b.accept(envelope)
        thief = tmp_path / "thief"
        private_directory(thief)
        make_master_key(thief, secrets.token_bytes)
        for node in (world.a, world.b):
            node.load(master=thief)
        for address in (ALICE, BOB):
            node = world.a if address is ALICE else world.b
            keys = keys_of(world, address)
            for opened in (node.vault.receipt, node.vault.hpke):
                key = keys[KeyUse.RECEIPT if opened == node.vault.receipt else KeyUse.HPKE]
                with pytest.raises(SecMTPError):
                    opened(key)
        world.b.work()
        assert world.b.mailbox(BOB) == {}

    def test_nothing_in_the_clear(self, world: TwoNodes) -> None:
        """No octets of a letter, its subject, a private key or a password stand in a node's data directory."""
        letter = LETTER.replace(b"hello", b"Very-Secret-Subject").replace(b"Dear Bob", b"Very-Secret-Text")
        world.a.submit(ALICE, [BOB], letter)
        world.settle(4)
        private = world.a.vault.origin(keys_of(world, ALICE)[KeyUse.ORIGIN], world.a.log_in(ALICE).client_key)
        wanted = [
            b"Very-Secret",
            PASSWORD.encode(),
            private.key.private_bytes_raw(),
            world.a.log_in(ALICE).client_key,
            world.b.vault.hpke(keys_of(world, BOB)[KeyUse.HPKE]).raw,
        ]
        for node in (world.a, world.b):
            for path in (node.place / "data").rglob("*"):
                data = path.read_bytes() if path.is_file() else b""
                assert not any(secret in data for secret in wanted), path
