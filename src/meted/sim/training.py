"""Simulated training jobs: they start, go at their pace, leave, fall back to a checkpoint, end."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from meted.control.effects import StartJob
from meted.control.events import (
    Event,
    JobDied,
    JobFinished,
    JobForgotten,
    JobMoved,
    JobWaits,
)
from meted.domain.allocation import Harvest, JobAllocation, JobDemand
from meted.domain.job import Job, JobProgress, JobStatus, TrainingPhase
from meted.domain.pool import Pool
from meted.domain.units import JobName, Micros, NanoUSD, TenantName
from meted.sim.recorder import Recorder
from meted.sim.result import JobResult, Use
from meted.sim.scenario import SimJob

LEFT = "it made its work durable and left its devices"
NOTICED = 0.001
"""Change of what serving leaves that makes a new pace."""
NEAR = 1e-9
"""Share of its steps that a job may lack to be done: what summing floats loses."""


@dataclass(slots=True)
class _Progress:
    """How far a job is. until: its next moment of its own; version: makes older ones void."""

    job: SimJob
    order: int
    done: float = 0.0
    saved: float = 0.0
    saved_at: int = 0
    devices: tuple[int, ...] = ()
    kind: str = ""
    nodes: int = 0
    since: int = 0
    pace: float = 0.0
    goes_at: int = 0
    version: int = 0
    leaving: bool = False
    paused: bool = False
    started: int | None = None
    finished: int | None = None
    restarts: int = 0
    harvest: Harvest = Harvest.SHARE
    attained: dict[str, int] = field(default_factory=dict[str, int])


class Training:
    """All jobs that have come. The world calls it for control's effects."""

    def __init__(
        self,
        pool: Pool,
        *,
        recorder: Recorder,
        schedule: Callable[[int, Callable[[], None]], None],
        happen: Callable[[Event], None],
    ) -> None:
        self._recorder, self._schedule, self._happen = recorder, schedule, happen
        self._shared = pool.shared
        self._free = 1.0
        self._kind = {device.index: device.kind for device in pool.devices}
        self._node = {device.index: device.node for device in pool.devices}
        self._jobs: dict[JobName, _Progress] = {}
        self._open: dict[JobName, _Progress] = {}

    @property
    def unfinished(self) -> bool:
        return bool(self._open)

    @property
    def harvest(self) -> Harvest:
        """The most that any job with a process harvests, as the house tells its watches."""
        levels = {one.harvest for one in self._open.values() if one.devices}
        order = (Harvest.SHARE, Harvest.IDLE, Harvest.GAPS)
        return next((level for level in order if level in levels), Harvest.NONE)

    def came(self, job: SimJob) -> None:
        """A job is submitted."""
        one = _Progress(job=job, order=len(self._jobs))
        self._jobs[job.name] = self._open[job.name] = one

    def start(self, effect: StartJob, now: int, *, delay: int = 0) -> None:
        """A job gets its devices; it makes its first step after its restart time.

        delay: until the last of its devices is switched on.
        """
        one = self._jobs[effect.spec.name]
        devices = effect.allocation.devices
        kinds = {self._kind[device] for device in devices}
        if len(kinds) != 1:
            raise ValueError(
                f"the plan gives job {one.job.name!r} devices of {sorted(kinds)}; expected one kind"
            )
        one.devices, one.kind = devices, kinds.pop()
        one.harvest = effect.allocation.harvest
        one.nodes = len({self._node[device] for device in devices})
        one.restarts += one.started is not None
        one.started = now if one.started is None else one.started
        one.since = now
        one.goes_at = now + delay + one.job.restart
        one.leaving = one.paused = False
        one.version += 1
        if one.goes_at > now:
            self._record(one, now, Use.RESTARTING)
            self._later(one, one.goes_at, lambda: self._goes(one, one.goes_at))
        else:
            self._goes(one, now)

    def place(self, allocation: JobAllocation, now: int) -> None:
        """Where devices are shared: a job may use them in another way from now on."""
        one = self._open.get(allocation.job)
        if one is None or not one.devices:
            return
        self._catch_up(one, now)
        one.devices, one.harvest = allocation.devices, allocation.harvest
        if now >= one.goes_at and not (one.leaving or one.paused):
            self._set_pace(one, now)

    def breathe(self, free: float, now: int) -> None:
        """Where devices are shared: what serving left of them since the last call, 0 to 1.

        It is what jobs have had in that time, and what they expect until the next call.
        """
        if abs(free - self._free) < NOTICED:
            return
        self._free = free
        for one in self._open.values():
            if one.devices and now > one.goes_at and not (one.leaving or one.paused):
                one.pace = self._pace(one)
                self._catch_up(one, now)
                self._set_pace(one, now)

    def sharing(self, now: int) -> Iterator[tuple[JobName, TenantName, tuple[int, ...], Use]]:
        """The jobs that have used shared devices up to now, with these, and for what."""
        for name, one in self._open.items():
            if not one.devices or one.paused or one.harvest is Harvest.NONE:
                continue
            use = Use.RESTARTING if now <= one.goes_at else Use.TRAINING
            yield name, one.job.tenant, one.devices, use

    def _part(self, one: _Progress) -> float:
        """Share of its devices that a job gets."""
        if not self._shared or one.harvest is Harvest.SHARE:
            return 1.0
        return 0.0 if one.harvest is Harvest.NONE else self._free

    def stop(self, name: JobName, now: int) -> None:
        """A job makes its work durable and leaves its devices."""
        one = self._jobs.get(name)
        if one is None or not one.devices or one.leaving:
            return
        self._catch_up(one, now)
        one.saved, one.leaving = one.done, True
        one.pace = 0.0
        one.version += 1
        if one.job.leave > 0:
            at = now + one.job.leave
            self._later(one, at, lambda: self._left(one, at, LEFT))
        else:
            self._left(one, now, LEFT)

    def pause(self, name: JobName, now: int) -> None:
        """A job makes its work durable and waits where it is; one that leaves does so already."""
        one = self._jobs[name]
        if one.leaving:
            return
        self._catch_up(one, now)
        one.saved, one.pace, one.paused = one.done, 0.0, True
        one.version += 1
        self._happen(JobWaits(now=Micros(now), name=name))

    def resume(self, name: JobName, now: int) -> None:
        """A waiting job goes on."""
        one = self._jobs[name]
        if one.devices and one.paused:
            one.paused = False
            self._goes(one, now)

    def lost(self, devices: frozenset[int], now: int, reason: str) -> None:
        """Devices are gone: the jobs on them fall back to their last checkpoint."""
        for one in list(self._open.values()):
            if one.devices and not devices.isdisjoint(one.devices):
                self._catch_up(one, now)
                one.done = one.saved
                self._left(one, now, reason)

    def demands(self, now: int, known: Mapping[JobName, Job]) -> tuple[JobDemand, ...]:
        """What the unfinished jobs could use, in the order they came."""
        return tuple(
            self._demand(one, now, known[name])
            for name, one in self._open.items()
            if name in known and not known[name].held
        )

    def results(self, cost: Mapping[str, int]) -> list[JobResult]:
        """What became of every job that came. cost: nano-USD by name."""
        return [
            JobResult(
                name=name,
                tenant=one.job.tenant,
                arrived=one.job.arrived,
                started=None if one.started is None else Micros(one.started),
                finished=None if one.finished is None else Micros(one.finished),
                deadline=one.job.deadline,
                attained=Micros(sum(one.attained.values())),
                restarts=one.restarts,
                cost=NanoUSD(cost.get(name, 0)),
            )
            for name, one in self._jobs.items()
        ]

    def _demand(self, one: _Progress, now: int, known: Job) -> JobDemand:
        self._catch_up(one, now)
        job = one.job
        return JobDemand(
            job=job.name,
            order=one.order,
            remaining_steps=max(1, round(job.steps - one.done)),
            tokens_per_device_second=0.0,
            total_steps=round(job.steps),
            tenant=job.tenant,
            arrived=job.arrived,
            weight=job.weight,
            priority=job.priority,
            deadline=job.deadline,
            restart=job.restart,
            attained={kind: Micros(micros) for kind, micros in one.attained.items()},
            running=bool(one.devices) and known.status is not JobStatus.QUEUED,
            options=job.model.options(one.done),
        )

    def _record(self, one: _Progress, at: int, use: Use) -> None:
        """Shared devices are recorded by the world, which knows who else uses them."""
        if not self._shared:
            self._recorder.put(one.devices, at, use, who=one.job.name, tenant=one.job.tenant)

    def _goes(self, one: _Progress, at: int) -> None:
        self._catch_up(one, at)
        self._record(one, at, Use.TRAINING)
        one.saved_at = at
        progress = JobProgress(
            step=int(one.done),
            total_steps=round(one.job.steps),
            phase=TrainingPhase.TRAIN,
            checkpoint_step=int(one.done) + 1,
        )
        self._happen(JobMoved(now=Micros(at), name=one.job.name, progress=progress))
        self._set_pace(one, at)

    def _set_pace(self, one: _Progress, at: int) -> None:
        """Go on at the pace of now, until it changes or the job is done."""
        one.pace = self._pace(one)
        one.version += 1
        if one.pace <= 0:
            return
        target = min(one.job.steps, one.job.model.steady_until(one.done))
        seconds = max(0.0, target - one.done) / one.pace
        moment = at + max(1, -int(-seconds * 1e6 // 1))
        self._later(one, moment, lambda: self._reached(one, moment, target))

    def _pace(self, one: _Progress) -> float:
        """Steps a second on its devices, by the part of them that it gets."""
        return self._part(one) * one.job.model.steps_per_second(
            one.done, kind=one.kind, devices=len(one.devices), nodes=one.nodes
        )

    def _reached(self, one: _Progress, at: int, target: float) -> None:
        self._catch_up(one, at)
        one.done = target
        if target < one.job.steps * (1 - NEAR):
            self._set_pace(one, at)
            return
        one.finished = at
        name = one.job.name
        del self._open[name]
        self._release(one, at)
        self._happen(JobFinished(now=Micros(at), name=name))
        self._happen(JobDied(now=Micros(at), name=name, reason="it is done"))
        self._happen(JobForgotten(now=Micros(at), name=name))

    def _left(self, one: _Progress, at: int, reason: str) -> None:
        self._release(one, at)
        self._happen(JobDied(now=Micros(at), name=one.job.name, reason=reason))

    def _release(self, one: _Progress, at: int) -> None:
        self._catch_up(one, at)
        if not self._shared:
            self._recorder.put(one.devices, at, Use.IDLE)
        one.devices, one.pace, one.leaving = (), 0.0, False
        one.version += 1

    def _catch_up(self, one: _Progress, now: int) -> None:
        """Count steps and device time up to now."""
        if not one.devices or now <= one.since:
            return
        micros = round((now - one.since) * self._part(one))
        one.attained[one.kind] = one.attained.get(one.kind, 0) + micros * len(one.devices)
        if one.pace > 0 and now > one.goes_at:
            before, went = one.done, now - max(one.since, one.goes_at)
            one.done = min(one.job.steps, one.done + one.pace * went / 1e6)
            self._save(one, now, before, went)
        one.since = now

    def _save(self, one: _Progress, now: int, before: float, went: int) -> None:
        """Move the last checkpoint to the last multiple of `save` since the job began to go."""
        every = one.job.save
        if every is None or every <= 0:
            one.saved = one.saved if every is None else one.done
            return
        periods = (now - one.saved_at) // every
        if periods > 0:
            one.saved_at += periods * every
            share = max(0.0, (one.saved_at - (now - went)) / went)
            one.saved = max(one.saved, before + share * (one.done - before))

    def _later(self, one: _Progress, at: int, action: Callable[[], None]) -> None:
        version = one.version

        def still_true() -> None:
            if one.version == version:
                action()

        self._schedule(at, still_true)
