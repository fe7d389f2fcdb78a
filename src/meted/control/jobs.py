"""The life of a job, as control sees it."""

from dataclasses import replace
from typing import assert_never

from meted.control.effects import Effect, Explain, PauseJob, ResumeJob, SaveJob, StopJob
from meted.control.events import (
    CancelAsked,
    JobDied,
    JobEvent,
    JobFinished,
    JobForgotten,
    JobGaveUp,
    JobMoved,
    JobRemembered,
    JobSubmitted,
    JobWaits,
    MoneyBack,
    MoneyGone,
    PauseAsked,
    ResumeAsked,
)
from meted.control.placing import WITH_PROCESS, vacate
from meted.control.state import ControlError, ControlState
from meted.domain.job import FINAL_JOB_STATUSES, Job, JobStatus
from meted.domain.units import JobName

Step = tuple[ControlState, tuple[Effect, ...]]

MOST_STARTS_WITHOUT_PROGRESS = 5
FIRST_RETRY_US = 500_000


def handle_job(state: ControlState, event: JobEvent) -> Step:
    """What a job event makes of the state. Raises ControlError for a job that is not there."""
    match event:
        case JobSubmitted():
            return _submitted(state, event)
        case JobRemembered():
            return _remembered(state, event.job)
        case JobMoved():
            return _moved(state, event)
        case JobWaits():
            return _waits(state, event.name)
        case JobFinished():
            job = _job(state, event.name)
            return _put(state, replace(job, status=JobStatus.DONE, error=None))
        case JobGaveUp():
            job = _job(state, event.name)
            return _put(state, replace(job, status=JobStatus.FAILED, error=event.reason))
        case JobDied():
            return _left(state, event)
        case JobForgotten():
            return _forget(state, event.name)
        case PauseAsked():
            return _pause(state, event.name)
        case ResumeAsked():
            return _resume(state, event.name)
        case CancelAsked():
            return _cancel(state, event.name)
        case MoneyGone():
            return _hold(state, event)
        case MoneyBack():
            return _release(state, event)
        case _:
            assert_never(event)


def _submitted(state: ControlState, event: JobSubmitted) -> Step:
    name = event.spec.name
    if name in state.jobs:
        raise ControlError(
            f"a job named {name!r} exists already and is {state.jobs[name].status}; "
            "choose another --name"
        )
    return _put(state, Job(spec=event.spec, status=JobStatus.QUEUED))


def _remembered(state: ControlState, job: Job) -> Step:
    """After a restart no job has a process: unfinished ones queue again, paused ones wait."""
    if job.status not in FINAL_JOB_STATUSES:
        status = JobStatus.CANCELLED if job.cancel_wanted else JobStatus.QUEUED
        job = replace(job, status=status, starts=0, retry_at=None, devices=(), preempted=False)
    return _put(state, job)


def _moved(state: ControlState, event: JobMoved) -> Step:
    job = _job(state, event.name)
    if job.status in FINAL_JOB_STATUSES:
        return state, ()
    forward = event.progress.checkpoint_step > job.progress.checkpoint_step
    moved = replace(
        job,
        status=JobStatus.RUNNING,
        progress=event.progress,
        starts=1 if forward else job.starts,
    )
    changed = forward or job.status is not JobStatus.RUNNING
    state = replace(state, jobs={**state.jobs, event.name: moved})
    return state, (SaveJob(job=moved),) if changed else ()


def _waits(state: ControlState, name: JobName) -> Step:
    """It waits, unless it was told meanwhile to go on, which it hears next."""
    job = _job(state, name)
    if not (job.pause_wanted or job.held):
        return state, ()
    return _put(state, replace(job, status=JobStatus.PAUSED))


def _left(state: ControlState, event: JobDied) -> Step:
    """A trainer's process is gone: its devices are free for whoever is planned on them."""
    job = state.jobs.get(event.name)
    if job is None:
        return state, ()
    state = replace(state, jobs={**state.jobs, event.name: replace(job, devices=())})
    state, effects = _died(state, event)
    state, started = vacate(state, job.devices, event.now, left=event.name)
    return state, (*effects, *started)


def _forget(state: ControlState, name: JobName) -> Step:
    job = _job(state, name)
    if job.status not in FINAL_JOB_STATUSES:
        raise ControlError(f"cannot forget job {name!r}: it is {job.status}; cancel it first")
    return replace(state, jobs={n: one for n, one in state.jobs.items() if n != name}), ()


