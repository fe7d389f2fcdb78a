"""Admission: whether one more request may wait for a deployment."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The queue is full; by the forecast there is room again after `retry_after_s`."""

    queued: int
    limit: int
    retry_after_s: int


def admit(*, queued: int, limit: int, seconds_per_request: float) -> Refusal | None:
    """None to accept. seconds_per_request: the deployment's measured time between departures."""
    if queued < limit:
        return None
    room = max(1.0, limit / 4)
    wait = math.ceil(min(60.0, max(1.0, room * seconds_per_request)))
    return Refusal(queued=queued, limit=limit, retry_after_s=wait)
