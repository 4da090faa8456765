"""The OpenAPI 3.1 document, made from the endpoints' one definition; tests hold it against the app."""

from __future__ import annotations

import re
from typing import Any

from shared.api import endpoints as e
from shared.api.endpoints import CERTIFICATE_TYPE, JSON_TYPE, NOTE_TYPE, OCTETS_TYPE, PROBLEM_TYPE, Endpoint
from shared.ledger.anchor import MAX_BATCH

_OCTETS = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "description": "unpadded base64url"}
_TOKEN = {"type": "string", "description": "compact JWS"}
_OUTCOME: dict[str, dict[str, Any]] = {
    "kind": {"const": "secmtp-bundle"},
    "manifest": _OCTETS,
    "nro": _TOKEN,
    "token": _TOKEN,
    "salt": _OCTETS,
    "proof": _OCTETS,
    "ledger": _OCTETS,
}
_ANCHORED: dict[str, dict[str, Any]] = {
    "salt": _OCTETS,
    "time": {"type": "integer", "minimum": 0},
    "proof": _OCTETS,
    "ledger": _OCTETS,
}


def _closed(version: int = 1, /, **members: dict[str, Any]) -> dict[str, Any]:
    optional = {"nrr"} if "kind" in members else set()
    required = ["v", *(name for name in members if name not in optional)]
    properties = {"v": {"const": version}, **members}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


SCHEMAS: dict[str, dict[str, Any]] = {
    "Signed": _closed(token=_TOKEN),
    "Enrolment": _closed(
        token={"type": "string"},
        request=_OCTETS,
        domain_cas={"type": "array", "items": _OCTETS, "minItems": 1, "maxItems": 16},
    ),
    "Cosignature": _closed(
        key={"type": "string", "description": "the witness's vkey (c2sp.org/signed-note)"},
        size={"type": "integer", "minimum": 0},
        line={"type": "string", "description": "the signature line with its line end"},
    ),
    "Address": _closed(address={"type": "string", "maxLength": 998}),
    "Listing": _closed(binding=_TOKEN, domain=_TOKEN),
    "Complete": _closed(manifest=_OCTETS, nro=_TOKEN, nrr=_TOKEN, escrow=_OCTETS),
    "Abort": _closed(manifest=_OCTETS, nro=_TOKEN, abort=_TOKEN),
    "Refuse": _closed(manifest=_OCTETS, nro=_TOKEN, refuse=_TOKEN),
    "Status": _closed(manifest=_OCTETS, nro=_TOKEN),
    "Anchor": _closed(digests={"type": "array", "items": _OCTETS, "minItems": 1, "maxItems": MAX_BATCH}),
    "Anchored": _closed(**_ANCHORED),
    "Bundle": {"oneOf": [_closed(**_OUTCOME, nrr=_TOKEN), _closed(2, **_OUTCOME, abort=_TOKEN)]},
    "Refusal": _closed(
        kind={"const": "secmtp-refusal"},
        manifest=_OCTETS,
        nro=_TOKEN,
        refuse=_TOKEN,
        anchor={
            "type": "object",
            "properties": {"body": _OCTETS, "places": {"type": "array"}, **_ANCHORED},
            "required": ["body", "places", *_ANCHORED],
            "additionalProperties": False,
        },
    ),
    "Answer": {"oneOf": [_reference("Bundle"), _reference("Refusal")]},
    "FeedPage": _closed(
        bundles={"type": "array", "items": _OCTETS, "maxItems": e.MAX_PAGE}, cursor={"type": "integer", "minimum": 0}
    ),
    "Consistency": _closed(
        old={"type": "integer", "minimum": 0},
        size={"type": "integer", "minimum": 0},
        hashes={"type": "array", "items": _OCTETS},
    ),
    "Problem": {
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "step": {"type": "string", "description": "the verification step that failed"},
        },
        "required": ["type", "title", "status", "detail"],
    },
}

