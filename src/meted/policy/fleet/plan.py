"""What a fleet plan says: what to rent, what it costs, what it attains, and what else there was."""

from collections.abc import Mapping
from dataclasses import dataclass

from meted.domain.market import Offer
from meted.domain.units import Micros, NanoUSD
from meted.policy.fleet.wish import LatencyLimit
from meted.predict.roofline import Setup


class InfeasibleError(ValueError):
    """No fleet does what was wished. constraint: which wish stands in the way. asked, nearest: its
    value, and the nearest one that can be had, in `unit`; nearest is None where none can."""

    def __init__(
        self, sentence: str, *, constraint: str, asked: float, nearest: float | None, unit: str
    ) -> None:
        super().__init__(sentence)
        self.constraint = constraint
        self.asked = asked
        self.nearest = nearest
        self.unit = unit


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRow:
    """Replicas of one setup from one offer. replicas: by period. shares: by period, of each class
    of requests the part that these replicas serve. utilisation: by period, load over what the
    replicas hold at most, after the headroom that the replay asked for."""

    offer: Offer
    setup: Setup
    devices_per_replica: int
    replicas: tuple[int, ...]
    shares: tuple[tuple[float, ...], ...]
    utilisation: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferRow:
    """Devices taken from one offer, by period, whole nodes. nano_usd_per_month: what they add to
    the bill; for owned devices the electricity."""

    offer: Offer
    devices: tuple[int, ...]
    nano_usd_per_month: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow:
    """Device-hours a month for a training job from one offer: lent by serving, or rented for it."""

    job: str
    offer: Offer
    lent_device_hours: float
    rented_device_hours: float
    nano_usd: NanoUSD


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitVerdict:
    """attained: the quantile in micros that the replay showed. attainment: share of requests inside
    the limit. By period."""

    limit: LatencyLimit
    attained: tuple[Micros, ...]
    attainment: tuple[float, ...]
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayVerdict:
    """requests: replayed in each period. plans_tried: fleets replayed before this one was kept."""

    limits: tuple[LimitVerdict, ...]
    requests: int
    plans_tried: int

    @property
    def holds(self) -> bool:
        return all(one.holds for one in self.limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another fleet by the same capacity model, not replayed, and why it loses. nano_usd_per_hour:
    mean over the month, None where no such fleet does it."""

    name: str
    nano_usd_per_hour: NanoUSD | None
    fleet: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityRow:
    """The cheapest fleet's price if one thing were different. same_fleet: the rows stay."""

    change: str
    nano_usd_per_hour: NanoUSD | None
    same_fleet: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """The cheapest fleet found that holds every limit in its replay.

    nano_usd_per_hour: by period. nano_usd_per_month: what the plan adds to the bill: rent, and the
    electricity of owned devices; training included. sunk_nano_usd_per_month: of owned devices,
    paid whether they run or not. nano_usd_per_million_tokens: serving's rent over the tokens.
    bound: no fleet of whole replicas is cheaper a month, by loads that no mixing of requests
    undercuts and with no headroom for queues. gap: (price - bound) / price, the most that is left
    to save; solver: how the last solve ended, with its own gap. floor: the same in fractions of
    devices that follow demand in each period, what a perfect autoscaler would pay. headroom: by
    column, the part of its capacity that the climb left it. binding: which limits and constraints
    hold the price up. lent_device_hours: a month, from serving to training.
    idle_device_hours: a month that no one uses, by kind.
    """

    periods: tuple[str, ...]
    rows: tuple[FleetRow, ...]
    offers: tuple[OfferRow, ...]
    training: tuple[TrainingRow, ...]
    nano_usd_per_hour: tuple[NanoUSD, ...]
    nano_usd_per_month: NanoUSD
    sunk_nano_usd_per_month: NanoUSD
    nano_usd_per_million_tokens: NanoUSD
    bound: NanoUSD
    gap: float
    floor: NanoUSD
    solver: str
    replay: ReplayVerdict | None
    headroom: Mapping[str, float]
    alternatives: tuple[Alternative, ...]
    single_kind: tuple[Alternative, ...]
    sensitivity: tuple[SensitivityRow, ...]
    binding: tuple[str, ...]
    lent_device_hours: float
    idle_device_hours: Mapping[str, float]
