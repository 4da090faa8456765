"""The one mapping from the error tree to HTTP: RFC 9457 problem documents (docs/protocols/api.md)."""

from __future__ import annotations

import json

from starlette.responses import Response

from shared import errors
from shared.api.endpoints import PROBLEM_TYPE
from shared.errors import EvidenceFault, OurFault, SecMTPError

TYPE = "urn:secmtp:problem:"
RETRY_AFTER = 5

# The first class that fits decides, so subclasses stand before their parents.
STATUS: tuple[tuple[type[SecMTPError], int, str], ...] = (
    (EvidenceFault, 422, "A verification step failed"),
    (errors.TooLarge, 413, "Over a bound"),
    (errors.Malformed, 400, "Malformed"),
    (errors.Unauthenticated, 401, "Not authenticated"),
    (errors.Forbidden, 403, "Not allowed"),
    (errors.NotFound, 404, "Not found"),
    (errors.Conflict, 409, "Conflict"),
    (errors.PeerFault, 400, "Bad request"),
    (errors.Unavailable, 503, "Try again later"),
    (OurFault, 500, "Our fault"),
)


def problem(status: int, code: str, title: str, detail: str, **more: str) -> Response:
    """Return a problem document."""
    document = {"type": TYPE + code, "title": title, "status": status, "detail": detail, **more}
    response = Response(json.dumps(document, ensure_ascii=False), status, media_type=PROBLEM_TYPE)
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="secmtp"'
    return response


def of_error(error: SecMTPError) -> Response:
    """Return the problem document of an error of ours. Our own faults give no details away."""
    status, title = next((status, title) for kind, status, title in STATUS if isinstance(error, kind))
    if isinstance(error, EvidenceFault):
        return problem(status, error.code, title, error.reason, step=error.step)
    detail = "the fault is the TTP's; its operator finds it in the log" if status == 500 else error.message
    return problem(status, error.code, title, detail)
