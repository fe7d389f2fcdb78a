"""A fleet is replayed request by request, because a capacity model says nothing about tails."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from meted.domain.units import Micros
from meted.policy.fleet.columns import Column
from meted.policy.fleet.routing import Routed, route
from meted.policy.fleet.traffic import Period, lengthened, stretched
from meted.policy.fleet.wish import LatencyLimit, Metric
from meted.predict.batching import BLOCK_TOKENS, Arrival
from meted.predict.replay import Latencies, latencies, replay
from meted.predict.replica import ReplicaModel

SPAN = 300
EACH = 40
"""A replay lasts this many seconds of traffic at least and brings each replica this many requests;
a shorter sample is repeated."""

FIRST = 2_500
HOPELESS = 3.0
"""A fleet that breaks a limit this many times as often as it may in its first requests is not
replayed to the end."""


Replay = Callable[[ReplicaModel, Sequence[Arrival]], Latencies]
"""What the requests of one replica feel, in their order."""


def replay_requests(replica: ReplicaModel, arrivals: Sequence[Arrival]) -> Latencies:
    """Latencies on one replica; infinite for a request that its KV cache could never hold."""
    most = replica.kv_tokens // BLOCK_TOKENS * BLOCK_TOKENS
    fits = np.array([one.prompt_tokens + one.output_tokens <= most for one in arrivals])
    held = [one for one, fit in zip(arrivals, fits, strict=True) if fit]
    felt = latencies(replay(replica, held))
    if len(held) == len(arrivals):
        return felt

    def spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.full(len(arrivals), np.inf)
        whole[fits] = values
        return whole

    return Latencies(ttft=spread(felt.ttft), tpot=spread(felt.tpot), e2e=spread(felt.e2e))


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodCheck:
    """What one period's replay showed. attained, attainment: by limit. failing: columns whose own
    requests break a limit more often than it allows, with how many times as often.
    shares: by column, of each class the part it served."""

    attained: tuple[Micros, ...]
    attainment: tuple[float, ...]
    holds: tuple[bool, ...]
    failing: tuple[tuple[int, float], ...]
    shares: tuple[tuple[float, ...], ...]
    requests: int


@dataclass(slots=True)
class Checker:
    """Replays fleets of one wish; a fleet that was seen before is not replayed again. margin: how
    much denser than the period's traffic the replayed one is. requests: in each replay at least."""

    columns: tuple[Column, ...]
    limits: tuple[LatencyLimit, ...]
    sample: tuple[Arrival, ...]
    replay: Replay = replay_requests
    margin: float = 0.0
    requests: int = 8_000
    tried: int = 0
    _seen: dict[tuple[Period, tuple[int, ...]], PeriodCheck] = field(
        default_factory=dict[tuple[Period, tuple[int, ...]], PeriodCheck]
    )

    def check(self, period: Period, replicas: tuple[int, ...]) -> PeriodCheck:
        """The period's requests through `replicas`, by column (spot spare already taken off)."""
        key = period, replicas
        if key not in self._seen:
            self.tried += 1
            self._seen[key] = self._check(period, replicas)
        return self._seen[key]

    def _check(self, period: Period, replicas: tuple[int, ...]) -> PeriodCheck:
        """A first part alone where it already fails beyond doubt, else the whole sample."""
        arrivals = self._arrivals(period, sum(replicas))
        first = arrivals[: max(FIRST, EACH * sum(replicas))]
        if len(first) < len(arrivals) / 2:
            found = self._judge(period, replicas, first)
            if any(times > HOPELESS for _, times in found.failing):
                return found
        return self._judge(period, replicas, arrivals)

    def _judge(
        self, period: Period, replicas: tuple[int, ...], arrivals: Sequence[Arrival]
    ) -> PeriodCheck:
        routed = route(
            columns=self.columns, replicas=replicas, arrivals=arrivals, buckets=period.buckets
        )
        felt: dict[int, list[Latencies]] = {}
        for (number, _), places in routed.places.items():
            replica = self.columns[number].replica
            assert replica is not None, "a column that is replayed has a replica"
            if places:
                felt.setdefault(number, []).append(
                    self.replay(replica, [arrivals[place] for place in places])
                )
        return _judged(
            self.limits,
            {number: _joined(parts) for number, parts in felt.items()},
            shares=_shares(routed, columns=len(self.columns), buckets=len(period.buckets)),
        )

    def _arrivals(self, period: Period, replicas: int) -> tuple[Arrival, ...]:
        rate = period.arrivals_per_second * (1 + self.margin)
        count = max(self.requests, round(SPAN * rate), EACH * replicas)
        return stretched(lengthened(self.sample, count)[:count], rate)


def _of(felt: Latencies, metric: Metric) -> NDArray[np.float64]:
    if metric is Metric.TTFT:
        return felt.ttft
    if metric is Metric.E2E:
        return felt.e2e
    return felt.tpot[~np.isnan(felt.tpot)]


def _joined(parts: Sequence[Latencies]) -> Latencies:
    return Latencies(
        ttft=np.concatenate([one.ttft for one in parts]),
        tpot=np.concatenate([one.tpot for one in parts]),
        e2e=np.concatenate([one.e2e for one in parts]),
    )


def _shares(routed: Routed, *, columns: int, buckets: int) -> tuple[tuple[float, ...], ...]:
    """Of each class the part that each column served."""
    counts = np.zeros((columns, buckets))
    classes = np.array(routed.buckets, dtype=np.int64)
    for (number, _), places in routed.places.items():
        counts[number] += np.bincount(classes[places], minlength=buckets)
    shares = counts / np.maximum(1.0, counts.sum(axis=0))
    return tuple(tuple(float(one) for one in row) for row in shares)


def _judged(
    limits: Sequence[LatencyLimit],
    felt: dict[int, Latencies],
    *,
    shares: tuple[tuple[float, ...], ...],
) -> PeriodCheck:
    everyone = _joined(list(felt.values()))
    failing: dict[int, float] = {}
    verdicts = [_verdict(limit, everyone) for limit in limits]
    for limit, (_, _, excess) in zip(limits, verdicts, strict=True):
        if excess <= 1.0:
            continue
        for number, one in felt.items():
            own = _verdict(limit, one)[2]
            if own > 1.0:
                failing[number] = max(own, failing.get(number, 1.0))
    return PeriodCheck(
        attained=tuple(Micros(round(attained)) for attained, _, _ in verdicts),
        attainment=tuple(inside for _, inside, _ in verdicts),
        holds=tuple(excess <= 1.0 for _, _, excess in verdicts),
        failing=tuple(sorted(failing.items())),
        shares=shares,
        requests=len(everyone.ttft),
    )


def _verdict(limit: LatencyLimit, felt: Latencies) -> tuple[float, float, float]:
    """What was attained, the share of requests inside, and how many times too much was outside."""
    values = _of(felt, limit.metric)
    if not len(values):
        return 0.0, 1.0, 0.0
    inside = float(np.mean(values <= limit.micros))
    if limit.quantile is None:
        attained = float(values.mean())
        return attained, inside, attained / limit.micros
    attained = float(np.quantile(values, limit.quantile, method="higher"))
    return (
        attained,
        inside,
        0.0
        if attained <= limit.micros
        else max(1.0 + 1e-9, (1.0 - inside) / (1.0 - limit.quantile)),
    )
