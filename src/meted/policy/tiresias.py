"""Tiresias: two queues by service attained, each in the order of coming (Gu et al., NSDI 2019)."""

from dataclasses import dataclass

from meted.domain.allocation import JobDemand, Plan, Snapshot
from meted.policy.training.plans import Choice, make_plan
from meted.policy.training.room import make_room


@dataclass(frozen=True, slots=True, kw_only=True)
class TiresiasPolicy:
    """Rigid jobs; one that attained `threshold_hours` device-hours goes behind all others.

    A job that has several options runs its widest.
    """

    threshold_hours: float = 16.0

    def __post_init__(self) -> None:
        if not self.threshold_hours > 0:
            raise ValueError(
                f"policy.threshold_hours is {self.threshold_hours}, expected more than 0; 16 is "
                "what Pollux compares with"
            )

    def decide(self, snapshot: Snapshot) -> Plan:
        room = make_room(snapshot)
        left = dict(room.devices)
        choices: list[Choice] = []
        waits = {
            job.job: f"it attained {_hours(job):.2f} device-hours, "
            f"queue {self._queue(job)} of 2, others came first"
            for job in snapshot.jobs
        }
        for job in sorted(snapshot.jobs, key=lambda job: (self._queue(job), job.order)):
            ways = [one for one in job.options if one.devices <= left.get(one.kind, 0)]
            if not ways or job.remaining_steps < 1:
                continue
            widest = max(job.options, key=lambda one: one.devices).devices
            ways = [one for one in ways if one.devices == widest and one.steps_per_second > 0]
            if not ways:
                continue
            option = max(ways, key=lambda one: one.steps_per_second)
            left[option.kind] -= option.devices
            why = f"it attained {_hours(job):.2f} device-hours, queue {self._queue(job)} of 2"
            choices.append(Choice(job=job, option=option, why=why))
        return make_plan(snapshot, room, choices, waits=waits)

    def _queue(self, job: JobDemand) -> int:
        return 2 if _hours(job) >= self.threshold_hours else 1


def _hours(job: JobDemand) -> float:
    return sum(job.attained.values()) / 3.6e9