# Endpoint → summary, body, answer (status, schema or media type).
_ABOUT: dict[str, tuple[str, str | None, tuple[int, str]]] = {
    e.TTP_RECORD.name: ("The TTP's signed record", None, (200, "Signed")),
    e.ENROL.name: ("Enrol a node with a token of the operator", "Enrolment", (201, "")),
    e.PUT_DOMAIN.name: ("Publish a domain's record", "Signed", (201, "")),
    e.PUT_BINDING.name: ("Publish a key binding", "Signed", (201, "")),
    e.REVOKE.name: ("Revoke a key of one's own domain", "Signed", (201, "")),
    e.PUT_COSIGNATURE.name: ("Bring a witness's cosignature of a checkpoint", "Cosignature", (201, "")),
    e.LOOK_UP.name: ("Look up an address", "Address", (200, "Listing")),
    e.COMPLETE.name: ("Trade the NRR for s_T", "Complete", (200, "Bundle")),
    e.ABORT.name: ("End an open exchange at its sender's word", "Abort", (200, "Bundle")),
    e.REFUSE.name: ("Record that the recipient refuses, which is no outcome", "Refuse", (200, "Answer")),
    e.ANCHOR.name: ("Give digests a time in the ledger", "Anchor", (200, "Anchored")),
    e.STATUS.name: ("Ask what became of an exchange", "Status", (200, "Answer")),
    e.EVIDENCE.name: ("Evidence of an exchange for its parties", None, (200, "Bundle")),
    e.FEED.name: ("What a node's domains are to know, in order", None, (200, "FeedPage")),
    e.CHECKPOINT.name: ("The newest signed checkpoint", None, (200, NOTE_TYPE)),
    e.LEDGER_CERTIFICATE.name: ("The certificate of the checkpoint key", None, (200, CERTIFICATE_TYPE)),
    e.TILE.name: ("A tile or an entry bundle (c2sp.org/tlog-tiles)", None, (200, OCTETS_TYPE)),
    e.INCLUSION.name: ("The tlog-proof of an entry", None, (200, NOTE_TYPE)),
    e.CONSISTENCY.name: ("The proof that the ledger only grew", None, (200, "Consistency")),
    e.OPENAPI.name: ("This document", None, (200, JSON_TYPE)),
    e.HEALTH.name: ("Whether the process lives", None, (200, "text/plain")),
    e.READY.name: ("Whether requests can be served", None, (200, "text/plain")),
    e.METRICS.name: ("Prometheus metrics", None, (200, "text/plain")),
}
_QUERY = {
    e.FEED.name: ("cursor", "wait", "limit"),
    e.INCLUSION.name: ("size",),
    e.CONSISTENCY.name: ("size",),
}


def document(version: str) -> dict[str, Any]:
    """Return the whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in e.ALL:
        path = endpoint.path.replace(":path}", "}")  # the rest of a path is Starlette's word
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "SecMTP trusted third party", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"node": {"type": "http", "scheme": "bearer", "bearerFormat": "secmtp-request+jwt"}},
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    summary, body, (status, answer) = _ABOUT[endpoint.name]
    problem = {"description": "a problem", "content": {PROBLEM_TYPE: {"schema": _reference("Problem")}}}
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": summary,
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint)],
        "responses": {str(status): _answer(answer), "4XX": problem, "5XX": problem},
    }
    if endpoint.admits == "nodes" or endpoint is e.ENROL:
        operation["security"] = [{"node": []}]
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON_TYPE: {"schema": _reference(body)}}}
    return operation


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)(?::path)?}", endpoint.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    schema = {"type": "integer", "minimum": 0}
    return [{"name": name, "in": "query", "schema": schema} for name in _QUERY.get(endpoint.name, ())]


def _answer(answer: str) -> dict[str, Any]:
    if not answer:
        return {"description": "done"}
    if answer in SCHEMAS:
        return {"description": "the answer", "content": {JSON_TYPE: {"schema": _reference(answer)}}}
    return {"description": "the answer", "content": {answer: {}}}
