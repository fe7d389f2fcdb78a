"""Spot with spares: cheap devices that may vanish, so many more that the rest is enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meted.domain.allocation import DeploymentDemand, Plan, ReplicaOption, Snapshot
from meted.domain.units import DeploymentName
from meted.policy.serving.mix import Mix, Way, cheapest_mix, largest_mix
from meted.policy.serving.performance_based import (
    MixMemory,
    Rates,
    called,
    dollars_of,
    kinds_of,
    make_ways,
    told,
    usable,
)
from meted.policy.sharing.line import Line, Order
from meted.policy.sharing.share import share
from meted.policy.sharing.shared_cores import on_shared_cores
from meted.policy.sharing.wish import Wish, options_of, places_before


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotScaling:
    """The cheaper of two plans: on-demand kinds alone, or spot kinds too with `spare` replicas
    beyond what the forecast needs, so that the largest `spare` spot replicas may vanish at once.

    A spot device that is gone is not in the snapshot, so the plan falls back to on-demand kinds by
    itself, and returns when spot is there again and the saving pays the loads over `horizon_s`.
    Who is replaced stays until the others have loaded. The rate falls to the largest of the last
    `window_s`, so that nothing flaps.
    """

    busy: float = 0.7
    drain_s: float = 60.0
    spare: int = 1
    window_s: float = 120.0
    horizon_s: float = 1800.0

    def __post_init__(self) -> None:
        if (
            not 0 < self.busy <= 1
            or min(self.spare, self.window_s) < 0
            or min(self.drain_s, self.horizon_s) <= 0
        ):
            raise ValueError(
                f"policy.busy is {self.busy}, spare {self.spare}, window_s {self.window_s}, "
                f"drain_s {self.drain_s}, horizon_s {self.horizon_s}; expected a share above 0 up "
                "to 1, 0 or more replicas, a window of 0 or more, and seconds above 0"
            )

    def decide(self, snapshot: Snapshot) -> Plan:
        if snapshot.pool.shared:
            return on_shared_cores(snapshot)
        devices, kinds = usable(snapshot), kinds_of(snapshot.pool)
        memory = None if snapshot.previous is None else snapshot.previous.memory
        known = memory if isinstance(memory, MixMemory) else MixMemory()
        rates: dict[DeploymentName, Rates] = {}
        wishes: list[Wish] = []
        for demand in snapshot.deployments:
            rate = (demand.arrivals_per_second + demand.queued / self.drain_s) / self.busy
            before = known.rates.get(demand.deployment, ())
            recent = called(snapshot.now, rate, before, window_s=self.window_s)
            rates[demand.deployment] = recent
            wish = self._wish(snapshot, demand, devices, recent[0][1], kinds)
            for option, count in wish.replicas:
                devices[option.kind] -= option.devices * count
            wishes.append(wish)
        line = Line(order=Order.ARRIVAL, overtake=True)
        return share(snapshot, wishes, line, memory=MixMemory(rates=rates))

    def _wish(
        self,
        snapshot: Snapshot,
        demand: DeploymentDemand,
        devices: Mapping[str, int],
        rate: float,
        kinds: Mapping[int, str],
    ) -> Wish:
        options = options_of(demand)
        ways = make_ways(
            snapshot,
            options,
            places_before(snapshot, demand),
            kinds=kinds,
            horizon_s=self.horizon_s,
        )
        firm = {k: n for k, n in devices.items() if k not in snapshot.pool.spot}
        seconds = snapshot.solver_seconds
        plans = [
            cheapest_mix(ways, firm, rate, least=demand.least, most=demand.most, seconds=seconds),
            self._with_spot(snapshot, demand, ways, devices, rate),
        ]
        found = [one for one in plans if one is not None]
        mix = min(found, key=lambda one: one.dollars, default=None)
        best = mix or largest_mix(ways, devices, most=demand.most)
        spot = _spot_count(options, best, snapshot.pool.spot)
        kept = _kept(ways, best, devices, most=demand.most, starting=demand.starting)
        reason = (
            f"{told(options, best, rate, enough=mix is not None)}; {spot} on spot, "
            f"of which {min(spot, self.spare)} may vanish; {_firm(snapshot, options)}"
        )
        if sum(kept):
            reason += f"; {sum(kept)} of other kinds stay until the new ones are ready"
        return Wish(
            demand=demand,
            replicas=tuple(
                (one, count + more)
                for one, count, more in zip(options, best.counts, kept, strict=True)
                if count + more
            ),
            reason=reason,
        )

    def _with_spot(
        self,
        snapshot: Snapshot,
        demand: DeploymentDemand,
        ways: Sequence[Way],
        devices: Mapping[str, int],
        rate: float,
    ) -> Mix | None:
        """Enough although the `spare` largest replicas on spot vanish."""
        spots = [way for way in ways if way.option.kind in snapshot.pool.spot]
        if not spots:
            return None
        lost = self.spare * max(way.option.requests_per_second for way in spots)
        return cheapest_mix(
            ways,
            devices,
            rate + lost,
            least=demand.least,
            most=demand.most,
            seconds=snapshot.solver_seconds,
        )


def _kept(
    ways: Sequence[Way], mix: Mix, devices: Mapping[str, int], *, most: int, starting: int
) -> list[int]:
    """How many replicas of each way that the mix does without stay while others take their place,
    as far as there are devices: what loads answers nobody yet."""
    grows = any(count > way.there for way, count in zip(ways, mix.counts, strict=True))
    if not grows and not starting:
        return [0] * len(ways)
    left = dict(devices)
    for way, count in zip(ways, mix.counts, strict=True):
        left[way.option.kind] = left.get(way.option.kind, 0) - count * way.option.devices
    room, kept = most - sum(mix.counts), list[int]()
    for way, count in zip(ways, mix.counts, strict=True):
        kind, width = way.option.kind, way.option.devices
        stay = max(0, min(way.there - count, left[kind] // width, room))
        left[kind] -= stay * width
        room -= stay
        kept.append(stay)
    return kept


def _spot_count(options: Sequence[ReplicaOption], mix: Mix, spot: frozenset[str]) -> int:
    return sum(count for one, count in zip(options, mix.counts, strict=True) if one.kind in spot)


def _firm(snapshot: Snapshot, options: Sequence[ReplicaOption]) -> str:
    firm = [one for one in options if one.kind not in snapshot.pool.spot]
    if not firm:
        return "0 options are on demand"
    least = min(dollars_of(snapshot.pool, one) / one.requests_per_second for one in firm)
    return f"on demand ${least:.2f} an hour for each request/s"
