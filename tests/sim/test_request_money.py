"""Requests under hard budgets: set aside before dispatch, charged once, within the limit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_scenarios import END, make_mixed
from serving_scenarios import SECOND, Counts, make_serving, replica, request

from meted.domain.allocation import Plan, ReplicaAllocation, Snapshot, TenantBudget
from meted.domain.deployment import DEFAULT_SLO
from meted.domain.units import DeploymentName, Micros, NanoUSD, TenantName
from meted.ledger.rates import RateCard, worst_price
from meted.predict.batching import Served
from meted.sim.books import account
from meted.sim.measures import Limits, attainment
from meted.sim.request_money import price_of
from meted.sim.result import Result, Use
from meted.sim.scenario import Outage, Scenario, SimDeployment, SimRequest
from meted.sim.world import World, simulate

LAB = TenantName("lab")
RATES = RateCard(input=1_000_000, cached_input=100_000, output=10_000_000, training=0)
TOKEN = 10_000
"""Nano-USD of a generated token."""
PROMPT = 1_000
"""Nano-USD of a prompt token."""
CACHED = 100
"""Nano-USD of a prompt token that was cached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """A replica for each deployment, on a device of its own, for ever."""

    def decide(self, snapshot: Snapshot) -> Plan:
        return Plan(
            replicas=tuple(
                ReplicaAllocation(
                    deployment=one.deployment,
                    places=((device,),),
                    reason=f"{one.deployment}: 1 replica",
                )
                for device, one in enumerate(snapshot.deployments)
            ),
            jobs=(),
        )


def budget(nanos: int, *, begins: int = 0, ends: int = END) -> TenantBudget:
    return TenantBudget(
        tenant=LAB,
        limit=NanoUSD(nanos),
        spent=NanoUSD(0),
        begins=Micros(begins),
        ends=Micros(ends),
    )


def charged(scenario: Scenario, budgets: Sequence[TenantBudget]) -> Scenario:
    deployments = [replace(one, rates=RATES) for one in scenario.deployments]
    return replace(scenario, deployments=deployments, budgets=budgets)


def of_lab(at: float, *, output: int = 1000, max_tokens: int = 0) -> SimRequest:
    """One prompt token, a millisecond a token."""
    return replace(request(at, output=output, tenant="lab"), max_tokens=max_tokens)


def serving(
    requests: Sequence[SimRequest], budgets: Sequence[TenantBudget], *, replicas: int = 1
) -> Scenario:
    """Replicas that take two requests at once, ready from second 2 on."""
    policy = Counts(by_second=(replicas,))
    scenario = make_serving(requests, policy=policy, model=replica(max_batch=2), horizon=END)
    return charged(scenario, budgets)


def worst_of(one: SimRequest) -> int:
    return worst_price(
        RATES,
        prompt_tokens_most=one.prompt_tokens,
        output_tokens_most=max(one.output_tokens, one.max_tokens),
        predicted_cost_most=NanoUSD(0),
    )


def answered(result: Result) -> list[float]:
    """Arrivals of the answered requests, in seconds."""
    return [one.arrival.at / SECOND for each in result.deployments for one in each.served]


def shared_scenario(seed: int, limits: Sequence[int]) -> Scenario:
    """Two deployments, jobs and outages of `make_mixed`; a third of the requests are of the jobs'
    tenant, whose budget has a period for each limit."""
    mixed, other = make_mixed(seed), make_mixed(seed + 1)
    deployments: list[SimDeployment] = []
    for name, one in (("chat", mixed.deployments[0]), ("code", other.deployments[0])):
        requests = [
            replace(
                each,
                tenant=LAB if each.tenant == "b" else each.tenant,
                max_tokens=each.output_tokens * (1 + each.at % 3),
            )
            for each in one.requests
        ]
        named = replace(one.deployment, name=DeploymentName(name))
        deployments.append(replace(one, deployment=named, requests=requests, rates=RATES))
    length = END // len(limits)
    budgets = [
        budget(limit, begins=number * length, ends=(number + 1) * length)
        for number, limit in enumerate(limits)
    ]
    return replace(mixed, deployments=deployments, budgets=budgets, price_changes=())


