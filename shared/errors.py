"""The error tree. Every refusal in SecMTP is one of these; edges translate them in one place each.

    SecMTPError
    ├── OurFault                 we can't do it now: the peer did nothing wrong
    │   ├── ConfigurationError       an operator must change something
    │   └── Unavailable              a dependency is down or busy: try again later
    ├── PeerFault                the request is wrong: repeating it unchanged won't help
    │   ├── Malformed                not the format, or not its canonical form
    │   │   └── TooLarge             over a bound; nothing was parsed
    │   ├── Unauthenticated          who asks wasn't proven
    │   ├── Forbidden                who asks is known and may not
    │   ├── NotFound                 no such thing, or not for who asks
    │   └── Conflict                 the thing exists in another form
    └── EvidenceFault            a named verification step failed (expected, got)

Messages name what was wrong, what was expected and what to do. They never hold secrets or
message content.
"""

from __future__ import annotations


class SecMTPError(Exception):
    """Root of all errors that SecMTP raises on purpose.

    `code` is a stable machine word (kebab-case): the tail of the HTTP problem type and of log events.
    """

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class OurFault(SecMTPError):
    """The failure is on our side; the peer may repeat the same request."""

    code = "internal"


class ConfigurationError(OurFault):
    """The configuration can't work; the message says which setting and what it should be."""

    code = "configuration"


class Unavailable(OurFault):
    """Something we need is down or busy; the same request may succeed later."""

    code = "unavailable"


class PeerFault(SecMTPError):
    """The request itself is wrong; nothing was changed by it."""

    code = "bad-request"


class Malformed(PeerFault):
    """Not the format that was expected, or not its one canonical form."""

    code = "malformed"


class TooLarge(Malformed):
    """Over a bound. Bounds are checked before parsing."""

    code = "too-large"


class Unauthenticated(PeerFault):
    """The identity of the requester isn't proven."""

    code = "unauthenticated"


class Forbidden(PeerFault):
    """The requester is known, and this isn't theirs to do."""

    code = "forbidden"


class NotFound(PeerFault):
    """No such thing for this requester."""

    code = "not-found"


class Conflict(PeerFault):
    """The thing exists already in another form; the first one stands."""

    code = "conflict"


class EvidenceFault(SecMTPError):
    """A verification step failed.

    `step` is the name of the step as docs/protocols prints it (for example `nro.signature`).
    """

    code = "evidence"

    def __init__(self, step: str, message: str) -> None:
        super().__init__(f"{step}: {message}", code="evidence-" + step.replace(".", "-"))
        self.step = step
        self.reason = message
