"""Running jobs: take one, do it, and have it done again after a pause when it couldn't be done."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from secmtp_node.agents import acknowledging, courier, direct, recipient
from secmtp_node.agents.desk import Desk
from secmtp_node.ports.values import Job, Task
from shared.errors import OurFault, SecMTPError, Unavailable

LEASE = 900

WORK: Mapping[Task, Callable[[Desk, Job], None]] = {
    Task.CARRY: courier.carry,
    Task.STATUS: courier.ask_status,
    Task.REPORT_RECEIPT: courier.report_receipt,
    Task.REPORT_FAILURE: courier.report_failure,
    Task.TRADE: recipient.trade,
    Task.DELIVER: recipient.deliver,
    Task.SETTLE: direct.settle,
    Task.BRING: acknowledging.bring_ack,
}


def run_one(desk: Desk) -> bool:
    """Do the job that is due longest; return whether there was one. A failure postpones it and loses nothing."""
    with desk.store.transaction() as unit:
        job = unit.jobs.take(desk.now(), LEASE)
    if job is None:
        return False
    try:
        WORK[job.task](desk, job)
    except (SecMTPError, OSError) as error:
        pause = pause_after(desk, job.attempts)
        with desk.store.transaction() as unit:
            unit.jobs.postpone(job, desk.now() + pause, str(error))
        loud = isinstance(error, OurFault) and not isinstance(error, Unavailable)
        desk.tell(
            "job failed" if loud else "job postponed",
            task=job.task.value,
            exchange=job.exchange.hex(),
            attempt=job.attempts + 1,
            again_in=pause,
            reason=str(error),
        )
    return True


def pause_after(desk: Desk, attempts: int) -> int:
    """Return the pause before the next attempt: doubling, bounded, and not the same for everybody."""
    policy = desk.policy
    longest = min(policy.longest_pause, policy.first_pause << min(attempts, 20))
    return max(1, longest * (256 + desk.draw(1)[0]) // 512)
