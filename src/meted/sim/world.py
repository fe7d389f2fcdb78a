"""The simulated world: it executes control's effects, and tells control what happens then."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import assert_never

from meted.control.effects import (
    DrainReplica,
    Effect,
    Explain,
    ForgetDeployment,
    PauseJob,
    PlaceJob,
    PlaceReplica,
    ResumeJob,
    SaveDeployment,
    SaveJob,
    StartJob,
    StartReplica,
    StopJob,
    StopReplica,
)
from meted.control.events import (
    DemandSeen,
    Deployed,
    DevicesBack,
    DevicesLost,
    Event,
    JobDied,
    JobFinished,
    JobForgotten,
    JobSubmitted,
    PricesChanged,
)
from meted.control.handle import handle
from meted.control.state import ControlState
from meted.domain.allocation import JobDemand
from meted.domain.job import TrainingSpec
from meted.domain.units import Micros
from meted.sim.fleet import Fleet
from meted.sim.money import Purse
from meted.sim.recorder import Recorder
from meted.sim.result import Decision, Result, Use
from meted.sim.scenario import Outage, PriceChange, Scenario, SimJob
from meted.sim.sharing import Sharing
from meted.sim.training import Training


def simulate(scenario: Scenario) -> Result:
    """Run a scenario to its end: to its horizon, or until all work is done.

    Raises ValueError if a plan of the policy cannot be, such as a job on devices of two kinds.
    """
    return World(scenario).run()


class World:
    """Events in the order of their moments, and of their making where those are equal."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.now = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._made = 0
        self.state = ControlState(
            pool=scenario.pool,
            policy=scenario.policy,
            seed=scenario.seed,
            solver_seconds=scenario.solver_seconds,
        )
        self.recorder = Recorder(scenario.pool)
        self.training = Training(
            scenario.pool, recorder=self.recorder, schedule=self.schedule, happen=self.happen
        )
        self.purse = Purse(
            scenario.budgets,
            scenario.jobs,
            recorder=self.recorder,
            interval=scenario.interval,
            deployments=scenario.deployments,
        )
        self.fleet = Fleet(
            scenario.deployments,
            pool=scenario.pool,
            recorder=self.recorder,
            schedule=self.schedule,
            happen=self.happen,
            interval=scenario.interval,
            training=lambda: self.training.harvest,
            money=self.purse.requests,
        )
        self.sharing = Sharing(
            scenario.pool, recorder=self.recorder, fleet=self.fleet, training=self.training
        )
        if self.purse.used and scenario.horizon is None:
            raise ValueError(
                "a job whose tenant has a budget may wait for money for ever; give the scenario a "
                "horizon"
            )
        self.decisions: list[Decision] = []
        self.plans = 0
        self._to_come = len(scenario.jobs)
        self._decides_at = -1
        self._decided_at = 0
        self._parked: frozenset[int] = frozenset()

    def schedule(self, at: int, action: Callable[[], None]) -> None:
        """Do something at a moment that is not past."""
        self._made += 1
        heappush(self._queue, (max(at, self.now), self._made, action))

    def happen(self, event: Event) -> None:
        """Something happens: let control say what follows, and do it."""
        if isinstance(event, JobDied):
            self.purse.left(event.name, self.now)
        elif isinstance(event, JobForgotten):
            self.purse.forget(event.name)
        self.state, effects = handle(self.state, event)
        for effect in effects:
            self._execute(effect)
        if self.scenario.at_once and isinstance(event, JobSubmitted | JobFinished):
            self._decide_soon()

    def run(self) -> Result:
        """From moment 0 to the end."""
        self._lay_out()
        horizon = self.scenario.horizon
        while self._queue and (self._work_is_left() or horizon is not None):
            at, _, action = self._queue[0]
            if horizon is not None and at > horizon:
                break
            heappop(self._queue)
            self.fleet.advance(at)
            self.sharing.settle(at)
            self.now = at
            action()
        return self._result(self.now if horizon is None else horizon)

    def _lay_out(self) -> None:
        scenario = self.scenario
        for one in scenario.deployments:
            self.happen(Deployed(now=Micros(0), deployment=one.deployment))
        for job in scenario.jobs:
            self.schedule(job.arrived, lambda job=job: self._comes(job))
        for outage in scenario.outages:
            self.schedule(outage.at, lambda outage=outage: self._lose(outage))
        for change in scenario.price_changes:
            self.schedule(change.at, lambda change=change: self._reprice(change))
        self.schedule(0, self._tick)

    def _work_is_left(self) -> bool:
        return self._to_come > 0 or self.training.unfinished or self.fleet.next_moment is not None

    def _comes(self, job: SimJob) -> None:
        self._to_come -= 1
        self.training.came(job)
        spec = TrainingSpec(
            name=job.name, base="", data="", tenant=job.tenant, steps=max(1, round(job.steps))
        )
        self.happen(JobSubmitted(now=Micros(self.now), spec=spec))

    def _lose(self, outage: Outage) -> None:
        now = Micros(self.now)
        self.happen(DevicesLost(now=now, devices=outage.devices, reason=outage.reason))
        self.training.lost(outage.devices, now, outage.reason)
        self.fleet.lost(outage.devices, now, outage.reason)
        self.recorder.put(outage.devices, now, Use.GONE)
        if outage.back is not None:
            self.schedule(outage.back, lambda: self._come_back(outage.devices))

    def _come_back(self, devices: frozenset[int]) -> None:
        self.recorder.put(devices, self.now, Use.IDLE)
        self.happen(DevicesBack(now=Micros(self.now), devices=devices))

    def _reprice(self, change: PriceChange) -> None:
        self.recorder.reprice(self.now, change.prices)
        self.happen(PricesChanged(now=Micros(self.now), prices=change.prices))
        if self.purse.used:
            self.purse.settle(self.now, self.state.pool)
            self._fund()

    def _tick(self) -> None:
        self._decide()
        self.schedule(self.now + self.scenario.interval, self._tick)

    def _decide_soon(self) -> None:
        """Once, after all that happens at this moment."""
        if self._decides_at != self.now:
            self._decides_at = self.now
            self.schedule(self.now, self._decide)

    def _decide(self) -> None:
        now = Micros(self.now)
        self.plans += 1
        elapsed_s = (now - self._decided_at) / 1e6
        self._decided_at = now
        if self.purse.used:
            self._settle()
        # The policy sees what is left before the jobs that it decides on have anything set aside.
        budgets = self.purse.budgets(now)
        jobs = self.training.demands(now, self.state.jobs)
        if self.purse.used:
            jobs = self._funded(jobs)
        self.happen(
            DemandSeen(
                now=now,
                deployments=self.fleet.demands(now, elapsed_s, self.state),
                jobs=jobs,
                budgets=budgets,
            )
        )
        self._fund()
        self._park()

    def _settle(self) -> None:
        """Charge jobs for the time up to now; those held for which there is money are back."""
        pool = self.state.pool
        self.purse.settle(self.now, pool)
        for event in self.purse.back(self.now, pool):
            self.happen(event)

    def _funded(self, demands: tuple[JobDemand, ...]) -> tuple[JobDemand, ...]:
        """The jobs for which there is money, with the ways to run that it pays for."""
        funded, gone = self.purse.limit(self.now, demands, self.state.pool)
        for event in gone:
            self.happen(event)
        return funded

    def _fund(self) -> None:
        """Set money aside for what the plan gives; whom it does not pay for makes way at once."""
        if not self.purse.used:
            return
        gone = self.purse.planned(self.now, self.state.plan, self.state.pool)
        for event in gone:
            self.happen(event)
        if gone:
            self._decide_soon()

    def _park(self) -> None:
        """Devices that the plan parks, and that nobody uses, are parked; the others are not."""
        wanted = frozenset(self.state.plan.parked_devices)
        for device in sorted(wanted | self._parked):
            use = self.recorder.use(device)
            if device in wanted and use is Use.IDLE:
                self.recorder.put((device,), self.now, Use.PARKED)
            elif device not in wanted and use is Use.PARKED:
                self.recorder.put((device,), self.now, Use.IDLE)
        self._parked = wanted

    def _switching_on(self, devices: tuple[int, ...]) -> int:
        parked = any(self.recorder.use(device) is Use.PARKED for device in devices)
        return self.scenario.unpark if parked else 0

    def _execute(self, effect: Effect) -> None:
        match effect:
            case StartJob(allocation=allocation):
                delay = self._switching_on(allocation.devices)
                self.training.start(effect, self.now, delay=delay)
                self.purse.began(allocation.job, allocation.devices, self.now)
            case StopJob(name=name):
                self.training.stop(name, self.now)
            case Explain(at=at, reason=reason):
                self.decisions.append(Decision(at=at, reason=reason))
            case StartReplica(devices=devices):
                self.fleet.start(effect, self.now, delay=self._switching_on(devices))
            case PlaceReplica(replica=replica, devices=devices):
                self.fleet.place(replica, devices, self.now)
            case DrainReplica(replica=replica):
                self.fleet.drain(replica, self.now)
            case StopReplica(replica=replica):
                self.fleet.stop(replica, self.now)
            case PlaceJob(allocation=allocation):
                self.training.place(allocation, self.now)
            case PauseJob(name=name):
                self.training.pause(name, self.now)
            case ResumeJob(name=name):
                self.training.resume(name, self.now)
            case SaveDeployment() | ForgetDeployment() | SaveJob():
                pass
            case _:
                assert_never(effect)

    def _result(self, ended: int) -> Result:
        self.fleet.advance(ended)
        self.fleet.record(ended)
        self.sharing.settle(ended)
        segments = self.recorder.close(ended)
        cost: dict[str, int] = {}
        for one in segments:
            cost[one.who] = cost.get(one.who, 0) + one.cost
        return Result(
            ended=Micros(ended),
            jobs=self.training.results(cost),
            deployments=self.fleet.results(),
            segments=segments,
            decisions=self.decisions,
            plans=self.plans,
            budgets=self.purse.results(),
        )
