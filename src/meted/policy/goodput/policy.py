"""Goodput: devices go where they shorten jobs most, a restart counted, short jobs first."""

from collections.abc import Mapping
from dataclasses import dataclass

from meted.domain.allocation import JobDemand, JobOption, Plan, Snapshot
from meted.policy.goodput.packing import packed
from meted.policy.goodput.program import Column, solve
from meted.policy.training.plans import Choice, make_plan
from meted.policy.training.room import make_room


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodputPolicy:
    """Least sum of weighted times to completion over elastic options (after Pollux, OSDI 2021).

    short_first: a job's time counts by its best time to the power of minus this; 0 is plain time, 1
    relative slowdown, more sends short jobs first. idle_cost: what waiting counts, in times of its
    slowest option. move_cost: restarts that a change must win back.
    """

    short_first: float = 1.5
    idle_cost: float = 4.0
    move_cost: float = 2.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("short_first", self.short_first, 0.0),
            ("idle_cost", self.idle_cost, 1.0),
            ("move_cost", self.move_cost, 0.0),
        ):
            if not value >= least:
                raise ValueError(f"policy.{name} is {value}, expected {least} or more; raise it")

    def decide(self, snapshot: Snapshot) -> Plan:
        room = make_room(snapshot)
        kinds = {device.index: device.kind for device in snapshot.pool.devices}
        before = {one.job: one for one in snapshot.previous.jobs} if snapshot.previous else {}
        columns: list[Column] = []
        ways: list[tuple[JobDemand, JobOption]] = []
        for number, job in enumerate(snapshot.jobs):
            was = before.get(job.job)
            held = (kinds[was.devices[0]], len(was.devices)) if was and was.devices else None
            for option, value in self._values(job, held, room.devices):
                columns.append(
                    Column(job=number, kind=option.kind, devices=option.devices, value=value)
                )
                ways.append((job, option))
        found = solve(columns, room.devices, seconds=snapshot.solver_seconds / 2)
        why = f"the plan is within {found.gap:.2%} of the LP bound for {len(snapshot.jobs)} jobs"
        choices = [Choice(job=ways[one][0], option=ways[one][1], why=why) for one in found.chosen]
        waits = {
            job.job: f"its devices shorten {len(choices)} other jobs more" for job in snapshot.jobs
        }
        return make_plan(packed(snapshot, choices), room, choices, waits=waits)

    def _values(
        self, job: JobDemand, held: tuple[str, int] | None, room: Mapping[str, int]
    ) -> list[tuple[JobOption, float]]:
        ways = [
            one
            for one in job.options
            if one.steps_per_second > 0 and one.devices <= room.get(one.kind, 0)
        ]
        if not ways:
            return []
        times = [job.remaining_steps / one.steps_per_second for one in ways]
        weight = job.weight / max(60.0, min(times)) ** self.short_first
        restart = self.move_cost * job.restart / 1e6
        nothing = self.idle_cost * max(times) + restart
        return [
            (
                one,
                weight * (nothing - time - (0 if (one.kind, one.devices) == held else restart)),
            )
            for one, time in zip(ways, times, strict=True)
        ]
