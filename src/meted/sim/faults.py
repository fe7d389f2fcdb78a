"""What goes wrong, by chance with a seed: nodes fail, spot devices vanish, prices move."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from meted.domain.pool import Pool, Price
from meted.domain.units import MICROS_PER_SECOND, SECONDS_PER_HOUR, Micros, NanoUSD
from meted.sim.scenario import Outage, PriceChange

MICROS_PER_HOUR = MICROS_PER_SECOND * SECONDS_PER_HOUR
_NODES, _SPOT, _PRICES = 1, 2, 3


def node_failures(
    pool: Pool, *, mtbf: Micros, mttr: Micros, until: Micros, seed: int
) -> tuple[Outage, ...]:
    """Every node fails and comes back by itself, for times that are exponential.

    mtbf, mttr: means of the time from a repair to the next failure, and of the repair. A node's
    failures do not depend on which other nodes there are.
    Raises ValueError if a mean is not positive.
    """
    _positive("mtbf", mtbf)
    _positive("mttr", mttr)
    nodes: dict[int, list[int]] = {}
    for device in pool.devices:
        nodes.setdefault(device.node, []).append(device.index)
    found: list[Outage] = []
    for node, devices in sorted(nodes.items()):
        random = np.random.default_rng((seed, _NODES, node))
        for at, back in _spans(random, up=mtbf, down=mttr, until=until):
            reason = f"node {node} failed"
            found.append(Outage(at=at, devices=frozenset(devices), back=back, reason=reason))
    return _in_order(found)


def spot_interruptions(
    pool: Pool, *, per_device_hour: Mapping[str, float], away: Micros, until: Micros, seed: int
) -> tuple[Outage, ...]:
    """Every device of a spot kind vanishes now and then, and can be had again later.

    per_device_hour: by kind, how often in an hour that it is there. away: mean time until it can be
    had again. Raises ValueError for a kind that is not in `pool.spot`, or a negative rate.
    """
    _positive("away", away)
    for kind, rate in per_device_hour.items():
        if kind not in pool.spot:
            known = ", ".join(sorted(pool.spot)) or "none"
            raise ValueError(f"{kind!r} has a rate of interruptions; the spot kinds are: {known}")
        if rate < 0:
            raise ValueError(f"{kind!r} is interrupted {rate} times an hour, expected 0 or more")
    found: list[Outage] = []
    for device in pool.devices:
        rate = per_device_hour.get(device.kind, 0.0)
        if rate > 0:
            random = np.random.default_rng((seed, _SPOT, device.index))
            up = MICROS_PER_HOUR / rate
            for at, back in _spans(random, up=up, down=away, until=until):
                reason = f"spot device {device.index} was taken back"
                one = Outage(at=at, devices=frozenset((device.index,)), back=back, reason=reason)
                found.append(one)
    return _in_order(found)


def price_moves(
    kind: str,
    price: Price,
    *,
    every: Micros,
    volatility: float,
    reversion: float,
    until: Micros,
    seed: int,
) -> tuple[PriceChange, ...]:
    """A kind's price moves round its base: its log is an Ornstein-Uhlenbeck process.

    volatility: deviation of the log's change in an hour. reversion: share of its distance from the
    base that is lost in an hour, as a rate. Prices when idle and parked move in proportion.
    """
    _positive("every", every)
    hours = every / MICROS_PER_HOUR
    keep = math.exp(-reversion * hours)
    spread = hours if reversion == 0 else (1 - keep * keep) / (2 * reversion)
    random = np.random.default_rng((seed, _PRICES, *kind.encode()))
    found: list[PriceChange] = []
    log, at = 0.0, int(every)
    while at < until:
        log = keep * log + volatility * math.sqrt(spread) * float(random.standard_normal())
        found.append(PriceChange(at=Micros(at), prices={kind: _times(price, math.exp(log))}))
        at += every
    return tuple(found)


def together(*sources: Iterable[Outage]) -> tuple[Outage, ...]:
    """Outages of several causes, none for a device that is gone already.

    A device that is lost twice comes back when both causes are over, or never.
    """
    spans: dict[int, list[tuple[int, float, str]]] = {}
    for one in sorted((one for source in sources for one in source), key=lambda one: one.at):
        back = math.inf if one.back is None else one.back
        for device in sorted(one.devices):
            known = spans.setdefault(device, [])
            if known and one.at <= known[-1][1]:
                since, until, reason = known[-1]
                known[-1] = (since, max(until, back), reason)
            else:
                known.append((one.at, back, one.reason))
    groups: dict[tuple[int, float, str], list[int]] = {}
    for device, gone in spans.items():
        for span in gone:
            groups.setdefault(span, []).append(device)
    return _in_order(
        Outage(
            at=Micros(at),
            devices=frozenset(devices),
            back=None if math.isinf(back) else Micros(int(back)),
            reason=reason,
        )
        for (at, back, reason), devices in groups.items()
    )


def _spans(
    random: np.random.Generator, *, up: float, down: float, until: int
) -> Sequence[tuple[Micros, Micros]]:
    """When something is away, up to `until`."""
    found: list[tuple[Micros, Micros]] = []
    at = 0
    while True:
        at += max(1, round(float(random.exponential(up))))
        if at >= until:
            return found
        back = at + max(1, round(float(random.exponential(down))))
        found.append((Micros(at), Micros(back)))
        at = back


def _times(price: Price, factor: float) -> Price:
    def of(amount: NanoUSD | None) -> NanoUSD | None:
        return None if amount is None else NanoUSD(round(amount * factor))

    busy = NanoUSD(round(price.nano_usd_per_device_hour * factor))
    return Price(nano_usd_per_device_hour=busy, idle=of(price.idle), parked=of(price.parked))


def _in_order(outages: Iterable[Outage]) -> tuple[Outage, ...]:
    return tuple(sorted(outages, key=lambda one: (one.at, sorted(one.devices))))


def _positive(name: str, value: float) -> None:
    if value <= 0:
        raise ValueError(f"{name} is {value} us, expected more than 0; give a time")
