"""Jobs in the live house: their processes, their progress, their device time."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from meted.control.events import (
    Event,
    JobDied,
    JobFinished,
    JobGaveUp,
    JobMoved,
    JobWaits,
    MoneyBack,
    MoneyGone,
)
from meted.domain.allocation import Harvest, JobAllocation, JobDemand
from meted.domain.job import (
    FINAL_JOB_STATUSES,
    Job,
    JobProgress,
    JobSpec,
    JobStatus,
    TrainingPhase,
)
from meted.domain.units import DeviceNanos, JobName, NanoUSD
from meted.ledger.money import amount
from meted.ledger.recovery import lost
from meted.live.clock import Clock
from meted.live.host import Urgency, Worker, WorkerEnd
from meted.live.job_funds import JobFunds
from meted.live.lever_doors import FrontPoint
from meted.live.live_job import JobTotals, LiveJob
from meted.live.metering import Metering
from meted.live.store import LossRow
from meted.live.wire import (
    Checkpointed,
    Evaluated,
    Failed,
    Finished,
    FrontFound,
    Pause,
    Paused,
    PhaseChanged,
    Planned,
    Resume,
    Stop,
    Trained,
)

URGENCY = {
    Harvest.NONE: Urgency.IDLE,
    Harvest.GAPS: Urgency.IDLE,
    Harvest.IDLE: Urgency.IDLE,
    Harvest.SHARE: Urgency.NORMAL,
}


class Jobs:
    """All jobs of the house, and the traffic that gap harvesting gives way to."""

    def __init__(
        self,
        *,
        clock: Clock,
        metering: Metering,
        funds: JobFunds,
        on_event: Callable[[Event], None],
        on_front: Callable[[str, tuple[FrontPoint, ...]], None],
    ) -> None:
        self._clock = clock
        self._metering = metering
        self._funds = funds
        self._on_event = on_event
        self._on_front = on_front
        self._busy = False
        self.live: dict[JobName, LiveJob] = {}

    def add(self, spec: JobSpec, progress: JobProgress, before: JobTotals) -> None:
        """Know a job, with or without a process."""
        self.live[spec.name] = LiveJob(spec, progress, before)

    def started(self, name: JobName, worker: Worker, worker_id: str) -> None:
        """A trainer's process has started."""
        job = self.live[name]
        job.worker, job.worker_id = worker, worker_id
        job.failure, job.ended_well = None, False
        job.progress = replace(job.progress, phase=TrainingPhase.LOADING)
        self._metering.worker_started(worker_id, job.loading, worker.cpu_nanos)
        self._apply(job)

    def place(self, allocation: JobAllocation) -> None:
        """Let a job use these devices in this way from now on."""
        job = self.live.get(allocation.job)
        if job is None:
            return
        job.harvest = allocation.harvest
        if job.worker is not None:
            job.worker.place(allocation.devices, URGENCY[allocation.harvest])
            self._apply(job)

    def traffic(self, busy: bool) -> None:
        """Requests are in flight, or the last has ended: the edge that gap harvesting follows."""
        self._busy = busy
        for job in self.live.values():
            if job.worker is not None and job.harvest is Harvest.GAPS:
                self._apply(job)

    def tell(self, name: JobName, message: Pause | Resume | Stop) -> None:
        """Tell a trainer something; it is let run until it has answered."""
        job = self.live[name]
        if job.worker is not None:
            job.answering = not isinstance(message, Resume)
            job.worker.send(message)
            self._apply(job)

    @property
    def training(self) -> Harvest:
        """The most that any running job harvests now."""
        levels = [job.harvest for job in self.live.values() if job.worker is not None]
        order = (Harvest.SHARE, Harvest.IDLE, Harvest.GAPS)
        return next((level for level in order if level in levels), Harvest.NONE)

    def _apply(self, job: LiveJob) -> None:
        assert job.worker is not None
        stand_still = job.harvest is Harvest.NONE or (job.harvest is Harvest.GAPS and self._busy)
        if stand_still and not job.answering:
            job.worker.freeze()
        else:
            job.worker.thaw()

    def receive(self, name: JobName, message: Any) -> None:
        """A trainer's message."""
        job = self.live[name]
        meter, worker, now = self._metering.meter, job.worker_id, self._clock.now()
        progress = job.progress
        match message:
            case Planned():
                progress = replace(
                    progress,
                    total_steps=message.total_steps,
                    step=message.first_step,
                    checkpoint_step=message.first_step,
                    tokens=message.tokens,
                )
            case PhaseChanged():
                self._cover(job, message.cpu_ns)
                meter.turn(worker, job.pending)
                progress = replace(progress, phase=TrainingPhase(message.phase))
            case Trained():
                self._cover(job, message.cpu_ns)
                job.trained(message)
                progress = replace(
                    progress,
                    step=message.step,
                    loss=message.loss,
                    tokens=message.tokens,
                    phase=TrainingPhase.TRAIN,
                )
                job.progress = progress
                self._loss(job, step=message.step, loss=message.loss, held_out=None, when="train")
                self._watch_money(job)
            case Evaluated():
                self._cover(job, message.cpu_ns)
                progress = _evaluated(progress, message)
                self._loss(
                    job, step=message.step, loss=None, held_out=message.loss, when=message.when
                )
            case Checkpointed(step=step, cpu_ns=cpu_ns):
                self._durable(job, cpu_ns)
                self._watch_money(job)
                progress = replace(progress, checkpoint_step=step, step=max(step, progress.step))
            case FrontFound(points=points):
                self._on_front(job.spec.base, points)
            case Paused(step=step, cpu_ns=cpu_ns):
                self._durable(job, cpu_ns)
                job.answering = False
                progress = replace(progress, checkpoint_step=step)
            case Finished(cpu_ns=cpu_ns):
                self._durable(job, cpu_ns)
                job.ended_well = True
            case Failed(message=reason):
                job.failure = reason
            case _:
                raise TypeError(f"trainer of {name!r} sent {message!r}, expected FromTrainer")
        job.progress = progress
        self._on_event(JobMoved(now=now, name=name, progress=progress))
        if isinstance(message, Paused):
            self._on_event(JobWaits(now=now, name=name))
            self._apply(job)
        elif isinstance(message, Finished):
            self._on_event(JobFinished(now=now, name=name))

    def ended(self, name: JobName, end: WorkerEnd, *, wanted: bool) -> None:
        """A trainer's process has ended. wanted: it was told to stop, so nothing was lost."""
        job = self.live[name]
        meter = self._metering.meter
        self._metering.worker_ended(job.worker_id, end.cpu_nanos, job.pending)
        if wanted or job.ended_well:
            meter.move(job.pending, job.durable)
            self._charge(job)
        else:
            meter.move(job.pending, lost(job.pending))
            self._funds.void(name)
        job.process_ended()
        now = self._clock.now()
        if job.ended_well:
            return
        if job.failure is not None:
            self._on_event(JobGaveUp(now=now, name=name, reason=job.failure))
        else:
            self._on_event(JobDied(now=now, name=name, reason=end.reason))

    def watch_money(self, jobs: Mapping[JobName, Job]) -> None:
        """See that what every job does now is paid for; hold those that nobody pays for, and let
        those go on that somebody pays for again."""
        now = self._clock.now()
        for name, job in jobs.items():
            live = self.live[name]
            if job.status in FINAL_JOB_STATUSES:
                continue
            if job.held:
                waits = live.worker is None or job.status is JobStatus.PAUSED
                refusal = self._funds.begin(live.spec) if waits else job.held
                if refusal is None:
                    self._on_event(MoneyBack(now=now, name=name))
                elif refusal != job.held:
                    self._on_event(MoneyGone(now=now, name=name, reason=refusal))
            elif live.worker is not None:
                self._watch_money(live)

    def funded(self, name: JobName) -> bool:
        """Before its process starts: whether the first part of a job is paid for; if not, it is
        held."""
        refusal = self._funds.begin(self.live[name].spec)
        if refusal is not None:
            self._on_event(MoneyGone(now=self._clock.now(), name=name, reason=refusal))
        return refusal is None

    def _watch_money(self, job: LiveJob) -> None:
        """Set aside what the job used since its last charge, and what it will use until the next
        look."""
        if job.worker is None:
            return
        meter = self._metering.meter
        running = max(0, job.worker.cpu_nanos() - meter.covered(job.worker_id))
        used = self._chargeable(job) + meter.used(job.pending) + running
        cost = self._chargeable_cost(job) + meter.cost(job.pending)
        refusal = self._funds.extend(job.spec, DeviceNanos(used), NanoUSD(cost), running=running)
        if refusal is not None:
            now = self._clock.now()
            self._on_event(MoneyGone(now=now, name=job.spec.name, reason=refusal))

    def _charge(self, job: LiveJob) -> None:
        """Charge all that is durable and not charged yet."""
        row = self._funds.charge(
            job.spec,
            job.durable,
            DeviceNanos(self._chargeable(job)),
            NanoUSD(self._chargeable_cost(job)),
        )
        if row is not None:
            self._metering.charged(row)

    def _chargeable(self, job: LiveJob) -> int:
        meter = self._metering.meter
        return meter.used(job.durable) + meter.used(job.loading)

    def _chargeable_cost(self, job: LiveJob) -> int:
        meter = self._metering.meter
        return meter.cost(job.durable) + meter.cost(job.loading)

    def demands(self, jobs: Mapping[JobName, Job]) -> tuple[JobDemand, ...]:
        """What the unfinished, unpaused jobs could use, oldest first."""
        return tuple(
            JobDemand(
                job=name,
                order=order,
                remaining_steps=max(0, job.progress.total_steps - job.progress.step),
                tokens_per_device_second=(
                    1e9 / live.nanos_per_token if (live := self.live[name]).nanos_per_token else 0.0
                ),
            )
            for order, (name, job) in enumerate(jobs.items())
            if job.status not in FINAL_JOB_STATUSES and not job.pause_wanted and not job.held
        )

    def totals(self, name: JobName) -> JobTotals:
        """All device time and cost of a job so far, this session's unposted part included."""
        job = self.live[name]
        meter = self._metering.meter
        return JobTotals(
            device_nanos=DeviceNanos(
                job.before.device_nanos + sum(meter.used(one) for one in job.accounts())
            ),
            cost=NanoUSD(job.before.cost + sum(meter.cost(one) for one in job.accounts())),
            price=NanoUSD(job.before.price + self._funds.charged(name)),
        )

    def so_far(self, name: JobName) -> JobTotals:
        """Totals with what its process has used since its last report, as far as can be told."""
        job, totals = self.live[name], self.totals(name)
        if job.worker is None:
            return totals
        meter = self._metering.meter
        running = DeviceNanos(max(0, job.worker.cpu_nanos() - meter.covered(job.worker_id)))
        return replace(
            totals,
            device_nanos=DeviceNanos(totals.device_nanos + running),
            cost=NanoUSD(totals.cost + amount(running, meter.price)),
        )

    def _cover(self, job: LiveJob, cpu_ns: int) -> None:
        loading = job.progress.phase is TrainingPhase.LOADING
        account = job.loading if loading else job.pending
        self._metering.meter.cover(job.worker_id, DeviceNanos(cpu_ns), account)

    def _durable(self, job: LiveJob, cpu_ns: int) -> None:
        self._cover(job, cpu_ns)
        self._metering.meter.move(job.pending, job.durable)
        self._charge(job)

    def _loss(
        self, job: LiveJob, *, step: int, loss: float | None, held_out: float | None, when: str
    ) -> None:
        totals = self.totals(job.spec.name)
        self._metering.loss_measured(
            LossRow(
                job=job.spec.name,
                step=step,
                tokens=job.progress.tokens,
                loss=loss,
                held_out=held_out,
                when=when,
                device_nanos=totals.device_nanos,
                cost=totals.cost,
            )
        )


def _evaluated(progress: JobProgress, message: Evaluated) -> JobProgress:
    match message.when:
        case "before":
            return replace(progress, held_out_before=message.loss, held_out=message.loss)
        case "converted":
            return replace(progress, held_out_converted=message.loss)
        case _:
            return replace(progress, held_out=message.loss)


def job_status_word(job: Job) -> str:
    """A job's status for people: one that waits for its user is paused, with or without process."""
    if job.held and job.status not in FINAL_JOB_STATUSES:
        return "no money"
    waits = job.pause_wanted and job.status in (JobStatus.QUEUED, JobStatus.BACKOFF)
    return JobStatus.PAUSED if waits else job.status
