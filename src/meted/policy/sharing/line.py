"""Who is next for what serving leaves, and whom it costs least to send away."""

from dataclasses import dataclass
from enum import StrEnum

from meted.domain.allocation import JobDemand, JobOption


class Order(StrEnum):
    """ARRIVAL: first come, first served. SHORTEST: least remaining device-time first.
    LEAST_SERVED: least device-time received so far first (Gu et al. 2019)."""

    ARRIVAL = "arrival"
    SHORTEST = "shortest"
    LEAST_SERVED = "least_served"


class Victims(StrEnum):
    """CHEAPEST: least device-time lost to restarts, shrinking before stopping. NEWEST: who came
    last, as Kubernetes does among pods of equal priority."""

    CHEAPEST = "cheapest"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """overtake: jobs that fit go before one that does not, if they do not delay it (EASY backfill,
    Lifka 1995)."""

    order: Order = Order.ARRIVAL
    overtake: bool = False
    victims: Victims = Victims.CHEAPEST

    def rank(self, job: JobDemand) -> tuple[float, float]:
        """Its place among those that wait, lowest first."""
        match self.order:
            case Order.ARRIVAL:
                return job.order, 0
            case Order.SHORTEST:
                return device_seconds(job), job.order
            case Order.LEAST_SERVED:
                return sum(job.attained.values()) / 1e6, job.order

    def loss(self, job: JobDemand, devices: int) -> float:
        """What it costs to restart a job on `devices` devices; less goes first."""
        if self.victims is Victims.NEWEST:
            return 1.0 / (1 + job.order)
        return job.restart / 1e6 * devices


def device_seconds(job: JobDemand) -> float:
    """Device-time that is left of a job in its cheapest way; inf if there is none."""
    return min(
        (seconds_of(job, one) * one.devices for one in job.options if one.steps_per_second > 0),
        default=float("inf"),
    )


def seconds_of(job: JobDemand, option: JobOption) -> float:
    """Seconds until it is done if it keeps this option."""
    restart = 0 if job.running else job.restart / 1e6
    return restart + job.remaining_steps / option.steps_per_second
