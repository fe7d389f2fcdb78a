"""Control: what follows from what happened, deterministically."""

from dataclasses import replace

import pytest

from meted.control.effects import (
    Effect,
    PauseJob,
    PlaceJob,
    ResumeJob,
    SaveJob,
    StartJob,
    StartReplica,
    StopJob,
    StopReplica,
)
from meted.control.events import (
    CancelAsked,
    DemandSeen,
    Deployed,
    Event,
    JobDied,
    JobFinished,
    JobGaveUp,
    JobMoved,
    JobRemembered,
    JobSubmitted,
    JobWaits,
    MoneyBack,
    MoneyGone,
    PauseAsked,
    ReplicaDied,
    ReplicaDrained,
    ReplicaReady,
    ResumeAsked,
    Undeployed,
)
from meted.control.handle import handle
from meted.control.state import ControlError, ControlState
from meted.domain.deployment import ReplicaStatus
from meted.domain.job import JobProgress, JobStatus
from meted.domain.units import DeploymentName, JobName, Micros, ReplicaId
from meted.policy.allocation import make_policy
from meted.testing.builders import (
    make_demand,
    make_deployment,
    make_job_demand,
    make_pool,
    make_spec,
)

NOW = Micros(0)
TUNE = JobName("tune")


def run(*events: Event) -> tuple[ControlState, list[Effect]]:
    state = ControlState(pool=make_pool(), policy=make_policy("demand"))
    effects: list[Effect] = []
    for event in events:
        state, some = handle(state, event)
        effects += some
    return state, effects


def of(effects: list[Effect], kind: type[Effect]) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kind)]


def tick(now: int = 0, *, job: bool = True) -> DemandSeen:
    return DemandSeen(
        now=Micros(now),
        deployments=(make_demand(utilisation=0.0, rate=0.0),),
        jobs=(make_job_demand(),) if job else (),
    )


DEPLOYED = Deployed(now=NOW, deployment=make_deployment())
SUBMITTED = JobSubmitted(now=NOW, spec=make_spec())
FIRST = ReplicaId("m-1")


def test_a_deployment_starts_its_replicas() -> None:
    state, effects = run(Deployed(now=NOW, deployment=make_deployment(replicas=2)))
    assert len(of(effects, StartReplica)) == 2
    assert {replica.status for replica in state.replicas.values()} == {ReplicaStatus.STARTING}


def test_a_name_is_deployed_once() -> None:
    with pytest.raises(ControlError, match="'m' runs already"):
        run(DEPLOYED, DEPLOYED)


def test_a_dead_replica_is_replaced_after_a_pause() -> None:
    died = ReplicaDied(now=NOW, replica=FIRST, reason="killed by SIGKILL")
    state, effects = run(DEPLOYED, ReplicaReady(now=NOW, replica=FIRST), died, tick(0))
    assert len(of(effects, StartReplica)) == 1
    state, some = handle(state, tick(600_000))
    assert len(of(list(some), StartReplica)) == 1
    assert len(state.replicas) == 1


def test_a_replica_that_never_loads_is_retried_ever_more_slowly() -> None:
    state, _ = run(DEPLOYED)
    pauses: list[int] = []
    now = 0
    for _ in range(4):
        (replica,) = state.replicas.values()
        state, _ = handle(state, ReplicaDied(now=Micros(now), replica=replica.id, reason="x"))
        (waiting,) = state.replicas.values()
        assert waiting.retry_at is not None
        pauses.append(waiting.retry_at - now)
        now = waiting.retry_at
        state, _ = handle(state, tick(now, job=False))
    assert pauses == [500_000, 1_000_000, 2_000_000, 4_000_000]


