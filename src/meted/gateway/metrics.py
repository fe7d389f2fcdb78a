"""Prometheus metrics under the names that other tools look for; budgets are named, no tenant is."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from prometheus_client import exposition
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.exposition import ALLOWUTF8
from prometheus_client.registry import Collector, CollectorRegistry

from meted import __version__
from meted.domain.request import Outcome
from meted.domain.units import MICROS_PER_SECOND, NANOS_PER_SECOND
from meted.live.doors import Doors, Finish

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_openmetrics = cast(
    Callable[[CollectorRegistry, str, str], bytes],
    openmetrics.generate_latest,  # pyright: ignore[reportUnknownMemberType]
)
FINISHES_PER_READ = 64
FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75)
SLOW_S = (1.0, 1.5, 2.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0)
TIMES = {
    "vllm:time_to_first_token_seconds": "Time from arrival to the first token.",
    "vllm:inter_token_latency_seconds": "Time between tokens of one request.",
    "vllm:e2e_request_latency_seconds": "Time from arrival to the end.",
    "vllm:request_queue_time_seconds": "Time from arrival to the engine.",
}


class Histogram:
    """Observations in microseconds, exact, counted by bucket without a lock."""

    _bounds_us = tuple(round(bound * MICROS_PER_SECOND) for bound in FAST_S + SLOW_S)

    def __init__(self) -> None:
        self._counts = [0] * (len(self._bounds_us) + 1)
        self._sum_us = 0

    def observe(self, times_us: Iterable[int]) -> None:
        for time_us in times_us:
            self._counts[bisect_left(self._bounds_us, time_us)] += 1
            self._sum_us += time_us

    @property
    def sum_s(self) -> float:
        return self._sum_us / MICROS_PER_SECOND

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound and cumulative count, as Prometheus wants them."""
        total = 0
        rows: list[tuple[str, float]] = []
        for bound, count in zip((*FAST_S, *SLOW_S, "+Inf"), self._counts, strict=True):
            total += count
            rows.append((str(bound), total))
        return rows


