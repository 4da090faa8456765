"""`secmtp ca`: an authority that certifies what it showed, and records it before it hands it out."""

from __future__ import annotations

import json
import stat
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shared.commands import authority, ca
from shared.commands.authority import certified_before, open_authority, read_record, read_request
from shared.commands.ca import init_authority, issue_from_file
from shared.crypto import requests
from shared.crypto.certificates import Purpose, TrustRoot
from shared.crypto.keys import SigningKey, generate_ed25519, generate_p256, key_id
from shared.crypto.requests import NodeNames, TTPNames, decode_certificates, make_request, verify_certificates
from shared.encoding import base64url
from shared.errors import ConfigurationError, EvidenceFault, Malformed, SecMTPError
from shared.programs import files

NOW = int(time.time())  # the commands read the clock
PASSPHRASE = "correct horse"
Keys = dict[Purpose, SigningKey]


def node_keys() -> Keys:
    """Make a node's keys."""
    return {Purpose.NODE: generate_p256(), Purpose.NODE_REQUEST: generate_ed25519()}


def node_request(path: Path, domain: str = "b.example") -> Path:
    """Write a node's request with fresh keys."""
    path.write_bytes(make_request(NodeNames((domain,), (f"mx.{domain}",)), node_keys(), generate_p256()))
    return path


def ttp_request(path: Path) -> Path:
    """Write a TTP's request with fresh keys; its service has an address and no name."""
    keys: Keys = {Purpose.NRD: generate_ed25519(), Purpose.LEDGER: generate_ed25519(), Purpose.TTP: generate_p256()}
    path.write_bytes(make_request(TTPNames("ttp.example", "ttp.example/ledger", ("127.0.0.1",)), keys))
    return path


def lines_of(record: Path) -> list[bytes]:
    """Return the lines of a record."""
    return record.read_bytes().splitlines() if record.exists() else []


def run(*arguments: object, entered: str | None = None) -> Result:
    """Run `secmtp ca` with these arguments."""
    return CliRunner().invoke(ca.app, [str(argument) for argument in arguments], input=entered)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An authority whose key isn't encrypted."""
    init_authority(tmp_path / "ca", name="Test root", now=NOW, passphrase=None)
    return tmp_path / "ca"


