"""The last minutes for the page: one point for each closed interval of the books."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from meted.control.demand_watch import DemandWatch
from meted.domain.line import Interval, Kind
from meted.domain.units import MICROS_PER_SECOND, Micros

KEPT_POINTS = 300


class Timeline:
    """Rates, latencies and cores by use, interval by interval."""

    def __init__(self) -> None:
        self._points: deque[dict[str, Any]] = deque(maxlen=KEPT_POINTS)

    @property
    def points(self) -> list[dict[str, Any]]:
        """Oldest first, JSON-ready."""
        return list(self._points)

    def add(self, interval: Interval, watches: Iterable[DemandWatch], now: Micros) -> None:
        """An interval has closed; `now` is its end on the monotonic clock of the watches."""
        length = max(1, interval.ended - interval.started)
        since = Micros(now - length)
        ttft: list[int] = []
        tpot: list[int] = []
        done = 0
        for watch in watches:
            ttft += _since(watch.ttft, since)
            tpot += _since(watch.tpot, since)
            done += sum(1 for at in watch.departures if at > since)
        cores: dict[str, float] = dict.fromkeys(Kind, 0.0)
        for line in interval.lines:
            cores[line.account.kind] += line.device_nanos / (length * 1000)
        self._points.append(
            {
                "at": interval.ended / MICROS_PER_SECOND,
                "requests_per_second": done * MICROS_PER_SECOND / length,
                "ttft_ms_p50": _quantile_ms(ttft, 0.50),
                "ttft_ms_p95": _quantile_ms(ttft, 0.95),
                "tpot_ms_p50": _quantile_ms(tpot, 0.50),
                "tpot_ms_p95": _quantile_ms(tpot, 0.95),
                "cores": cores,
            }
        )


def _since(samples: Iterable[tuple[Micros, int]], since: Micros) -> list[int]:
    return [value for at, value in samples if at > since]


def _quantile_ms(values: Sequence[int], quantile: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(quantile * (len(ordered) - 1)))] / 1000
