"""What a deployment's clients want, as the policy will see it: counted on the hot path."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from meted.domain.allocation import DeploymentDemand, Harvest, ReplicaOption
from meted.domain.deployment import Deployment
from meted.domain.step import TokenWork
from meted.domain.units import NANOS_PER_MICRO, DeviceNanos, Micros, TenantName
from meted.predict.arrivals import ArrivalForecast
from meted.predict.drift import Drift
from meted.predict.serving import (
    PRIOR_SLOWDOWN,
    Load,
    Slowdown,
    predict_serving,
    service_seconds,
    utilisation,
)
from meted.predict.step_time import (
    DEVICE_PRIOR,
    FittedCost,
    StepCost,
    StepTimeFit,
    StepWork,
    scaled,
    work_of,
)
from meted.predict.watched_fit import WatchedFit

FORGET = 0.05
"""Weight of the newest request in the running means of prompt and answer length."""
SLOWDOWN_FORGET = 0.02
FULL_TRUST = 100
"""Steps after which a measured slowdown counts fully against its prior."""
CHUNK_TOKENS = 256
KEPT_STEPS = 512
UNDISTURBED = 0.85
"""Share of a step for which an engine with its cores to itself keeps them busy: OpenVINO 0.97 and
more, beside one other process on two cores 0.5 to 0.87 (2 AMX cores, 2026-11-26)."""
RECENT_US = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSeen:
    """A drift of a deployment's steps. device_factor: the same of their device time.

    shared: device time grew far less, so that others use the cores; else the engine, a driver or
    the machine has changed.
    """

    drift: Drift
    device_factor: float
    shared: bool

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        cause = (
            "other processes use its cores"
            if self.shared
            else "its engine, a driver or the machine has changed"
        )
        return (
            f"steps take {self.drift.factor:.2f} times what was predicted since about "
            f"{self.drift.steps} steps (device time {self.device_factor:.2f}): {cause}; "
            "the fit begins anew"
        )


class DemandWatch:
    """Arrivals, lengths, step times and latencies of one deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._arrivals = 0
        self._last_arrival: Micros | None = None
        self._forecast = ArrivalForecast()
        self._prompt = 128.0
        self._output = 64.0
        self._tokens = 0
        self._tokens_per_second = 0.0
        self._steps = WatchedFit()
        self._device = StepTimeFit(prior=DEVICE_PRIOR)
        self._drifts: list[DriftSeen] = []
        self._threads: int | None = None
        self._undisturbed: deque[tuple[StepWork, float]] = deque(maxlen=KEPT_STEPS)
        self.disturbed = 0
        """Steps during which the engine's threads waited for a core, while nothing trained."""
        self._slowdown: dict[Harvest, tuple[float, int]] = {}
        self._last_departure: Micros | None = None
        self._seen_requests = False
        self.harvest = Harvest.NONE
        self.kind = "cpu-core"
        self.load = Micros(0)
        """From the start of its last replica until it was ready."""
        self.seconds_per_request = 1.0
        self.ttft: deque[tuple[Micros, int]] = deque(maxlen=2048)
        self.tpot: deque[tuple[Micros, int]] = deque(maxlen=2048)
        self.departures: deque[Micros] = deque(maxlen=4096)

    @property
    def cost(self) -> StepCost:
        """The fitted wall time of a step: it predicts latencies."""
        return self._steps.cost

    @property
    def device_cost(self) -> StepCost:
        """The fitted device time of a step: it splits what the replica's clock says.

        Apart from the wall time, which other processes and the operating system lengthen.
        """
        return self._device.cost

    def believe(self, cost: StepCost, *, deviation: float, threads: int) -> None:
        """Begin with a predicted step time instead of a guess; ignored once steps were measured.

        deviation: of its log. threads: the engine keeps all of them busy through a step.
        """
        self._threads = threads
        if self._steps.samples:
            return
        self._steps = WatchedFit(prior=cost, deviation=deviation)
        self._device = StepTimeFit(prior=_costing_something(scaled(cost, threads)))

    @property
    def fitted(self) -> FittedCost:
        """The fitted wall time with its doubt."""
        return self._steps.fitted()

    @property
    def samples(self) -> int:
        """Steps that the fit of wall time has seen since it last began."""
        return self._steps.samples

    @property
    def suspicion(self) -> float:
        """How near the next drift alarm is, 0 to 1."""
        return self._steps.suspicion

    @property
    def drifts(self) -> int:
        """Drift alarms so far."""
        return self._steps.drifts

    @property
    def undisturbed(self) -> Sequence[tuple[StepWork, float]]:
        """The last steps, and their microseconds, for which the engine had its cores to itself."""
        return list(self._undisturbed)

    def recent_steps(self, count: int) -> Sequence[tuple[StepWork, float]]:
        """The last steps that the fit of wall time has seen, and their microseconds."""
        return self._steps.last(count)

    def take_drifts(self) -> "Sequence[DriftSeen]":
        """Drift alarms since the last call."""
        drifts, self._drifts = self._drifts, []
        return drifts

    def slowdowns(self) -> dict[Harvest, tuple[float, float, int]]:
        """For each way of harvesting that was met: step time over that alone as predicted before
        anything was measured, as measured, and the steps behind it."""
        return {
            level: (PRIOR_SLOWDOWN[level], mean, samples)
            for level, (mean, samples) in self._slowdown.items()
        }

    def arrived(self, now: Micros, count: int = 1) -> None:
        """So many requests came, the last of them now."""
        self._arrivals += count
        self._last_arrival = now

    def stepped(
        self,
        shares: Sequence[TokenWork],
        duration_us: int,
        device_nanos: DeviceNanos | None = None,
    ) -> None:
        """One engine step was measured, beside whatever training did meanwhile."""
        work = work_of(shares)
        self.computed(work, duration_us, device_nanos)
        self.generated(work.decode_tokens)

    def generated(self, tokens: int) -> None:
        """So many tokens were generated."""
        self._tokens += tokens

    def computed(
        self,
        work: StepWork,
        duration_us: float,
        device_nanos: DeviceNanos | None = None,
        *,
        steps: int = 1,
    ) -> None:
        """`steps` engine steps alike, one after the other, each of this work and duration.

        They count one by one, but for the fit, which learns nothing from a step that is repeated.
        """
        if device_nanos is not None:
            self._device.observe(work, device_nanos / NANOS_PER_MICRO)
        if self.harvest in (Harvest.NONE, Harvest.GAPS) or self._steps.samples < 32:
            self._sort_out(work, duration_us, device_nanos)
            drift = self._steps.observe(work, duration_us)
            if drift is not None:
                self._drifted(drift)
        self._watch_slowdown(work, duration_us, steps)

    def _sort_out(
        self, work: StepWork, duration_us: float, device_nanos: DeviceNanos | None
    ) -> None:
        """An engine that keeps its threads busy and got less device time than that shared its
        cores: such a step tells nothing of the machine."""
        if self._threads is None or device_nanos is None:
            return
        due = UNDISTURBED * self._threads * duration_us * NANOS_PER_MICRO
        if device_nanos >= due:
            self._undisturbed.append((work, float(max(1, duration_us))))
        else:
            self.disturbed += 1

    def _drifted(self, drift: Drift) -> None:
        """Device time tells an engine that became slower from cores that others take."""
        rows = self._device.last(drift.steps)
        device = float(np.median(np.exp(self._device.fitted().residuals(rows)))) if len(rows) else 1
        moved, device_moved = math.log(drift.factor), math.log(device)
        shared = moved > 0 and device_moved < moved / 2
        while len(self._undisturbed) > drift.steps:
            self._undisturbed.popleft()
        self._drifts.append(DriftSeen(drift=drift, device_factor=device, shared=shared))

    def _watch_slowdown(self, work: StepWork, duration_us: float, steps: int) -> None:
        ratio = min(10.0, duration_us / max(1.0, self.cost.micros(work)))
        mean, samples = self._slowdown.get(self.harvest, (ratio, 0))
        weight = max(SLOWDOWN_FORGET, 1 / (samples + 1))
        if steps > 1:
            weight = 1 - _kept(samples, steps)
        self._slowdown[self.harvest] = (mean + weight * (ratio - mean), samples + steps)

    def first_token(self, ttft_us: int, now: Micros) -> None:
        """A request got its first token."""
        self.ttft.append((now, ttft_us))

    def done(
        self,
        gaps: Sequence[Micros],
        now: Micros,
        *,
        prefill_tokens: int,
        output_tokens: int,
        generated: bool,
    ) -> None:
        """A request was answered to its end. prefill_tokens: those not found in a cache."""
        if self._last_departure is not None:
            between = (now - self._last_departure) / 1e6
            self.seconds_per_request += 0.1 * (between - self.seconds_per_request)
        self._last_departure = now
        self.departures.append(now)
        if generated:
            weight = FORGET if self._seen_requests else 1.0
            self._seen_requests = True
            self._prompt += weight * (prefill_tokens - self._prompt)
            self._output += weight * (output_tokens - self._output)
            if gaps:
                self.tpot.append((now, sum(gaps) // len(gaps)))

    def demand(
        self,
        now: Micros,
        *,
        queued: int,
        running: int,
        replicas: int,
        elapsed_s: float,
        ahead_s: float,
        starting: int = 0,
        draining: int = 0,
        tenant: TenantName = TenantName(""),
        options: tuple[ReplicaOption, ...] | None = None,
    ) -> DeploymentDemand:
        """The demand at the end of a policy interval of `elapsed_s` seconds.

        options: ways to run a replica; None: the one way that was measured here.
        A deployment that never had a request is quiet since it was first seen.
        """
        if self._last_arrival is None:
            self._last_arrival = now
        self._forecast = self._forecast.observe(self._arrivals, elapsed_s)
        self._arrivals = 0
        keep = math.exp2(-elapsed_s / 5)
        self._tokens_per_second = (
            keep * self._tokens_per_second + (1 - keep) * self._tokens / elapsed_s
        )
        self._tokens = 0
        rate = self._forecast.rate(ahead_s)
        rate = 0.0 if rate < 1e-3 else rate
        least, most = self._deployment.bounds
        load = Load(
            arrivals_per_second=rate,
            prompt_tokens=self._prompt,
            output_tokens=max(1.0, self._output),
            chunk_tokens=CHUNK_TOKENS,
        )
        return DeploymentDemand(
            deployment=self._deployment.name,
            replicas=replicas,
            arrivals_per_second=rate,
            queued=queued,
            running=running,
            utilisation=utilisation(self.cost, load),
            tokens_per_second=self._tokens_per_second,
            slo=self._deployment.slo,
            starting=starting,
            draining=draining,
            least=least,
            most=most,
            quiet=Micros(now - self._last_arrival),
            tenant=tenant,
            options=(self._option(load),) if options is None else options,
            predicted=tuple(
                predict_serving(self.cost, load, self._slow(level))
                for level in (Harvest.NONE, Harvest.GAPS, Harvest.IDLE)
            ),
        )

    def _option(self, load: Load) -> ReplicaOption:
        """A replica as it runs here: what it answers at most with a full batch."""
        seconds = service_seconds(self.cost, load, self._deployment.max_batch)
        return ReplicaOption(
            kind=self.kind,
            devices=self._threads or 1,
            requests_per_second=1 / max(1e-6, seconds),
            load=self.load,
        )

    def _slow(self, level: Harvest) -> Slowdown:
        """Measured slowdown, mixed with the prior while there are few samples."""
        prior = PRIOR_SLOWDOWN[level]
        mean, samples = self._slowdown.get(level, (prior, 0))
        trust = min(1.0, samples / FULL_TRUST)
        factor = trust * max(1.0, mean) + (1 - trust) * prior
        return Slowdown(harvest=level, factor=factor, samples=samples)


def _kept(samples: int, steps: int) -> float:
    """What a slowdown's mean of `samples` steps still weighs after so many more.

    Step n weighs 1 / n until that is SLOWDOWN_FORGET: the weights that are left multiply to a
    fraction up to there, and to a power after.
    """
    even = max(samples, min(samples + steps, round(1 / SLOWDOWN_FORGET)))
    fading = (1 - SLOWDOWN_FORGET) ** (samples + steps - even)
    return (samples / even if even else 1.0) * fading


def _costing_something(cost: StepCost) -> StepCost:
    """Device time that some unit of work does not cost would be split without it."""
    return replace(
        cost,
        decode=max(cost.decode, 1e-3 * cost.fixed),
        context=max(cost.context, 1e-6 * cost.fixed),
        prefill=max(cost.prefill, 1e-3 * cost.fixed),
        attention=max(cost.attention, 1e-7 * cost.fixed),
    )