def _died(state: ControlState, event: JobDied) -> Step:
    job = state.jobs[event.name]
    if job.status in FINAL_JOB_STATUSES:
        return state, ()
    if job.cancel_wanted:
        return _put(state, replace(job, status=JobStatus.CANCELLED))
    if job.pause_wanted or job.held or job.preempted:
        starts = 0 if job.preempted else job.starts
        return _put(state, replace(job, status=JobStatus.QUEUED, preempted=False, starts=starts))
    if job.starts >= MOST_STARTS_WITHOUT_PROGRESS:
        error = f"its process ended {job.starts} times without a new checkpoint: {event.reason}"
        return _put(state, replace(job, status=JobStatus.FAILED, error=error))
    pause = FIRST_RETRY_US * 2 ** max(0, job.starts - 1)
    retry = replace(job, status=JobStatus.BACKOFF, retry_at=event.now + pause)
    reason = (
        f"{event.name}: its process ended ({event.reason}); it resumes from step "
        f"{job.progress.checkpoint_step} in {pause / 1e6:.1f} s"
    )
    state, saved = _put(state, retry)
    return state, (*saved, Explain(at=event.now, reason=reason))


def _pause(state: ControlState, name: JobName) -> Step:
    job = _unfinished(state, name, "pause")
    state, saved = _put(state, replace(job, pause_wanted=True))
    told = (PauseJob(name=name),) if job.status in WITH_PROCESS else ()
    return state, (*saved, *told)


def _resume(state: ControlState, name: JobName) -> Step:
    job = _unfinished(state, name, "resume")
    return _go_on(state, replace(job, pause_wanted=False))


def _hold(state: ControlState, event: MoneyGone) -> Step:
    """A job whose money is gone makes its work durable and waits."""
    job = _job(state, event.name)
    if job.status in FINAL_JOB_STATUSES or job.held == event.reason:
        return state, ()
    waits, job = bool(job.held), replace(job, held=event.reason)
    state, saved = _put(state, job)
    if waits:
        # Only the reason is another by now, with other numbers many times a second perhaps.
        return state, ()
    told = (PauseJob(name=event.name),) if job.status in WITH_PROCESS else ()
    reason = f"{event.name}: waits for money: {event.reason}"
    return state, (*saved, *told, Explain(at=event.now, reason=reason))


def _release(state: ControlState, event: MoneyBack) -> Step:
    job = _job(state, event.name)
    if job.status in FINAL_JOB_STATUSES or not job.held:
        return state, ()
    state, effects = _go_on(state, replace(job, held=""))
    reason = f"{event.name}: its next part is paid for; it goes on"
    return state, (*effects, Explain(at=event.now, reason=reason))


def _go_on(state: ControlState, job: Job) -> Step:
    """A job with a process goes on, if nothing else holds it."""
    if job.status not in WITH_PROCESS or job.held or job.pause_wanted:
        return _put(state, job)
    if job.status is JobStatus.PAUSED:
        job = replace(job, status=JobStatus.RUNNING)
    state, saved = _put(state, job)
    return state, (*saved, ResumeJob(name=job.spec.name))


def _cancel(state: ControlState, name: JobName) -> Step:
    job = _unfinished(state, name, "cancel")
    if job.status in WITH_PROCESS:
        state, saved = _put(state, replace(job, cancel_wanted=True))
        return state, (*saved, StopJob(name=name))
    return _put(state, replace(job, status=JobStatus.CANCELLED, cancel_wanted=True))


def _unfinished(state: ControlState, name: JobName, verb: str) -> Job:
    job = _job(state, name)
    if job.status in FINAL_JOB_STATUSES:
        raise ControlError(f"cannot {verb} job {name!r}: it is {job.status} already")
    return job


def _job(state: ControlState, name: JobName) -> Job:
    if name not in state.jobs:
        known = ", ".join(state.jobs) or "none"
        raise ControlError(f"no job is named {name!r}; there are: {known}")
    return state.jobs[name]


def _put(state: ControlState, job: Job) -> Step:
    return replace(state, jobs={**state.jobs, job.spec.name: job}), (SaveJob(job=job),)
