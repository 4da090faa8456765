"""Settings and set-up of both programs: what is wrong is named with its file; nothing is overwritten."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from secmtp_node import settings as node_settings
from secmtp_node import setup as node_setup
from shared.commands import authority
from shared.errors import ConfigurationError, EvidenceFault
from tests.doubles.parties import NOW
from ttp_server import settings as ttp_settings
from ttp_server import setup as ttp_setup

Make = Callable[[Path], Path]


def make_node(place: Path) -> Path:
    """Make a node's directory."""
    return node_setup.initialise(place, domains=["a.example"], hosts=["localhost"], now=NOW)


def make_ttp(place: Path) -> Path:
    """Make a TTP's directory."""
    return ttp_setup.initialise(place, name="ttp.example", hosts=["localhost"], now=NOW)


PROGRAMS = [(make_node, node_setup, node_settings), (make_ttp, ttp_setup, ttp_settings)]


@pytest.mark.parametrize(("make", "setup", "settings"), PROGRAMS, ids=["node", "ttp"])
class TestBothPrograms:
    def test_modes(self, make: Make, setup: ModuleType, settings: ModuleType, tmp_path: Path) -> None:
        """Directories are for their owner only, and so is every key."""
        make(tmp_path / "place")
        for path in (tmp_path / "place", tmp_path / "place" / "keys", tmp_path / "place" / "data"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        keys = list((tmp_path / "place" / "keys").iterdir())
        assert len(keys) >= 4
        assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}

    def test_twice(self, make: Make, setup: ModuleType, settings: ModuleType, tmp_path: Path) -> None:
        """A directory that is made already isn't made again: its keys stay."""
        make(tmp_path / "place")
        before = {path.name: path.read_bytes() for path in (tmp_path / "place" / "keys").iterdir()}
        with pytest.raises(ConfigurationError, match="already"):
            make(tmp_path / "place")
        assert {path.name: path.read_bytes() for path in (tmp_path / "place" / "keys").iterdir()} == before

    def test_unknown_setting(self, make: Make, setup: ModuleType, settings: ModuleType, tmp_path: Path) -> None:
        """A key that isn't a setting is refused by name and file: a typo must not be a default."""
        make(tmp_path / "place")
        file = tmp_path / "place" / settings.FILE
        file.write_text(file.read_text() + "expiri = 5\n")
        with pytest.raises(ConfigurationError, match=rf"{settings.FILE}.*expiri"):
            settings.load(tmp_path / "place")

    def test_wrong_value(self, make: Make, setup: ModuleType, settings: ModuleType, tmp_path: Path) -> None:
        """A value of the wrong kind is refused by name, and so is a file that isn't TOML."""
        make(tmp_path / "place")
        file = tmp_path / "place" / settings.FILE
        text = file.read_text()
        file.write_text(text.replace("listen = ", "listen = 5 #"))
        with pytest.raises(ConfigurationError, match="listen"):
            settings.load(tmp_path / "place")
        file.write_text("this is not TOML")
        with pytest.raises(ConfigurationError, match="TOML"):
            settings.load(tmp_path / "place")

    def test_environment(
        self, make: Make, setup: ModuleType, settings: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An environment variable overrides the file."""
        make(tmp_path / "place")
        monkeypatch.setenv(settings.Settings.model_config["env_prefix"] + "LISTEN", "127.0.0.2")
        assert settings.load(tmp_path / "place").listen == "127.0.0.2"

    def test_not_made(self, make: Make, setup: ModuleType, settings: ModuleType, tmp_path: Path) -> None:
        """Without settings the error says which command makes them."""
        with pytest.raises(ConfigurationError, match="init"):
            settings.load(tmp_path)

    def test_certificates_of_others(self, make: Make, setup: ModuleType, settings: ModuleType, tmp_path: Path) -> None:
        """Certificates that are for other keys, or by another root, aren't installed; nothing is left of them."""
        for name in ("own", "other"):
            make(tmp_path / name)
            authority.init_authority(tmp_path / f"ca-{name}", name=name, now=NOW, passphrase=None)
        issued = tmp_path / "issued.json"
        authority.issue_from_file(
            tmp_path / "ca-own", tmp_path / "other" / "request.json", issued, now=NOW, passphrase=None
        )
        own_root, other_root = tmp_path / "ca-own" / "root.pem", tmp_path / "ca-other" / "root.pem"
        with pytest.raises(ConfigurationError, match="isn't for the key"):
            setup.install_certificates(tmp_path / "own", issued, own_root, now=NOW)
        with pytest.raises(EvidenceFault, match="certificate"):
            setup.install_certificates(tmp_path / "other", issued, other_root, now=NOW)
        for name in ("own", "other"):
            assert not (tmp_path / name / "certificates.json").exists()
            assert not (tmp_path / name / "root.pem").exists()


class TestModes:
    @pytest.mark.parametrize(
        ("lines", "wrong"),
        [
            ('mode = "hybrid"', "mode"),
            ('mode_fallback = "never"', "mode_fallback"),
            ('mode_for = { "alice@b.example" = "offline" }', r"alice@b\.example isn't of this node's domains"),
            ("direct = 400000", "direct \\+ margin"),
            ("expiry = 3600\nmargin = 3600", "direct \\+ margin"),
        ],
    )
    def test_refused(self, lines: str, wrong: str, tmp_path: Path) -> None:
        """A mode, a name or a margin that can't work is refused at start, by name."""
        make_node(tmp_path / "place")
        file = tmp_path / "place" / node_settings.FILE
        kept = [line for line in file.read_text().splitlines() if line.split(" ")[0] not in lines]
        file.write_text("\n".join([*kept, lines, ""]))
        with pytest.raises(ConfigurationError, match=wrong):
            node_settings.load(tmp_path / "place")

    def test_defaults_keep_the_margin(self, tmp_path: Path) -> None:
        """By default s_T may go directly for two of five days, and 72 h lie behind; shorter expiry shrinks both."""
        make_node(tmp_path / "place")
        settings = node_settings.load(tmp_path / "place")
        assert (settings.direct_window, settings.direct_margin) == (2 * 86400, 72 * 3600)
        short = settings.model_copy(update={"expiry": 60})
        assert (short.direct_window, short.direct_margin) == (24, 36)
