"""The client of the TTP against a server with scripted answers, over real TLS with certificates of today."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from secmtp_node import clock, ttp_client
from secmtp_node.ttp_client import Asker, HttpTTP
from shared import errors
from shared.api import messages
from shared.api.authorization import Request, verify_request
from shared.api.messages import AbortRequest, FeedPage, Listing, RefuseRequest, StatusRequest
from shared.crypto.certificates import Purpose, TrustRoot
from shared.crypto.issuance import Issuer, Validity, issue_leaf, issue_root
from shared.crypto.keys import encode_signing, generate_ed25519, generate_p256
from shared.errors import EvidenceFault, SecMTPError, Unavailable
from shared.evidence import bundle as bundles
from shared.evidence import refusal as refusals
from shared.ledger import anchor as anchors
from tests.doubles.parties import parties

NAME = "ttp.example"
PROBLEM = "application/problem+json"
RECORD = messages.encode_signed("a.b.c")


@dataclass
class Answer:
    """One scripted answer."""

    status: int = 200
    body: bytes = RECORD
    kind: str = "application/json"


@dataclass
class Script:
    """What the server does: answers in order, the last one again and again; what it was asked."""

    answers: list[Answer] = field(default_factory=lambda: [Answer()])
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def next(self) -> Answer:
        """Return the next answer."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class World:
    """A root of today, and what it certifies."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.validity = Validity.starting(int(time.time()), 24 * 3600)
        key = generate_p256()
        self.root = Issuer(issue_root("Test root", key, 1, self.validity), key)
        self.trust_file = place / "root.pem"
        self.trust_file.write_text(ssl.DER_cert_to_PEM_cert(self.root.certificate))
        self.trust = TrustRoot.from_der(self.root.certificate)
        request_key = generate_ed25519()
        certificate = issue_leaf(
            Purpose.NODE_REQUEST, request_key.public_key(), ["a.example"], self.root, 2, self.validity
        )
        self.asker = Asker(request_key, certificate, clock.now, clock.draw)

    def context(self, purpose: Purpose, names: list[str]) -> ssl.SSLContext:
        """Return a server's context with a certificate for this purpose."""
        key = generate_p256()
        certificate = issue_leaf(purpose, key.public_key(), names, self.root, 3, self.validity)
        place = self.place / "server.pem"
        place.write_bytes(encode_signing(key) + ssl.DER_cert_to_PEM_cert(certificate).encode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place)
        return context

    @contextmanager
    def serving(
        self, script: Script, purpose: Purpose = Purpose.TTP, names: tuple[str, ...] = ("localhost",)
    ) -> Iterator[HttpTTP]:
        """Serve the script and return a client of it."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                script.asked.append((self.command, self.path, dict(self.headers), body))
                answer = script.next()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.kind)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_POST = do_GET

            def log_message(self, *_arguments: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # refused handshakes are expected
        server.socket = self.context(purpose, list(names)).wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        client = HttpTTP(NAME, f"https://localhost:{server.server_port}", str(self.trust_file), self.asker)
        try:
            yield client
        finally:
            client.close()
            server.shutdown()
            server.server_close()
            thread.join(10)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Certificates."""
    return World(tmp_path)


def problem(status: int, code: str, **more: object) -> Answer:
    """Return a problem document."""
    document = {"type": f"urn:secmtp:problem:{code}", "title": "t", "status": status, "detail": "said so", **more}
    return Answer(status, json.dumps(document).encode(), PROBLEM)