def test_undeploying_drains_before_it_stops() -> None:
    gone = Undeployed(now=NOW, name=DeploymentName("m"))
    state, effects = run(DEPLOYED, ReplicaReady(now=NOW, replica=FIRST), gone)
    assert not of(effects, StopReplica)
    state, some = handle(state, ReplicaDrained(now=NOW, replica=FIRST))
    assert of(list(some), StopReplica)
    state, some = handle(state, ReplicaDied(now=NOW, replica=FIRST, reason="exit status 0"))
    assert not some and not state.replicas


def test_a_job_starts_when_the_plan_has_devices_for_it() -> None:
    state, effects = run(DEPLOYED, SUBMITTED)
    assert not of(effects, StartJob)
    state, some = handle(state, tick())
    assert len(of(list(some), StartJob)) == 1
    assert len(of(list(some), PlaceJob)) == 1
    state, some = handle(state, tick(1))
    assert not some


def test_a_killed_trainer_resumes_and_gives_up_only_without_progress() -> None:
    state, _ = run(SUBMITTED, tick())
    now = 0
    for _ in range(4):
        state, _ = handle(state, JobDied(now=Micros(now), name=TUNE, reason="killed"))
        assert state.jobs[TUNE].status is JobStatus.BACKOFF
        now += 60_000_000
        state, some = handle(state, tick(now))
        assert of(list(some), StartJob)
    state, _ = handle(state, JobDied(now=Micros(now), name=TUNE, reason="killed"))
    assert state.jobs[TUNE].status is JobStatus.FAILED


def test_a_new_checkpoint_forgives_earlier_deaths() -> None:
    state, _ = run(SUBMITTED, tick())
    state = replace(state, jobs={TUNE: replace(state.jobs[TUNE], starts=4)})
    moved = JobMoved(now=NOW, name=TUNE, progress=JobProgress(step=9, checkpoint_step=8))
    state, effects = handle(state, moved)
    assert state.jobs[TUNE].starts == 1
    assert of(list(effects), SaveJob)


def test_pause_reaches_the_trainer_and_resume_wakes_it() -> None:
    state, _ = run(SUBMITTED, tick())
    state, effects = handle(state, PauseAsked(now=NOW, name=TUNE))
    assert of(list(effects), PauseJob)
    state, _ = handle(state, JobWaits(now=NOW, name=TUNE))
    assert state.jobs[TUNE].status is JobStatus.PAUSED
    state, effects = handle(state, ResumeAsked(now=NOW, name=TUNE))
    assert of(list(effects), ResumeJob)
    assert state.jobs[TUNE].status is JobStatus.RUNNING


def test_a_trainer_that_is_told_to_go_on_before_it_waited_does_not_wait() -> None:
    """It takes its time to answer a pause, and hears the resumption next."""
    state, _ = run(SUBMITTED, tick())
    state, _ = handle(state, JobMoved(now=NOW, name=TUNE, progress=JobProgress(step=1)))
    state, _ = handle(state, PauseAsked(now=NOW, name=TUNE))
    state, effects = handle(state, ResumeAsked(now=NOW, name=TUNE))
    assert of(list(effects), ResumeJob)
    state, effects = handle(state, JobWaits(now=NOW, name=TUNE))
    assert (state.jobs[TUNE].status, effects) == (JobStatus.RUNNING, ())


def test_cancel_ends_a_waiting_job_at_once_and_a_running_one_through_its_trainer() -> None:
    state, _ = run(SUBMITTED, CancelAsked(now=NOW, name=TUNE))
    assert state.jobs[TUNE].status is JobStatus.CANCELLED
    state, _ = run(SUBMITTED, tick())
    state, effects = handle(state, CancelAsked(now=NOW, name=TUNE))
    assert of(list(effects), StopJob)
    state, _ = handle(state, JobDied(now=NOW, name=TUNE, reason="exit status 0"))
    assert state.jobs[TUNE].status is JobStatus.CANCELLED


@pytest.mark.parametrize(
    "end", [JobFinished(now=NOW, name=TUNE), JobGaveUp(now=NOW, name=TUNE, reason="no data")]
)
def test_a_final_job_takes_no_more_orders(end: Event) -> None:
    state, _ = run(SUBMITTED, tick(), end)
    with pytest.raises(ControlError, match="already"):
        handle(state, PauseAsked(now=NOW, name=TUNE))


