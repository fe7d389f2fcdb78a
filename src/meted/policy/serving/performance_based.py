"""Performance-based: the cheapest mix of kinds that keeps the SLO at the forecast."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meted.domain.allocation import DeploymentDemand, Plan, ReplicaOption, Snapshot
from meted.domain.pool import Pool
from meted.domain.units import MICROS_PER_SECOND, DeploymentName, Micros
from meted.policy.serving.demand_based import rest_or_stay
from meted.policy.serving.mix import Mix, Way, cheapest_mix, largest_mix
from meted.policy.serving.warm import NANOS_PER_DOLLAR, Warm
from meted.policy.sharing.line import Line, Order
from meted.policy.sharing.share import share
from meted.policy.sharing.shared_cores import on_shared_cores
from meted.policy.sharing.wish import Wish, all_places_before, options_of

Rates = tuple[tuple[Micros, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixMemory:
    """By deployment: rates that were called for lately, moments ascending, rates descending."""

    rates: Mapping[DeploymentName, Rates] = field(default_factory=dict[DeploymentName, Rates])


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceScaling:
    """Replicas of the kinds whose mix costs least and answers the forecast inside the SLO.

    busy: share of the mix's capacity that the forecast may use. The rate falls to the largest of
    the last `window_s`, so that nothing flaps. horizon_s: how long a new replica is expected to
    last, over which its load is paid. order, overtake: of the jobs on the rest, as in `Loan`.
    """

    busy: float = 0.7
    drain_s: float = 60.0
    window_s: float = 600.0
    horizon_s: float = 1800.0
    late_usd: float = 0.0
    order: str = "shortest"
    overtake: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.busy <= 1 or min(self.drain_s, self.horizon_s) <= 0 or self.window_s < 0:
            raise ValueError(
                f"policy.busy is {self.busy}, drain_s {self.drain_s}, horizon_s {self.horizon_s}, "
                f"window_s {self.window_s}; expected a share above 0 up to 1, seconds above 0, and "
                "a window of 0 or more"
            )

    def decide(self, snapshot: Snapshot) -> Plan:
        if snapshot.pool.shared:
            return on_shared_cores(snapshot)
        devices, kinds = usable(snapshot), kinds_of(snapshot.pool)
        before = all_places_before(snapshot)
        memory = None if snapshot.previous is None else snapshot.previous.memory
        known = memory if isinstance(memory, MixMemory) else MixMemory()
        rates: dict[DeploymentName, Rates] = {}
        wishes: list[Wish] = []
        for demand in snapshot.deployments:
            rate = (demand.arrivals_per_second + demand.queued / self.drain_s) / self.busy
            earlier = known.rates.get(demand.deployment, ())
            recent = called(snapshot.now, rate, earlier, window_s=self.window_s)
            rates[demand.deployment] = recent
            places = before.get(demand.deployment, ())
            wish = self._wish(snapshot, demand, devices, recent[0][1], kinds, places)
            for option, count in wish.replicas:
                devices[option.kind] -= option.devices * count
            wishes.append(wish)
        line = Line(order=Order(self.order), overtake=bool(self.overtake))
        return share(snapshot, wishes, line, memory=MixMemory(rates=rates))

    def _wish(
        self,
        snapshot: Snapshot,
        demand: DeploymentDemand,
        devices: Mapping[str, int],
        rate: float,
        kinds: Mapping[int, str],
        places: Sequence[tuple[int, ...]],
    ) -> Wish:
        options = options_of(demand)
        least = demand.least
        if least == 0:
            warm = Warm(late_usd=self.late_usd)
            least, reason = rest_or_stay(snapshot, demand, warm, 0, f"{rate:.2f} requests/s")
            if least == 0:
                return Wish(demand=demand, replicas=(), reason=reason)
        ways = make_ways(
            snapshot,
            options,
            places,
            kinds=kinds,
            horizon_s=self.horizon_s,
        )
        mix, enough = solve(
            ways, devices, rate, least=least, most=demand.most, seconds=snapshot.solver_seconds
        )
        return Wish(
            demand=demand,
            replicas=named(options, mix),
            reason=told(options, mix, rate, enough=enough),
        )


def called(now: Micros, rate: float, before: Rates, *, window_s: float) -> Rates:
    """The rates that were called for in the window, with one more; the first is the largest."""
    since = now - window_s * MICROS_PER_SECOND
    kept = [(at, one) for at, one in before if since <= at < now and one > rate]
    return (*kept, (now, rate))


def kinds_of(pool: Pool) -> dict[int, str]:
    """The kind of each device."""
    return {device.index: device.kind for device in pool.devices}


def usable(snapshot: Snapshot) -> Counter[str]:
    """Devices of each kind that a plan may use."""
    return Counter(
        one.kind for one in snapshot.pool.devices if one.index not in snapshot.unavailable
    )


def make_ways(
    snapshot: Snapshot,
    options: Sequence[ReplicaOption],
    places: Sequence[tuple[int, ...]],
    *,
    kinds: Mapping[int, str],
    horizon_s: float,
) -> list[Way]:
    """Options with their price, and how many replicas of each there are already.

    kinds: of all devices, see `kinds_of`.
    """
    there = Counter((kinds[place[0]], len(place)) for place in places)
    made: list[Way] = []
    for one in options:
        dollars = dollars_of(snapshot.pool, one)
        made.append(
            Way(
                option=one,
                dollars=dollars,
                fresh=dollars * (1 + one.load / MICROS_PER_SECOND / horizon_s),
                there=there[one.kind, one.devices],
            )
        )
    return made


def dollars_of(pool: Pool, option: ReplicaOption) -> float:
    """US dollars an hour of a replica's devices."""
    price = pool.price_of(option.kind).nano_usd_per_device_hour
    return option.devices * price / NANOS_PER_DOLLAR


def solve(
    ways: Sequence[Way],
    devices: Mapping[str, int],
    rate: float,
    *,
    least: int,
    most: int,
    seconds: float,
) -> tuple[Mix, bool]:
    """The cheapest mix, or the most capacity there is where none is enough."""
    mix = cheapest_mix(ways, devices, rate, least=least, most=most, seconds=seconds)
    return (mix, True) if mix is not None else (largest_mix(ways, devices, most=most), False)


def named(options: Sequence[ReplicaOption], mix: Mix) -> tuple[tuple[ReplicaOption, int], ...]:
    return tuple((one, count) for one, count in zip(options, mix.counts, strict=True) if count)


def told(options: Sequence[ReplicaOption], mix: Mix, rate: float, *, enough: bool) -> str:
    """A sentence about a mix."""
    parts = [
        f"{count} of {one.devices} x {one.kind}"
        for one, count in zip(options, mix.counts, strict=True)
        if count
    ]
    verdict = "cheapest mix" if enough else "all that the pool has, too little"
    return (
        f"{verdict} for {rate:.2f} requests/s with headroom: {', '.join(parts) or '0 replicas'}, "
        f"{mix.capacity:.2f} requests/s for ${mix.dollars:.2f}/h"
    )
