"""The ledger's public face: checkpoint, tiles and entry bundles, inclusion, consistency (ledger.md L10)."""

from __future__ import annotations

import json

from starlette.responses import Response

from shared.api.endpoints import CERTIFICATE_TYPE, JSON_TYPE, NOTE_TYPE, OCTETS_TYPE
from shared.encoding import base64url
from shared.errors import Malformed
from ttp_server.routes.http import Call, in_thread
from ttp_server.services.ledger import Ledger

MAX_NUMBER = 2**53
FOR_EVER = "public, max-age=31536000, immutable"


class LedgerRoutes:
    """Routes that anybody may ask; every answer is from one snapshot (ledger.md L5)."""

    def __init__(self, ledger: Ledger, certificate: bytes) -> None:
        self._ledger = ledger
        self._certificate = certificate

    async def checkpoint(self, call: Call) -> Response:
        """The newest signed checkpoint."""
        return Response(self._ledger.snapshot.note, headers={"Content-Type": NOTE_TYPE, "Cache-Control": "no-cache"})

    async def certificate(self, call: Call) -> Response:
        """The certificate of the checkpoint key, which is worth what the root says of it."""
        return Response(self._certificate, media_type=CERTIFICATE_TYPE, headers={"Cache-Control": "no-cache"})

    async def tile(self, call: Call) -> Response:
        """A tile or an entry bundle. What it holds never changes."""
        data = await in_thread(self._ledger.tile, f"tile/{call.request.path_params['path']}")
        return Response(data, media_type=OCTETS_TYPE, headers={"Cache-Control": FOR_EVER})

    async def inclusion(self, call: Call) -> Response:
        """A tlog-proof of an entry."""
        index, size = _number(call, "index"), call.number("size", MAX_NUMBER, MAX_NUMBER)
        if size == MAX_NUMBER:
            proof = await in_thread(self._ledger.proof, index)
        else:
            proof = await in_thread(self._ledger.proof_at, index, size)
        return Response(proof, headers={"Content-Type": NOTE_TYPE})

    async def consistency(self, call: Call) -> Response:
        """The proof that the ledger only grew."""
        old, asked = _number(call, "old"), call.number("size", MAX_NUMBER, MAX_NUMBER)
        size, hashes = await in_thread(self._ledger.consistency, old, None if asked == MAX_NUMBER else asked)
        document = {"v": 1, "old": old, "size": size, "hashes": [base64url.encode(one) for one in hashes]}
        return Response(json.dumps(document), media_type=JSON_TYPE)


def _number(call: Call, name: str) -> int:
    text = call.request.path_params[name]
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        raise Malformed(f"{name} {text!r} isn't a number")
    return int(text)
