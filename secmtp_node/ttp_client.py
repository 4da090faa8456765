"""The TTP's HTTP API from the node's side: one client, bounded answers, problem documents as our own errors."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared import errors
from shared.api import endpoints as e
from shared.api import messages
from shared.api.authorization import Request, authorize
from shared.api.endpoints import JSON_TYPE, PROBLEM_TYPE, Endpoint
from shared.api.messages import (
    AbortRequest,
    CompleteRequest,
    Cosignature,
    Enrolment,
    FeedPage,
    Listing,
    RefuseRequest,
    StatusRequest,
)
from shared.crypto.certificates import Purpose, TrustRoot, verify_chain
from shared.errors import EvidenceFault, SecMTPError, Unavailable
from shared.evidence import bundle as bundles
from shared.evidence.anchored import Lodged
from shared.evidence.bundle import Bundle
from shared.evidence.refusal import RefusalFile
from shared.ledger.anchor import Batch

SECONDS = 40.0
CONNECT = 10.0
MAX_ANSWER = 64 * 1024
MAX_PAGE_OCTETS = 8 * 1024 * 1024
FEED_LIMIT = 50
SERIAL = 16
PREFIX = "urn:secmtp:problem:"

_BY_STATUS: dict[int, type[SecMTPError]] = {
    400: errors.Malformed,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.PeerFault,
    409: errors.Conflict,
    413: errors.TooLarge,
    415: errors.Malformed,
}


@dataclass(frozen=True)
class Asker:
    """What signs requests: the node's request key and its certificate, the clock, randomness."""

    key: Ed25519PrivateKey = field(repr=False)
    certificate: bytes
    now: Callable[[], int]
    draw: Callable[[int], bytes]


