"""The OpenAPI document is valid, complete, and what the app really answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from starlette.routing import Route

from shared.api import messages
from shared.api.endpoints import ALL
from shared.ledger.anchor import batch
from tests.doubles.served import NodeClient, Served
from ttp_server.routes.openapi import document

ROOT = "urn:document"


@pytest.fixture
def served_document(world: Served) -> dict[str, Any]:
    """The document as it is served."""
    value: dict[str, Any] = world.client.get("/v1/openapi.json").json()
    return value


def conforms(value: Any, schema: dict[str, Any], whole: dict[str, Any]) -> None:
    """Assert that a value is of a schema in the document."""
    registry: Registry[Any] = Registry().with_resource(ROOT, DRAFT202012.create_resource(whole))
    name = schema["$ref"]
    Draft202012Validator({"$ref": ROOT + name}, registry=registry).validate(value)


def answer_schema(whole: dict[str, Any], path: str, method: str, status: int) -> dict[str, Any]:
    """Return the schema of an answer; statuses that aren't listed fall into their class."""
    responses = whole["paths"][path][method]["responses"]
    response = responses.get(str(status)) or responses[f"{status // 100}XX"]
    (content,) = response["content"].values()
    schema: dict[str, Any] = content["schema"]
    return schema


def test_valid(served_document: dict[str, Any]) -> None:
    """The document is OpenAPI 3.1, and the one that the code makes."""
    validate(served_document)
    assert served_document["openapi"].startswith("3.1")
    assert served_document == document(served_document["info"]["version"])


def test_every_route_and_no_other(world: Served, served_document: dict[str, Any]) -> None:
    """Every route of the app is in the document with its method, and every operation in it is a route."""
    described = {(path, method) for path, operations in served_document["paths"].items() for method in operations}
    routes = {
        (route.path.replace(":path}", "}"), method.lower())
        for route in world.ttp.app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert described == routes == {(endpoint.path.replace(":path}", "}"), endpoint.method.lower()) for endpoint in ALL}


def test_answers_conform(world: Served, a: NodeClient, b: NodeClient, served_document: dict[str, Any]) -> None:
    """Real answers of the API, good and bad, are of the schemas that the document gives them."""
    parties = world.parties
    assert a.publish(parties.alice, parties.a).status_code == 201
    assert b.publish(parties.bob, parties.b).status_code == 201
    exchange = world.exchange(b"letter")
    refused, aborted = world.exchange(b"refused"), world.exchange(b"aborted")
    asked = [
        ("/v1/ttp", world.client.get("/v1/ttp")),
        ("/v1/directory", a.ask("POST", "/v1/directory", messages.encode_address("bob@b.example"))),
        ("/v1/directory", a.ask("POST", "/v1/directory", messages.encode_address("nobody@b.example"))),
        ("/v1/exchanges/status", a.status(exchange)),
        ("/v1/exchanges/complete", b.complete(exchange, escrow=b"x")),
        ("/v1/exchanges/complete", b.complete(exchange)),
        ("/v1/exchanges/status", a.status(exchange)),
        ("/v1/exchanges/{exchange}", a.ask("GET", f"/v1/exchanges/{exchange.manifest.exchange.hex()}")),
        ("/v1/exchanges/refuse", b.refuse(refused)),
        ("/v1/exchanges/status", a.status(refused)),
        ("/v1/exchanges/abort", a.abort(aborted)),
        ("/v1/exchanges/status", b.status(aborted)),
        ("/v1/exchanges/refuse", b.refuse(aborted)),
        ("/v1/exchanges/abort", a.abort(exchange)),
        ("/v1/exchanges/abort", b.abort(refused)),
        ("/v1/anchors", a.anchor([bytes(32)])),
        ("/v1/feed", a.ask("GET", "/v1/feed?cursor=0")),
        ("/v1/feed", world.client.get("/v1/feed")),
        ("/ledger/consistency/{old}", world.client.get("/ledger/consistency/1")),
        ("/ledger/consistency/{old}", world.client.get("/ledger/consistency/99")),
    ]
    statuses = set()
    for path, answer in asked:
        method = answer.request.method.lower()
        conforms(answer.json(), answer_schema(served_document, path, method, answer.status_code), served_document)
        statuses.add(answer.status_code)
    assert statuses == {200, 401, 403, 404, 422}


def test_request_bodies_conform(world: Served, served_document: dict[str, Any]) -> None:
    """What our own client sends is of the schema that the document gives the request."""
    exchange = world.exchange(b"letter")
    bodies = {
        "Complete": messages.encode_complete(
            messages.CompleteRequest(exchange.manifest, exchange.nro, exchange.nrr, exchange.sealed.escrow)
        ),
        "Status": messages.encode_status(messages.StatusRequest(exchange.manifest, exchange.nro)),
        "Abort": messages.encode_abort(
            messages.AbortRequest(exchange.manifest, exchange.nro, world.parties.abort(exchange))
        ),
        "Refuse": messages.encode_refuse(
            messages.RefuseRequest(exchange.manifest, exchange.nro, world.parties.refuse(exchange))
        ),
        "Anchor": messages.encode_anchor(batch([bytes(32), b"\x01" * 32])),
        "Address": messages.encode_address("bob@b.example"),
        "Signed": messages.encode_signed("a.b.c"),
        "Enrolment": messages.encode_enrolment(messages.Enrolment("token", b"request", (b"ca",))),
    }
    for name, body in bodies.items():
        conforms(json.loads(body), {"$ref": f"#/components/schemas/{name}"}, served_document)
