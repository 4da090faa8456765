"""Enrolment, the TTP's record, domain records, bindings, revocations, look-ups."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response

from shared.api import messages
from shared.api.endpoints import JSON_TYPE
from ttp_server.ports.values import Node
from ttp_server.routes.http import Call, in_thread
from ttp_server.services import directory as use
from ttp_server.services import nodes
from ttp_server.services.directory import Directory


class DirectoryRoutes:
    """Routes of the directory."""

    def __init__(
        self, directory: Directory, record: Callable[[], str], cosign: Callable[[messages.Cosignature, Node], None]
    ) -> None:
        self._directory = directory
        self._record = record
        self._cosign = cosign

    async def ttp(self, call: Call) -> Response:
        """The TTP's signed record."""
        return Response(messages.encode_signed(await in_thread(self._record)), media_type=JSON_TYPE)

    async def enrol(self, call: Call) -> Response:
        """Enrol a node: its own key signs the request, the operator's token allows it."""
        enrolment = messages.decode_enrolment(call.body)
        requester = await in_thread(call.gate.requester, call.authorization, call.signed)
        await in_thread(nodes.enrol, call.gate, enrolment, requester)
        return Response(status_code=201)

    async def put_domain(self, call: Call) -> Response:
        """Publish a domain's record."""
        token = messages.decode_signed(call.body, "domain record")
        await in_thread(use.put_domain, self._directory, token, call.domains)
        return Response(status_code=201)

    async def put_binding(self, call: Call) -> Response:
        """Publish a key binding."""
        token = messages.decode_signed(call.body, "binding")
        await in_thread(use.put_binding, self._directory, token, call.domains)
        return Response(status_code=201)

    async def revoke(self, call: Call) -> Response:
        """Revoke a key."""
        token = messages.decode_signed(call.body, "revocation")
        await in_thread(use.revoke, self._directory, token, call.domains)
        return Response(status_code=201)

    async def put_cosignature(self, call: Call) -> Response:
        """Take a node's cosignature of a checkpoint."""
        cosignature = messages.decode_cosignature(call.body)
        await in_thread(self._cosign, cosignature, call.node)
        return Response(status_code=201)

    async def look_up(self, call: Call) -> Response:
        """What the directory knows of an address."""
        address = messages.decode_address(call.body)
        listing = await in_thread(use.look_up, self._directory, address)
        return Response(messages.encode_listing(listing), media_type=JSON_TYPE)
