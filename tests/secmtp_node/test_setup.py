"""Setting a node up against a real TTP over HTTPS, with certificates of today: what is kept, and what a failure leaves.

tests/secmtp_node/test_settings.py has what both programs' set-ups share.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secmtp_node import app, setup
from secmtp_node import settings as settings_module
from secmtp_node.agents import users
from secmtp_node.custody.identity import load_identity
from secmtp_node.ports.values import KeyUse
from secmtp_node.store.database import SqlStore, open_engine
from shared.commands import authority
from shared.errors import ConfigurationError, Conflict, EvidenceFault, Forbidden, NotFound, Unavailable
from shared.evidence.binding import verify_binding
from shared.evidence.records import DomainRecord
from tests.doubles.served import PushedClock, Served
from ttp_server import setup as ttp_setup

NAME, ALICE, PASSWORD = "ttp.example", "alice@a.example", "correct horse"


class Today(Served):
    """A served TTP whose certificates are of today, as TLS and the node's own clock want them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.directory = place / "ttp"
        self.clock = PushedClock(self.now)
        self.root = place / "ca" / "root.pem"
        authority.init_authority(place / "ca", name="Root of today", now=self.now, passphrase=None)
        ttp_setup.initialise(self.directory, name=NAME, hosts=["localhost"], now=self.now)
        ttp_setup.install_certificates(self.directory, self.issue(self.directory), self.root, now=self.now)

    @property
    def now(self) -> int:
        """Now."""
        return int(time.time())

    @property
    def url(self) -> str:
        """Where the TTP is."""
        return str(self.client.base_url)

    def issue(self, directory: Path) -> Path:
        """Have the CA certify what a directory requests."""
        issued = directory.with_suffix(".issued.json")
        authority.issue_from_file(self.place / "ca", directory / "request.json", issued, now=self.now, passphrase=None)
        return issued

    def token(self, *domains: str) -> str:
        """Make an enrolment token."""
        return ttp_setup.create_enrolment_token(self.directory, domains=domains, now=self.now, lifetime=3600)

    def made(self, name: str = "node", domain: str = "a.example") -> Path:
        """Make a node's directory, without certificates."""
        setup.initialise(self.place / name, domains=[domain], hosts=["localhost"], now=self.now)
        return self.place / name

    def certified(self, name: str = "node", domain: str = "a.example") -> Path:
        """Make a node's directory with certificates."""
        directory = self.made(name, domain)
        setup.install_certificates(directory, self.issue(directory), self.root, now=self.now)
        return directory

    def enrol(self, directory: Path, token: str, **changed: Any) -> None:
        """Enrol a node."""
        arguments = {"ttp_url": self.url, "ttp_name": NAME, "token": token, "now": self.now, **changed}
        setup.enrol(directory, **arguments)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Today]:
    """A CA and a TTP that serves."""
    made = Today(tmp_path)
    made.start()
    yield made
    made.stop()


def store_of(directory: Path) -> SqlStore:
    """Open the database of a directory."""
    return SqlStore(open_engine(app.database_url(directory, settings_module.load(directory))))


def enrolled_at(directory: Path) -> str | None:
    """Return the address of the TTP that a node knows."""
    try:
        return settings_module.load_ttp(directory).url
    except ConfigurationError:
        return None


class TestWholeWay:
    def test_from_nothing_to_the_directory(self, world: Today) -> None:
        """After init, certify, enrol and user add, the user's keys can be published and looked up at the TTP."""
        directory = world.certified()
        world.enrol(directory, world.token("a.example"))
        assert setup.add_user(directory, "alice@A.Example", PASSWORD, now=world.now) == ALICE
        settings, identity = settings_module.load(directory), load_identity(directory, world.now)
        registry = app.build_registry(directory, settings, identity, store_of(directory))
        ttp = app.build_ttp(identity, settings_module.load_ttp(directory))
        record = DomainRecord("a.example", "localhost", 25, identity.hpke.public, ("online",), world.now)
        users.publish_domains(registry, ttp, record)
        users.publish(registry, ttp, app.tell)
        binding = verify_binding(ttp.look_up(ALICE).binding, identity.root, world.now)
        ttp.close()
        with registry.store.transaction() as unit:
            keys = {key.use: key for key in unit.users.keys(ALICE)}
        assert binding.address == ALICE
        assert binding.origin.key_id == keys[KeyUse.ORIGIN].key_id
        assert binding.hpke == keys[KeyUse.HPKE].public

    def test_nothing_secret_is_open(self, world: Today) -> None:
        """Whatever set-up made: no key, password or token can be read by others, or stands where it isn't needed."""
        directory, token = world.certified(), world.token("a.example")
        world.enrol(directory, token)
        setup.add_user(directory, ALICE, PASSWORD, now=world.now)
        for path in directory.rglob("*"):
            if path.is_dir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
                continue
            data = path.read_bytes()
            assert PASSWORD.encode() not in data, path
            assert token.encode() not in data, path
            if path.parent.name == "keys":
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


