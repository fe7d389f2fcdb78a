"""Closed forms of waiting, where they hold; where they do not, a replay tells."""

import math
from dataclasses import dataclass

import numpy as np

from meted.domain.units import Micros
from meted.predict.batching import Arrival
from meted.predict.estimate import Estimate
from meted.predict.replay import latencies, quantile, replay_fleet
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepWork

CALM = 0.3
"""Part of the largest batch up to which the mean says enough about a stream whose lengths and gaps
vary: there TPOT's median is within 5 % of a replay's (docs/predict/queueing.md)."""


class UnstableError(ValueError):
    """More comes than can be served: the queue grows without end."""


def _stable(load: float) -> None:
    if load < 0:
        raise ValueError(f"the load is {load:g}, expected 0 or more")
    if load >= 1:
        raise UnstableError(
            f"the load is {load:g}, expected below 1; add servers or send less, or the queue grows "
            "without end"
        )


def erlang_c(servers: int, offered: float) -> float:
    """Chance that an arrival has to wait in M/M/c (Erlang 1917). offered: arrival rate times mean
    service time. By the recurrence of Erlang B, which does not overflow.

    Raises UnstableError at a load of 1 or more.
    """
    if servers < 1:
        raise ValueError(f"there are {servers} servers, expected 1 or more")
    _stable(offered / servers)
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def mmc_wait(servers: int, rate: float, service_s: float) -> float:
    """Mean wait in seconds in M/M/c."""
    offered = rate * service_s
    return erlang_c(servers, offered) * service_s / (servers - offered)


def mmc_wait_quantile(servers: int, rate: float, service_s: float, share: float) -> float:
    """The wait in seconds that `share` of the arrivals do not exceed in M/M/c: the wait is 0 with
    probability 1 - C, and exponential beyond."""
    if not 0 < share < 1:
        raise ValueError(f"a quantile of {share:g} was asked for, expected inside 0 and 1")
    offered = rate * service_s
    waiting = erlang_c(servers, offered)
    if 1 - share >= waiting:
        return 0.0
    return math.log(waiting / (1 - share)) * service_s / (servers - offered)


def mg1_wait(rate: float, service_s: float, variation: float) -> float:
    """Mean wait in seconds in M/G/1 (Pollaczek 1930, Khinchine 1932). variation: the service time's
    deviation over its mean; 0 is M/D/1, 1 is M/M/1."""
    load = rate * service_s
    _stable(load)
    return load * service_s * (1 + variation**2) / (2 * (1 - load))


def kingman_wait(rate: float, service_s: float, arrivals: float, service: float) -> float:
    """Mean wait in seconds in G/G/1, nearly (Kingman 1961). arrivals, service: deviations over
    means of the gaps between arrivals and of the service time."""
    load = rate * service_s
    _stable(load)
    return load / (1 - load) * (arrivals**2 + service**2) / 2 * service_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Requests that come at random. burstiness: deviation over mean of the gaps, 1 for Poisson.
    spread: deviation of the logarithm of the lengths, 0 for equal ones."""

    arrivals_per_second: float
    prompt_tokens: float
    output_tokens: float
    burstiness: float = 1.0
    spread: float = 0.7

    def __post_init__(self) -> None:
        if not (self.arrivals_per_second > 0 and self.burstiness > 0 and self.spread >= 0):
            raise ValueError(
                f"a stream has {self.arrivals_per_second:g} arrivals/s, burstiness "
                f"{self.burstiness:g} and spread {self.spread:g}, expected a rate and a "
                "burstiness above 0 and a spread of 0 or more"
            )
        if self.prompt_tokens < 1 or self.output_tokens < 1:
            raise ValueError(
                f"a stream's requests have {self.prompt_tokens:g} prompt and "
                f"{self.output_tokens:g} output tokens, expected 1 or more"
            )

    def sample(self, count: int, seed: int) -> tuple[Arrival, ...]:
        """Arrivals with gamma-distributed gaps and log-normal lengths around the means."""
        draw = np.random.default_rng(seed)
        shape = 1 / self.burstiness**2
        gaps = draw.gamma(shape, 1e6 / self.arrivals_per_second / shape, count)
        around = -(self.spread**2) / 2
        prompts, outputs = (
            np.maximum(1, np.rint(mean * np.exp(draw.normal(around, self.spread, count))))
            for mean in (self.prompt_tokens, self.output_tokens)
        )
        return tuple(
            Arrival(Micros(int(at)), int(prompt), int(output))
            for at, prompt, output in zip(np.cumsum(gaps), prompts, outputs, strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Where a replica's batch comes to rest under a stream: what comes is what is answered.

    batch: requests in it, in the mean. step_micros: of a decode step with its part of prompts.
    busy: share of the time in which it has work, as if requests did not slow each other down
    (M/G/infinity). holds: whether the closed form may be trusted, the batch being far from full.
    """

    batch: float
    step_micros: float
    busy: float
    holds: bool


