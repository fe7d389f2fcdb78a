"""Laws of a whole plan: it passes its replay, and says what stands in the way where none does."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meted.domain.algorithm import ServingAlgorithm
from meted.domain.catalogue.architectures import ARCHITECTURES
from meted.domain.catalogue.device_kinds import DEVICE_KINDS
from meted.domain.device_kind import Precision
from meted.domain.market import Offer, Purchase
from meted.domain.units import Micros, NanoUSD
from meted.policy.fleet.bound import least_loads, planes
from meted.policy.fleet.capacity import batch_step, largest_rate
from meted.policy.fleet.check import Checker, replay_requests
from meted.policy.fleet.columns import Column
from meted.policy.fleet.milp import FleetProblem, solve_fleet
from meted.policy.fleet.plan import FleetPlan, InfeasibleError
from meted.policy.fleet.planner import plan_fleet, problem_of
from meted.policy.fleet.routing import route
from meted.policy.fleet.traffic import Bucket, steady_traffic
from meted.policy.fleet.wish import (
    FleetWish,
    LatencyLimit,
    Metric,
    SpotRule,
    TrainingWish,
    serving_algorithms,
)
from meted.predict.batching import Arrival
from meted.predict.replica import ReplicaModel
from meted.predict.roofline import Setup, predict_replica
from meted.predict.step_time import StepCost, StepWork

MODEL = ARCHITECTURES["llama-2-7b"]


def limit(metric: Metric, seconds: float, quantile: float | None = 0.99) -> LatencyLimit:
    return LatencyLimit(metric=metric, quantile=quantile, micros=Micros(round(seconds * 1e6)))


def offer(
    kind: str, dollars: float, purchase: Purchase = Purchase.ON_DEMAND, available: int | None = None
) -> Offer:
    return Offer(
        kind=kind,
        purchase=purchase,
        nano_usd_per_device_hour=NanoUSD(round(dollars * 1e9)),
        available=available,
    )


def wish(
    *,
    rate: float = 2.0,
    ttft: float = 1.5,
    tpot: float = 0.1,
    offers: tuple[Offer, ...] = (offer("l4", 0.7), offer("a100-80gb", 3.67)),
    budget: float | None = None,
    training: tuple[TrainingWish, ...] = (),
    spare: int = 1,
    algorithms: tuple[ServingAlgorithm, ...] | None = None,
) -> FleetWish:
    traffic = steady_traffic(arrivals_per_second=rate, prompt_tokens=700, output_tokens=80, seed=1)
    return FleetWish(
        architecture=MODEL,
        algorithms=algorithms or serving_algorithms(tensor=(1, 2), chunks=(512, 1024)),
        traffic=replace(traffic, sample=traffic.sample[:1500]),
        limits=(limit(Metric.TTFT, ttft), limit(Metric.TPOT, tpot)),
        offers=offers,
        kinds=DEVICE_KINDS,
        budget=None if budget is None else NanoUSD(round(budget * 1e9)),
        training=training,
        spot=SpotRule(spare=spare),
        replayed_requests=1500,
    )


@pytest.fixture(scope="module")
def plan() -> FleetPlan:
    return plan_fleet(wish())


def test_every_limit_holds_in_the_plans_replay(plan: FleetPlan) -> None:
    assert plan.replay is not None
    for verdict in plan.replay.limits:
        assert verdict.holds
        assert max(verdict.attained) <= verdict.limit.micros
        assert min(verdict.attainment) >= 0.99


def test_equal_wishes_give_equal_plans(plan: FleetPlan) -> None:
    assert plan_fleet(wish()) == plan


def test_floor_bound_and_price_stand_in_order(plan: FleetPlan) -> None:
    assert plan.floor <= plan.bound <= plan.nano_usd_per_month
    assert plan.gap == pytest.approx(1 - plan.bound / plan.nano_usd_per_month)


def test_the_month_costs_its_hours(plan: FleetPlan) -> None:
    assert plan.nano_usd_per_hour[0] * 730 == pytest.approx(plan.nano_usd_per_month, rel=1e-6)
    assert sum(one.nano_usd_per_month for one in plan.offers) == pytest.approx(
        plan.nano_usd_per_month, rel=1e-6
    )


def test_rows_serve_every_class_whole(plan: FleetPlan) -> None:
    served = np.sum([row.shares[0] for row in plan.rows], axis=0)
    assert np.isin(np.round(served, 9), (0.0, 1.0)).all()
    assert served.sum() >= len(served) - 1


def test_a_fleet_with_fewer_replicas_does_not_hold(plan: FleetPlan) -> None:
    asked = wish()
    problem = problem_of(asked)
    checker = Checker(
        columns=problem.columns,
        limits=asked.limits,
        sample=asked.traffic.sample,
        margin=asked.margin,
        requests=asked.replayed_requests,
    )
    counts = counts_of(problem, plan)
    for place, count in enumerate(counts):
        if count:
            fewer = (*counts[:place], count - 1, *counts[place + 1 :])
            if sum(fewer):
                assert not all(checker.check(problem.periods[0], fewer).holds)


def test_an_overloaded_fleet_does_not_hold() -> None:
    asked = wish(rate=30.0, offers=(offer("l4", 0.7),), ttft=4.0)
    problem = problem_of(asked)
    checker = Checker(columns=problem.columns, limits=asked.limits, sample=asked.traffic.sample)
    one = (1, *(0 for _ in problem.columns[1:]))
    found = checker.check(problem.periods[0], one)
    assert not found.holds[0]
    assert found.attained[0] > 4_000_000
    assert found.failing[0][0] == 0


def counts_of(problem: FleetProblem, plan: FleetPlan) -> tuple[int, ...]:
    def count(column: Column) -> int:
        return sum(
            row.replicas[0]
            for row in plan.rows
            if row.setup == column.setup and row.offer == problem.offers[column.offer]
        )

    return tuple(count(one) for one in problem.columns)


def test_without_the_spot_spare_the_limits_still_hold() -> None:
    asked = wish(offers=(offer("a100-80gb", 3.67), offer("a100-80gb", 0.5, Purchase.SPOT)), spare=2)
    found = plan_fleet(asked)
    spot = [row for row in found.rows if row.offer.purchase is Purchase.SPOT]
    assert spot
    problem = problem_of(asked)
    left = tuple(
        max(0, count - 2) if problem.offers[column.offer].purchase is Purchase.SPOT else count
        for count, column in zip(counts_of(problem, found), problem.columns, strict=True)
    )
    checker = Checker(
        columns=problem.columns,
        limits=asked.limits,
        sample=asked.traffic.sample,
        margin=asked.margin,
        requests=asked.replayed_requests,
    )
    assert all(checker.check(problem.periods[0], left).holds)


def test_alternatives_say_why_they_lose(plan: FleetPlan) -> None:
    assert {one.name for one in plan.single_kind} == {"only a100-80gb", "only l4"}
    for one in (*plan.alternatives, *plan.single_kind):
        assert one.why


@pytest.mark.parametrize("metric", ["ttft_p99", "tpot_p99"])
def test_a_limit_out_of_reach_is_named_with_the_nearest_that_is_not(metric: str) -> None:
    asked = wish(ttft=0.001) if metric == "ttft_p99" else wish(tpot=0.001)
    with pytest.raises(InfeasibleError) as caught:
        problem_of(asked)
    assert caught.value.constraint == metric
    assert caught.value.nearest is not None
    nearest = caught.value.nearest / 1e6

    def still_missing(seconds: float) -> float:
        asked = wish(ttft=seconds) if metric == "ttft_p99" else wish(tpot=seconds)
        try:
            problem_of(asked)
        except InfeasibleError as again:
            return again.nearest or 0.0
        return 0.0

    assert still_missing(nearest * 0.98) == pytest.approx(caught.value.nearest)
    assert still_missing(nearest * 1.001) != pytest.approx(caught.value.nearest)


def test_a_model_that_fits_nowhere_is_named_as_memory() -> None:
    asked = replace(wish(), architecture=ARCHITECTURES["llama-2-70b"])
    with pytest.raises(InfeasibleError, match="GB of") as caught:
        problem_of(replace(asked, offers=(offer("l4", 0.7),)))
    assert caught.value.constraint == "memory"


def test_a_budget_below_the_cheapest_fleet_is_named_with_its_price() -> None:
    with pytest.raises(InfeasibleError) as caught:
        plan_fleet(wish(budget=10.0))
    assert caught.value.constraint == "budget"
    assert caught.value.nearest is not None
    assert caught.value.nearest > 10.0


def test_a_plan_stays_inside_its_budget(plan: FleetPlan) -> None:
    budget = plan.nano_usd_per_month / 1e9
    held = plan_fleet(wish(budget=budget * 1.001))
    assert held.nano_usd_per_month <= budget * 1.001 * 1e9


def test_too_few_devices_are_named_with_the_part_they_carry() -> None:
    with pytest.raises(InfeasibleError) as caught:
        plan_fleet(wish(rate=50.0, ttft=4.0, offers=(offer("l4", 0.7, available=2),)))
    assert caught.value.constraint == "availability"
    assert caught.value.nearest is not None
    assert 0 < caught.value.nearest < 0.5


def test_training_that_fits_nowhere_is_named() -> None:
    job = TrainingWish(name="tune", device_hours={"l4": 1e6})
    with pytest.raises(InfeasibleError) as caught:
        plan_fleet(wish(ttft=4.0, offers=(offer("l4", 0.7, available=20),), training=(job,)))
    assert caught.value.constraint == "training"


@settings(max_examples=15, deadline=None)
@given(st.floats(0.05, 0.2), st.floats(1.01, 3.0))
def test_loosening_a_limit_never_raises_the_price_on_paper(tpot: float, more: float) -> None:
    tight = solve_fleet(problem_of(wish(tpot=tpot, ttft=3.0)))
    loose = solve_fleet(problem_of(wish(tpot=tpot * more, ttft=3.0)))
    assert loose.dollars <= tight.dollars * (1 + 1e-4)


def replica(kind: str = "l4", chunk: int = 512) -> ReplicaModel:
    algorithm = ServingAlgorithm(chunk_tokens=chunk)
    return predict_replica(Setup(architecture=MODEL, kind=DEVICE_KINDS[kind], algorithm=algorithm))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 512), st.integers(0, 64), st.floats(0, 1), st.floats(0.5, 8), st.booleans())
def test_planes_lie_under_the_step_time(
    prefill: int, decode: int, depth: float, ahead: float, other: bool
) -> None:
    one = replica("a100-80gb" if other else "l4")
    if prefill + decode == 0:
        return
    work = StepWork(
        prefill_tokens=prefill,
        decode_tokens=decode,
        context_tokens=round(depth * one.kv_tokens / 2) if decode else 0,
        attended=round(prefill * prefill * ahead),
    )
    vector = np.array([work.prefill_tokens, work.decode_tokens, work.context_tokens, work.attended])
    for fixed, slope in planes(one):
        assert fixed + float(slope @ vector) <= one.step.micros(work) * 1.02


def test_the_bound_lies_under_the_capacity_model() -> None:
    problem = problem_of(wish(rate=20.0))
    assert solve_fleet(least_loads(problem)).dollars <= solve_fleet(problem).dollars * 1.02


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 4000), st.integers(2, 800), st.floats(0.07, 0.3))
def test_the_largest_rate_keeps_steps_inside_the_limit(
    prompt: int, output: int, seconds: float
) -> None:
    one, limits = replica(), (limit(Metric.TPOT, seconds, None),)
    bucket = Bucket(prompt_tokens=prompt, output_tokens=output, arrivals_per_second=1.0)
    rate = largest_rate(one, bucket, limits)
    if rate is None:
        return
    step = seconds
    batch = min(rate * output * step, one.max_batch)
    assert (
        batch * (prompt + output) <= one.kv_tokens * 1.001
        or rate
        * output
        * (batch_step(one, bucket, one.kv_tokens / (prompt + output), chunk=False) / 1e6)
        <= one.kv_tokens / (prompt + output) * 1.05
    )
    tighter = largest_rate(one, bucket, (limit(Metric.TPOT, seconds * 0.8, None),))
    assert (tighter or 0.0) <= rate * 1.03


def test_requests_go_to_the_replica_that_is_free_first_and_to_none_that_cannot_hold_them() -> None:
    buckets = (
        Bucket(prompt_tokens=10, output_tokens=5, arrivals_per_second=1, prompt_limit=10,
               output_limit=5),
        Bucket(prompt_tokens=90, output_tokens=5, arrivals_per_second=1, prompt_limit=90,
               output_limit=5),
    )  # fmt: skip
    small = Column(offer=0, kind="a", label="a", devices=1, rates=(1.0, None))
    large = Column(offer=1, kind="b", label="b", devices=1, rates=(0.5, 1.0))
    arrivals = [
        Arrival(at=Micros(0), prompt_tokens=prompt, output_tokens=5)
        for prompt in (90, 10, 10, 10, 10)
    ]
    sent = route(columns=(small, large), replicas=(1, 1), arrivals=arrivals, buckets=buckets)
    assert sent.places == {(0, 0): [1, 2, 3], (1, 0): [0, 4]}


def test_a_request_that_no_cache_holds_waits_for_ever() -> None:
    one = replace(replica(), kv_tokens=1000)
    arrivals = [
        Arrival(at=Micros(n), prompt_tokens=prompt, output_tokens=2)
        for n, prompt in enumerate((900, 1500))
    ]
    felt = replay_requests(one, arrivals)
    assert np.isfinite(felt.ttft[0])
    assert np.isinf(felt.ttft[1])


def test_half_precision_is_not_offered_to_kinds_without_it() -> None:
    asked = wish(algorithms=serving_algorithms(weights=(Precision.FP8,), tensor=(1,)))
    kinds = {one.kind for one in problem_of(asked).columns if "fp8/" not in one.label}
    assert "a100-80gb" not in kinds


def test_a_tail_that_full_chunks_would_break_is_judged_by_the_replay() -> None:
    """One slow replica with large chunks: a full one breaks the limit, but short prompts that come
    seldom never fill it."""
    traffic = steady_traffic(arrivals_per_second=0.2, prompt_tokens=40, output_tokens=60, seed=3)
    replica = ReplicaModel(
        step=StepCost(fixed=10_000.0, prefill=1_000.0, decode=100.0, context=0.0),
        kv_tokens=100_000,
        chunk_tokens=256,
        max_batch=16,
    )
    base = wish()
    asked = replace(
        base,
        algorithms=base.algorithms[:1],
        traffic=traffic,
        limits=(LatencyLimit(metric=Metric.TPOT, quantile=0.99, micros=Micros(100_000)),),
        replica_of=lambda setup: replica,
    )
    assert replica.step.micros(StepWork(prefill_tokens=256, decode_tokens=1, context_tokens=0)) > (
        asked.limits[0].micros
    )
    plan = plan_fleet(asked)
    assert plan.replay is not None and plan.replay.holds
