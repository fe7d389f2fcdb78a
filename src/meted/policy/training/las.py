"""Least attained service: who has received least goes first (Gu et al. 2019, Tiresias)."""

from dataclasses import dataclass

import numpy as np

from meted.domain.allocation import JobDemand, Plan, Snapshot
from meted.domain.units import MICROS_PER_SECOND
from meted.policy.training.in_line import choose_in_line
from meted.policy.training.plans import Choice, make_plan
from meted.policy.training.room import NANOS_PER_DOLLAR, make_room
from meted.policy.training.ways import make_ways

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class LasPolicy:
    """Jobs by service received, divided by their weight; equal ones in the order they came.

    by_price: 1 measures service in US dollars, so that an hour on an old device counts for what it
    costs; 0 in device-hours. quantum_hours: service is compared in whole quanta of as many
    device-hours (or of what they cost on average), so that jobs do not swap for a moment's more.
    """

    by_price: float = 0.0
    quantum_hours: float = 0.5

    def __post_init__(self) -> None:
        if self.quantum_hours <= 0:
            raise ValueError(
                f"policy.quantum_hours is {self.quantum_hours}, expected more than 0; "
                "0.5 lets a job keep its devices until it is half a device-hour ahead"
            )

    def decide(self, snapshot: Snapshot) -> Plan:
        room = make_room(snapshot)
        ways = make_ways(snapshot.jobs, room)
        unit = 1.0
        if self.by_price:
            devices = sum(room.devices.values())
            worth = sum(count * room.dollars[kind] for kind, count in room.devices.items())
            unit = worth / devices if devices and worth > 0 else 1.0

        def service(job: JobDemand) -> float:
            prices = {
                kind: snapshot.pool.price_of(kind).nano_usd_per_device_hour / NANOS_PER_DOLLAR
                for kind in job.attained
            }
            return sum(
                micros * (prices[kind] if self.by_price else 1.0)
                for kind, micros in job.attained.items()
            ) / (MICROS_PER_SECOND * SECONDS_PER_HOUR)

        def rank(job: JobDemand) -> tuple[float, ...]:
            quanta = service(job) / max(1e-9, job.weight) / (self.quantum_hours * unit)
            return (float(np.floor(quanta)), job.order)

        name = "US dollars" if self.by_price else "device-hours"
        choices = [
            Choice(
                job=ways.jobs[int(ways.job[way])],
                option=ways.options[way],
                why=f"it received {service(ways.jobs[int(ways.job[way])]):.2f} {name} so far",
            )
            for way in choose_in_line(ways, rank, overtake=True)
        ]
        waits = {
            job.job: f"it received {service(job):.2f} {name} so far, others less"
            for job in snapshot.jobs
        }
        return make_plan(snapshot, room, choices, waits=waits)
