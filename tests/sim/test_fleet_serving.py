"""Simulated serving: who is routed where and when, what a lost or drained replica does, scale to
zero, refusals, prefixes, demands."""

import pytest
from serving_scenarios import LOAD, SECOND, Counts, make_serving, replica, request

from meted.domain.units import Micros
from meted.predict.batching import Arrival, Served
from meted.predict.replay import replay
from meted.sim.result import Result, Use
from meted.sim.scenario import Outage, SimRequest
from meted.sim.world import simulate


def ends(result: Result) -> list[float]:
    """Seconds from arrival to last token, by arrival."""
    (one,) = result.deployments
    return [(each.last_token - each.arrival.at) / SECOND for each in one.served]


def test_one_replica_answers_as_a_replay_does() -> None:
    requests = [
        request(3 + 0.3 * i, prompt=100 + 17 * i, output=200 + 90 * (i % 7)) for i in range(60)
    ]
    model = replica(max_batch=8, prompt=20.0)
    result = simulate(make_serving(requests, policy=Counts(by_second=(1,)), model=model))
    (found,) = result.deployments
    arrivals = [Arrival(one.at, one.prompt_tokens, one.output_tokens) for one in requests]
    alone = replay(model, arrivals)

    def facts(served: Served) -> tuple[int, int]:
        return served.arrival.at, served.last_token

    assert found.refused == found.unfinished == 0
    for mine, other in zip(found.served, alone, strict=True):
        assert facts(mine)[0] == facts(other)[0]
        assert facts(mine)[1] == pytest.approx(facts(other)[1], abs=2_000)


def test_request_that_finds_no_replica_waits_until_one_is_ready() -> None:
    policy = Counts(by_second=(0, 0, 0, 1))
    result = simulate(make_serving([request(0.5)], policy=policy))
    assert ends(result) == [(3 * SECOND + LOAD - 500_000 + SECOND) / SECOND]


def test_requests_go_to_the_least_loaded_first_come_first_served() -> None:
    result = simulate(
        make_serving(
            [request(5), request(5.1, output=300), request(5.2), request(5.3)],
            policy=Counts(by_second=(2,)),
            devices=2,
        )
    )
    (one,) = result.deployments
    assert [each.replica for each in one.served] == [0, 1, 1, 0]
    assert ends(result) == [1.0, 0.3, 1.2, 1.7]


def test_full_queue_refuses() -> None:
    requests = [request(5 + i / 100) for i in range(6)]
    result = simulate(make_serving(requests, policy=Counts(by_second=(1,)), max_queue=2))
    (one,) = result.deployments
    assert (len(one.served), one.refused, one.unfinished) == (3, 3, 0)


def test_request_that_no_cache_holds_is_refused() -> None:
    result = simulate(
        make_serving(
            [request(5, output=2_000), request(5.1)],
            policy=Counts(by_second=(1,)),
            model=replica(kv_tokens=1_600),
        )
    )
    (one,) = result.deployments
    assert (len(one.served), one.refused) == (1, 1)


def test_drained_replica_answers_what_it_has_and_then_leaves() -> None:
    policy = Counts(by_second=(2, 2, 2, 2, 2, 2, 1))
    requests = [request(5.5, output=3_000), request(5.6, output=3_000), request(6.5), request(20)]
    result = simulate(make_serving(requests, policy=policy, devices=2))
    assert ends(result) == [3.0, 3.0, 3.0, 1.0]
    (one,) = result.deployments
    assert [each.replica for each in one.served] == [0, 1, 0, 0]
    last = max(each.ends for each in result.segments if each.who == "chat-2")
    assert last == one.served[1].last_token


def test_requests_of_a_lost_replica_are_sent_to_another_once_more() -> None:
    outage = Outage(at=Micros(6 * SECOND), devices=frozenset({0}), back=None, reason="gone")
    requests = [request(5.5, output=2_000), request(5.6, output=2_000), request(5.7)]
    result = simulate(
        make_serving(requests, policy=Counts(by_second=(2,)), devices=2, outages=[outage])
    )
    (one,) = result.deployments
    assert one.unfinished == 0
    # The second ends at 7.6; the first begins anew before the third, which came later.
    assert [each.last_token / SECOND for each in one.served] == [9.6, 7.6, 10.6]


def test_request_that_loses_its_replica_twice_is_given_up() -> None:
    outages = [
        Outage(at=Micros(at * SECOND), devices=frozenset({device}), back=None, reason="gone")
        for at, device in ((6, 0), (7, 1))
    ]
    result = simulate(
        make_serving(
            [request(5.5, output=5_000)],
            policy=Counts(by_second=(3,)),
            devices=3,
            outages=outages,
        )
    )
    (one,) = result.deployments
    assert (len(one.served), one.unfinished) == (0, 1)


def test_horizon_leaves_what_is_not_answered() -> None:
    result = simulate(
        make_serving([request(5, output=9_000)], policy=Counts(by_second=(1,)), horizon=8 * SECOND)
    )
    (one,) = result.deployments
    assert (len(one.served), one.unfinished, result.ended) == (0, 1, 8 * SECOND)
    serving = sum(each.ends - each.begins for each in result.segments if each.use is Use.SERVING)
    assert serving == 3 * SECOND


def test_known_prefix_is_not_computed_again() -> None:
    def ask(at: int, *prefix: int) -> SimRequest:
        return SimRequest(Micros(at * SECOND), 2_048, 1, prefix=prefix)

    model = replica(fixed=0.0, prompt=1_000.0)
    asked = [ask(10, 1, 2, 3, 4), ask(20, 1, 2, 3, 9), ask(30, 5, 2, 3, 4)]
    result = simulate(make_serving(asked, policy=Counts(by_second=(1,)), model=model))
    (one,) = result.deployments
    assert [each.arrival.cached_tokens for each in one.served] == [0, 3 * 512, 0]
    assert ends(result) == [2.048, 0.512, 2.048]


def test_demand_counts_what_waits_runs_and_came() -> None:
    policy = Counts(by_second=(0, 1))
    requests = [request(0.2 + i / 10, output=10_000) for i in range(5)]
    simulate(make_serving(requests, policy=policy, horizon=5 * SECOND))
    seen = policy.seen
    assert [one.queued for one in seen] == [0, 5, 5, 4, 4, 4]
    assert [one.running for one in seen] == [0, 0, 0, 1, 1, 1]
    assert [one.starting for one in seen] == [0, 0, 1, 0, 0, 0]
    assert [one.replicas for one in seen] == [0, 0, 0, 1, 1, 1]
    assert seen[1].arrivals_per_second > 0
    assert seen[5].quiet == 5 * SECOND - 600_000


def test_demand_tells_how_busy_the_forecast_is_and_the_tokens_of_the_last_seconds() -> None:
    policy = Counts(by_second=(1,))
    requests = [request(5.25 + i / 2, output=250) for i in range(600)]
    simulate(make_serving(requests, policy=policy, horizon=304 * SECOND))
    last = policy.seen[-1]
    assert last.arrivals_per_second == pytest.approx(2.0, rel=0.05)
    # A request of a quarter of a second every half second.
    assert last.utilisation == pytest.approx(0.5, rel=0.05)
    assert last.tokens_per_second == pytest.approx(500, rel=0.05)