class HttpTTP:
    """A TTP over HTTPS. `trust` is the file of the root certificate; nothing else is trusted for TLS."""

    def __init__(self, name: str, url: str, trust: str, asker: Asker) -> None:
        self.name = name
        self._asker = asker
        self._root = TrustRoot.from_pem(Path(trust).read_bytes())
        context = ssl.create_default_context(cafile=trust)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        timeout = httpx.Timeout(SECONDS, connect=CONNECT)
        self._client = httpx.Client(base_url=url, verify=context, timeout=timeout, trust_env=False)

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def record(self) -> str:
        """Return the TTP's signed record."""
        return messages.decode_signed(self._ask(e.TTP_RECORD), "TTP record")

    def enrol(self, enrolment: Enrolment) -> None:
        """Enrol this node."""
        self._ask(e.ENROL, messages.encode_enrolment(enrolment))

    def put_domain(self, token: str) -> None:
        """Publish a domain record."""
        self._ask(e.PUT_DOMAIN, messages.encode_signed(token))

    def put_binding(self, token: str) -> None:
        """Publish a key binding."""
        self._ask(e.PUT_BINDING, messages.encode_signed(token))

    def look_up(self, address: str) -> Listing:
        """Return the binding and domain record of an address. Raises NotFound."""
        return messages.decode_listing(self._ask(e.LOOK_UP, messages.encode_address(address)))

    def complete(self, request: CompleteRequest) -> Bundle:
        """Trade; the answer may also be EXPIRED or INVALID."""
        return bundles.decode(self._ask(e.COMPLETE, messages.encode_complete(request)))

    def abort(self, request: AbortRequest) -> Bundle:
        """Abort; the answer may be any outcome, a receipt too."""
        return bundles.decode(self._ask(e.ABORT, messages.encode_abort(request)))

    def refuse(self, request: RefuseRequest) -> Bundle | RefusalFile:
        """Lodge the recipient's refusal; the answer is the one that is stored, or the outcome."""
        return messages.decode_answer(self._ask(e.REFUSE, messages.encode_refuse(request)))

    def anchor(self, batch: Batch) -> Lodged:
        """Anchor digests. The answer is unverified, as every answer."""
        return messages.decode_lodged(self._ask(e.ANCHOR, messages.encode_anchor(batch)))

    def status(self, request: StatusRequest) -> Bundle | RefusalFile:
        """Return the outcome, or a refusal. Raises NotFound while there is none, which is no evidence."""
        return messages.decode_answer(self._ask(e.STATUS, messages.encode_status(request)))

    def checkpoint(self) -> bytes:
        """Return the newest checkpoint that the ledger shows: a note's octets."""
        return self._ask(e.CHECKPOINT)

    def consistency(self, old: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that the ledger of `size` entries continues that of `old`."""
        asked = replace(e.CONSISTENCY, path=e.CONSISTENCY.path.format(old=old))
        return messages.decode_consistency(self._ask(asked, query=f"?size={size}"), old, size)

    def put_cosignature(self, cosignature: Cosignature) -> None:
        """Bring this node's cosignature of a checkpoint."""
        self._ask(e.PUT_COSIGNATURE, messages.encode_cosignature(cosignature))

    def feed(self, cursor: int, wait: int) -> FeedPage:
        """Return what happened after `cursor`; waits up to `wait` seconds for the first item."""
        query = f"?cursor={cursor}&wait={wait}&limit={FEED_LIMIT}"
        return messages.decode_page(self._ask(e.FEED, query=query, limit=MAX_PAGE_OCTETS), limit=FEED_LIMIT)

    def _ask(self, endpoint: Endpoint, body: bytes = b"", *, query: str = "", limit: int = MAX_ANSWER) -> bytes:
        """Ask once; once more with a new request token if the TTP started after the first was made."""
        try:
            return self._once(endpoint, body, query, limit)
        except errors.Unauthenticated as error:
            if error.code != "token-predates-start":
                raise
        return self._once(endpoint, body, query, limit)

    def _once(self, endpoint: Endpoint, body: bytes, query: str, limit: int) -> bytes:
        target = endpoint.path + query
        request = Request(endpoint.method, target, body)
        asker = self._asker
        headers = {
            "Authorization": authorize(
                request, self.name, asker.now(), asker.draw(SERIAL), asker.key, [asker.certificate]
            )
        }
        if endpoint.method == "POST":
            headers["Content-Type"] = JSON_TYPE
        try:
            with self._client.stream(endpoint.method, target, content=body, headers=headers) as response:
                self._check_server(response)
                answer = _bounded(response, limit)
        except httpx.HTTPError as error:
            raise Unavailable(f"the TTP {self.name} can't be reached: {type(error).__name__}") from error
        if response.is_success:
            return answer
        raise _fault(response, answer)

    def _check_server(self, response: httpx.Response) -> None:
        """Believe no server that isn't certified as a TTP: nodes have certified names and TLS keys too."""
        stream = response.extensions["network_stream"]
        certificate = stream.get_extra_info("ssl_object").getpeercert(True)
        try:
            verify_chain([certificate], self._root, {Purpose.TTP}, self._asker.now())
        except EvidenceFault as fault:
            raise Unavailable(f"what answers for the TTP {self.name} isn't certified as one: {fault}") from fault


def _bounded(response: httpx.Response, limit: int) -> bytes:
    answer = bytearray()
    for piece in response.iter_bytes():
        answer += piece
        if len(answer) > limit:
            raise Unavailable(f"the TTP's answer has more than {limit} octets: it isn't one")
    return bytes(answer)


def _fault(response: httpx.Response, answer: bytes) -> SecMTPError:
    """Turn a problem document into the error that it was made of. What says 5xx, or nothing, may work later."""
    if response.headers.get("content-type", "").partition(";")[0] != PROBLEM_TYPE:
        return Unavailable(f"the TTP answered {response.status_code} without a problem document")
    try:
        document = json.loads(answer)
        code = str(document["type"]).removeprefix(PREFIX)
        detail, step = str(document["detail"])[:1000], document.get("step")
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"the TTP answered {response.status_code} with something that isn't a problem document")
    if response.status_code == 422 and isinstance(step, str):
        return EvidenceFault(step[:64], f"(said the TTP) {detail}")
    kind = _BY_STATUS.get(response.status_code, Unavailable)
    return kind(f"the TTP answered: {detail}", code=code)
