"""Shared devices: serving takes what it needs, a job harvests what is left; who had what, recorded.

Between two moments of the world the users of a device do not change, so its time is laid out once:
the busy time of the replicas on it, then the job's, then what nobody used.
"""

from meted.domain.pool import Pool
from meted.domain.units import TenantName
from meted.sim.fleet import Fleet
from meted.sim.recorder import NOBODY, Recorder
from meted.sim.result import Use
from meted.sim.training import Training

Part = tuple[Use, str, TenantName, int]
Rest = tuple[Use, str, TenantName]


class Sharing:
    """Does nothing where a device has one user at a time: then its users are recorded as they come
    and go."""

    def __init__(self, pool: Pool, *, recorder: Recorder, fleet: Fleet, training: Training) -> None:
        self._recorder, self._fleet, self._training = recorder, fleet, training
        self._devices = pool.indices
        self._shared = pool.shared
        self._at = 0
        self._busy_at = 0
        self._busy: dict[int, int] = {}

    def settle(self, now: int) -> None:
        """Record who had the devices since the last call."""
        if not self._shared or now <= self._at:
            return
        span, self._at = now - self._at, now
        parts: dict[int, list[Part]] = {device: [] for device in self._devices}
        rest: dict[int, Rest] = dict.fromkeys(self._devices, (Use.IDLE, "", NOBODY))
        for one in self._fleet.sharing(now):
            for device in one.devices:
                parts[device] += [
                    (Use.SERVING, one.replica, tenant, micros) for tenant, micros in one.busy
                ]
                rest[device] = (one.otherwise, one.replica, one.tenant)
        for device, mine in parts.items():
            served = min(span, sum(micros for _, _, _, micros in mine))
            self._busy[device] = self._busy.get(device, 0) + served
        for name, tenant, devices, use in self._training.sharing(now):
            for device in devices:
                rest[device] = (use, name, tenant)
        for device in self._devices:
            if self._recorder.use(device) in (Use.GONE, Use.PARKED):
                continue
            self._recorder.spend(device, now, parts[device], rest[device])

    def breathe(self, now: int) -> None:
        """Tell the jobs what serving leaves: as much as it did since the last call."""
        if not self._shared or now <= self._busy_at:
            return
        span, self._busy_at = now - self._busy_at, now
        served = sum(self._busy.values()) / (span * len(self._devices))
        self._busy.clear()
        self._training.breathe(max(0.0, 1.0 - served), now)