class TestRequests:
    """What is sent."""

    def test_signed_for_this_request(self, world: World) -> None:
        """Every request carries a token for its method, target and body, that the TTP accepts."""
        script = Script([Answer(body=messages.encode_listing(Listing("b", "d")))])
        with world.serving(script) as ttp:
            assert ttp.look_up("bob@b.example") == Listing("b", "d")
        ((method, target, headers, body),) = script.asked
        assert (method, target, headers["Content-Type"]) == ("POST", "/v1/directory", "application/json")
        now = int(time.time())
        asked = Request(method, target, body)
        requester = verify_request(headers["Authorization"], asked, NAME, world.trust, now)
        assert requester.names == ("a.example",)

    def test_feed(self, world: World) -> None:
        """The feed is asked with the cursor and how long to wait, and both are signed for."""
        script = Script([Answer(body=messages.encode_page(FeedPage((), 9)))])
        with world.serving(script) as ttp:
            assert ttp.feed(7, 20) == FeedPage((), 9)
        ((method, target, headers, body),) = script.asked
        assert target.startswith("/v1/feed?cursor=7&wait=20")
        verify_request(headers["Authorization"], Request(method, target, body), NAME, world.trust, int(time.time()))

    def test_after_a_restart_of_the_ttp(self, world: World) -> None:
        """A token that is older than the TTP's start is replaced by a new one, once."""
        script = Script([problem(401, "token-predates-start"), Answer()])
        with world.serving(script) as ttp:
            assert ttp.record() == "a.b.c"
        assert len({headers["Authorization"] for _, _, headers, _ in script.asked}) == 2
        script = Script([problem(401, "token-predates-start")])
        with world.serving(script) as ttp, pytest.raises(errors.Unauthenticated):
            ttp.record()
        assert len(script.asked) == 2

    def test_other_refusals_are_not_repeated(self, world: World) -> None:
        """Any other refusal of the token is final."""
        script = Script([problem(401, "unauthenticated")])
        with world.serving(script) as ttp, pytest.raises(errors.Unauthenticated):
            ttp.record()
        assert len(script.asked) == 1


class TestAnswers:
    """What comes back."""

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, errors.Malformed),
            (401, errors.Unauthenticated),
            (403, errors.Forbidden),
            (404, errors.NotFound),
            (405, errors.PeerFault),
            (409, errors.Conflict),
            (413, errors.TooLarge),
            (415, errors.Malformed),
            (408, Unavailable),
            (429, Unavailable),
            (500, Unavailable),
            (503, Unavailable),
        ],
    )
    def test_problems(self, world: World, status: int, kind: type[SecMTPError]) -> None:
        """A problem document becomes the error that it was made of; what may work later is Unavailable."""
        with world.serving(Script([problem(status, "some-code")])) as ttp, pytest.raises(SecMTPError) as refused:
            ttp.record()
        assert type(refused.value) is kind
        assert refused.value.code == "some-code"
        assert "said so" in refused.value.message

    def test_failed_step(self, world: World) -> None:
        """A verification step that failed at the TTP keeps its name, and who said so."""
        answer = problem(422, "evidence-nro-key", step="nro.key")
        with world.serving(Script([answer])) as ttp, pytest.raises(EvidenceFault, match="said the TTP") as refused:
            ttp.record()
        assert refused.value.step == "nro.key"

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(404, b"<html>", "text/html"),
            Answer(404, b"{}", PROBLEM),
            Answer(404, b"[1]", PROBLEM),
            Answer(404, b"\xff", PROBLEM),
            Answer(302, b"", "text/html"),
            Answer(503, b"", ""),
        ],
        ids=lambda answer: f"{answer.status} {answer.body!r}",
    )
    def test_not_from_a_ttp(self, world: World, answer: Answer) -> None:
        """An error without a proper problem document says nothing: a proxy's 404 isn't "no such address"."""
        with world.serving(Script([answer])) as ttp, pytest.raises(Unavailable):
            ttp.record()

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b'{"v":1}', b'{"v":2,"token":"x"}', b'{"v":1,"token":"x","more":1}', b"\xff\xfe"]
    )
    def test_malformed(self, world: World, body: bytes) -> None:
        """A success that isn't what the page says is malformed."""
        with world.serving(Script([Answer(body=body)])) as ttp, pytest.raises(errors.Malformed):
            ttp.record()

    def test_endless(self, world: World) -> None:
        """An answer over the bound isn't read to its end."""
        large = Answer(body=b"x" * (ttp_client.MAX_ANSWER + 1))
        with world.serving(Script([large])) as ttp, pytest.raises(Unavailable, match="more than"):
            ttp.record()


