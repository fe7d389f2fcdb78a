"""Spot scaling in the simulated world: devices vanish, prices change, requests are answered."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from meted.domain.allocation import ReplicaOption
from meted.domain.deployment import SLO, Deployment, Task
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import DeploymentName, Micros, NanoUSD
from meted.policy.serving.spot import SpotScaling
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepCost
from meted.sim.books import account
from meted.sim.faults import price_moves, spot_interruptions, together
from meted.sim.measures import Limits, attainment
from meted.sim.result import Result, Use
from meted.sim.scenario import Outage, PriceChange, Scenario, SimDeployment, SimRequest
from meted.sim.world import simulate

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
FIRM, SPOT = 6, 6
SPOT_DEVICES = frozenset(range(FIRM, FIRM + SPOT))
NAME = DeploymentName("chat")
TARGET = SLO(ttft_p95=Micros(20 * SECOND), tpot_p95=Micros(100_000))
MODEL = ReplicaModel(
    step=StepCost(fixed=50_000.0, prefill=0.0, decode=0.0, context=0.0),
    kv_tokens=1_000_000,
    chunk_tokens=100_000,
    max_batch=4,
)
IN_USE = (Use.SERVING, Use.READY, Use.LOADING)


def price(dollars: float) -> Price:
    """Of a device that is used; one that is not costs nothing."""
    busy = NanoUSD(round(dollars * 1e9))
    return Price(nano_usd_per_device_hour=busy, idle=NanoUSD(0), parked=NanoUSD(0))


ON_DEMAND, CHEAP, DEAR = price(3.6), price(1.2), price(4.5)


def a_day(seed: int, *, low: float, high: float, until: int = DAY) -> list[SimRequest]:
    """Poisson requests, the fewest at midnight and the most at noon; 400 tokens in the mean."""
    random = np.random.default_rng(seed)
    found: list[SimRequest] = []
    at = 0.0
    while (at := at + random.exponential(1 / high)) * SECOND < until:
        rate = low + (high - low) * (0.5 - 0.5 * math.cos(2 * math.pi * at / 86_400))
        if random.uniform() < rate / high:
            output = int(random.integers(200, 600))
            found.append(SimRequest(Micros(int(at * SECOND)), 100, output))
    return found


def scenario(
    requests: Sequence[SimRequest],
    *,
    spot: bool = True,
    outages: Sequence[Outage] = (),
    changes: Sequence[PriceChange] = (),
    policy: SpotScaling = SpotScaling(),
    until: int = DAY,
) -> Scenario:
    """Six devices on demand and, if there is spot, six cheap ones; a replica answers 0.2/s."""
    kinds = ["firm"] * FIRM + (["spot"] * SPOT if spot else [])
    options = tuple(
        ReplicaOption(kind=kind, devices=1, requests_per_second=0.15, load=Micros(MINUTE))
        for kind in dict.fromkeys(kinds)
    )
    return Scenario(
        pool=Pool(
            devices=tuple(
                Device(index=index, kind=kind, node=index) for index, kind in enumerate(kinds)
            ),
            price=ON_DEMAND,
            prices={"firm": ON_DEMAND, "spot": CHEAP},
            shared=False,
            spot=frozenset({"spot"}) if spot else frozenset(),
        ),
        policy=policy,
        interval=Micros(MINUTE),
        deployments=[
            SimDeployment(
                deployment=Deployment(
                    name=NAME,
                    checkpoint="chat",
                    task=Task.GENERATE,
                    replicas=1,
                    slo=TARGET,
                    max_batch=4,
                    max_queue=100,
                    least=1,
                    most=FIRM + SPOT,
                ),
                options=options,
                replicas={(one.kind, 1): MODEL for one in options},
                requests=requests,
            )
        ],
        outages=outages,
        price_changes=changes,
        horizon=Micros(until),
    )


def interruptions(whole: Scenario, *, rate: float, seed: int, until: int = DAY) -> list[Outage]:
    return list(
        spot_interruptions(
            whole.pool,
            per_device_hour={"spot": rate},
            away=Micros(20 * MINUTE),
            until=Micros(until),
            seed=seed,
        )
    )


def used(result: Result, devices: frozenset[int], begins: float, ends: float) -> float:
    """Device-hours in use between two hours of the day."""
    since, until = begins * HOUR, ends * HOUR
    micros = sum(
        max(0.0, min(one.ends, until) - max(one.begins, since))
        for one in result.segments
        if one.device in devices and one.use in IN_USE
    )
    return micros / HOUR


def answering(result: Result, moment: int) -> int:
    """Replicas that take requests or answer some."""
    return sum(
        one.begins <= moment < one.ends and one.use in (Use.SERVING, Use.READY)
        for one in result.segments
    )


def inside(result: Result) -> float:
    return attainment(result, Limits(slos={NAME: TARGET})) or 0.0


def deaths(result: Result, outages: Sequence[Outage]) -> int:
    """Outages that took a device in use."""
    ends = {(one.device, one.ends) for one in result.segments if one.use in IN_USE}
    return sum(any((device, one.at) in ends for device in one.devices) for one in outages)


def test_a_day_on_spot_keeps_the_slo_for_less_than_on_demand() -> None:
    """Devices vanish by chance, all of them from 10 to 12 h; from 14 to 17 h spot is dearer."""
    requests = a_day(1, low=0.05, high=0.25)
    firm = scenario(requests, spot=False)
    alone = simulate(firm)
    whole = scenario(requests)
    gone = Outage(
        at=Micros(10 * HOUR), devices=SPOT_DEVICES, back=Micros(12 * HOUR), reason="no spot at all"
    )
    outages = together(interruptions(whole, rate=0.3, seed=3), [gone])
    changes = (
        PriceChange(at=Micros(14 * HOUR), prices={"spot": DEAR}),
        PriceChange(at=Micros(17 * HOUR), prices={"spot": CHEAP}),
    )
    result = simulate(replace(whole, outages=outages, price_changes=changes))
    cost = account(result, whole.pool, changes).cost
    assert deaths(result, outages) >= 5
    assert inside(alone) >= 0.95 and inside(result) >= 0.95
    assert cost < 0.7 * account(alone, firm.pool).cost
    on_demand = frozenset(range(FIRM))
    # Cheap: nearly all on spot. Gone: all on demand. Back. Dearer: on demand. Cheaper: back.
    assert used(result, on_demand, 0, 9) < 0.05 * used(result, SPOT_DEVICES, 0, 9)
    assert used(result, SPOT_DEVICES, 10, 12) == 0 < 2 < used(result, on_demand, 10.1, 12)
    assert used(result, on_demand, 12.5, 14) < 0.2 * used(result, SPOT_DEVICES, 12.5, 14)
    assert used(result, SPOT_DEVICES, 14.2, 17) == 0 < 3 < used(result, on_demand, 14.2, 17)
    assert used(result, on_demand, 17.2, 24) < 0.05 * used(result, SPOT_DEVICES, 17.2, 24)
    # Who is replaced answers until the others have loaded; on demand there is no spare.
    for change in changes:
        before = answering(result, change.at - MINUTE)
        assert before >= 2
        least = min(answering(result, change.at + one * SECOND) for one in range(180))
        assert least >= before - 1
    # Nothing got lost: what a vanished device had was answered by another.
    (found,) = result.deployments
    assert (found.refused, len(found.served) + found.unfinished) == (0, len(requests))
    assert found.unfinished <= alone.deployments[0].unfinished + 2


def test_spares_keep_more_requests_inside_the_slo_when_devices_vanish() -> None:
    requests = a_day(2, low=0.3, high=0.3, until=6 * HOUR)
    whole = scenario(requests, until=6 * HOUR)
    outages = interruptions(whole, rate=3.0, seed=1, until=6 * HOUR)
    quick = Limits(slos={NAME: replace(TARGET, ttft_p95=Micros(SECOND))})
    shares: list[float] = []
    costs: list[int] = []
    for spare in (0, 2):
        one = replace(whole, policy=SpotScaling(busy=0.95, spare=spare), outages=outages)
        result = simulate(one)
        shares.append(attainment(result, quick) or 0.0)
        costs.append(account(result, whole.pool).cost)
    assert shares[0] + 0.02 < shares[1] and costs[0] < costs[1]


def test_window_saves_loads() -> None:
    requests = a_day(4, low=0.3, high=0.3, until=4 * HOUR)
    whole = scenario(requests, until=4 * HOUR)
    loads = [
        sum(one.use is Use.LOADING for one in simulate(
            replace(whole, policy=SpotScaling(window_s=window))
        ).segments)
        for window in (0.0, 120.0, 600.0)
    ]  # fmt: skip
    assert loads[1] < 0.6 * loads[0] and loads[2] < loads[1]


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    rate=st.floats(0.2, 6.0),
    volatility=st.floats(0.1, 3.0),
    spare=st.integers(0, 3),
    high=st.floats(0.02, 0.8),
)
def test_books_balance_and_no_request_is_lost_however_spot_behaves(
    seed: int, rate: float, volatility: float, spare: int, high: float
) -> None:
    until = HOUR
    requests = a_day(seed, low=high, high=high, until=until)
    whole = scenario(requests, policy=SpotScaling(spare=spare), until=until)
    outages = together(interruptions(whole, rate=rate, seed=seed, until=until))
    changes = price_moves(
        "spot", CHEAP, every=Micros(7 * MINUTE), volatility=volatility, reversion=1.0,
        until=Micros(until), seed=seed,
    )  # fmt: skip
    result = simulate(replace(whole, outages=outages, price_changes=changes))
    account(result, whole.pool, changes)
    (found,) = result.deployments
    assert len(found.served) + found.refused + found.unfinished == len(requests)
    for outage in outages:
        back = until if outage.back is None else min(outage.back, until)
        assert not [
            one
            for one in result.segments
            if one.device in outage.devices
            and one.use is not Use.GONE
            and one.begins < back
            and one.ends > outage.at
        ]
