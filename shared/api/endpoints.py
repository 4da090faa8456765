"""Every HTTP endpoint of the TTP: method, path and bounds, once for server, client and OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`limit` bounds the request body in octets. `admits` says who may ask: anybody, or enrolled nodes."""

    name: str
    method: str
    path: str
    admits: str
    limit: int = 0


TTP_RECORD = Endpoint("ttpRecord", "GET", "/v1/ttp", "anybody")
ENROL = Endpoint("enrol", "POST", "/v1/nodes", "anybody", 64 * 1024)
PUT_DOMAIN = Endpoint("putDomain", "POST", "/v1/domains", "nodes", 32 * 1024)
PUT_BINDING = Endpoint("putBinding", "POST", "/v1/bindings", "nodes", 48 * 1024)
REVOKE = Endpoint("revoke", "POST", "/v1/revocations", "nodes", 32 * 1024)
PUT_COSIGNATURE = Endpoint("putCosignature", "POST", "/v1/cosignatures", "nodes", 4 * 1024)
LOOK_UP = Endpoint("lookUp", "POST", "/v1/directory", "nodes", 4 * 1024)
COMPLETE = Endpoint("complete", "POST", "/v1/exchanges/complete", "nodes", 128 * 1024)
ABORT = Endpoint("abort", "POST", "/v1/exchanges/abort", "nodes", 128 * 1024)
REFUSE = Endpoint("refuse", "POST", "/v1/exchanges/refuse", "nodes", 128 * 1024)
ANCHOR = Endpoint("anchor", "POST", "/v1/anchors", "nodes", 256 * 1024)
STATUS = Endpoint("status", "POST", "/v1/exchanges/status", "nodes", 64 * 1024)
EVIDENCE = Endpoint("evidence", "GET", "/v1/exchanges/{exchange}", "nodes")
FEED = Endpoint("feed", "GET", "/v1/feed", "nodes")
CHECKPOINT = Endpoint("checkpoint", "GET", "/ledger/checkpoint", "anybody")
LEDGER_CERTIFICATE = Endpoint("ledgerCertificate", "GET", "/ledger/certificate", "anybody")
TILE = Endpoint("tile", "GET", "/ledger/tile/{path:path}", "anybody")
INCLUSION = Endpoint("inclusion", "GET", "/ledger/inclusion/{index}", "anybody")
CONSISTENCY = Endpoint("consistency", "GET", "/ledger/consistency/{old}", "anybody")
OPENAPI = Endpoint("openapi", "GET", "/v1/openapi.json", "anybody")
HEALTH = Endpoint("health", "GET", "/healthz", "anybody")
READY = Endpoint("ready", "GET", "/readyz", "anybody")
METRICS = Endpoint("metrics", "GET", "/metrics", "anybody")

ALL: tuple[Endpoint, ...] = (
    TTP_RECORD,
    ENROL,
    PUT_DOMAIN,
    PUT_BINDING,
    REVOKE,
    PUT_COSIGNATURE,
    LOOK_UP,
    COMPLETE,
    ABORT,
    REFUSE,
    ANCHOR,
    STATUS,
    EVIDENCE,
    FEED,
    CHECKPOINT,
    LEDGER_CERTIFICATE,
    TILE,
    INCLUSION,
    CONSISTENCY,
    OPENAPI,
    HEALTH,
    READY,
    METRICS,
)

JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"
CERTIFICATE_TYPE = "application/pkix-cert"
OCTETS_TYPE = "application/octet-stream"
NOTE_TYPE = "text/plain; charset=utf-8"

MAX_WAIT = 30
MAX_PAGE = 100
