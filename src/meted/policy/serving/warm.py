"""Scale to zero as ski rental: keep warm until idling has cost what a cold start costs."""

from dataclasses import dataclass

from meted.domain.allocation import DeploymentDemand, ReplicaOption
from meted.domain.pool import Pool
from meted.domain.units import MICROS_PER_SECOND, SECONDS_PER_HOUR

HOUR = MICROS_PER_SECOND * SECONDS_PER_HOUR
NANOS_PER_DOLLAR = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """late_usd: what a cold start costs beside its device-time, for requests that miss the SLO.

    Keeping a replica for exactly as long as a cold start would cost never costs more than twice
    the best decision in hindsight, and no rule without a forecast is better (Karlin et al. 1988).
    """

    late_usd: float = 0.0

    def __post_init__(self) -> None:
        if self.late_usd < 0:
            raise ValueError(f"late_usd is {self.late_usd}, expected 0 or more US dollars")

    def cold_nano_usd(self, pool: Pool, option: ReplicaOption) -> float:
        """Nano-USD of one cold start: the load's device-time and the requests that wait for it."""
        busy = pool.price_of(option.kind).nano_usd_per_device_hour
        return busy * option.devices * option.load / HOUR + self.late_usd * NANOS_PER_DOLLAR

    def keep_micros(self, pool: Pool, option: ReplicaOption, *, wanted: bool = False) -> float:
        """How long a replica that nobody asks is kept; inf where an unused device saves nothing.

        wanted: others wait for its devices, which then are worth their whole price.
        """
        price = pool.price_of(option.kind)
        unused = 0 if wanted else min(price.when_idle, price.when_parked)
        saved = (price.nano_usd_per_device_hour - unused) * option.devices / HOUR
        return self.cold_nano_usd(pool, option) / saved if saved > 0 else float("inf")

    def rests(
        self, demand: DeploymentDemand, pool: Pool, option: ReplicaOption, *, wanted: bool = False
    ) -> bool:
        """Whether a deployment that may have no replica is to have none now."""
        if demand.least or demand.queued or demand.running:
            return False
        if demand.replicas + demand.starting == 0:
            return demand.arrivals_per_second <= 0
        return demand.quiet >= self.keep_micros(pool, option, wanted=wanted)