class TestInitAuthority:
    """init_authority."""

    @pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
    def test_made(self, tmp_path: Path, passphrase: str | None) -> None:
        """An authority has a root that can be trusted, and a key for it that only the owner reads."""
        root = init_authority(tmp_path / "ca", name="Test root", now=NOW, passphrase=passphrase)
        trust, issuer = open_authority(tmp_path / "ca", passphrase)
        assert TrustRoot.from_pem(root.read_bytes()) == trust
        assert trust.key_ids == (key_id(issuer.key.public_key()),)
        assert stat.S_IMODE((tmp_path / "ca" / "root.key").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
        assert authority.needs_passphrase(tmp_path / "ca") is (passphrase is not None)

    def test_encrypted(self, tmp_path: Path) -> None:
        """With a passphrase the key opens with nothing else."""
        init_authority(tmp_path / "ca", name="Test root", now=NOW, passphrase=PASSPHRASE)
        for wrong in (None, "wrong horse"):
            with pytest.raises(ConfigurationError):
                open_authority(tmp_path / "ca", wrong)

    def test_never_twice(self, place: Path) -> None:
        """A second init leaves the first authority as it was."""
        before = {path.name: path.read_bytes() for path in place.iterdir()}
        with pytest.raises(ConfigurationError, match="exists already"):
            init_authority(place, name="Another", now=NOW, passphrase=None)
        assert {path.name: path.read_bytes() for path in place.iterdir()} == before

    def test_crash_before_the_certificate(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A crash between key and certificate leaves no authority, and the next init overwrites nothing."""

        def crash(path: Path, data: bytes) -> None:
            raise OSError(5, "crash")

        with monkeypatch.context() as patched:
            patched.setattr(files, "write_public", crash)
            with pytest.raises(OSError, match="crash"):
                init_authority(tmp_path / "ca", name="Test root", now=NOW, passphrase=None)
        with pytest.raises(ConfigurationError):
            open_authority(tmp_path / "ca", None)
        with pytest.raises(ConfigurationError, match=r"root\.key exists already"):
            init_authority(tmp_path / "ca", name="Test root", now=NOW, passphrase=None)

    def test_key_of_another(self, place: Path, tmp_path: Path) -> None:
        """A key file that was swapped for another authority's is found out before anything is signed."""
        init_authority(tmp_path / "other", name="Other", now=NOW, passphrase=None)
        (place / "root.key").write_bytes((tmp_path / "other" / "root.key").read_bytes())
        with pytest.raises(ConfigurationError, match="isn't the key"):
            open_authority(place, None)


class TestIssueFromFile:
    """issue_from_file."""

    @pytest.mark.parametrize("make", [node_request, ttp_request])
    def test_issued(self, place: Path, tmp_path: Path, make: type) -> None:
        """What comes out verifies under the root, for exactly the keys in the request."""
        request = make(tmp_path / "request.json")
        issue_from_file(place, request, tmp_path / "out.json", now=NOW, passphrase=None)
        trust, _ = open_authority(place, None)
        issued = decode_certificates((tmp_path / "out.json").read_bytes())
        verified = verify_certificates(issued, trust, NOW)
        asked = read_request(request)
        assert {purpose: key_id(key) for purpose, key in asked.keys.items()} == {
            purpose: leaf.key_id for purpose, leaf in verified.leaves.items()
        }

    def test_record(self, place: Path, tmp_path: Path) -> None:
        """Every certificate stands in the record, with names, key and serial number, and lines only come to it."""
        issue_from_file(place, node_request(tmp_path / "n.json"), tmp_path / "n.out", now=NOW, passphrase=None)
        first = lines_of(place / "issued.jsonl")
        issue_from_file(place, ttp_request(tmp_path / "t.json"), tmp_path / "t.out", now=NOW + 9, passphrase=None)
        lines = lines_of(place / "issued.jsonl")
        assert lines[: len(first)] == first
        record = read_record(place)
        assert [(line.purpose, line.names, line.issued) for line in record] == [
            ("node", ("b.example", "mx.b.example"), NOW),
            ("node-request", ("b.example",), NOW),
            ("domain-ca", ("b.example",), NOW),
            ("nrd", ("ttp.example",), NOW + 9),
            ("ledger", ("ttp.example/ledger",), NOW + 9),
            ("ttp", ("127.0.0.1",), NOW + 9),
        ]
        assert len({line.serial for line in record}) == 6
        issued = decode_certificates((tmp_path / "n.out").read_bytes())
        assert json.loads(lines[0])["certificate"] == base64url.encode(issued.leaves[Purpose.NODE])

    def test_crash_before_the_file(self, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A crash after signing leaves certificates in the record that nobody got; asking again gives new ones."""
        request = node_request(tmp_path / "n.json")

        def crash(path: Path, data: bytes) -> None:
            raise OSError(5, "crash")

        with monkeypatch.context() as patched:
            patched.setattr(files, "write_public", crash)
            with pytest.raises(OSError, match="crash"):
                issue_from_file(place, request, tmp_path / "n.out", now=NOW, passphrase=None)
        assert len(read_record(place)) == 3
        issue_from_file(place, request, tmp_path / "n.out", now=NOW, passphrase=None)
        assert len({line.serial for line in read_record(place)}) == 6

    def test_crash_before_the_record(self, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What couldn't be recorded isn't handed out."""

        def crash(path: Path, lines: list[bytes]) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files, "append_lines", crash)
        with pytest.raises(OSError, match="space"):
            issue_from_file(place, node_request(tmp_path / "n.json"), tmp_path / "n.out", now=NOW, passphrase=None)
        assert not (tmp_path / "n.out").exists()

    def test_torn_record(self, place: Path, tmp_path: Path) -> None:
        """A record whose last line a crash cut off can be read and continued."""
        issue_from_file(place, node_request(tmp_path / "n.json"), tmp_path / "n.out", now=NOW, passphrase=None)
        whole = (place / "issued.jsonl").read_bytes()
        (place / "issued.jsonl").write_bytes(whole + b'{"certificate":"AA')
        assert len(read_record(place)) == 3
        issue_from_file(place, ttp_request(tmp_path / "t.json"), tmp_path / "t.out", now=NOW, passphrase=None)
        assert (place / "issued.jsonl").read_bytes().startswith(whole)
        assert len(read_record(place)) == 6

    def test_damaged_record(self, place: Path, tmp_path: Path) -> None:
        """A record with a foreign line is damage that a person must look at."""
        (place / "issued.jsonl").write_bytes(b"nonsense\n")
        with pytest.raises(Malformed, match="backup"):
            read_record(place)

    def test_never_overwrites(self, place: Path, tmp_path: Path) -> None:
        """A file that is there already is kept, and nothing is issued."""
        (tmp_path / "n.out").write_bytes(b"precious")
        with pytest.raises(ConfigurationError, match="exists already"):
            issue_from_file(place, node_request(tmp_path / "n.json"), tmp_path / "n.out", now=NOW, passphrase=None)
        assert (tmp_path / "n.out").read_bytes() == b"precious"
        assert read_record(place) == []

    def test_expired_root(self, place: Path, tmp_path: Path) -> None:
        """A root that has expired issues nothing: nobody could use it."""
        late = NOW + 21 * 365 * 24 * 3600
        with pytest.raises(EvidenceFault, match="validity"):
            issue_from_file(place, node_request(tmp_path / "n.json"), tmp_path / "n.out", now=late, passphrase=None)
        assert read_record(place) == []
        assert not (tmp_path / "n.out").exists()

    @pytest.mark.parametrize("data", [b"", b"{}", b"garbage", bytes(requests.MAX_FILE + 1)])
    def test_bad_request(self, place: Path, tmp_path: Path, data: bytes) -> None:
        """A file that is no request is refused and nothing is issued."""
        (tmp_path / "n.json").write_bytes(data)
        with pytest.raises(SecMTPError):
            issue_from_file(place, tmp_path / "n.json", tmp_path / "n.out", now=NOW, passphrase=None)
        assert read_record(place) == []


class TestCertifiedBefore:
    """certified_before."""

    def test_other_keys(self, place: Path, tmp_path: Path) -> None:
        """A name that was certified for another key is found; the same keys, or other names, aren't."""
        first = node_request(tmp_path / "first.json")
        issue_from_file(place, first, tmp_path / "first.out", now=NOW, passphrase=None)
        assert certified_before(place, read_request(first)) == []
        assert certified_before(place, read_request(node_request(tmp_path / "c.json", "c.example"))) == []
        found = certified_before(place, read_request(node_request(tmp_path / "again.json")))
        assert [line.purpose for line in found] == ["node", "node-request", "domain-ca"]

    def test_a_domain_as_a_host(self, place: Path, tmp_path: Path) -> None:
        """Somebody else's mail domain slipped in as a host name is found too."""
        issue_from_file(place, node_request(tmp_path / "b.json"), tmp_path / "b.out", now=NOW, passphrase=None)
        names = NodeNames(("evil.example",), ("b.example",))
        (tmp_path / "evil.json").write_bytes(make_request(names, node_keys(), generate_p256()))
        assert certified_before(place, read_request(tmp_path / "evil.json")) != []


class TestCommands:
    """The commands as an operator meets them."""

    def test_way_through(self, tmp_path: Path) -> None:
        """init, issue after a look, show: the way that the guide describes."""
        (tmp_path / "pass").write_text(PASSPHRASE + "\n", encoding="utf-8")
        (tmp_path / "pass").chmod(0o600)
        directory, out = tmp_path / "ca", tmp_path / "out.json"
        request = node_request(tmp_path / "n.json")
        made = run("init", "--dir", directory, "--name", "Test root", "--passphrase-file", tmp_path / "pass")
        assert made.exit_code == 0, made.output
        issued = run(
            "issue", request, "--dir", directory, "--out", out, "--passphrase-file", tmp_path / "pass", entered="y\n"
        )
        assert issued.exit_code == 0, issued.output
        assert "may certify every address at b.example" in issued.output
        assert "*@b.example" in run("show", out).output
        assert "A node asks" in run("show", request).output
        identifier = TrustRoot.from_pem((directory / "root.pem").read_bytes()).key_ids[0].hex()
        assert identifier in made.output
        assert identifier in run("show", directory / "root.pem").output

    def test_declined(self, place: Path, tmp_path: Path) -> None:
        """Whoever doesn't say yes has certified nothing."""
        done = run("issue", node_request(tmp_path / "n.json"), "--dir", place, "--out", tmp_path / "o", entered="n\n")
        assert (done.exit_code, read_record(place)) == (1, [])

    def test_yes(self, place: Path, tmp_path: Path) -> None:
        """With --yes nobody is asked, but what is certified is shown."""
        done = run("issue", ttp_request(tmp_path / "t.json"), "--dir", place, "--out", tmp_path / "o", "--yes")
        assert done.exit_code == 0, done.output
        assert "ttp.example/ledger" in done.output

    def test_attention(self, place: Path, tmp_path: Path) -> None:
        """A domain that was certified for other keys before is pointed out."""
        issue_from_file(place, node_request(tmp_path / "b.json"), tmp_path / "b.out", now=NOW, passphrase=None)
        done = run("issue", node_request(tmp_path / "b2.json"), "--dir", place, "--out", tmp_path / "o", entered="n\n")
        day = f"{datetime.fromtimestamp(NOW, UTC):%Y-%m-%d}"
        assert f"ATTENTION: b.example (domain-ca) was certified for another key on {day}" in done.output

    def test_prompt(self, tmp_path: Path) -> None:
        """Without a file the passphrase is asked for, twice when it is new, and never shown."""
        entered = f"{PASSPHRASE}\n{PASSPHRASE}\n"
        made = run("init", "--dir", tmp_path / "ca", "--name", "Test root", entered=entered)
        assert made.exit_code == 0, made.output
        assert PASSPHRASE not in made.output
        out = tmp_path / "o"
        request = node_request(tmp_path / "n.json")
        done = run("issue", request, "--dir", tmp_path / "ca", "--out", out, "--yes", entered=PASSPHRASE + "\n")
        assert done.exit_code == 0, done.output
        assert out.exists()

    def test_wide_passphrase_file(self, tmp_path: Path) -> None:
        """A passphrase that others may read isn't used."""
        (tmp_path / "pass").write_text(PASSPHRASE, encoding="utf-8")
        (tmp_path / "pass").chmod(0o644)
        done = run("init", "--dir", tmp_path / "ca", "--name", "Test root", "--passphrase-file", tmp_path / "pass")
        assert isinstance(done.exception, ConfigurationError)
        assert not (tmp_path / "ca").exists()

    def test_days(self, tmp_path: Path) -> None:
        """Lifetimes can be chosen."""
        made = run("init", "--dir", tmp_path / "ca", "--name", "R", "--no-passphrase", "--days", "10")
        assert made.exit_code == 0, made.output
        certificate = open_authority(tmp_path / "ca", None)[0].to_library()[0]
        assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 10

    def test_show_garbage(self, tmp_path: Path) -> None:
        """A file that is none of the three is refused with an error of ours."""
        (tmp_path / "file").write_bytes(b"garbage")
        assert isinstance(run("show", tmp_path / "file").exception, SecMTPError)
