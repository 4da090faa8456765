"""What time makes of an exchange in offline mode."""

from __future__ import annotations

import pytest

from shared.exchange import recipient, sender, timers
from tests.doubles.parties import DIRECT, EXPIRES, NOW, parties

CORE = parties().offline().manifest.core


class TestReceiving:
    """timers.receiving."""

    def test_in_time(self) -> None:
        """Before direct_until, with a fresh view and no notice, an NRR is in time."""
        assert timers.receiving(CORE, DIRECT - 1, DIRECT - 1) is sender.Event.NRR

    @pytest.mark.parametrize(
        ("now", "view", "noticed"),
        [(DIRECT, DIRECT, False), (NOW + timers.VIEW, NOW, False), (NOW, NOW, True)],
    )
    def test_too_late(self, now: int, view: int, noticed: bool) -> None:
        """From direct_until on, with a view of a day ago, or under a notice, it is too late to release."""
        assert timers.receiving(CORE, now, view, noticed=noticed) is sender.Event.NRR_LATE

    @pytest.mark.parametrize(("ends", "event"), [(EXPIRES - 1, "NRR_LATE"), (EXPIRES, "NRR"), (None, "NRR")])
    def test_certificate_that_ends(self, ends: int | None, event: str) -> None:
        """An NRR whose certificate ends before expires isn't released for: the sender couldn't lodge it to the end."""
        assert timers.receiving(CORE, NOW, NOW, not_after=ends) is sender.Event[event]

    def test_online_never_releases(self) -> None:
        """Where M has no direct_until nothing is released directly."""
        core = parties().exchange().manifest.core
        assert timers.receiving(core, NOW, NOW) is sender.Event.NRR_LATE

    def test_settles_within_the_notice(self) -> None:
        """Age of the view and time to settle together leave most of a revocation's notice."""
        assert timers.VIEW + timers.SETTLE < 72 * 3600 / 2


class TestSender:
    """timers.sender_due and without_nrr."""

    def test_without_nrr(self) -> None:
        """That the peer has no NRR means something only from direct_until on."""
        assert timers.without_nrr(CORE, DIRECT - 1) is None
        assert timers.without_nrr(CORE, DIRECT) is sender.Event.NO_NRR

    def test_release_is_settled_before_direct_until(self) -> None:
        """A release without an ACK is settled after an hour, and at latest at direct_until."""
        assert timers.sender_due(sender.State.RELEASED, CORE, NOW) == NOW + timers.SETTLE
        assert timers.sender_due(sender.State.RELEASED, CORE, DIRECT - 5) == DIRECT

    @pytest.mark.parametrize("state", list(sender.State))
    def test_every_open_state_has_a_timer(self, state: sender.State) -> None:
        """Each open state is due at some time before it expires; what has ended never is."""
        ended = {sender.State.RECEIPTED, sender.State.ABORTED, sender.State.EXPIRED, sender.State.INVALID}
        due = timers.sender_due(state, CORE, NOW)
        if state in ended | {sender.State.REFUSED}:
            assert due is None
        else:
            assert due is not None
            assert NOW <= due < EXPIRES < timers.sender_overdue(CORE)


class TestRecipient:
    """timers.recipient_due."""

    def test_signed(self) -> None:
        """The trade is due when the session has ended, and soon even if it lasts."""
        assert timers.recipient_due(recipient.State.SIGNED, CORE, NOW, in_session=False) == NOW
        assert timers.recipient_due(recipient.State.SIGNED, CORE, NOW, in_session=True) == NOW + timers.SESSION

    @pytest.mark.parametrize("state", list(recipient.State))
    def test_every_open_state_has_a_timer(self, state: recipient.State) -> None:
        """Each state in which something can still happen is due at some time."""
        closed = {
            recipient.State.DELIVERED,
            recipient.State.FAULTY,
            recipient.State.ABORTED,
            recipient.State.EXPIRED,
            recipient.State.INVALID,
        }
        due = timers.recipient_due(state, CORE, NOW, in_session=False)
        assert (due is None) == (state in closed)


class TestMaySend:
    """timers.may_send."""

    @pytest.mark.parametrize("state", list(sender.State))
    def test_states(self, state: sender.State) -> None:
        """The share leaves from RELEASED before direct_until, and at any time from who holds completion."""
        held = {sender.State.ACKED, sender.State.RECEIPTED}
        assert timers.may_send(state, CORE, DIRECT - 1) == (state in held | {sender.State.RELEASED})
        assert timers.may_send(state, CORE, DIRECT) == (state in held)
        assert timers.may_send(state, CORE, DIRECT - 1, noticed=True) == (state in held)
