"""What clients will feel under traffic: the closed form where it holds, else a quick replay."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from meted.domain.units import Micros
from meted.predict.batching import BLOCK_TOKENS, Arrival
from meted.predict.estimate import Estimate
from meted.predict.queueing import Traffic, UnstableError
from meted.predict.replay import busy_micros, latencies, quantile, replay_fleet
from meted.predict.replica import ReplicaModel
from meted.predict.steady_batch import SteadyBatch, capacity, lone_step, steady_batch, tpot_slope

SEEDS = 4
"""Replays of which the spread is taken, if no doubt about the replica is given."""
CLOSED_ERROR = 0.2
"""What the closed form may miss where it is valid, relative; tests/predict/test_latency.py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPerformance:
    """Latencies at quantile `share`, in microseconds. utilisation: share of time with any work.
    simulated: by replay, else in closed form. stable: the queue has a steady state; if it has none,
    latencies are those of the first `requests` and grow with more."""

    share: float
    ttft: Estimate
    tpot: Estimate
    e2e: Estimate
    utilisation: float
    simulated: bool
    stable: bool
    requests: int = 0


def predict_latency(
    replica: ReplicaModel,
    traffic: Traffic,
    *,
    share: float,
    seed: int,
    doubt: Sequence[ReplicaModel] = (),
    replicas: int = 1,
    requests: int = 2_000,
) -> ServingPerformance:
    """TTFT, TPOT and E2E that `share` of the requests stay inside, with an interval of 90 %.

    doubt: the replica as it may also be, one for each draw of a calibration; the interval then has
    that doubt too. replicas: equal ones that share the traffic; several are always replayed. In
    closed form the interval has what the form may miss. A replay is of `requests` requests, the
    first tenth left out; the same seed gives the same result.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"a quantile of {share:g} was asked for, expected inside 0 and 1")
    steady = _steady(replica, traffic)
    if replicas > 1 or steady is None or not steady.valid(share):
        study = _Study(traffic=traffic, share=share, replicas=replicas, requests=requests)
        return study.performance(replica, doubt, seed)
    rows = np.array([_closed(one, traffic, share) for one in (replica, *doubt)])
    ttft, tpot, e2e = (_closed_estimate(rows[:, index]) for index in range(3))
    return ServingPerformance(
        share=share,
        ttft=ttft,
        tpot=tpot,
        e2e=e2e,
        # Idle is no one generating and no prompt: the batch is near Poisson.
        utilisation=1.0 - (1.0 - steady.prompt_load) * math.exp(-steady.batch),
        simulated=False,
        stable=True,
    )


def _steady(replica: ReplicaModel, traffic: Traffic) -> SteadyBatch | None:
    try:
        return steady_batch(replica, traffic)
    except UnstableError:
        return None


def _closed(replica: ReplicaModel, traffic: Traffic, share: float) -> tuple[float, float, float]:
    """TTFT, TPOT and E2E; infinite where a draw cannot carry the traffic. E2E takes the median TTFT
    with the TPOT at the quantile, which is most of it."""
    steady = _steady(replica, traffic)
    if steady is None:
        return math.inf, math.inf, math.inf
    deviation = steady.tpot_deviation(tpot_slope(replica, steady))
    # No request's step is shorter than that of a batch of its own.
    tpot = max(lone_step(replica, traffic), steady.tpot + float(ndtri(share)) * deviation)
    return (
        steady.ttft(share),
        tpot,
        steady.ttft(0.5) + max(0.0, traffic.output_tokens - 1.0) * tpot,
    )


def _closed_estimate(values: NDArray[np.float64]) -> Estimate:
    low, high = (float(np.quantile(values, one, method="nearest")) for one in (0.05, 0.95))
    middle = float(values[0])
    return Estimate(
        low=min(low, middle) * (1.0 - CLOSED_ERROR),
        expected=middle,
        high=max(high, middle) * (1.0 + CLOSED_ERROR),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Study:
    """Replays of one traffic."""

    traffic: Traffic
    share: float
    replicas: int
    requests: int

    def performance(
        self, replica: ReplicaModel, doubt: Sequence[ReplicaModel], seed: int
    ) -> ServingPerformance:
        rows = np.array([self._replayed(replica, seed + one) for one in range(SEEDS)])
        middle = rows.mean(axis=0)
        others = [self._replayed(one, seed + SEEDS + place) for place, one in enumerate(doubt)]
        # The spread of one replay, whether it comes from the seed or from the replica's doubt.
        logs = np.log(np.array([*rows, *others])[:, :3])
        reach = np.exp(float(stdtrit(len(logs) - 1, 0.95)) * logs.std(axis=0, ddof=1))
        ttft, tpot, e2e = (
            Estimate(
                low=float(middle[index] / reach[index]),
                expected=float(middle[index]),
                high=float(middle[index] * reach[index]),
            )
            for index in range(3)
        )
        each = self.traffic.arrivals_per_second / self.replicas
        return ServingPerformance(
            share=self.share,
            ttft=ttft,
            tpot=tpot,
            e2e=e2e,
            utilisation=float(middle[3]),
            simulated=True,
            stable=each < capacity(replica, self.traffic),
            requests=self.requests,
        )

    def _replayed(self, replica: ReplicaModel, seed: int) -> tuple[float, float, float, float]:
        """Quantiles of TTFT, TPOT and E2E, and the utilisation, of one replay. Drawn requests that
        the replica's cache could never hold are left out, as an engine refuses them."""
        most = replica.kv_tokens // BLOCK_TOKENS * BLOCK_TOKENS
        arrivals = [
            one
            for one in draw_arrivals(self.traffic, self.requests, seed=seed)
            if one.prompt_tokens + one.output_tokens <= most
        ]
        if not arrivals:
            raise ValueError(
                f"none of {self.requests} requests fits in the replica's KV cache of "
                f"{replica.kv_tokens} tokens; shorten them or give the replica more memory"
            )
        served = replay_fleet([replica] * self.replicas, arrivals)
        felt = latencies(served[len(served) // 10 :])
        spent = max(one.last_token for one in served) - served[0].arrival.at
        busy = sum(busy_micros(served, place) for place in range(self.replicas))
        ttft, tpot, e2e = (
            float(max(1, quantile(one, self.share))) for one in (felt.ttft, felt.tpot, felt.e2e)
        )
        return ttft, tpot, e2e, busy / (self.replicas * spent)


def draw_arrivals(traffic: Traffic, count: int, *, seed: int) -> tuple[Arrival, ...]:
    """Arrivals of that traffic: gamma gaps, log-normal lengths of one token at least."""
    draw = np.random.default_rng(seed)
    shape = traffic.arrival_cv**-2
    gaps = draw.gamma(shape, 1e6 / (traffic.arrivals_per_second * shape), count)
    moments = np.cumsum(gaps).astype(np.int64)
    prompts = _lengths(draw, traffic.prompt_tokens, traffic.length_cv, count)
    outputs = _lengths(draw, traffic.output_tokens, traffic.length_cv, count)
    return tuple(
        Arrival(Micros(int(at)), int(prompt), int(output))
        for at, prompt, output in zip(moments, prompts, outputs, strict=True)
    )


def _lengths(draw: np.random.Generator, mean: float, cv: float, count: int) -> NDArray[np.int64]:
    spread = math.sqrt(math.log1p(cv * cv))
    lengths = mean * np.exp(spread * draw.normal(size=count) - spread * spread / 2.0)
    return np.maximum(1, np.rint(lengths)).astype(np.int64)
