"""Hard budgets in the simulation: at no moment is more spent and reserved than there is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_scenarios import END, ServeThenTrain, make_mixed
from serving_scenarios import PRICE, SECOND, make_serving

from meted.domain.allocation import JobOption, Plan, Snapshot, TenantBudget
from meted.domain.units import JobName, Micros, NanoUSD, TenantName
from meted.policy.protocol import Policy
from meted.sim.books import account
from meted.sim.result import Use
from meted.sim.scenario import PriceChange, Scenario, SimJob, Table
from meted.sim.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class OneSecondFrom:
    """Jobs run up to a second, and then have nothing."""

    second: int

    def decide(self, snapshot: Snapshot) -> Plan:
        if snapshot.now >= self.second * SECOND:
            return Plan(replicas=(), jobs=())
        return ServeThenTrain().decide(snapshot)


LAB = TenantName("lab")
SECOND_COST = PRICE.nano_usd_per_device_hour / 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Another policy, and the money that it was shown."""

    policy: Policy
    seen: list[tuple[Micros, tuple[TenantBudget, ...]]] = field(default_factory=list)

    def decide(self, snapshot: Snapshot) -> Plan:
        self.seen.append((snapshot.now, snapshot.budgets))
        return self.policy.decide(snapshot)


def budget(dollars: float, *, begins: int = 0, ends: int = END) -> TenantBudget:
    return TenantBudget(
        tenant=LAB,
        limit=NanoUSD(round(dollars * 1e9)),
        spent=NanoUSD(0),
        begins=Micros(begins),
        ends=Micros(ends),
    )


def job(name: str, *, steps: float = 100, devices: Sequence[int] = (1,), at: int = 0) -> SimJob:
    rows = tuple(
        JobOption(kind="gpu", devices=count, steps_per_second=10.0 * count) for count in devices
    )
    return SimJob(
        name=JobName(name), arrived=Micros(at), steps=steps, model=Table(rows=rows), tenant=LAB
    )


def training(*jobs: SimJob, budgets: Sequence[TenantBudget], policy: Policy) -> Scenario:
    scenario = make_serving([], policy=policy, devices=4, horizon=END)
    return replace(scenario, jobs=jobs, budgets=budgets)


def cost_of(world: World, tenant: TenantName) -> int:
    return sum(one.cost for one in world.recorder.segments if one.tenant == tenant)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cents=st.lists(st.floats(0, 5), min_size=1, max_size=3),
    steady=st.booleans(),
)
def test_spent_and_reserved_never_exceed_the_limit(
    seed: int, cents: list[float], steady: bool
) -> None:
    mixed = make_mixed(seed)
    length = END // len(cents)
    budgets = [
        budget(one / 100, begins=number * length, ends=(number + 1) * length)
        for number, one in enumerate(cents)
    ]
    policy = Watched(policy=mixed.policy)
    changes = () if steady else mixed.price_changes
    world = World(replace(mixed, policy=policy, budgets=budgets, price_changes=changes))
    result = world.run()
    account(result, mixed.pool, changes)
    assert policy.seen
    for _, shown in policy.seen:
        assert all(0 <= one.spent <= one.limit for one in shown)
    spent = cost_of(world, LAB)
    assert spent - world.purse.lost <= sum(one.limit for one in budgets)
    if steady:
        assert world.purse.lost == 0


def test_job_that_leaves_and_is_held_leaves_all_the_same() -> None:
    """A preempted job whose money ends while it leaves does not keep its devices."""
    first = replace(job("a", steps=1_000), leave=Micros(3 * SECOND))
    budgets = [budget(8.5 * SECOND_COST / 1e9)]
    policy = OneSecondFrom(second=3)
    result = World(training(first, budgets=budgets, policy=policy)).run()
    last = max(one.ends for one in result.segments if one.who == "a")
    assert last == 6 * SECOND


def test_what_is_charged_is_what_the_lines_cost() -> None:
    policy = Watched(policy=ServeThenTrain())
    world = World(training(job("a"), job("b", at=SECOND), budgets=[budget(9)], policy=policy))
    result = world.run()
    assert all(one.finished is not None for one in result.jobs)
    (left,) = world.purse.budgets(END - 1)
    assert left.spent == cost_of(world, LAB) == sum(one.cost for one in result.jobs)


def test_job_without_money_makes_way_and_goes_on_in_the_next_period() -> None:
    budgets = [
        budget(5.5 * SECOND_COST / 1e9, ends=20 * SECOND),
        budget(1, begins=20 * SECOND),
    ]
    policy = Watched(policy=ServeThenTrain())
    world = World(training(job("a"), budgets=budgets, policy=policy))
    result = world.run()
    (one,) = result.jobs
    assert one.restarts == 1
    spans = [
        (each.begins / SECOND, each.ends / SECOND)
        for each in result.segments
        if each.use is Use.TRAINING
    ]
    assert (spans[0][0], spans[4][1], spans[5][0], spans[-1][1]) == (0, 5, 20, 25)
    told = next(each.reason for each in result.decisions if "waits for money" in each.reason)
    assert "are left" in told and "lab" in told


def test_job_gets_no_more_devices_than_its_tenant_can_pay() -> None:
    dollars = 2.5 * SECOND_COST / 1e9
    wide = job("a", devices=(4, 2, 1), steps=1)
    policy = Watched(policy=ServeThenTrain())
    world = World(training(wide, budgets=[budget(dollars)], policy=policy))
    world.run()
    used = {one.device for one in world.recorder.segments if one.use is Use.TRAINING}
    assert len(used) == 2


def test_job_of_a_tenant_without_a_budget_needs_none() -> None:
    free = replace(job("b"), tenant=TenantName("other"))
    world = World(
        training(job("a"), free, budgets=[budget(0)], policy=Watched(policy=ServeThenTrain()))
    )
    result = world.run()
    assert [one.finished is not None for one in result.jobs] == [False, True]


def test_rise_of_the_price_costs_the_house_what_was_not_set_aside() -> None:
    dear = replace(PRICE, nano_usd_per_device_hour=NanoUSD(10**15))
    change = PriceChange(at=Micros(2_500_000), prices={"gpu": dear})
    leaving = replace(job("a"), leave=Micros(SECOND))
    scenario = training(leaving, budgets=[budget(0.01)], policy=Watched(policy=ServeThenTrain()))
    world = World(replace(scenario, price_changes=[change]))
    world.run()
    assert world.purse.lost > 0
    (left,) = world.purse.budgets(END - 1)
    assert left.spent <= left.limit
    assert left.spent + world.purse.lost == cost_of(world, LAB)


def test_budgets_without_an_end_of_the_simulation_are_an_error() -> None:
    scenario = training(job("a"), budgets=[budget(1)], policy=ServeThenTrain())
    with pytest.raises(ValueError, match="horizon"):
        World(replace(scenario, horizon=None))