def test_a_job_from_before_a_restart_queues_again_unless_it_had_ended() -> None:
    state, _ = run(SUBMITTED, tick())
    again, _ = run(JobRemembered(now=NOW, job=state.jobs[TUNE]))
    assert again.jobs[TUNE].status is JobStatus.QUEUED
    done = replace(state.jobs[TUNE], status=JobStatus.DONE)
    again, _ = run(JobRemembered(now=NOW, job=done))
    assert again.jobs[TUNE].status is JobStatus.DONE


def test_equal_events_give_equal_states_and_effects() -> None:
    events = (DEPLOYED, SUBMITTED, tick(), JobWaits(now=NOW, name=TUNE))
    assert run(*events) == run(*events)


def test_an_order_for_an_unknown_job_names_those_there_are() -> None:
    with pytest.raises(ControlError, match="no job is named 'x'; there are: tune"):
        run(SUBMITTED, PauseAsked(now=NOW, name=JobName("x")))


def test_a_replica_starts_with_the_threads_its_policy_will_let_it_use() -> None:
    state = ControlState(pool=make_pool(), policy=make_policy("static"))
    state, effects = handle(state, DEPLOYED)
    (start,) = of(list(effects), StartReplica)
    assert isinstance(start, StartReplica)
    assert start.devices == (0,)
    assert start.replica.threads == 1


RUNNING = (
    SUBMITTED,
    tick(0),
    JobMoved(now=Micros(1), name=TUNE, progress=JobProgress(step=1, total_steps=9)),
)
GONE = MoneyGone(now=Micros(2), name=TUNE, reason="budget b is spent")
BACK = MoneyBack(now=Micros(9), name=TUNE)


def test_a_job_whose_money_is_gone_pauses_and_goes_on_when_it_is_back() -> None:
    state, effects = run(*RUNNING, GONE)
    assert state.jobs[TUNE].held == "budget b is spent"
    assert of(effects, PauseJob) == [PauseJob(name=TUNE)]
    state, again = handle(state, GONE)
    assert again == ()
    state, again = handle(state, replace(GONE, reason="budget b has less"))
    assert (again, state.jobs[TUNE].held) == ((), "budget b has less")
    state, _ = handle(state, JobWaits(now=Micros(4), name=TUNE))
    state, effects = handle(state, BACK)
    assert state.jobs[TUNE].held == ""
    assert of(list(effects), ResumeJob) == [ResumeJob(name=TUNE)]


def test_money_does_not_resume_a_job_that_its_user_paused() -> None:
    state, effects = run(*RUNNING, PauseAsked(now=Micros(2), name=TUNE), GONE, BACK)
    assert of(effects, ResumeJob) == []
    _, effects = handle(state, ResumeAsked(now=Micros(10), name=TUNE))
    assert of(list(effects), ResumeJob) == [ResumeJob(name=TUNE)]


def test_its_user_does_not_resume_a_job_that_nobody_pays_for() -> None:
    asked = (PauseAsked(now=Micros(3), name=TUNE), ResumeAsked(now=Micros(4), name=TUNE))
    _, effects = run(*RUNNING, GONE, *asked)
    assert of(effects, ResumeJob) == []


def test_a_held_job_starts_no_process_until_its_money_is_back() -> None:
    died = JobDied(now=Micros(3), name=TUNE, reason="nobody pays for it")
    state, _ = run(*RUNNING, GONE, died)
    assert state.jobs[TUNE].status is JobStatus.QUEUED
    state, effects = handle(state, tick(10**9))
    assert of(list(effects), StartJob) == []
    state, _ = handle(state, BACK)
    _, effects = handle(state, tick(10**9))
    assert len(of(list(effects), StartJob)) == 1
