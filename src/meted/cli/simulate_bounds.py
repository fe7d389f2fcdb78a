"""What ends a simulation that would not: plans that cannot be, and policies that starve a job."""

from collections.abc import Sequence
from dataclasses import dataclass

from meted.domain.allocation import Plan, Snapshot
from meted.domain.units import MICROS_PER_SECOND, SECONDS_PER_HOUR, JobName, Micros
from meted.policy.protocol import Policy
from meted.sim.scenario import SimJob

HOUR = MICROS_PER_SECOND * SECONDS_PER_HOUR


class BrokenPlanError(ValueError):
    """A policy's plan that the simulated world cannot put in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """A policy that is not asked for ever: where work is left at `until`, it is starved."""

    policy: Policy
    until: Micros

    def decide(self, snapshot: Snapshot) -> Plan:
        if snapshot.now > self.until and snapshot.jobs:
            left = [one.job for one in snapshot.jobs]
            raise BrokenPlanError(
                f"{len(left)} jobs are left after {snapshot.now / HOUR:.0f} h, in which all could "
                f"have run twice one after another; {left[0]} is one of them, and its last plan "
                f"{_last_word(snapshot, left[0])}; give --for to see how far it comes"
            )
        return self.policy.decide(snapshot)


def _last_word(snapshot: Snapshot, job: JobName) -> str:
    plan = snapshot.previous
    if plan is None:
        return "did not name it"
    given = plan.job(job)
    waits = next((one.reason for one in plan.waiting if one.job == job), None)
    return f"said: {given.reason if given else waits or 'nothing of it'}"


def too_long(jobs: Sequence[SimJob], *, pause: int) -> Micros:
    """After the last arrival, twice the time of all jobs one after another, each at its slowest,
    and a day. pause: micros that each loses by starting."""
    last = max((one.arrived for one in jobs), default=0)
    seconds = sum(
        one.steps / min(row.steps_per_second for row in one.model.options(0.0))
        + pause / MICROS_PER_SECOND
        for one in jobs
    )
    return Micros(last + 24 * HOUR + round(2 * seconds * MICROS_PER_SECOND))


def broken(policy: str, seed: int, error: ValueError) -> str:
    """A sentence about what a policy did with a seed."""
    return (
        f"--policy {policy} makes a plan that cannot be (seed {seed}): {error}; take a policy for "
        "pools where a device has one user"
    )
