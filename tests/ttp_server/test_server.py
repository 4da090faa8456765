"""`secmtp ttp serve` as a process: readiness, TLS, the log, and its end by SIGTERM, by SIGKILL, and by a refusal."""

from __future__ import annotations

import json
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shared.api import messages
from shared.api.authorization import Request, authorize
from shared.api.messages import Enrolment
from shared.commands import authority
from shared.crypto.certificates import Purpose, TrustRoot
from shared.crypto.issuance import Validity, issue_domain_ca, issue_leaf
from shared.crypto.keys import generate_ed25519, generate_p256
from shared.evidence.records import verify_ttp
from ttp_server import setup

READY = 30.0
END = 10.0


class Process:
    """One served TTP in a process of its own, with its output in files."""

    def __init__(self, place: Path, directory: Path) -> None:
        self.out, self.err = place / "stdout", place / "stderr"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "shared.cli", "ttp", "serve", "--dir", str(directory)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def ready(self) -> int:
        """Wait for the readiness line and return the port."""
        end = time.monotonic() + READY
        while not self.out.read_bytes().endswith(b"\n"):
            assert self._process.poll() is None, self.err.read_text()
            assert time.monotonic() < end, "not ready in time"
            threading.Event().wait(0.01)
        port: int = json.loads(self.out.read_bytes())["port"]
        return port

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end, and return the exit status."""
        return self._process.wait(END)

    def clean_up(self) -> None:
        """End it whatever happened."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(END)


class Operator:
    """A CA and a TTP's directory, made as an operator makes them, with certificates of today."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.directory = place / "ttp"
        self.now = int(time.time())
        self.root_file = authority.init_authority(place / "ca", name="Test root", now=self.now, passphrase=None)
        setup.initialise(self.directory, name="ttp.example", hosts=["localhost", "127.0.0.1"], now=self.now)
        answer = place / "issued.json"
        authority.issue_from_file(place / "ca", self.directory / setup.REQUEST, answer, now=self.now, passphrase=None)
        setup.install_certificates(self.directory, answer, self.root_file, now=self.now)
        self.root, self.issuer = authority.open_authority(place / "ca", None)
        self.key = generate_ed25519()
        validity = Validity.starting(self.now, 3600)
        self.certificate = issue_leaf(
            Purpose.NODE_REQUEST, self.key.public_key(), ["a.example"], self.issuer, 11, validity
        )
        self.domain_ca = issue_domain_ca(generate_p256().public_key(), ["a.example"], self.issuer, 12, validity)
        self.running: list[Process] = []

    def serve(self) -> Process:
        """Start a process."""
        self.running.append(Process(self.place, self.directory))
        return self.running[-1]

    def client(self, port: int) -> httpx.Client:
        """A client that trusts the root and nothing else."""
        context = ssl.create_default_context(cafile=str(self.root_file))
        return httpx.Client(base_url=f"https://localhost:{port}", verify=context, timeout=40, trust_env=False)

    def ask(self, client: httpx.Client, method: str, target: str, body: bytes = b"") -> httpx.Response:
        """Ask as the node of a.example."""
        request = Request(method, target, body)
        now, serial = int(time.time()), secrets.token_bytes(16)
        headers = {
            "Authorization": authorize(request, "ttp.example", now, serial, self.key, [self.certificate]),
            "Content-Type": "application/json",
        }
        return client.request(method, target, content=body, headers=headers)

    def enrol(self, client: httpx.Client) -> None:
        """Enrol the node."""
        token = setup.create_enrolment_token(self.directory, domains=["a.example"], now=int(time.time()), lifetime=3600)
        enrolment = Enrolment(token, self.certificate, (self.domain_ca,))
        answer = self.ask(client, "POST", "/v1/nodes", messages.encode_enrolment(enrolment))
        assert answer.status_code == 201, answer.text


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    """A TTP that is ready to be served; whatever was started is ended."""
    made = Operator(tmp_path)
    yield made
    for process in made.running:
        process.clean_up()


def test_serves_and_ends(operator: Operator) -> None:
    """It says in one line that it listens, serves TLS that the root vouches for, and ends by SIGTERM with status 0."""
    process = operator.serve()
    with operator.client(process.ready()) as client:
        assert client.get("/readyz").text == "ready\n"
        token = messages.decode_signed(client.get("/v1/ttp").content, "TTP record")
        assert verify_ttp(token, operator.root, operator.now).record.name == "ttp.example"
        assert client.get("/v1/feed").status_code == 401
    assert process.end() == 0
    assert process.out.read_text().count("\n") == 1
    lines = [json.loads(line) for line in process.err.read_text().splitlines()]
    assert [line["endpoint"] for line in lines] == ["ready", "ttpRecord", "feed"]


def test_tls_below_1_2_is_refused(operator: Operator) -> None:
    """A client that speaks at most TLS 1.1 gets no connection, one that speaks 1.2 does."""
    port = operator.serve().ready()
    for newest, works in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        context = ssl.create_default_context(cafile=str(operator.root_file))
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that TLS 1.1 is deprecated is why we ask
            context.maximum_version = newest
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            if works:
                with context.wrap_socket(plain, server_hostname="localhost") as connection:
                    assert connection.version() == "TLSv1.2"
            else:
                with pytest.raises(ssl.SSLError):
                    context.wrap_socket(plain, server_hostname="localhost")


def test_ends_while_somebody_waits(operator: Operator) -> None:
    """A long poll doesn't hold the end up: it is answered, and the process is gone."""
    process = operator.serve()
    answers: list[httpx.Response] = []
    with operator.client(process.ready()) as client:
        operator.enrol(client)
        waiting = threading.Thread(
            target=lambda: answers.append(operator.ask(client, "GET", "/v1/feed?cursor=0&wait=30"))
        )
        waiting.start()
        assert client.get("/readyz").status_code == 200
        started = time.monotonic()
        assert process.end() == 0
        waiting.join(END)
    assert time.monotonic() - started < END
    # Answered, unless the signal came before the request had: then the connection was closed.
    assert all(messages.decode_page(answer.content, limit=100).bundles == () for answer in answers)


