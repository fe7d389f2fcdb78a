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

    def settle(self, now: int) -> None:
        """Record who had the devices since the last call, and tell the jobs what they had."""
        if not self._shared or now <= self._at:
            return
        self._fleet.settle(self._at)
        span, self._at = now - self._at, now
        parts: dict[int, list[Part]] = {device: [] for device in self._devices}
        rest: dict[int, Rest] = dict.fromkeys(self._devices, (Use.IDLE, "", NOBODY))
        for one in self._fleet.sharing(now):
            for device in one.devices:
                parts[device] += [
                    (Use.SERVING, one.replica, tenant, micros) for tenant, micros in one.busy
                ]
                rest[device] = (one.otherwise, one.replica, one.tenant)
        served = sum(min(span, sum(micros for _, _, _, micros in mine)) for mine in parts.values())
        self._training.breathe(1.0 - served / (span * len(self._devices)), now)
        for name, tenant, devices, use in self._training.sharing(now):
            for device in devices:
                rest[device] = (use, name, tenant)
        for device in self._devices:
            if self._recorder.use(device) in (Use.GONE, Use.PARKED):
                continue
            self._recorder.spend(device, now, parts[device], rest[device])
