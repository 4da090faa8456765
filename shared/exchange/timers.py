"""What time makes of an exchange in offline mode: which event an NRR is, and when timers run out.

No verdict rests on these: they are each node's own care not to lose a race that it could have won
(docs/protocols/offline.md, Timers). Times are UTC seconds, of the node's own clock.
"""

from __future__ import annotations

from shared.evidence.manifest import Core
from shared.exchange import recipient, sender

# A revocation that the node hasn't seen is at most VIEW old at release: with SETTLE that stays below the notice.
VIEW = 24 * 3600
SETTLE = 3600
SESSION = 120
AFTER_EXPIRY = 60


def receiving(core: Core, now: int, view: int, *, noticed: bool = False, not_after: int | None = None) -> sender.Event:
    """Return the event that a verified NRR is at `now`, inside the transaction that commits it (offline.md S5).

    `view` is when the node last knew the ledger's revocations; `noticed` says that it knows one of a key of
    this exchange; `not_after` is when the NRR's certificate ends, after which nobody can lodge it.
    """
    fresh = now - view < VIEW and not noticed and (not_after is None or not_after >= core.expires)
    in_time = core.direct_until is not None and now < core.direct_until
    return sender.Event.NRR if fresh and in_time else sender.Event.NRR_LATE


def may_send(state: sender.State, core: Core, now: int, *, noticed: bool = False) -> bool:
    """Return whether s_T may leave at `now`, asked right before: the state may have moved on (offline.md S5)."""
    if state in {sender.State.ACKED, sender.State.RECEIPTED}:
        return True
    in_time = core.direct_until is not None and now < core.direct_until
    return state is sender.State.RELEASED and in_time and not noticed


def without_nrr(core: Core, now: int) -> sender.Event | None:
    """Return the event that "the peer has no NRR, or doesn't answer" is at `now`; None while it may still come."""
    late = core.direct_until is None or now >= core.direct_until
    return sender.Event.NO_NRR if late else None


def sender_due(state: sender.State, core: Core, since: int) -> int | None:
    """Return when "time to settle" first comes in a state entered at `since`; None if it never does.

    After that it comes again with growing pauses, as every job does.
    """
    limit = core.expires if core.direct_until is None else core.direct_until
    match state:
        case sender.State.QUEUED | sender.State.SENT:
            return limit
        case sender.State.RELEASED:
            return min(since + SETTLE, limit)
        case sender.State.LODGING | sender.State.ABORTING | sender.State.RECOVERED | sender.State.ACKED:
            return since
        case _:
            return None


def sender_overdue(core: Core) -> int:
    """Return when "expires has passed without evidence" comes."""
    return core.expires + AFTER_EXPIRY


def recipient_due(state: recipient.State, core: Core, since: int, *, in_session: bool) -> int | None:
    """Return when "time to trade" first comes in a state entered at `since`; None if it never does.

    `in_session` says that the session in which the NRR left is still there: its end makes the trade due at once.
    """
    match state:
        case recipient.State.SIGNED:
            return since + SESSION if in_session else since
        case recipient.State.RECOVERED | recipient.State.HAVE:
            return since
        case recipient.State.OFFERED | recipient.State.REFUSED:
            return core.expires + AFTER_EXPIRY
        case _:
            return None