class TestCertify:
    def test_twice(self, world: Today) -> None:
        """Certificates that are installed aren't replaced by the same command."""
        directory = world.certified()
        before = (directory / "certificates.json").read_bytes()
        with pytest.raises(ConfigurationError, match="exists already"):
            setup.install_certificates(directory, directory.with_suffix(".issued.json"), world.root, now=world.now)
        assert (directory / "certificates.json").read_bytes() == before

    def test_after_a_crash(self, world: Today) -> None:
        """Where a crash came between the root and the certificates, the same command goes on; another root stays."""
        directory = world.made()
        issued = world.issue(directory)
        (directory / "root.pem").write_bytes(world.root.read_bytes() + b"\n")
        with pytest.raises(ConfigurationError, match="exists already"):
            setup.install_certificates(directory, issued, world.root, now=world.now)
        (directory / "root.pem").write_bytes(world.root.read_bytes())
        setup.install_certificates(directory, issued, world.root, now=world.now)
        assert (directory / "certificates.json").exists()

    def test_of_another_program(self, world: Today) -> None:
        """What the CA issued to the TTP doesn't make a node."""
        directory = world.made()
        with pytest.raises(ConfigurationError, match="aren't for a node"):
            setup.install_certificates(directory, world.place / "ttp.issued.json", world.root, now=world.now)
        assert not (directory / "certificates.json").exists()


class TestEnrol:
    def test_without_certificates(self, world: Today) -> None:
        """A node without certificates is told to get them first."""
        directory = world.made()
        with pytest.raises(ConfigurationError, match="certify"):
            world.enrol(directory, world.token("a.example"))
        assert enrolled_at(directory) is None

    def test_wrong_token(self, world: Today) -> None:
        """Without a token of the TTP's operator nobody is enrolled, and the node knows that it isn't."""
        directory = world.certified()
        with pytest.raises(Forbidden, match="isn't known"):
            world.enrol(directory, "A" * 43)
        assert enrolled_at(directory) is None

    def test_token_for_another_domain(self, world: Today) -> None:
        """A token for other mail domains enrols nobody."""
        directory = world.certified()
        with pytest.raises(Forbidden, match=r"isn't for a\.example"):
            world.enrol(directory, world.token("b.example"))
        assert enrolled_at(directory) is None

    def test_again(self, world: Today) -> None:
        """A node whose enrolment was answered and then lost enrols again with the same token."""
        directory, token = world.certified(), world.token("a.example")
        world.enrol(directory, token)
        (directory / settings_module.TTP_FILE).unlink()
        world.enrol(directory, token)
        assert enrolled_at(directory) == world.url

    def test_token_of_somebody_else(self, world: Today) -> None:
        """A token that one node used enrols no other, not even one that the CA certified for the same domain."""
        first, second, token = world.certified("first"), world.certified("second"), world.token("a.example")
        world.enrol(first, token)
        with pytest.raises(Forbidden, match="is used"):
            world.enrol(second, token)
        assert enrolled_at(second) is None

    def test_another_name(self, world: Today) -> None:
        """A TTP by another name than was asked for isn't enrolled at, and keeps no token: it works afterwards."""
        directory, token = world.certified(), world.token("a.example")
        with pytest.raises(EvidenceFault, match=r"ttp\.name"):
            world.enrol(directory, token, ttp_name="other.example")
        assert enrolled_at(directory) is None
        world.enrol(directory, token)
        assert enrolled_at(directory) == world.url

    def test_nobody_there(self, world: Today) -> None:
        """A failed enrolment elsewhere leaves the node enrolled where it was."""
        directory = world.certified()
        world.enrol(directory, world.token("a.example"))
        with pytest.raises(Unavailable):
            world.enrol(directory, "A" * 43, ttp_url="https://localhost:1")
        assert enrolled_at(directory) == world.url


class TestAddUser:
    def test_without_certificates(self, world: Today) -> None:
        """Without certificates nobody can be certified, and no half user is left."""
        directory = world.made()
        with pytest.raises(ConfigurationError, match="certify"):
            setup.add_user(directory, ALICE, PASSWORD, now=world.now)
        with store_of(directory).transaction() as unit:
            assert list(unit.users.addresses()) == []

    def test_twice(self, world: Today) -> None:
        """A user who is there keeps keys and password."""
        directory = world.certified()
        setup.add_user(directory, ALICE, PASSWORD, now=world.now)
        with store_of(directory).transaction() as unit:
            before = unit.users.find(ALICE), list(unit.users.keys(ALICE))
        with pytest.raises(Conflict):
            setup.add_user(directory, ALICE, "another", now=world.now)
        with store_of(directory).transaction() as unit:
            assert (unit.users.find(ALICE), list(unit.users.keys(ALICE))) == before

    def test_foreign_domain(self, world: Today) -> None:
        """An address of a domain that isn't certified for this node is refused, and the error names those that are."""
        directory = world.certified()
        with pytest.raises(ConfigurationError, match=r"a\.example"):
            setup.add_user(directory, "alice@b.example", PASSWORD, now=world.now)

    def test_lost_master_key(self, world: Today) -> None:
        """Without its master key a node makes no users: the database would be of no use."""
        directory = world.certified()
        (directory / "keys" / "master.key").unlink()
        with pytest.raises(ConfigurationError, match=r"master\.key"):
            setup.add_user(directory, ALICE, PASSWORD, now=world.now)


def test_fault_that_there_is_not(world: Today, tmp_path: Path) -> None:
    """A proof of a fault that there isn't is not exported, and no directory is made for it."""
    with pytest.raises(NotFound):
        setup.export_fault(world.certified(), bytes(32), tmp_path / "out")
    assert not (tmp_path / "out").exists()
