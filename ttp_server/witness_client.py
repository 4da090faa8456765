"""The way to witnesses over HTTP: one client, bounded in time and octets. What they say is verified elsewhere."""

from __future__ import annotations

import ssl

import httpx

from shared.errors import Unavailable
from ttp_server.ports.values import WitnessReply

MAX_ANSWER = 64 * 1024


class HttpWitnesses:
    """Asks witnesses. A witness is believed for its signatures, so TLS needs no root of ours; `trust` may name one."""

    def __init__(self, seconds: float, trust: str = "") -> None:
        context = ssl.create_default_context(cafile=trust or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._client = httpx.Client(verify=context, timeout=httpx.Timeout(seconds), trust_env=False)

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def add_checkpoint(self, url: str, body: bytes) -> WitnessReply:
        """Ask the witness of this submission prefix. Raises Unavailable when there is no answer in time."""
        try:
            with self._client.stream("POST", f"{url.rstrip('/')}/add-checkpoint", content=body) as response:
                answer = bytearray()
                for piece in response.iter_bytes():
                    answer += piece
                    if len(answer) > MAX_ANSWER:
                        raise Unavailable(f"it answered with more than {MAX_ANSWER} octets")
                return WitnessReply(response.status_code, bytes(answer))
        except httpx.HTTPError as error:
            raise Unavailable(f"it can't be reached: {type(error).__name__}") from error
