"""Arrivals like those of a trace, as long as one wants: of a day's shape, in bursts, or both.

Each process has a function that fits it to moments and one that draws moments; equal seeds draw
equal ones. Moments and spans are in seconds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DAY = 86_400.0
WINDOW = 60.0
"""Seconds over which bursts are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """Independent gaps that are gamma distributed, with a mean of 1 / rate. cv: their deviation
    over their mean; 1 is Poisson, more is bursts."""

    rate: float
    cv: float

    def __post_init__(self) -> None:
        _positive("a renewal process", rate=self.rate, cv=self.cv)


@dataclass(frozen=True, slots=True, kw_only=True)
class Modulated:
    """A Poisson process that changes between two rates (MMPP-2). stay: mean seconds at each."""

    low: float
    high: float
    stay_low: float
    stay_high: float

    def __post_init__(self) -> None:
        _positive("a modulated process", high=self.high, stay_low=self.stay_low,
                  stay_high=self.stay_high)  # fmt: skip
        if not 0 <= self.low <= self.high:
            raise ValueError(f"the low rate is {self.low}, expected 0 to the high, {self.high}")

    @property
    def rate(self) -> float:
        """Arrivals per second in the mean."""
        whole = self.stay_low + self.stay_high
        return (self.low * self.stay_low + self.high * self.stay_high) / whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Diurnal:
    """Rates that repeat each period, equally long levels; gaps vary by `cv` around them."""

    rates: tuple[float, ...]
    period: float = DAY
    cv: float = 1.0

    def __post_init__(self) -> None:
        _positive("a day's rates", highest=max(self.rates, default=0.0), period=self.period,
                  cv=self.cv)  # fmt: skip
        if min(self.rates) < 0:
            raise ValueError(f"a rate is {min(self.rates)}, expected 0 or more")

    @property
    def rate(self) -> float:
        """Arrivals per second in the mean."""
        return math.fsum(self.rates) / len(self.rates)


Process = Renewal | Modulated | Diurnal


def fit_renewal(moments: Sequence[float]) -> Renewal:
    """The gamma gaps with the mean and the deviation of the trace's."""
    gaps = _gaps(moments)
    cv = float(gaps.std() / gaps.mean())
    return Renewal(rate=float(1.0 / gaps.mean()), cv=max(cv, 1e-3))


def fit_modulated(moments: Sequence[float], window: float = WINDOW) -> Modulated:
    """Two rates: those of windows with more arrivals than the mean, and of the others; stays from
    how often a window of one kind follows one of the other."""
    _gaps(moments)
    ordered = np.sort(np.asarray(moments, dtype=np.float64))
    span = float(ordered[-1] - ordered[0])
    bins = max(2, int(span / window))
    counts = np.histogram(ordered, bins=bins)[0]
    width = span / bins
    busy = counts > counts.mean()
    if not busy.any():
        # Equal counts everywhere: one rate.
        rate = len(ordered) / span
        return Modulated(low=rate, high=rate, stay_low=span, stay_high=span)
    ends_busy = int((busy[:-1] & ~busy[1:]).sum()) + int(busy[-1])
    ends_calm = int((~busy[:-1] & busy[1:]).sum()) + int(not busy[-1])
    return Modulated(
        low=float(counts[~busy].mean() / width),
        high=float(counts[busy].mean() / width),
        stay_low=float((~busy).sum() * width / max(1, ends_calm)),
        stay_high=float(busy.sum() * width / max(1, ends_busy)),
    )


