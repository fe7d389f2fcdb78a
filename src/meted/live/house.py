"""The house: one process that serves, trains, decides and keeps the books."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, assert_never

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
    Event,
    JobDied,
    JobRemembered,
    ReplicaDied,
    ReplicaDrained,
    ReplicaReady,
)
from meted.control.handle import handle
from meted.control.state import ControlState
from meted.control.status_counts import status_counts
from meted.domain.deployment import Deployment, ReplicaStatus
from meted.domain.job import FINAL_JOB_STATUSES
from meted.domain.line import Account, Interval, Kind
from meted.domain.pool import Pool
from meted.domain.units import (
    MICROS_PER_SECOND,
    DeviceNanos,
    JobName,
    Micros,
    NanoUSD,
    ReplicaId,
    TenantName,
)
from meted.ledger.recovery import recovered
from meted.live.books import compact
from meted.live.checkpoints import CheckpointRegistry
from meted.live.clock import Clock
from meted.live.doors import Key
from meted.live.fronts import front_document
from meted.live.host import Host, Urgency, Worker, WorkerEnd
from meted.live.job_start import job_worker_spec
from meted.live.jobs import Jobs
from meted.live.keyring import Keyring
from meted.live.lever_doors import FrontPoint
from meted.live.live_job import JobTotals
from meted.live.metering import Metering, new_session
from meted.live.opening_prices import opening_prices
from meted.live.predicting import Predicting
from meted.live.remembering import Remembering
from meted.live.replica_start import predicted_as, replica_spec
from meted.live.rollouts import Rollouts
from meted.live.serving import Serving
from meted.live.store import Batch, Store, StoreDownError, StoreError
from meted.live.timeline import Timeline
from meted.live.treasury import Treasury, price_now
from meted.live.wire import Pause, Resume, Stop
from meted.policy.protocol import Policy

log = logging.getLogger(__name__)

KEPT_DECISIONS = 200
DRAIN_SECONDS = 10.0
STOP_SECONDS = 30.0
MONEY_INTERVAL_S = 0.25
DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseSettings:
    """What a house is made with. books: where its store is, for those who only read.

    calibrations: where what was measured of this machine and its engines is kept.
    """

    pool: Pool
    policy_name: str
    policy: Policy
    policy_interval_s: float = 1.0
    books_interval_s: float = 2.0
    books_flush_s: float = 0.25
    books: str | Path
    checkpoints: Path
    jobs: Path
    calibrations: Path
    training_threads: int | None = None
    acknowledge_durably: bool = True
    tenant_weights: Mapping[TenantName, int] = field(default_factory=dict[TenantName, int])
    alert_webhook: str | None = None
    fold_after_days: int | None = None


class House:
    """Runs control's effects in the real world and tells control what came of them."""

    def __init__(
        self,
        *,
        settings: HouseSettings,
        store: Store,
        key_store: Store,
        host: Host,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.started_at = self.clock.now()
        self.registry = CheckpointRegistry(settings.checkpoints)
        self.state = ControlState(pool=settings.pool, policy=settings.policy)
        self.decisions: deque[tuple[float, str]] = deque(maxlen=KEPT_DECISIONS)
        self.timeline_points = Timeline()
        self.stopping = asyncio.Event()
        self.stopping_asked = asyncio.Event()
        self.url = ""
        self.failed = False
        self.store = store
        self._keyring = Keyring(key_store)
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._workers: dict[ReplicaId, Worker] = {}
        self._job_starts = 0
        self._last_demand = self.clock.now()
        _recover(store)
        store.reclaim()
        prices = opening_prices(store, settings.pool, now=self.clock.wall())
        self._before = {
            total.job: JobTotals(
                device_nanos=DeviceNanos(total.device_nanos),
                cost=NanoUSD(total.cost),
                price=total.price,
            )
            for total in store.job_totals()
        }
        self.metering = Metering(
            store=store,
            pool=settings.pool,
            price=price_now(prices, settings.pool, self.clock),
            clock=self.clock,
            session=new_session(),
            interval_s=settings.books_interval_s,
            flush_s=settings.books_flush_s,
            acknowledge_durably=settings.acknowledge_durably,
        )
        self.metering.on_close = self._interval_closed
        self._memory = Remembering(in_writer=self.metering.in_writer, spawn=self.spawn)
        self.treasury = Treasury(
            store=store,
            pool=settings.pool,
            clock=self.clock,
            metering=self.metering,
            prices=prices,
            spawn=self.spawn,
            on_money=lambda: self.serving.money(),
            webhook=settings.alert_webhook,
        )
        self.jobs_live = Jobs(
            clock=self.clock,
            metering=self.metering,
            funds=self.treasury.job_funds(),
            on_event=self.happen,
            on_front=self._keep_front,
        )
        self.serving = Serving(
            clock=self.clock,
            metering=self.metering,
            funding=self.treasury.funding(),
            weight_of=lambda tenant: settings.tenant_weights.get(tenant, 1),
            on_ready=lambda i: self.happen(ReplicaReady(now=self.clock.now(), replica=i)),
            on_drained=lambda i: self.happen(ReplicaDrained(now=self.clock.now(), replica=i)),
            on_traffic=self.jobs_live.traffic,
        )

        self.rollouts = Rollouts(
            clock=self.clock,
            serving=self.serving,
            store=store,
            state=lambda: self.state,
            happen=self.happen,
            later=self._memory.later,
            explain=self._explain,
            told=lambda: [reason for _, reason in self.decisions],
        )
        self.predicting = Predicting(
            folder=settings.calibrations,
            clock=self.clock,
            metering=self.metering,
            host=host,
            devices=settings.pool.indices,
            registry=self.registry,
            served=lambda: tuple(self.serving.deployments.values()),
            quiet=self._quiet,
            explain=self._explain,
        )

    # The loop.

    async def start(self, deployments: Sequence[Deployment]) -> None:
        """Bring back what was remembered, add what is configured, and begin to decide."""
        self.metering_loop = self.spawn(self.metering.run())
        await self.reread()
        self.treasury.desk.tick()
        remembered = {one.name: one for one in self.store.deployments()}
        wanted = {**remembered, **{one.name: one for one in deployments}}
        for deployment in self.rollouts.remembered(wanted).values():
            known = self.registry.has(deployment.checkpoint)
            if known or deployment.settings.brings_its_weights:
                self.happen(Deployed(now=self.clock.now(), deployment=deployment))
            else:
                self._explain(f"{deployment.name}: checkpoint {deployment.checkpoint!r} is gone")
        self.rollouts.resume()
        for job in self.store.jobs():
            progress, name = job.progress, job.spec.name
            self.metering.losses[name] = list(self.store.losses(name))
            self.jobs_live.add(job.spec, progress, self._before.get(job.spec.name, JobTotals()))
            self.happen(JobRemembered(now=self.clock.now(), job=job))
        self._loops = [
            self.spawn(self._decide_forever()),
            self.spawn(self._mind_money()),
            self.spawn(self.predicting.run()),
            self.spawn(self.rollouts.run()),
        ]
        if self.settings.fold_after_days is not None:
            self._loops.append(self.spawn(self._fold_daily(self.settings.fold_after_days)))

    def happen(self, event: Event) -> None:
        """Something happened: let control say what follows, and do it.

        Raises ControlError if the event asks for what cannot be.
        """
        self.state, effects = handle(self.state, event)
        for effect in effects:
            self._execute(effect)

    async def _decide_forever(self) -> None:
        while not self.stopping.is_set():
            await asyncio.sleep(self.settings.policy_interval_s)
            self.decide()

    def decide(self) -> None:
        """Look at what clients and jobs want, and let control decide."""
        self.serving.expire()
        self.happen(self._demand())

    async def _mind_money(self) -> None:
        """Keep leases alive and jobs paid for; notice what other processes changed in the store."""
        while not self.stopping.is_set():
            await asyncio.sleep(MONEY_INTERVAL_S)
            self.treasury.desk.tick()
            self.jobs_live.watch_money(self.state.jobs)
            with contextlib.suppress(StoreDownError):
                if await self.treasury.changed():
                    await self.reread()

    async def _fold_daily(self, days: int) -> None:
        """Fold old hours of the books, now and once a day, beside the writer, which goes on."""
        while True:
            now = self.clock.wall()
            before = Micros(now - days * DAY_S * MICROS_PER_SECOND)
            try:
                folded = await asyncio.to_thread(
                    compact, self.settings.books, before=before, now=now
                )
                self._explain(f"books: folded {folded.hours} hours older than {days} days")
            except StoreError as error:
                log.warning("old hours are not folded now: %s", error)
            await asyncio.sleep(DAY_S)

    async def reread(self) -> None:
        """Take keys, budgets, prices and rates from the store as they are now."""
        self._keyring.forget()
        await self.treasury.reread()

    def _demand(self) -> DemandSeen:
        now = self.clock.now()
        elapsed = max(1e-3, (now - self._last_demand) / 1e6)
        self._last_demand = now
        counts = status_counts(self.state)
        deployments = tuple(
            served.watch.demand(
                now,
                queued=len(served.waiting),
                running=served.running,
                replicas=counts[served.deployment.name, ReplicaStatus.READY],
                starting=counts[served.deployment.name, ReplicaStatus.STARTING],
                draining=counts[served.deployment.name, ReplicaStatus.DRAINING],
                elapsed_s=elapsed,
                ahead_s=self.settings.policy_interval_s,
            )
            for served in self.serving.deployments.values()
            if not served.closed
        )
        return DemandSeen(
            now=now, deployments=deployments, jobs=self.jobs_live.demands(self.state.jobs)
        )

    def _execute(self, effect: Effect) -> None:
        match effect:
            case StartReplica():
                self.spawn(self._start_replica(effect))
            case PlaceReplica(replica=replica, devices=devices):
                if replica in self._workers:
                    self._workers[replica].place(devices, Urgency.NORMAL)
            case DrainReplica(replica=replica):
                self.serving.drain(replica)
            case StopReplica(replica=replica):
                if replica in self._workers:
                    self._workers[replica].send(Stop())
            case StartJob():
                self.spawn(self._start_job(effect))
            case PlaceJob(allocation=allocation):
                self.jobs_live.place(allocation)
                self._tell_watches()
            case PauseJob(name=name):
                self.jobs_live.tell(name, Pause())
            case ResumeJob(name=name):
                self.jobs_live.tell(name, Resume())
            case StopJob(name=name):
                self.jobs_live.tell(name, Stop())
            case SaveDeployment(deployment=deployment):
                self.serving.add_deployment(deployment)
                self._memory.later(lambda: self.store.save_deployment(deployment))
            case ForgetDeployment(name=name):
                self.serving.remove_deployment(name)
                self._memory.later(lambda: self.store.remove_deployment(name))
            case SaveJob(job=job):
                self._memory.later(lambda: self.store.save_job(job))
            case Explain(reason=reason):
                self._explain(reason)
            case _:
                assert_never(effect)

    # Workers.

    async def _start_replica(self, effect: StartReplica) -> None:
        deployment, replica = effect.deployment, effect.replica
        spec = replica_spec(
            deployment,
            replica=replica.id,
            threads=replica.threads,
            devices=effect.devices,
            checkpoints=self.settings.checkpoints,
        )
        name = deployment.name
        if not self.serving.expects(name):
            self._replica_died(replica.id, "its deployment is gone")
            return

        def ended(end: WorkerEnd) -> None:
            self._workers.pop(replica.id, None)
            self._replica_died(replica.id, self.serving.replica_ended(replica.id, name, end))

        self.serving.starting(name, 1)
        try:
            worker = await self._host.start(
                spec, lambda message: self.serving.receive(replica.id, name, message), ended
            )
        finally:
            self.serving.starting(name, -1)
        self._workers[replica.id] = worker
        loading = Account(kind=Kind.LOADING, deployment=name)
        self.metering.worker_started(replica.id, loading, worker.cpu_nanos)
        self.serving.add_replica(replica.id, name, worker)
        self.predicting.replica_starts(
            self.serving.deployments[name],
            threads=deployment.settings.threads or replica.threads,
            engine=predicted_as(deployment),
        )
        known = self.state.replicas.get(replica.id)
        if known is not None and known.status is ReplicaStatus.DRAINING:
            self.serving.drain(replica.id)

    def _replica_died(self, replica: ReplicaId, reason: str) -> None:
        if not self.stopping.is_set():
            self.happen(ReplicaDied(now=self.clock.now(), replica=replica, reason=reason))

    async def _start_job(self, effect: StartJob) -> None:
        name, allocation = effect.spec.name, effect.allocation
        if not self.jobs_live.funded(name):
            self.happen(JobDied(now=self.clock.now(), name=name, reason="nobody pays for it"))
            return
        self._job_starts += 1
        worker_id = f"job-{name}-{self._job_starts}"
        spec = job_worker_spec(
            effect.spec,
            worker_id=worker_id,
            devices=allocation.devices,
            threads=self.settings.training_threads or allocation.threads,
            price=self.metering.meter.price,
            checkpoints=self.settings.checkpoints,
            calibrations=self.settings.calibrations,
            jobs=self.settings.jobs,
        )

        def ended(end: WorkerEnd) -> None:
            self.jobs_live.ended(name, end, wanted=self.state.jobs[name].cancel_wanted)
            self._tell_watches()

        worker = await self._host.start(
            spec, lambda message: self.jobs_live.receive(name, message), ended
        )
        self.jobs_live.started(name, worker, worker_id)
        self.jobs_live.place(allocation)
        self._tell_watches()

    def _tell_watches(self) -> None:
        """Step times measured from now on are beside training of this kind."""
        for served in self.serving.deployments.values():
            served.watch.harvest = self.jobs_live.training

    # Small duties.

    def _interval_closed(self, interval: Interval) -> None:
        self.metering.meter.reprice(self.treasury.price())
        watches = [served.watch for served in self.serving.deployments.values()]
        self.timeline_points.add(interval, watches, self.clock.now())

    def _quiet(self) -> bool:
        """Whether nothing is served, loaded or trained now."""
        return (
            self.serving.in_flight == 0
            and not self.serving.closing
            and all(
                replica.ready
                for served in self.serving.deployments.values()
                for replica in served.replicas.values()
            )
            and all(job.worker is None for job in self.jobs_live.live.values())
        )

    def _keep_front(self, deployment: str, points: tuple[FrontPoint, ...]) -> None:
        document = front_document(deployment, points, self.clock.wall())
        self._memory.later(lambda: self.store.append_documents([document]))

    def _explain(self, reason: str) -> None:
        self.decisions.append((self.clock.wall() / 1e6, reason))
        log.info("%s", reason)

    def worker_pid(self, replica: ReplicaId) -> int | None:
        """The process of a replica, if it has one."""
        worker = self._workers.get(replica)
        return worker.pid if worker is not None else None

    def losses(self, name: JobName) -> list[dict[str, Any]]:
        """A job's loss curve over all sessions, JSON-ready, oldest first."""
        return [asdict(row) for row in self.metering.losses.get(name, [])]

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run beside the loop; a failure ends the house, because silence would cost money."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._spawned_done)
        return task

    def _spawned_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the house stops because a part of it failed", exc_info=error)
            self.failed = True
            self.stopping_asked.set()

    def find_key(self, secret: str) -> Key | None:
        """The key behind a secret, unless it is unknown or revoked. Raises StoreDownError."""
        return self._keyring.find(secret)

    async def stop(self) -> None:
        """End in order: answer what runs, make training durable, close the books."""
        self.serving.closing = True
        await _until(lambda: self.serving.in_flight == 0, DRAIN_SECONDS)
        self.stopping.set()
        self._memory.ending = True
        for name, job in self.state.jobs.items():
            if job.status not in FINAL_JOB_STATUSES:
                self.jobs_live.tell(name, Stop())
        for worker in self._workers.values():
            worker.send(Stop())
        running = [job for job in self.jobs_live.live.values() if job.worker is not None]
        await _until(
            lambda: not self._workers and all(job.worker is None for job in running), STOP_SECONDS
        )
        for worker in [*self._workers.values(), *(j.worker for j in running if j.worker)]:
            worker.kill()
        await _until(lambda: not self._workers and all(job.worker is None for job in running), 5.0)
        for loop in self._loops:
            loop.cancel()
        await self.predicting.recalibrate()
        others = [task for task in self._tasks if task is not self.metering_loop]
        await asyncio.gather(*others, return_exceptions=True)
        await self.metering.finish()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _recover(store: Store) -> None:
    """Close what an earlier session that crashed left open, before anything new is booked."""
    closed = tuple(
        recovered(one.interval, one.suspended, one.acknowledged) for one in store.crashed()
    )
    if closed:
        store.write(Batch(closed=closed))


async def _until(true: Callable[[], bool], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.05)
