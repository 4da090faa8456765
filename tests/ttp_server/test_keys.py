"""What a TTP checks of its own keys and certificates before it serves with them."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.crypto import requests
from shared.crypto.certificates import Purpose
from shared.errors import ConfigurationError, EvidenceFault
from tests.doubles.parties import NOW, Root
from tests.doubles.served import Served, served
from ttp_server import setup
from ttp_server.custody.keys import CERTIFICATES, KEYS, ROOT, key_file

YEAR = 365 * 24 * 3600


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Served]:
    """A TTP that was served once and isn't now."""
    with served(tmp_path) as world:
        world.stop()
        yield world


@pytest.mark.parametrize("purpose", KEYS, ids=lambda purpose: purpose.value)
class TestKeyFiles:
    def test_that_others_may_read(self, stopped: Served, purpose: Purpose) -> None:
        """A key that others than its owner may read isn't served with; the message says what to do."""
        path = key_file(stopped.directory, purpose)
        for mode in (0o640, 0o604, 0o620):
            path.chmod(mode)
            with pytest.raises(ConfigurationError, match=rf"chmod go= .*{path.name}"):
                stopped.start()
        path.chmod(0o600)
        stopped.start()

    def test_that_is_missing(self, stopped: Served, purpose: Purpose) -> None:
        """A missing key is named by its file, and none is made in its place."""
        path = key_file(stopped.directory, purpose)
        path.unlink()
        with pytest.raises(ConfigurationError, match=path.name):
            stopped.start()
        assert not path.exists()

    def test_that_is_another(self, stopped: Served, purpose: Purpose, tmp_path: Path) -> None:
        """A key that isn't the certified one isn't served with."""
        setup.initialise(tmp_path / "other", name="ttp.example", hosts=["localhost"], now=NOW)
        shutil.copyfile(key_file(tmp_path / "other", purpose), key_file(stopped.directory, purpose))
        with pytest.raises(ConfigurationError, match=f"{purpose.value} isn't for the key"):
            stopped.start()


class TestCertificates:
    def test_none(self, stopped: Served) -> None:
        """Without certificates the message says which command installs them."""
        (stopped.directory / CERTIFICATES).unlink()
        with pytest.raises(ConfigurationError, match="secmtp ttp certify"):
            stopped.start()

    def test_of_another_root(self, stopped: Served) -> None:
        """Certificates that don't lead to the root in the directory aren't served with."""
        other = Root("Another root")
        (stopped.directory / ROOT).write_text(ssl.DER_cert_to_PEM_cert(other.certificate))
        with pytest.raises(EvidenceFault):
            stopped.start()

    def test_that_ended(self, stopped: Served) -> None:
        """A TTP whose certificates have ended isn't started."""
        stopped.clock.time = NOW + 20 * YEAR
        with pytest.raises(EvidenceFault):
            stopped.start()

    def test_for_another_name(self, stopped: Served) -> None:
        """Settings with a name that isn't certified are refused: nobody would take what it signs."""
        file = stopped.directory / "ttp.toml"
        file.write_text(file.read_text().replace('"ttp.example"', '"other.example"'))
        with pytest.raises(ConfigurationError, match=r"other\.example"):
            stopped.start()

    def test_renewed(self, stopped: Served) -> None:
        """Renewed certificates of the same keys are served with; the evidence from before stays good."""
        request = requests.decode_request((stopped.directory / setup.REQUEST).read_bytes())
        renewed = requests.issue(request, stopped.parties.root.issuer, [901, 902, 903], NOW)
        (stopped.directory / CERTIFICATES).write_bytes(requests.encode_certificates(renewed))
        stopped.start()
        assert stopped.ttp.keys.identity.nrd_certificate == renewed.leaves[Purpose.NRD]
        assert stopped.named().name == "ttp.example"


def test_one_server_a_directory(tmp_path: Path) -> None:
    """A second TTP on the same directory isn't started: a ledger has one server."""
    with served(tmp_path) as world:
        second = object.__new__(Served)
        second.directory, second.clock, second.parties = world.directory, world.clock, world.parties
        with pytest.raises(ConfigurationError, match="one server"):
            second.start()
        assert world.client.get("/readyz").status_code == 200
