"""What every request goes through: bounds, content types, methods, request tokens, problem documents, the log."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from typing import Any

import pytest

from shared.api import messages
from shared.api.messages import CompleteRequest
from shared.errors import OurFault
from shared.programs import http as bounded
from tests.doubles.parties import NOW, Exchange
from tests.doubles.served import NodeClient, Served
from ttp_server.routes import http

COMPLETE = "/v1/exchanges/complete"


def body_of(exchange: Exchange) -> bytes:
    """The body of a good `complete`."""
    request = CompleteRequest(exchange.manifest, exchange.nro, exchange.nrr, exchange.sealed.escrow)
    return messages.encode_complete(request)


def is_problem(answer: Any, status: int, code: str) -> None:
    """Assert that an answer is a whole problem document with this status and code."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["type"] == f"urn:secmtp:problem:{code}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]


def raw(world: Served) -> ssl.SSLSocket:
    """A TLS connection on which a test can send anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", world.client.base_url.port or 0), timeout=10)
    return context.wrap_socket(plain, server_hostname="localhost")


def read_all(connection: ssl.SSLSocket) -> bytes:
    """Read until the other side closes."""
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer


class TestBody:
    def test_wrong(self, world: Served, b: NodeClient) -> None:
        """A body that isn't exactly what it must be is refused with its reason, before anything is looked at."""
        good = body_of(world.exchange(b"letter"))
        for spoilt in (
            b"",
            b"not JSON",
            b"[1]",
            b"\xff\xfe",
            good[:-1],
            good + b"x",
            good.replace(b'"v":1', b'"v":2'),
            good.replace(b'"v":1', b'"v":1.0'),
            good.replace(b'"v":1', b'"v":true'),
            good.replace(b'{"v":1', b'{"v":1,"v":1'),
            good.replace(b'{"v":1', b'{"v":1,"more":1'),
            good.replace(b'"nrr"', b'"nrx"'),
            b"[" * 100_000,
        ):
            assert spoilt != good
            is_problem(b.ask("POST", COMPLETE, spoilt), 400, "malformed")
        is_problem(b.ask("POST", COMPLETE, b" " * (128 * 1024 + 1)), 413, "too-large")
        assert world.ttp.desk.ledger.size == 0

    def test_in_another_layout(self, world: Served, b: NodeClient) -> None:
        """Blanks and another order of members are the same request: only what is signed must be canonical."""
        document = json.loads(body_of(world.exchange(b"letter")))
        pretty = json.dumps(dict(reversed(document.items())), indent=4).encode()
        assert b.ask("POST", COMPLETE, pretty).status_code == 200

    def test_wrong_member(self, world: Served, b: NodeClient) -> None:
        """A member of the wrong type, length or alphabet is refused as malformed or at its step, without state."""
        exchange = world.exchange(b"letter")
        good = json.loads(body_of(exchange))
        wrong: list[Any] = [None, 7, True, "", "***", "A" * 60_000, {}, ["x"], "\u00e9", "a.b", "a.b.c"]
        for name in ("manifest", "nro", "nrr", "escrow"):
            for value in wrong:
                answer = b.ask("POST", COMPLETE, json.dumps({**good, name: value}).encode())
                assert answer.status_code in {400, 413, 422}, (name, value, answer.text)
                assert answer.headers["content-type"] == "application/problem+json"
        assert world.ttp.desk.stored(exchange.manifest.exchange) is None
        assert world.ttp.desk.ledger.size == 0

    def test_content_type(self, world: Served, b: NodeClient) -> None:
        """What doesn't say that it is JSON isn't read as JSON."""
        body = body_of(world.exchange(b"letter"))
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""):
            is_problem(b.ask("POST", COMPLETE, body, **{"Content-Type": kind}), 415, "content-type")

    def test_announced_length_is_enough(self, world: Served) -> None:
        """A body that is announced as too long is refused before any of it has come."""
        with raw(world) as connection:
            connection.sendall(
                b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 99999999\r\n\r\n" % COMPLETE.encode()
            )
            assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")

    def test_slow(self, world: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        """A body that doesn't come is given up: 408, and the connection's place is free again."""
        monkeypatch.setattr(http, "BODY_SECONDS", 0.05)
        with raw(world) as connection:
            connection.sendall(
                b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 10\r\n\r\n{" % COMPLETE.encode()
            )
            assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")

    def test_client_goes_away(self, world: Served, b: NodeClient) -> None:
        """A client that leaves in the middle of its body disturbs nobody."""
        with raw(world) as connection:
            connection.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{" % COMPLETE.encode())
        assert b.complete(world.exchange(b"letter")).status_code == 200


class TestHead:
    def test_too_long(self, world: Served) -> None:
        """A head that doesn't end is cut off at its bound, in one header or in many."""
        for header in (b"X-Long: " + b"x" * 400_000, b"X: y\r\n" * 60_000):
            with raw(world) as connection:
                try:
                    connection.sendall(b"GET /healthz HTTP/1.1\r\n" + header)
                    answer = read_all(connection)
                except OSError:  # closed while we were still sending: cut off all the same
                    continue
                assert answer.startswith(b"HTTP/1.1 431 ")
        assert world.client.get("/healthz").status_code == 200

    def test_too_slow(self, world: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        """A connection on which no whole head comes in time is closed, at its first request and at a later one."""
        monkeypatch.setattr(bounded, "HEAD_SECONDS", 0.05)
        for sent in (b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /heal"):
            with raw(world) as connection:
                connection.sendall(sent)
                answer = read_all(connection)
                assert answer.count(b"HTTP/1.1 ") == sent.count(b"\r\n\r\n")

    def test_large_requests_one_after_the_other(self, world: Served, b: NodeClient) -> None:
        """Bodies don't count as heads: many requests with large bodies go over one connection."""
        for _ in range(5):
            is_problem(b.ask("POST", COMPLETE, b" " * 120_000), 400, "malformed")


class TestRouting:
    def test_no_such_path(self, world: Served) -> None:
        """A path that isn't there is a problem document that points to the description."""
        is_problem(world.client.get("/v1/nothing"), 404, "no-such-path")

    def test_wrong_method(self, world: Served) -> None:
        """A wrong method is a problem document and says which methods there are."""
        answer = world.client.get("/v1/nodes")
        is_problem(answer, 405, "method")
        assert answer.headers["allow"] == "POST"

    def test_not_an_exchange(self, world: Served, b: NodeClient) -> None:
        """An exchange is named by 64 lower-case hexadecimal digits and nothing else."""
        for name in ("x", "00", "A" * 64, "a" * 63, "a" * 65, "g" * 64):
            is_problem(b.ask("GET", f"/v1/exchanges/{name}"), 400, "malformed")

    def test_wrong_query(self, world: Served, b: NodeClient) -> None:
        """A query parameter that isn't a number of sensible length is refused, never guessed at."""
        for query in ("cursor=-1", "cursor=x", "cursor=1e3", "wait=", "wait=+1", "limit=" + "9" * 40):
            is_problem(b.ask("GET", f"/v1/feed?{query}"), 400, "malformed")


class TestRequestToken:
    def test_none(self, world: Served) -> None:
        """Without a request token nothing is said but how to authenticate."""
        answer = world.client.get("/v1/feed")
        is_problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")

    def test_used_twice(self, world: Served, b: NodeClient) -> None:
        """A request token is good once: replayed, it is refused by name."""
        headers = {"Authorization": b.authorization("GET", "/v1/feed", b"")}
        assert world.client.get("/v1/feed", headers=headers).status_code == 200
        is_problem(world.client.get("/v1/feed", headers=headers), 401, "token-replayed")

    def test_after_a_restart(self, world: Served, b: NodeClient) -> None:
        """A token from before the TTP's start is refused by name, so that a restart opens no window for replays."""
        headers = {"Authorization": b.authorization("GET", "/v1/feed", b"")}
        assert world.client.get("/v1/feed", headers=headers).status_code == 200
        world.clock.time += 1
        world.restart()
        is_problem(world.client.get("/v1/feed", headers=headers), 401, "token-predates-start")
        assert b.feed().bundles == ()

    def test_for_another_request(self, world: Served, b: NodeClient) -> None:
        """A token that was made for another method, path, query or body admits nothing."""
        for method, target, body in (
            ("POST", "/v1/feed", b""),
            ("GET", "/v1/feed?cursor=1", b""),
            ("GET", "/v1/ttp", b""),
            ("GET", "/v1/feed", b"x"),
        ):
            headers = {"Authorization": b.authorization(method, target, body)}
            is_problem(world.client.get("/v1/feed", headers=headers), 401, "unauthenticated")

    def test_wrong_audience_or_time(self, world: Served, b: NodeClient) -> None:
        """A token for another TTP, or from a time too far from ours, is refused."""
        world.clock.time = NOW + 1000
        cases: list[dict[str, Any]] = [{"audience": "other.example"}, {"now": NOW + 819}, {"now": NOW + 1121}]
        for changed in cases:
            headers = {"Authorization": b.authorization("GET", "/v1/feed", b"", **changed)}
            is_problem(world.client.get("/v1/feed", headers=headers), 401, "unauthenticated")

    def test_clocks_may_differ(self, world: Served, b: NodeClient) -> None:
        """A node whose clock is off by less than two minutes is admitted."""
        world.clock.time = NOW + 1000
        for ahead in (-180, -60, 0, 120):
            headers = {"Authorization": b.authorization("GET", "/v1/feed", b"", now=NOW + 1000 + ahead)}
            assert world.client.get("/v1/feed", headers=headers).status_code == 200

    def test_altered(self, world: Served, b: NodeClient) -> None:
        """A token with a flipped character anywhere is refused as unauthenticated, never as our fault."""
        token = b.authorization("GET", "/v1/feed", b"")
        for place in range(len("Bearer "), len(token), 61):
            flipped = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
            answer = world.client.get("/v1/feed", headers={"Authorization": flipped})
            assert answer.status_code == 401, (place, answer.text)

    def test_too_many(self, world: Served, b: NodeClient) -> None:
        """A node that asks more often than it may is told to come back; a second later it is served again."""
        world.stop()
        settings = world.directory / "ttp.toml"
        settings.write_text(settings.read_text() + "requests_per_second = 2\n")
        world.start()
        codes = [b.ask("GET", "/v1/feed").status_code for _ in range(201)]
        assert codes == [200] * 200 + [503]
        world.clock.time += 1
        assert b.ask("GET", "/v1/feed").status_code == 200


class TestLog:
    def test_says_what_and_never_what_is_secret(
        self, world: Served, b: NodeClient, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """One line a request: endpoint, status, exchange, time; no token, body or address is in it."""
        exchange = world.exchange(b"letter")
        capfd.readouterr()
        world.stop()
        world.start()
        b.complete(exchange)
        lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
        (line,) = [line for line in lines if line["endpoint"] == "complete"]
        assert (line["event"], line["status"], line["exchange"]) == (
            "request",
            200,
            exchange.manifest.exchange.hex(),
        )
        assert set(line) == {"event", "endpoint", "status", "exchange", "ms", "level", "timestamp"}

    def test_metrics(self, world: Served, b: NodeClient) -> None:
        """Requests are counted by endpoint and status, and the ledger's size is told."""
        b.complete(world.exchange(b"letter"))
        text = world.client.get("/metrics").text
        assert 'secmtp_ttp_requests_total{endpoint="complete",status="200"} 1.0' in text
        assert "secmtp_ttp_ledger_size 1.0" in text


def test_many_at_once(world: Served, b: NodeClient) -> None:
    """Health is answered while every worker thread waits for the writer."""
    go = threading.Event()

    class Holds:
        def decide(self, transaction: Any, place: Any) -> Any:
            assert go.wait(10)
            raise LookupError

    sequencer = world.ttp.desk.sequencer

    def hold() -> None:
        with pytest.raises(OurFault):
            sequencer.submit(Holds())

    holder = threading.Thread(target=hold)
    holder.start()
    askers = [threading.Thread(target=b.complete, args=[world.exchange(b"%d" % n)]) for n in range(45)]
    for asker in askers:
        asker.start()
    assert world.client.get("/healthz", timeout=5).status_code == 200
    go.set()
    for thread in (*askers, holder):
        thread.join(20)
    assert world.ttp.desk.ledger.size == 45