class Metrics(Collector):
    """All that /metrics says: gauges asked of the house, histograms kept from ended requests."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._ended = 0
        self._histograms: dict[tuple[str, str], Histogram] = {}
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._successes: Counter[tuple[str, str]] = Counter()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def request_ended(self) -> None:
        """Count a request; now and then fetch the finishes, so that they do not pile up."""
        self._ended += 1
        if self._ended % FINISHES_PER_READ == 0:
            self._take_finishes()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that the Accept header asks for, and its content type."""
        if "application/openmetrics-text" in accept:
            # Colons are legal names; the client library would escape them in the samples alone.
            return _openmetrics(self._registry, ALLOWUTF8, "1.0.0"), OPENMETRICS
        return exposition.generate_latest(self._registry), exposition.CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterable[Metric]:
        self._take_finishes()
        yield from self._deployments()
        yield from self._times()
        yield from self._requests()
        yield from self._budgets()
        yield from self._house()

    def _take_finishes(self) -> None:
        for finish in self._doors.take_finishes():
            self._outcomes[finish.deployment, finish.outcome.value] += 1
            if finish.outcome is Outcome.DONE and finish.finish_reason is not None:
                self._successes[finish.finish_reason.value, finish.deployment] += 1
            for name, times_us in _times_of(finish):
                self._histogram(name, finish.deployment).observe(times_us)

    def _histogram(self, name: str, deployment: str) -> Histogram:
        return self._histograms.setdefault((name, deployment), Histogram())

    def _deployments(self) -> Iterable[Metric]:
        label = ["model_name"]
        running = GaugeMetricFamily(
            "vllm:num_requests_running", "Requests in the engines.", labels=label
        )
        waiting = GaugeMetricFamily(
            "vllm:num_requests_waiting", "Requests in the queue.", labels=label
        )
        cache = GaugeMetricFamily(
            "vllm:kv_cache_usage_perc", "Used share of the KV cache, 0 to 1.", labels=label
        )
        prompt = CounterMetricFamily("vllm:prompt_tokens", "Tokens of prompts.", labels=label)
        cached = CounterMetricFamily(
            "meted_cached_tokens", "Tokens of prompts found in the prefix cache.", labels=label
        )
        drifts = CounterMetricFamily(
            "meted_prediction_drifts",
            "Alarms that steps are no longer as predicted.",
            labels=label,
        )
        suspicion = GaugeMetricFamily(
            "meted_prediction_suspicion", "How near the next such alarm is, 0 to 1.", labels=label
        )
        generated = CounterMetricFamily("vllm:generation_tokens", "Tokens generated.", labels=label)
        for one in self._doors.gauges():
            running.add_metric([one.name], one.running)
            waiting.add_metric([one.name], one.waiting)
            cache.add_metric([one.name], one.cache_usage)
            prompt.add_metric([one.name], one.prompt_tokens)
            cached.add_metric([one.name], one.cached_tokens)
            generated.add_metric([one.name], one.completion_tokens)
            drifts.add_metric([one.name], one.drift_alarms)
            suspicion.add_metric([one.name], one.drift_suspicion)
            for name in TIMES:
                self._histogram(name, one.name)
        return (running, waiting, cache, prompt, cached, generated, drifts, suspicion)

    def _times(self) -> Iterable[Metric]:
        for name, meaning in TIMES.items():
            family = HistogramMetricFamily(name, meaning, labels=["model_name"])
            for (measured, deployment), histogram in self._histograms.items():
                if measured == name:
                    family.add_metric([deployment], histogram.buckets(), histogram.sum_s)
            yield family

    def _requests(self) -> Iterable[Metric]:
        success = CounterMetricFamily(
            "vllm:request_success",
            "Requests done, by why they ended.",
            labels=["finished_reason", "model_name"],
        )
        for labels, count in self._successes.items():
            success.add_metric(labels, count)
        every = CounterMetricFamily(
            "meted_requests", "Requests ended, by outcome.", labels=["model_name", "outcome"]
        )
        for labels, count in self._outcomes.items():
            every.add_metric(labels, count)
        return (success, every)

    def _budgets(self) -> Iterable[Metric]:
        label = ["budget"]
        limit = GaugeMetricFamily("meted_budget_limit_usd", "Limit of a budget.", labels=label)
        spent = GaugeMetricFamily(
            "meted_budget_spent_usd", "Charged in its current window.", labels=label
        )
        reserved = GaugeMetricFamily(
            "meted_budget_reserved_usd", "Set aside for what runs now.", labels=label
        )
        refusals = CounterMetricFamily(
            "meted_budget_refusals", "Requests refused for want of its money.", labels=label
        )
        alerts = CounterMetricFamily(
            "meted_budget_alerts", "Thresholds crossed, once in each window.", labels=label
        )
        for one in self._doors.budget_gauges():
            limit.add_metric([one.name], one.limit / NANOS_PER_SECOND)
            spent.add_metric([one.name], one.spent / NANOS_PER_SECOND)
            reserved.add_metric([one.name], one.reserved / NANOS_PER_SECOND)
            refusals.add_metric([one.name], one.refusals)
            alerts.add_metric([one.name], one.alerts)
        return (limit, spent, reserved, refusals, alerts)

    def _house(self) -> Iterable[Metric]:
        seconds = CounterMetricFamily(
            "meted_device_seconds", "Device time by kind of the books.", labels=["kind"]
        )
        dollars = CounterMetricFamily(
            "meted_cost_usd", "Cost by kind; `meted bill` has it exactly.", labels=["kind"]
        )
        for kind, (device_nanos, cost) in self._doors.usage_totals().items():
            seconds.add_metric([kind], device_nanos / NANOS_PER_SECOND)
            dollars.add_metric([kind], cost / NANOS_PER_SECOND)
        ready = GaugeMetricFamily("meted_ready", "1 when the house takes requests.")
        ready.add_metric([], int(self._doors.ready()))
        build = GaugeMetricFamily("meted_build_info", "The running version.", labels=["version"])
        build.add_metric([__version__], 1)
        return (seconds, dollars, ready, build)


def _times_of(finish: Finish) -> Sequence[tuple[str, Sequence[int]]]:
    first, gap, whole, queue = TIMES
    return (
        (first, () if finish.ttft_us is None else (finish.ttft_us,)),
        (gap, finish.inter_token_us),
        (whole, (finish.e2e_us,)),
        (queue, () if finish.queue_us is None else (finish.queue_us,)),
    )
