"""Budget-paced in the simulated world: requests and jobs of two tenants, each with a budget."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meted.domain.allocation import JobOption, ReplicaOption, TenantBudget
from meted.domain.deployment import DEFAULT_SLO, Deployment, Task
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import DeploymentName, JobName, Micros, NanoUSD, TenantName
from meted.ledger.rates import RateCard
from meted.policy.sharing.paced import BudgetPaced
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepCost
from meted.sim.books import account
from meted.sim.request_money import price_of
from meted.sim.result import Result, Use
from meted.sim.scenario import Scenario, SimDeployment, SimJob, SimRequest, Table
from meted.sim.world import simulate

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
END = 3 * HOUR
DEVICES = 8
DOLLARS = 3.6
"""An hour of a device: a thousandth of a dollar a second."""
PRICE = Price(nano_usd_per_device_hour=NanoUSD(round(DOLLARS * 1e9)))
RATES = RateCard(input=0, cached_input=0, output=3_500_000, training=0)
"""1.4 requests a second of 200 tokens earn what their replica costs."""
MODEL = ReplicaModel(
    step=StepCost(fixed=20_000.0, prefill=0.0, decode=0.0, context=0.0),
    kv_tokens=1_000_000,
    chunk_tokens=100_000,
    max_batch=8,
)
SPENT_ON_JOBS = (Use.TRAINING, Use.RESTARTING, Use.LOST)
LAB, SHOP = TenantName("lab"), TenantName("shop")


def chat(tenant: TenantName, rate: float, *, seed: int = 0, until: int = END) -> SimDeployment:
    """A deployment of the tenant, asked `rate` times a second by itself; a replica can answer 2."""
    random = np.random.default_rng(seed)
    moments = np.sort(random.uniform(0, until, round(rate * until / SECOND)))
    return SimDeployment(
        deployment=Deployment(
            name=DeploymentName(f"{tenant}-chat"),
            checkpoint="chat",
            task=Task.GENERATE,
            replicas=1,
            slo=DEFAULT_SLO,
            max_batch=8,
            max_queue=100,
            least=0,
            most=DEVICES,
        ),
        options=(
            ReplicaOption(kind="gpu", devices=1, requests_per_second=1.5, load=Micros(30 * SECOND)),
        ),
        replicas={("gpu", 1): MODEL},
        requests=[SimRequest(Micros(int(at)), 100, 200, tenant, max_tokens=400) for at in moments],
        tenant=tenant,
        rates=RATES,
    )


def endless(tenant: TenantName, count: int, widths: Sequence[int] = (1,)) -> list[SimJob]:
    rows = tuple(JobOption(kind="gpu", devices=one, steps_per_second=10.0 * one) for one in widths)
    return [
        SimJob(
            name=JobName(f"{tenant}-{number}"),
            arrived=Micros(number * MINUTE),
            steps=1e9,
            model=Table(rows=rows),
            tenant=tenant,
            restart=Micros(10 * SECOND),
            leave=Micros(5 * SECOND),
        )
        for number in range(count)
    ]


def budget(tenant: TenantName, dollars: float, *, begins: int = 0, ends: int = END) -> TenantBudget:
    return TenantBudget(
        tenant=tenant,
        limit=NanoUSD(round(dollars * 1e9)),
        spent=NanoUSD(0),
        begins=Micros(begins),
        ends=Micros(ends),
    )


def run(
    budgets: Sequence[TenantBudget],
    deployments: Sequence[SimDeployment] = (),
    jobs: Sequence[SimJob] = (),
    *,
    until: int = END,
) -> Result:
    scenario = Scenario(
        pool=Pool(
            devices=tuple(Device(index=one, kind="gpu", node=one // 4) for one in range(DEVICES)),
            price=PRICE,
            shared=False,
        ),
        policy=BudgetPaced(),
        interval=Micros(MINUTE),
        deployments=deployments,
        jobs=jobs,
        budgets=budgets,
        horizon=Micros(until),
    )
    result = simulate(scenario)
    account(result, scenario.pool)
    return result


def spent(result: Result, tenant: TenantName, moment: int) -> float:
    """Dollars for answers up to a moment, and for the jobs' time up to then; not by the purse."""
    answers = sum(
        price_of(served, RATES)
        for one in result.deployments
        if one.deployment == f"{tenant}-chat"
        for served in one.served
        if served.last_token <= moment
    )
    training = sum(
        one.cost * min(1.0, (moment - one.begins) / (one.ends - one.begins))
        for one in result.segments
        if one.tenant == tenant and one.use in SPENT_ON_JOBS and one.begins < moment
    )
    return (answers + training) / 1e9


def device_hours(result: Result, tenant: TenantName, uses: Sequence[Use]) -> float:
    micros = sum(
        one.ends - one.begins for one in result.segments if one.tenant == tenant and one.use in uses
    )
    return micros / HOUR