def lab_requests(world: World, result: Result) -> list[tuple[Served, SimRequest]]:
    """What was answered of the tenant's requests; no two come at one moment."""
    by_moment = {
        (name, one.at): one
        for name, requests in (
            (each.deployment.name, each.requests) for each in world.scenario.deployments
        )
        for one in requests
        if one.tenant == LAB
    }
    return [
        (served, by_moment[each.deployment, served.arrival.at])
        for each in result.deployments
        for served in each.served
        if (each.deployment, served.arrival.at) in by_moment
    ]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cents=st.lists(st.floats(0, 20), min_size=1, max_size=3),
)
def test_spent_and_reserved_of_requests_and_jobs_never_exceed_the_limit(
    seed: int, cents: list[float]
) -> None:
    world = World(shared_scenario(seed, [round(one * 1e7) for one in cents]))
    result = world.run()
    account(result, world.scenario.pool)
    assert world.purse.lost == 0
    mine = lab_requests(world, result)
    for one, period in zip(result.budgets, world.scenario.budgets, strict=True):
        assert 0 <= one.spent + one.reserved <= one.limit == period.limit
    # What the ledger does not say: the moments. A request holds its worst case from the step that
    # took it, at the latest, to its last token, and has cost its price from then on.
    jobs = [one for one in result.segments if one.tenant == LAB and one.use is not Use.SERVING]
    for moment in [one.started for one, _ in mine]:
        granted = sum(one.limit for one in world.scenario.budgets if one.begins <= moment)
        spent = sum(price_of(one, RATES) for one, _ in mine if one.last_token <= moment)
        reserved = sum(
            worst_of(asked) for one, asked in mine if one.started <= moment < one.last_token
        )
        trained = sum(one.cost for one in jobs if one.ends <= moment)
        assert spent + reserved + trained <= granted


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cents=st.floats(0, 40))
def test_what_is_charged_is_the_price_of_what_was_answered(seed: int, cents: float) -> None:
    scenario = replace(shared_scenario(seed, [round(cents * 1e7)]), jobs=())
    world = World(scenario)
    result = world.run()
    (found,) = result.budgets
    assert found.spent == sum(price_of(one, RATES) for one, _ in lab_requests(world, result))
    assert found.refused == sum(one.unfunded for one in result.deployments)
    came = sum(len(one.requests) for one in scenario.deployments)
    assert came == sum(
        len(one.served) + one.refused + one.unfunded + one.unfinished for one in result.deployments
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_budget_that_is_enough_changes_nothing(seed: int) -> None:
    scenario = replace(shared_scenario(seed, [10**15]), jobs=())
    held, free = simulate(scenario), simulate(replace(scenario, budgets=()))
    assert held.deployments == free.deployments
    assert held.segments == free.segments
    assert not free.budgets


def test_request_that_does_not_fit_is_refused_and_misses_no_slo() -> None:
    one = PROMPT + 1000 * TOKEN
    result = simulate(serving([of_lab(3), of_lab(5), of_lab(7)], [budget(2 * one + one // 2)]))
    (found,) = result.deployments
    (left,) = result.budgets
    assert answered(result) == [3, 5]
    assert (found.unfunded, found.refused, found.unfinished) == (1, 0, 0)
    assert (left.spent, left.reserved, left.refused) == (2 * one, 0, 1)
    assert attainment(result, Limits(slos={found.deployment: DEFAULT_SLO})) == 1.0


def test_what_runs_holds_its_worst_case_until_it_ends() -> None:
    """The second comes while the first, which may make 5000 tokens, runs; the third afterwards."""
    requests = [of_lab(3, max_tokens=5000), of_lab(3.5), of_lab(4.5)]
    limit = 2 * PROMPT + 5500 * TOKEN
    result = simulate(serving(requests, [budget(limit)]))
    assert answered(result) == [3, 4.5]
    assert result.budgets[0].spent == 2 * (PROMPT + 1000 * TOKEN)


def test_what_waits_for_a_replica_holds_nothing() -> None:
    """Before a replica is ready three wait, of which any one has money; then they come in turn."""
    one = PROMPT + 1000 * TOKEN
    requests = [of_lab(0.1), of_lab(0.2), of_lab(0.3)]
    result = simulate(serving(requests, [budget(one)]))
    assert answered(result) == [0.1]
    assert result.budgets[0].refused == 2


def test_request_on_a_replica_that_drains_frees_its_money_when_it_ends() -> None:
    """The second replica drains from 4 s on, for 20 s; what is the tenant's on it ends at 4.3 s."""
    requests = [
        request(3, output=900, tenant="other"),
        request(3.1, output=20_000, tenant="other"),
        request(3.2, output=900, tenant="other"),
        of_lab(3.3, max_tokens=3000),
        of_lab(8, max_tokens=3000),
    ]
    scenario = serving(requests, [budget(2 * PROMPT + 4000 * TOKEN)])
    result = simulate(replace(scenario, policy=Counts(by_second=(2, 2, 2, 2, 1))))
    served = {one.arrival.at / SECOND: one.replica for one in result.deployments[0].served}
    assert served == {3: 0, 3.1: 1, 3.2: 0, 3.3: 1, 8: 0}


def test_request_that_dies_twice_costs_nothing_and_one_that_dies_once_costs_once() -> None:
    def outage(at: float) -> Outage:
        moment = Micros(round(at * SECOND))
        return Outage(at=moment, devices=frozenset({0}), back=Micros(moment + 1), reason="fault")

    one = PROMPT + 3000 * TOKEN
    scenario = serving([of_lab(3, output=3000)], [budget(one)])
    once = simulate(replace(scenario, outages=[outage(4)]))
    assert once.budgets[0].spent == one
    twice = simulate(replace(scenario, outages=[outage(4), outage(9)]))
    assert (twice.budgets[0].spent, twice.budgets[0].reserved) == (0, 0)
    assert twice.deployments[0].unfinished == 1


def test_what_ends_later_pays_for_nothing_that_comes_before() -> None:
    """Two deployments of one tenant, simulated from 2 s to 30 s between two events of the world:
    the first's request ends at 4 s, and what it frees is there at 4.5 s, not at 3.5 s."""
    limit = 2 * PROMPT + 3500 * TOKEN
    scenario = serving([of_lab(3, max_tokens=2000)], [budget(limit)])
    (chat,) = scenario.deployments
    code = replace(
        chat,
        deployment=replace(chat.deployment, name=DeploymentName("code")),
        requests=[of_lab(3.5, max_tokens=2000), of_lab(4.5, max_tokens=2000)],
    )
    result = simulate(
        replace(scenario, deployments=[chat, code], policy=Apart(), interval=Micros(30 * SECOND))
    )
    assert answered(result) == [3, 4.5]


def test_prompt_tokens_that_were_cached_cost_their_own_rate() -> None:
    shared = [replace(of_lab(at), prompt_tokens=600, prefix=(1, 2)) for at in (3.0, 5.0)]
    result = simulate(serving(shared, [budget(10**12)]))
    assert result.budgets[0].spent == 600 * PROMPT + 600 * CACHED + 2 * 1000 * TOKEN


def test_without_a_budget_for_now_a_request_is_refused_until_there_is_one() -> None:
    requests = [of_lab(3), of_lab(12), request(4, tenant="other")]
    requests.sort(key=lambda one: one.at)
    result = simulate(serving(requests, [budget(10**12, begins=10 * SECOND)]))
    assert answered(result) == [4, 12]
    assert result.deployments[0].unfunded == 1


def test_price_counts_in_the_period_of_its_dispatch() -> None:
    one = PROMPT + 1000 * TOKEN
    periods = [budget(one, ends=4 * SECOND), budget(one, begins=4 * SECOND)]
    result = simulate(serving([of_lab(3.5), of_lab(5)], periods))
    assert [each.spent for each in result.budgets] == [one, one]
    assert answered(result) == [3.5, 5]


def test_deployment_without_rates_cannot_have_requests_under_a_budget() -> None:
    scenario = serving([of_lab(3)], [budget(1)])
    (sim,) = scenario.deployments
    with pytest.raises(ValueError, match=r"'chat' has requests of 'lab'.*RateCard"):
        World(replace(scenario, deployments=[replace(sim, rates=None)]))
