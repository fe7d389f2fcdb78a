"""Forecast of arrivals: a level and a trend, exponentially smoothed."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalForecast:
    """Holt's double exponential smoothing of arrivals per second (Holt 1957), damped trend.

    level: arrivals per second now. trend: its change per second. halflife_s: how fast old
    arrivals are forgotten.
    """

    level: float = 0.0
    trend: float = 0.0
    halflife_s: float = 10.0

    def observe(self, arrivals: int, elapsed_s: float) -> "ArrivalForecast":
        """The forecast after an interval of `elapsed_s` seconds in which `arrivals` came."""
        if elapsed_s <= 0:
            raise ValueError(f"an interval of {elapsed_s} s has no rate; expected more than 0")
        keep = math.exp2(-elapsed_s / self.halflife_s)
        rate = arrivals / elapsed_s
        level = keep * (self.level + self.trend * elapsed_s) + (1 - keep) * rate
        slow = math.exp2(-elapsed_s / (3 * self.halflife_s))
        trend = slow * self.trend + (1 - slow) * (level - self.level) / elapsed_s
        return ArrivalForecast(level=max(0.0, level), trend=trend, halflife_s=self.halflife_s)

    def rate(self, ahead_s: float) -> float:
        """Expected arrivals per second `ahead_s` seconds from now, never below 0."""
        reach = min(ahead_s, self.halflife_s)
        return max(0.0, self.level + self.trend * reach)
