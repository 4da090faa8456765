"""The ledger's public face: checkpoint, inclusion, consistency."""

from __future__ import annotations

import json

from starlette.responses import Response

from shared.api.endpoints import JSON_TYPE, NOTE_TYPE
from shared.encoding import base64url
from shared.errors import Malformed
from ttp_server.ports import Store
from ttp_server.routes.http import Call, in_thread
from ttp_server.services.ledger import Ledger, proof_at

MAX_NUMBER = 2**53


class LedgerRoutes:
    """Routes that anybody may ask; every answer is from one snapshot (ledger.md L5)."""

    def __init__(self, ledger: Ledger, store: Store) -> None:
        self._ledger = ledger
        self._store = store

    async def checkpoint(self, call: Call) -> Response:
        """The newest signed checkpoint."""
        return Response(self._ledger.snapshot.note, headers={"Content-Type": NOTE_TYPE, "Cache-Control": "no-cache"})

    async def inclusion(self, call: Call) -> Response:
        """A tlog-proof of an entry."""
        index, size = _number(call, "index"), call.number("size", MAX_NUMBER, MAX_NUMBER)
        if size == MAX_NUMBER:
            proof = self._ledger.proof(index)
        else:
            proof = await in_thread(proof_at, self._ledger, self._store, index, size)
        return Response(proof, headers={"Content-Type": NOTE_TYPE})

    async def consistency(self, call: Call) -> Response:
        """The proof that the ledger only grew."""
        old, asked = _number(call, "old"), call.number("size", MAX_NUMBER, MAX_NUMBER)
        size, hashes = self._ledger.consistency(old, None if asked == MAX_NUMBER else asked)
        document = {"v": 1, "old": old, "size": size, "hashes": [base64url.encode(one) for one in hashes]}
        return Response(json.dumps(document), media_type=JSON_TYPE)


def _number(call: Call, name: str) -> int:
    text = call.request.path_params[name]
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        raise Malformed(f"{name} {text!r} isn't a number")
    return int(text)