def balance(replica: ReplicaModel, stream: Stream) -> Balance:
    """The fixed point of batch and step time under equal requests (Little's law).

    A request stays for `output` steps, so the batch is rate * output * step(batch); a step does
    the batch's decoding and the prompts that come in its time. Raises UnstableError where no batch
    that fits carries the stream.
    """
    rate = stream.arrivals_per_second / 1e6
    prompt = max(1.0, stream.prompt_tokens * (1 - replica.prefix_hit))
    context = stream.prompt_tokens + stream.output_tokens / 2
    whole = stream.prompt_tokens + stream.output_tokens
    most = max(1.0, min(float(replica.max_batch), replica.kv_tokens / whole))

    def step(batch: float) -> float:
        """Of a decode step with the prompts that come while it runs, microseconds."""
        plain = replica.step.micros(_work(0, batch, batch * context, 0.0))
        lone = replica.step.micros(_work(0, batch, batch * context, 0.0, prompt=prompt))
        return plain / max(1e-9, 1 - rate * (lone - plain))

    if rate * stream.output_tokens * step(most) > most or step(most) < 0:
        raise UnstableError(
            f"{stream.arrivals_per_second:g} requests/s of {stream.prompt_tokens:g} + "
            f"{stream.output_tokens:g} tokens are more than a replica answers with its largest "
            f"batch of {most:.0f}; add replicas or shorten the requests"
        )
    low, high = 0.0, most
    for _ in range(50):
        middle = (low + high) / 2
        enough = middle >= rate * stream.output_tokens * step(middle)
        low, high = (low, middle) if enough else (middle, high)
    busy = 1 - math.exp(-high)
    return Balance(batch=high, step_micros=step(high), busy=busy, holds=high < CALM * most)


def _work(
    prefill: float, decode: float, context: float, attended: float, *, prompt: float = 0.0
) -> StepWork:
    tokens = round(prefill + prompt)
    return StepWork(
        prefill_tokens=tokens,
        decode_tokens=max(1, round(decode)),
        context_tokens=round(context),
        attended=round(attended + prompt * prompt / 2),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Felt:
    """Quantiles of TTFT, TPOT and E2E in microseconds; the interval is over independent samples."""

    ttft: Estimate
    tpot: Estimate
    e2e: Estimate


def simulate_quantiles(
    replica: ReplicaModel,
    stream: Stream,
    share: float,
    *,
    replicas: int = 1,
    count: int = 3_000,
    samples: int = 5,
    seed: int = 0,
) -> Felt:
    """The quantile `share` of each latency on `replicas` equal replicas, by replays of samples.

    The interval covers the samples' spread: low and high are the lowest and the highest of them.
    """
    found = [
        latencies(replay_fleet([replica] * replicas, stream.sample(count, seed * samples + one)))
        for one in range(samples)
    ]

    def over(values: list[float]) -> Estimate:
        middle = sorted(values)[len(values) // 2]
        return Estimate(low=min(values), expected=middle, high=max(values), level=1 - 2 / samples)

    return Felt(
        ttft=over([float(quantile(one.ttft, share)) for one in found]),
        tpot=over([float(quantile(one.tpot, share)) for one in found]),
        e2e=over([float(quantile(one.e2e, share)) for one in found]),
    )
