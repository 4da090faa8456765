"""Enrolment of nodes, and who asks: request tokens checked against enrolled keys, each accepted once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from shared.api.authorization import Request, Requester, verify_request
from shared.api.messages import Enrolment
from shared.crypto.certificates import Purpose, TrustRoot, verify_chain, verify_domain_ca
from shared.encoding.labels import H
from shared.errors import EvidenceFault, Forbidden, Unauthenticated, Unavailable
from ttp_server.ports.services import Clock
from ttp_server.ports.store import Store
from ttp_server.ports.values import Node

MAX_SERIALS = 200_000
BURST = 200


def token_digest(token: str) -> bytes:
    """Return the digest under which an enrolment token is stored: the token itself never is."""
    return H("enrolment token", token.encode("utf-8"))


class ReplayGuard:
    """Remembers the serials of request tokens until those can't be valid any more (api.md A4).

    In memory: a token that was issued before this process started is refused, so that a restart opens
    no window. Bounded: when full, requests are turned away rather than serials forgotten.
    """

    def __init__(self, started: int) -> None:
        self._started = started
        self._seen: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def admit(self, requester: Requester, now: int) -> None:
        """Accept a request token once. Raises Unauthenticated or Unavailable."""
        if requester.issued < self._started:
            raise Unauthenticated("this token predates the TTP's start; sign a new one", code="token-predates-start")
        serial = requester.key_id + requester.serial
        with self._lock:
            if serial in self._seen:
                raise Unauthenticated("this request token was used before; sign a new one", code="token-replayed")
            if len(self._seen) >= MAX_SERIALS:
                self._sweep(now)
            self._seen[serial] = requester.forget_after

    def _sweep(self, now: int) -> None:
        self._seen = {serial: until for serial, until in self._seen.items() if until >= now}
        if len(self._seen) >= MAX_SERIALS:
            raise Unavailable("too many requests in a short time; try again later")


class RateLimit:
    """A token bucket for each enrolled node: `rate` requests a second, and at least `BURST` at once."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        # Time comes in whole seconds, so a bucket that holds less than a second's worth would be the real bound.
        self._most = float(max(BURST, rate))
        self._buckets: dict[bytes, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def take(self, key_id: bytes, now: int) -> None:
        """Take one request from the node's bucket. Raises Unavailable when it is empty."""
        with self._lock:
            left, last = self._buckets.get(key_id, (self._most, now))
            left = min(self._most, left + max(0, now - last) * self._rate)  # clocks may go back
            if left < 1:
                raise Unavailable("too many requests from this node; try again later")
            self._buckets[key_id] = (left - 1, now)


@dataclass(frozen=True)
class Gate:
    """Admits requests of enrolled nodes."""

    name: str
    store: Store
    root: TrustRoot
    clock: Clock
    replay: ReplayGuard
    rate: RateLimit

    def requester(self, authorization: str, request: Request) -> Requester:
        """Verify a request token and accept it once. Raises Unauthenticated."""
        now = self.clock.now()
        requester = verify_request(authorization, request, self.name, self.root, now)
        self.replay.admit(requester, now)
        return requester

    def node(self, authorization: str, request: Request) -> Node:
        """Return the enrolled node that asks. Raises Unauthenticated, Forbidden, Unavailable."""
        requester = self.requester(authorization, request)
        with self.store.reading() as stored:
            node = stored.node(requester.key_id)
        if node is None:
            raise Forbidden("this node isn't enrolled at this TTP; enrol it with a token of the operator")
        self.rate.take(node.key_id, self.clock.now())
        # A renewed certificate may name fewer domains than were enrolled: both must agree.
        return Node(node.key_id, tuple(domain for domain in node.domains if domain in requester.names))


def enrol(gate: Gate, enrolment: Enrolment, requester: Requester) -> Node:
    """Enrol the node whose key signed the request, for the domains of its token. Raises Forbidden."""
    domains = _certified_domains(gate, enrolment, requester)
    with gate.store.writing() as transaction:
        digest, now = token_digest(enrolment.token), gate.clock.now()
        allowed = transaction.take_enrolment_token(digest, requester.key_id, now)
        if allowed is None:
            raise Forbidden("the enrolment token isn't known, is used or has expired; ask the operator for a new one")
        missing = [domain for domain in domains if domain not in allowed]
        if missing:
            raise Forbidden(f"the enrolment token isn't for {', '.join(missing)}")
        node = Node(requester.key_id, tuple(domains))
        # Commit point: leaving this block. Before it the token is unused, after it the node is enrolled.
        transaction.put_node(node)
    return node


def _certified_domains(gate: Gate, enrolment: Enrolment, requester: Requester) -> Sequence[str]:
    now = gate.clock.now()
    certificate = verify_chain([enrolment.request], gate.root, {Purpose.NODE_REQUEST}, now)
    if certificate.key_id != requester.key_id:
        raise EvidenceFault("enrolment.key", "the request isn't signed by the key that is to be enrolled")
    for der in enrolment.domain_cas:
        authority = verify_domain_ca(der, gate.root, now)
        foreign = [domain for domain in authority.domains if domain not in certificate.names]
        if foreign:
            raise EvidenceFault("enrolment.domains", f"the domain CA is for {', '.join(foreign)}, the node isn't")
    return certificate.names
