"""A comparison's means and intervals are those of the runs; what did not happen is not counted."""

import numpy as np
import pytest

from meted.domain.deployment import SLO
from meted.domain.units import DeploymentName, JobName, Micros, NanoUSD, TenantName
from meted.predict.batching import Arrival, Served
from meted.sim.compare import compare, interval
from meted.sim.measures import MEASURES, Limits
from meted.sim.result import DeploymentResult, JobResult, Result, Segment, Use

HOUR = 3_600_000_000
CHAT = DeploymentName("chat")


def make_job(
    name: str, *, arrived: int = 0, started: int | None = 0, finished: int | None = HOUR,
    deadline: int | None = None,
) -> JobResult:  # fmt: skip
    return JobResult(
        name=JobName(name),
        tenant=TenantName(""),
        arrived=Micros(arrived),
        started=None if started is None else Micros(started),
        finished=None if finished is None else Micros(finished),
        deadline=None if deadline is None else Micros(deadline),
        attained=Micros(0),
        restarts=1,
        cost=NanoUSD(0),
    )


def make_served(ttft_ms: int, tpot_ms: int, *, output: int = 11) -> Served:
    first = ttft_ms * 1_000
    return Served(
        Arrival(Micros(0), 10, output), first_token=first,
        last_token=first + tpot_ms * 1_000 * (output - 1), started=0,
    )  # fmt: skip


def make_result(*jobs: JobResult, ended: int = 4 * HOUR, **parts) -> Result:
    return Result(
        ended=Micros(ended),
        jobs=jobs,
        deployments=parts.get("deployments", ()),
        segments=parts.get("segments", ()),
        decisions=(),
        plans=1,
    )


def make_segment(use: Use, hours: float, usd: float) -> Segment:
    return Segment(
        0, Micros(0), Micros(round(hours * HOUR)), use, "", TenantName(""),
        NanoUSD(round(usd * 1e9)),
    )  # fmt: skip


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(2_000):
        found = interval(rng.normal(10.0, 3.0, 5).tolist())
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 10.0 <= found.high
    assert inside / 2_000 == pytest.approx(0.95, abs=0.015)


def test_the_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0, 4.0])
    # t at 97.5 % with three degrees of freedom, from a table.
    assert found.reach == pytest.approx(3.1824 * np.std([1, 2, 3, 4], ddof=1) / 2, rel=1e-4)
    assert found.mean == 2.5


def test_one_run_has_a_mean_and_no_interval() -> None:
    found = interval([3.0])
    assert (found.mean, found.low, found.high, found.reach) == (3.0, None, None, None)


def test_completion_times_wait_and_makespan_are_the_jobs() -> None:
    table = compare({"a": [make_result(make_job("x", arrived=HOUR, started=2 * HOUR,
                                                finished=3 * HOUR), make_job("y"))]})  # fmt: skip
    told = {name: table.of(name, "a") for name in ("jct_mean", "wait_mean", "makespan")}
    assert [one and one.mean for one in told.values()] == [1.5, 0.5, 3.0]


def test_a_job_that_did_not_end_counts_up_to_the_end_and_has_no_makespan() -> None:
    table = compare({"a": [make_result(make_job("x", started=None, finished=None))]})
    for name, value in (("jct_mean", 4.0), ("wait_mean", 4.0), ("unfinished", 1.0)):
        found = table.of(name, "a")
        assert found is not None
        assert found.mean == value
    with pytest.raises(KeyError):
        table.of("makespan", "a")


def test_late_and_unfinished_jobs_miss_their_deadline() -> None:
    jobs = (
        make_job("late", deadline=HOUR - 1),
        make_job("never", finished=None, deadline=9 * HOUR),
        make_job("just", deadline=HOUR),
        make_job("free"),
    )
    found = compare({"a": [make_result(*jobs)]}).of("misses", "a")
    assert found is not None
    assert found.mean == 2


def test_without_deadlines_none_is_counted_as_met() -> None:
    with pytest.raises(KeyError):
        compare({"a": [make_result(make_job("x"))]}).of("misses", "a")


def test_attainment_counts_refused_and_unfinished_requests_as_missed() -> None:
    served = (make_served(100, 20), make_served(300, 20), make_served(100, 60))
    deployment = DeploymentResult(deployment=CHAT, served=served, refused=1, unfinished=1)
    slo = SLO(ttft_p95=Micros(200_000), tpot_p95=Micros(50_000))
    result = make_result(deployments=(deployment,))
    table = compare({"a": [result]}, Limits(slos={CHAT: slo}))
    for name, value in (
        ("attainment", 0.2), ("ttft_p50", 100.0), ("tpot_p50", 20.0), ("refused", 1.0),
        ("unanswered", 1.0),
    ):  # fmt: skip
        found = table.of(name, "a")
        assert found is not None
        assert found.mean == pytest.approx(value), name


def test_one_token_answers_have_no_time_per_token() -> None:
    deployment = DeploymentResult(deployment=CHAT, served=(make_served(100, 20, output=1),))
    with pytest.raises(KeyError):
        compare({"a": [make_result(deployments=(deployment,))]}).of("tpot_p50", "a")


def test_money_by_use_adds_up_and_gone_devices_are_no_capacity() -> None:
    segments = tuple(make_segment(use, 1.0, number + 1.0) for number, use in enumerate(Use))
    table = compare({"a": [make_result(segments=segments)]})
    money = {name: table.of(name, "a") for name in
             ("usd", "usd_busy", "usd_ready", "usd_idle", "usd_parked")}  # fmt: skip
    means = {name: one.mean for name, one in money.items() if one is not None}
    gone = 1.0 + list(Use).index(Use.GONE)
    assert means["usd"] == pytest.approx(sum(means[name] for name in means if name != "usd") + gone)
    used = table.of("utilisation", "a")
    assert used is not None
    assert used.mean == pytest.approx(2 / (len(Use) - 1))


def test_policies_with_unequal_runs_are_not_compared() -> None:
    with pytest.raises(ValueError, match="one number of 1 or more"):
        compare({"a": [make_result(make_job("x"))], "b": []})


def runs_of(*hours: float) -> list[Result]:
    return [make_result(make_job("x", finished=round(one * HOUR))) for one in hours]


def best_of(**runs: list[Result]) -> frozenset[str]:
    rows = compare(runs).rows
    return next(row.best for row in rows if row.measure.name == "jct_mean")


def test_differences_are_judged_seed_by_seed() -> None:
    # Seeds differ far more than policies do; in each seed `a` is an hour faster, give or take.
    slow = runs_of(10, 20, 30, 40)
    fast = runs_of(9.1, 18.9, 29.0, 39.1)
    assert best_of(a=fast, b=slow) == {"a"}
    assert best_of(a=runs_of(9, 21, 30.5, 39.4), b=slow) == {"a", "b"}


def test_with_one_seed_the_best_is_the_best() -> None:
    assert best_of(a=runs_of(1.0), b=runs_of(1.1), c=runs_of(1.0)) == {"a", "c"}
    assert best_of(a=runs_of(1.0), b=runs_of(1.0)) == frozenset()


def test_every_measure_has_a_name_of_its_own() -> None:
    names = [one.name for one in MEASURES]
    assert len(set(names)) == len(names)