def test_killed_and_served_again(operator: Operator) -> None:
    """After SIGKILL the directory is served again at once, with everything that was committed."""
    first = operator.serve()
    with operator.client(first.ready()) as client:
        operator.enrol(client)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    with operator.client(operator.serve().ready()) as client:
        started = int(time.time())
        while int(time.time()) <= started:  # tokens from before the second of the start are refused
            threading.Event().wait(0.02)
        assert operator.ask(client, "GET", "/v1/feed").status_code == 200


def test_a_second_one_is_refused(operator: Operator) -> None:
    """A second process on the same directory ends at once and says why; the first goes on."""
    first = operator.serve()
    port = first.ready()
    second = Process(operator.directory, operator.directory)
    operator.running.append(second)
    assert second.wait() == 2
    assert "another process serves" in second.err.read_text()
    with operator.client(port) as client:
        assert client.get("/readyz").status_code == 200


def test_a_port_in_use(operator: Operator) -> None:
    """A port that is taken ends the start with the reason on standard error, and no readiness line."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = operator.directory / "ttp.toml"
        settings.write_text(settings.read_text().replace("port = 0", f"port = {taken.getsockname()[1]}"))
        process = operator.serve()
        assert process.wait() != 0
        assert process.out.read_bytes() == b""
        assert "address already in use" in process.err.read_text()


def test_nothing_is_served_without_certificates(tmp_path: Path) -> None:
    """Before the CA has answered, `serve` ends with status 2 and says which command is next."""
    setup.initialise(tmp_path / "ttp", name="ttp.example", hosts=["localhost"], now=int(time.time()))
    process = Process(tmp_path, tmp_path / "ttp")
    assert process.wait() == 2
    assert "secmtp ttp certify" in process.err.read_text()


def test_trust_is_what_it_was_given(operator: Operator) -> None:
    """A client that trusts another root gets no connection."""
    port = operator.serve().ready()
    other = authority.init_authority(operator.place / "other", name="Other", now=operator.now, passphrase=None)
    assert TrustRoot.from_pem(other.read_bytes()).certificates != operator.root.certificates
    context = ssl.create_default_context(cafile=str(other))
    with (
        pytest.raises(httpx.ConnectError),
        httpx.Client(base_url=f"https://localhost:{port}", verify=context, trust_env=False) as client,
    ):
        client.get("/healthz")