def test_demand_beyond_two_budgets_is_served_at_their_pace() -> None:
    budgets = [budget(LAB, 15), budget(SHOP, 20)]
    result = run(
        budgets,
        [chat(LAB, 3.0, seed=1), chat(SHOP, 1.0, seed=2)],
        [*endless(LAB, 4), *endless(SHOP, 4)],
    )
    for tenant, one in zip((LAB, SHOP), result.budgets, strict=True):
        assert one.spent + one.reserved <= one.limit
        assert 0.35 <= spent(result, tenant, END // 2) / (one.limit / 1e9) <= 0.60
        assert one.spent / one.limit >= 0.85
    # The pace held them, not the purse: nobody was refused for money, no job lost its devices.
    assert sum(one.unfunded for one in result.deployments) == 0
    held = [one for one in result.decisions if "waits for money" in one.reason]
    assert {one.at for one in held} <= {END}
    lab, shop = result.deployments
    assert lab.refused > 0.2 * len(lab.served), "its queue is full: it asks for more than it pays"
    assert shop.refused < 0.001 * len(shop.served), "but for the first minute, without a replica"
    assert device_hours(result, SHOP, (Use.TRAINING,)) > 1, "what shop's requests leave trains"


def test_tenant_without_need_leaves_devices_to_others() -> None:
    """Shop could pay for all devices, but needs one for an hour; lab's jobs get the others."""
    result = run(
        [budget(LAB, 200), budget(SHOP, 200)],
        [chat(SHOP, 0.2, until=HOUR)],
        endless(LAB, DEVICES),
    )
    trained = device_hours(result, LAB, (Use.TRAINING, Use.RESTARTING))
    served = device_hours(result, SHOP, (Use.SERVING, Use.READY, Use.LOADING))
    whole = DEVICES * END / HOUR
    assert 0.9 < served < 2
    assert trained > 0.95 * (whole - served) - DEVICES * 0.15, "they come in the first minutes"
    assert result.deployments[0].refused == result.deployments[0].unfunded == 0


def test_each_period_has_its_own_pace() -> None:
    half = END // 2
    periods = [budget(LAB, 8, ends=half), budget(LAB, 4, begins=half)]
    result = run(periods, [chat(LAB, 3.0)], endless(LAB, 2))
    for one in result.budgets:
        middle = (one.begins + one.ends) // 2
        before = spent(result, LAB, one.begins)
        assert 0.35 <= (spent(result, LAB, middle) - before) / (one.limit / 1e9) <= 0.60
        assert one.spent / one.limit > 0.75


def test_before_and_after_its_periods_a_budget_pays_nothing() -> None:
    result = run([budget(LAB, 5, begins=HOUR, ends=2 * HOUR)], [chat(LAB, 1.0)], endless(LAB, 2))
    used = [
        one
        for one in result.segments
        if one.tenant == LAB and one.use in (*SPENT_ON_JOBS, Use.LOADING)
    ]
    assert used and min(one.begins for one in used) == HOUR
    assert max(one.ends for one in used) <= 2 * HOUR
    assert spent(result, LAB, HOUR) == 0
    assert spent(result, LAB, END) <= 5


def test_one_device_far_above_the_pace_is_waited_off() -> None:
    """Of $1.50 for three hours, a device runs 14 % of the time, in turns, not at once."""
    result = run([budget(LAB, 1.5)], jobs=endless(LAB, 40))
    assert 0.35 <= spent(result, LAB, END // 2) / 1.5 <= 0.60


def test_job_runs_on_as_many_devices_as_the_pace_pays() -> None:
    """$5 an hour: one device always, two now and then, four never; it is seldom moved."""
    result = run([budget(LAB, 15)], jobs=endless(LAB, 1, widths=(4, 2, 1)))
    (job,) = result.jobs
    assert 0.35 <= spent(result, LAB, END // 2) / 15 <= 0.60
    assert spent(result, LAB, END) > 0.85 * 15
    assert job.restarts < 40
    assert device_hours(result, LAB, (Use.RESTARTING,)) < 0.05 * 15 / DOLLARS


@settings(max_examples=15, deadline=None)
@given(
    rates=st.tuples(st.floats(0, 2), st.floats(0, 2)),
    dollars=st.tuples(st.floats(0, 8), st.floats(0, 8)),
    jobs=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    widths=st.sampled_from([(1,), (2, 1), (4,)]),
    seed=st.integers(0, 100),
)
def test_no_budget_is_overrun_at_any_moment(
    rates: tuple[float, float],
    dollars: tuple[float, float],
    jobs: tuple[int, int],
    widths: tuple[int, ...],
    seed: int,
) -> None:
    until = HOUR // 2
    result = run(
        [budget(one, most, ends=until) for one, most in zip((LAB, SHOP), dollars, strict=True)],
        [
            chat(one, rate, seed=seed, until=until)
            for one, rate in zip((LAB, SHOP), rates, strict=True)
        ],
        [
            job
            for one, count in zip((LAB, SHOP), jobs, strict=True)
            for job in endless(one, count, widths)
        ],
        until=until,
    )
    for tenant, one in zip((LAB, SHOP), result.budgets, strict=True):
        assert one.spent + one.reserved <= one.limit
        assert spent(result, tenant, until) == pytest.approx(one.spent / 1e9, abs=1e-6)


def test_pace_does_not_depend_on_who_else_is_there() -> None:
    """A tenant with a budget beside one without: the other's demand changes no pace."""
    mine = [chat(LAB, 3.0, seed=1)]
    free = [replace(one, tenant=SHOP) for one in endless(SHOP, 3)]
    result = run([budget(LAB, 15)], mine, free)
    assert 0.35 <= spent(result, LAB, END // 2) / 15 <= 0.60
    assert device_hours(result, SHOP, (Use.TRAINING,)) > 0.95 * 3 * (END - 3 * MINUTE) / HOUR