def fit_diurnal(moments: Sequence[float], *, period: float = DAY, levels: int = 24) -> Diurnal:
    """The mean rate in each part of the period, and how gaps vary around it. Moment 0 is where the
    trace and its first period begin.

    Parts that the trace never reaches have its mean rate. cv: of the gaps on a clock that runs as
    fast as arrivals are expected, so that the day's shape is not taken for bursts.
    """
    _gaps(moments)
    ordered = np.sort(np.asarray(moments, dtype=np.float64))
    span = float(ordered[-1])
    width = period / levels
    places = (ordered % period // width).astype(np.int64) % levels
    counts = np.bincount(places, minlength=levels)
    seconds = np.array([_seen(span, level * width, width, period) for level in range(levels)])
    mean = len(ordered) / span
    rates = np.where(seconds > 0, counts / np.maximum(seconds, 1e-9), mean)
    shape = Diurnal(rates=tuple(float(one) for one in rates), period=period)
    gaps = np.diff(_expected(shape, ordered))
    cv = float(gaps.std() / gaps.mean()) if gaps.mean() > 0 else 1.0
    return Diurnal(rates=shape.rates, period=period, cv=max(cv, 1e-3))


def draw_arrivals(process: Process, span: float, *, seed: int) -> Floats:
    """Moments from 0 to before `span`, in order."""
    rng = np.random.default_rng(seed)
    match process:
        case Renewal():
            return _renewal(rng, process.rate, process.cv, span)
        case Modulated():
            return _modulated(rng, process, span)
        case Diurnal():
            expected = float(_expected(process, np.array([span]))[0])
            ticks = _renewal(rng, 1.0, process.cv, expected)
            return np.minimum(_when(process, ticks, span), np.nextafter(span, 0))


def _renewal(rng: np.random.Generator, rate: float, cv: float, span: float) -> Floats:
    shape = 1.0 / cv**2
    gathered: list[Floats] = []
    now = 0.0
    while now < span:
        count = int((span - now) * rate * 1.1) + 16
        moments = now + np.cumsum(rng.gamma(shape, 1.0 / (rate * shape), count))
        gathered.append(moments)
        now = float(moments[-1])
    moments = np.concatenate(gathered) if gathered else np.empty(0)
    return moments[moments < span]


def _modulated(rng: np.random.Generator, process: Modulated, span: float) -> Floats:
    share = process.stay_high / (process.stay_low + process.stay_high)
    busy = bool(rng.random() < share)
    moments: list[Floats] = []
    now = 0.0
    while now < span:
        stay = rng.exponential(process.stay_high if busy else process.stay_low)
        end = min(span, now + stay)
        count = int(rng.poisson((process.high if busy else process.low) * (end - now)))
        moments.append(np.sort(rng.uniform(now, end, count)))
        now, busy = end, not busy
    return np.concatenate(moments) if moments else np.empty(0)


def _expected(process: Diurnal, moments: Floats) -> Floats:
    """Arrivals expected from 0 to each moment."""
    edges, sums = _levels(process)
    rounds, rest = np.divmod(moments, process.period)
    return rounds * sums[-1] + np.interp(rest, edges, sums)


def _when(process: Diurnal, expected: Floats, span: float) -> Floats:
    """The moments up to which so many arrivals are expected."""
    edges, sums = _levels(process)
    rounds, rest = np.divmod(expected, sums[-1])
    # The last of equal sums: a level in which none come has no moment.
    level = np.clip(np.searchsorted(sums, rest, side="right") - 1, 0, len(process.rates) - 1)
    inside = (rest - sums[level]) / np.maximum(np.asarray(process.rates)[level], 1e-300)
    return np.minimum(rounds * process.period + edges[level] + inside, span)


def _levels(process: Diurnal) -> tuple[Floats, Floats]:
    width = process.period / len(process.rates)
    edges = np.arange(len(process.rates) + 1, dtype=np.float64) * width
    sums = np.cumsum(np.array([0.0, *process.rates]) * width)
    return edges, np.asarray(sums, dtype=np.float64)


def _seen(span: float, begin: float, width: float, period: float) -> float:
    """Seconds of [0, span] that fall into a part of the period."""
    rounds, rest = divmod(span, period)
    return rounds * width + min(width, max(0.0, rest - begin))


def _gaps(moments: Sequence[float]) -> Floats:
    if len(moments) < 3 or max(moments) <= min(moments):
        raise ValueError(
            f"{len(moments)} arrivals over {max(moments, default=0) - min(moments, default=0):g} s "
            "cannot be fitted, expected 3 or more at different moments; give numbers instead"
        )
    return np.diff(np.sort(np.asarray(moments, dtype=np.float64)))


def _positive(what: str, **values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} of {what} is {value}, expected a number above 0")
