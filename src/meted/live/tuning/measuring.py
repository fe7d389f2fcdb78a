"""One measurement of a search: so much of the recorded traffic on one configuration."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from meted.domain.configuration import Configuration
from meted.domain.units import Micros, NanoUSD
from meted.live.host import Host
from meted.live.tuning.recorded import Recorded
from meted.live.tuning.replay import MeasuringError, Replayed, replay
from meted.optimise.search_values import Measured
from meted.predict.request_work import request_micros
from meted.predict.step_time import DEVICE_PRIOR

LEAST_REQUESTS = 3
MOST_OTHERS = 0.15
BEAT_S = 0.1
MOST_STOOD_S = 0.5
SHARE = 0.95
NANOS_PER_HOUR = 3.6e12


@dataclass(slots=True, kw_only=True)
class Measurer:
    """Measures configurations on a pool's cores, each on the same requests in the same order.

    A configuration's measurements go through the traffic one after the other, so that equal effort
    means equal requests. Cost is device time times the pool's price, for each million tokens of
    the traffic's mix: parts with longer prompts are weighed by what one reference step model says
    of them. What measuring costs is the whole of what the cores were held for, loading too.

    price: nano-USD for an hour of a device. mind: called some times a second meanwhile; what it
    raises ends the measurement, and while it waits the measurement stands still. most_others: the
    share of the cores that others may use before a number is doubted.
    """

    host: Host
    checkpoints: Path
    traffic: Sequence[Recorded]
    devices: tuple[int, ...]
    price: NanoUSD
    mind: Callable[[], None] = lambda: None
    most_others: float = MOST_OTHERS
    log: list[tuple[str, float, Replayed]] = field(
        default_factory=list[tuple[str, float, Replayed]]
    )
    others: float = 0.0
    """Share of the cores that other processes used during the last measurement."""
    stood: float = 0.0
    """Seconds of the last measurement, the longest in a row, that this process stood still."""
    _done: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        if len(self.traffic) < LEAST_REQUESTS:
            raise ValueError(
                f"the traffic has {len(self.traffic)} requests, expected {LEAST_REQUESTS} or more"
            )

    @property
    def disturbed(self) -> bool:
        """Whether the last measurement says little, because others were busy or it stood still."""
        return self.others > self.most_others or self.stood > MOST_STOOD_S

    def resume(self, told: Sequence[Measured]) -> None:
        """Go on after these measurements: each configuration with the requests that come next."""
        for one in told:
            count = self._count(one.effort)
            self._done[one.key] = (self._done.get(one.key, 0) + count) % len(self.traffic)

    async def measure(self, configuration: Configuration, effort: float) -> Measured:
        """effort: share of the traffic, 0 to 1. A configuration that fails is refused with why."""
        key = str(configuration)
        begin = self._done.get(key, 0)
        count = self._count(effort)
        part = self._part(begin, count)
        self._done[key] = (begin + count) % len(self.traffic)
        busy, self.others = _busy_nanos(), 0.0
        try:
            found = await self._minded(
                replay(
                    self.host,
                    configuration,
                    part,
                    checkpoints=self.checkpoints,
                    devices=self.devices,
                )
            )
        except MeasuringError as error:
            return Measured(key=key, effort=effort, cost=None, refused=str(error))
        self.log.append((key, effort, found))
        foreign = _busy_nanos() - busy - found.nanos - found.load_nanos
        self.others = foreign / self._held(found)
        rejected = [one.rejected for one in found.requests if one.rejected]
        spent = NanoUSD(round(self.nano_usd(self._held(found))))
        if rejected:
            told = f"{len(rejected)} of {len(part)} requests were rejected: {rejected[0]}"
            return Measured(key=key, effort=effort, cost=None, spent=spent, refused=told)
        later = [one.tpot_s for one in found.requests if one.tpot_s is not None]
        return Measured(
            key=key,
            effort=min(1.0, count / len(self.traffic)),
            cost=self.usd_per_million(found, part),
            ttft_p95_s=_quantile([one.ttft_s for one in found.requests]),
            tpot_p95_s=_quantile(later) if later else None,
            spent=spent,
        )

    def usd_per_million(self, found: Replayed, part: Sequence[Recorded]) -> float:
        """Dollars per million tokens, carried from the part's mix to the whole traffic's."""
        whole = reference_micros(self.traffic) / tokens(self.traffic)
        return self.nano_usd(found.nanos / reference_micros(part) * whole) / 1e9 * 1e6

    def nano_usd(self, device_nanos: float) -> float:
        return device_nanos / NANOS_PER_HOUR * self.price

    async def _minded(self, work: Coroutine[Any, Any, Replayed]) -> Replayed:
        """Await a replay, with `mind` meanwhile; notices when this process did not run."""
        task = asyncio.ensure_future(work)
        self.stood, beat = 0.0, time.monotonic()
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=BEAT_S)
                self.mind()
                now = time.monotonic()
                self.stood, beat = max(self.stood, now - beat - BEAT_S), now
        finally:
            task.cancel()
            await asyncio.wait({task})
        return task.result()

    def _count(self, effort: float) -> int:
        return max(LEAST_REQUESTS, round(effort * len(self.traffic)))

    def _held(self, found: Replayed) -> float:
        """Device-nanoseconds for which the cores were this measurement's."""
        return (found.load_s + found.seconds) * 1e9 * len(self.devices)

    def _part(self, begin: int, count: int) -> list[Recorded]:
        """Requests from one on, around the end, the first of them at moment 0."""
        size = len(self.traffic)
        turn = self.traffic[-1].at + self.traffic[-1].at // max(1, size - 1)
        chosen = [
            replace(
                self.traffic[place % size],
                at=Micros(self.traffic[place % size].at + place // size * turn),
            )
            for place in range(begin, begin + count)
        ]
        first = chosen[0].at
        return [replace(one, at=Micros(one.at - first)) for one in chosen]


def tokens(requests: Sequence[Recorded]) -> int:
    """Prompt and generated tokens together."""
    return sum(one.prompt_tokens + one.output_tokens for one in requests)


def reference_micros(requests: Sequence[Recorded]) -> float:
    """Device time of requests by one step model that is the same for all configurations: each
    token's part only. It tells how much dearer one mix of requests is than another."""
    return sum(
        request_micros(
            DEVICE_PRIOR,
            prompt_tokens=one.prompt_tokens,
            output_tokens=one.output_tokens,
            cached_tokens=one.cached_tokens,
        )
        for one in requests
    )


def _busy_nanos() -> float:
    """Processor time that all processes of this machine have used, in nanoseconds."""
    times = psutil.cpu_times()
    return (sum(times) - times.idle - getattr(times, "iowait", 0.0)) * 1e9


def _quantile(values: Sequence[float]) -> float:
    return float(np.quantile(np.array(values), SHARE, method="inverted_cdf"))