class TestServer:
    """Who is believed."""

    def test_another_root(self, world: World, tmp_path: Path) -> None:
        """A server that another root certified isn't asked anything."""
        (tmp_path / "other").mkdir()
        other = World(tmp_path / "other")
        script = Script()
        with world.serving(script) as ttp:
            address = str(ttp._client.base_url)
            stranger = HttpTTP(NAME, address, str(other.trust_file), world.asker)
            with pytest.raises(Unavailable):
                stranger.record()
            stranger.close()
        assert script.asked == []

    def test_another_name(self, world: World) -> None:
        """A TTP that is certified for another host isn't asked anything."""
        script = Script()
        with world.serving(script, names=("elsewhere.example",)) as ttp, pytest.raises(Unavailable):
            ttp.record()
        assert script.asked == []

    def test_a_node_in_its_place(self, world: World) -> None:
        """A node's certificate, of the same root and with the right host name, isn't a TTP's."""
        script = Script()
        with world.serving(script, Purpose.NODE) as ttp, pytest.raises(Unavailable, match="isn't certified as one"):
            ttp.record()

    def test_nobody(self, world: World) -> None:
        """Nobody at the address is something to come back for."""
        ttp = HttpTTP(NAME, "https://localhost:1", str(world.trust_file), world.asker)
        with pytest.raises(Unavailable, match="can't be reached"):
            ttp.record()
        ttp.close()

    def test_environment_is_ignored(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """Proxies and certificates that the environment names are no way to the TTP."""
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
        with world.serving(Script()) as ttp:
            assert ttp.record() == "a.b.c"


class TestOffline:
    """abort, refuse, anchor, and what `status` may answer."""

    def test_abort(self, world: World) -> None:
        """An abort carries the sender's statement, and its answer may be any outcome."""
        exchange = parties().offline()
        aborted = parties().ttp.abort(exchange, parties().abort(exchange))
        request = AbortRequest(exchange.manifest, exchange.nro, parties().abort(exchange))
        script = Script([Answer(body=bundles.encode(aborted))])
        with world.serving(script) as ttp:
            assert ttp.abort(request) == aborted
        ((method, path, _, body),) = script.asked
        assert (method, path) == ("POST", "/v1/exchanges/abort")
        assert messages.decode_abort(body) == request

    def test_refusals_and_outcomes(self, world: World) -> None:
        """`refuse` and `status` are answered with a refusal or with an outcome, and say which by their type."""
        exchange = parties().offline()
        refused, traded = parties().refused(exchange), parties().ttp.trade(exchange)
        answers = [refusals.encode(refused), bundles.encode(traded), refusals.encode(refused)]
        script = Script([Answer(body=body) for body in answers])
        with world.serving(script) as ttp:
            request = RefuseRequest(exchange.manifest, exchange.nro, parties().refuse(exchange))
            assert ttp.refuse(request) == refused
            assert ttp.status(StatusRequest(exchange.manifest, exchange.nro)) == traded
            assert ttp.status(StatusRequest(exchange.manifest, exchange.nro)) == refused
        assert messages.decode_refuse(script.asked[0][3]) == request

    def test_anchor(self, world: World) -> None:
        """A batch goes out as digests in its order; what comes back shows where it is in the ledger."""
        batch = anchors.batch([bytes(32), b"\x01" * 32])
        lodged = parties().ttp.lodge(batch)
        script = Script([Answer(body=messages.encode_lodged(lodged))])
        with world.serving(script) as ttp:
            assert ttp.anchor(batch) == lodged
        assert messages.decode_anchor(script.asked[0][3]) == batch

    def test_a_direct_bundle_is_no_answer(self, world: World) -> None:
        """A TTP that answers with a direct exchange's evidence is told that this isn't an answer."""
        exchange = parties().offline()
        script = Script([Answer(body=bundles.encode(parties().direct(exchange)))])
        with world.serving(script) as ttp, pytest.raises(errors.Malformed):
            ttp.status(StatusRequest(exchange.manifest, exchange.nro))
