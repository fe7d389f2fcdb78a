"""The simulated replicas of all deployments: control's effects start, drain and stop them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from meted.control.effects import StartReplica
from meted.control.events import Event, ReplicaDied, ReplicaDrained, ReplicaReady
from meted.control.state import ControlState
from meted.control.status_counts import status_counts
from meted.domain.allocation import DeploymentDemand, Harvest, ReplicaOption
from meted.domain.pool import Pool
from meted.domain.units import (
    MICROS_PER_SECOND,
    DeploymentName,
    Micros,
    ReplicaId,
    TenantName,
)
from meted.sim.observing import Observer
from meted.sim.recorder import Recorder
from meted.sim.replica import SimReplica
from meted.sim.request_money import RequestMoney
from meted.sim.result import DeploymentResult, Use
from meted.sim.scenario import SimDeployment
from meted.sim.service import Service, advance_in_order

STOPPED = "it was stopped"


class Shared(NamedTuple):
    """A replica on shared devices. busy: its micros on each of them, by tenant. otherwise: what
    they were for when it was not busy."""

    replica: ReplicaId
    devices: tuple[int, ...]
    tenant: TenantName
    otherwise: Use
    busy: Sequence[tuple[TenantName, int]]


class Fleet:
    """Requests are served lazily: `advance` before each event of the world and each decision."""

    def __init__(
        self,
        deployments: Sequence[SimDeployment],
        *,
        pool: Pool,
        recorder: Recorder,
        schedule: Callable[[int, Callable[[], None]], None],
        happen: Callable[[Event], None],
        interval: Micros,
        training: Callable[[], Harvest],
        money: Mapping[DeploymentName, RequestMoney] | None = None,
    ) -> None:
        """interval: between two decisions. training: how jobs harvest now."""
        self._recorder, self._schedule, self._happen = recorder, schedule, happen
        self._ahead_s = interval / MICROS_PER_SECOND
        self._training, self._harvest = training, Harvest.NONE
        self._shared = pool.shared
        self._kind = {device.index: device.kind for device in pool.devices}
        money = money or {}
        self._services = {
            (name := one.deployment.name): Service(one, money.get(name)) for one in deployments
        }
        self._in_order = len(money) > 1
        self._observers = {
            name: Observer(service, shared=self._shared) for name, service in self._services.items()
        }
        self._replicas: dict[ReplicaId, SimReplica] = {}
        self._of: dict[ReplicaId, Service] = {}
        self._started = 0

    @property
    def next_moment(self) -> int | None:
        """When there is serving work to do; None if every request has ended."""
        moments = [one.next_moment for one in self._services.values()]
        return min((one for one in moments if one is not None), default=None)

    def advance(self, until: int) -> None:
        """Let all that happens before `until` happen."""
        if self._in_order:
            advance_in_order(tuple(self._services.values()), until)
            return
        for service in self._services.values():
            service.advance(until)

    def start(self, effect: StartReplica, now: int, *, delay: int = 0) -> None:
        """A replica loads its weights, and then takes requests.

        delay: until the last of its devices is switched on.
        Raises ValueError if the deployment has no such option.
        """
        service = self._services[effect.deployment.name]
        option = self._option(service.sim, effect.devices)
        replica = SimReplica(
            id=effect.replica.id,
            number=self._started,
            devices=effect.devices,
            model=service.sim.replicas[option.kind, option.devices],
        )
        self._started += 1
        self._replicas[replica.id], self._of[replica.id] = replica, service
        self._record(replica, now, Use.LOADING)
        ready_at = now + delay + option.load
        self._schedule(ready_at, lambda: self._ready(replica, ready_at, load=ready_at - now))

    def place(self, replica_id: ReplicaId, devices: tuple[int, ...], now: int) -> None:
        """A replica in a shared pool uses other devices; its pace does not change."""
        self._replicas[replica_id].devices = devices

    def drain(self, replica_id: ReplicaId, now: int) -> None:
        """A replica gets no new request, and answers those it has."""
        if (replica := self._replicas.get(replica_id)) is None:
            return
        service = self._of[replica_id]
        ends = service.close(replica, now)

        def drained() -> None:
            if not replica.gone:
                service.drained(replica, ends)
                self._happen(ReplicaDrained(now=Micros(ends), replica=replica_id))

        self._schedule(ends, drained)

    def stop(self, replica_id: ReplicaId, now: int, reason: str = STOPPED) -> None:
        """A replica is gone; its devices are free; what it had not answered is sent to others."""
        if (replica := self._replicas.pop(replica_id, None)) is None:
            return
        self._split(replica, now)
        service = self._of.pop(replica_id)
        if not self._shared:
            self._recorder.put(replica.devices, now, Use.IDLE)
        service.lose(replica, now)
        self._observers[service.sim.deployment.name].saw(replica, now)
        self._happen(ReplicaDied(now=Micros(now), replica=replica_id, reason=reason))

    def lost(self, devices: frozenset[int], now: int, reason: str) -> None:
        """Devices are gone, and the replicas on them with what they had in work."""
        gone = [one for one in self._replicas.values() if not devices.isdisjoint(one.devices)]
        for replica in gone:
            # None of them may take over what another one had: it would die with it once more.
            self._of[replica.id].shut(replica)
        for replica in gone:
            self.stop(replica.id, now, reason)

    def record(self, now: int) -> None:
        """Enter the time since the last call: busy, by tenants, and ready."""
        for replica in self._replicas.values():
            self._split(replica, now)

    def settle(self, since: int) -> None:
        """Jobs may harvest in another way since a moment; what was done before was beside the old
        one."""
        if (harvest := self._training()) is not self._harvest:
            self._observe(since)
            self._harvest = harvest
            for one in self._observers.values():
                one.watch.harvest = harvest

    def sharing(self, now: int) -> Iterator[Shared]:
        """What replicas on shared devices did since the last call."""
        for key, replica in self._replicas.items():
            service = self._of[key]
            tenant = service.sim.tenant
            busy = replica.take_busy(now) if replica.ready else 0
            shares = [(tenant, busy)]
            if service.tenants and replica.ready:
                shares = replica.shares(busy, now, tenant)
            otherwise = Use.READY if replica.ready else Use.LOADING
            yield Shared(replica.id, replica.devices, tenant, otherwise, shares)

    def demands(
        self, now: int, elapsed_s: float, state: ControlState
    ) -> tuple[DeploymentDemand, ...]:
        """What clients want of each deployment at the end of an interval of `elapsed_s`."""
        self.record(now)
        self._observe(now)
        counts = status_counts(state)
        return tuple(
            self._observers[name].demand(
                now, elapsed_s=elapsed_s, ahead_s=self._ahead_s, counts=counts
            )
            for name in self._services
            if name in state.deployments
        )

    def results(self) -> list[DeploymentResult]:
        """What became of every request that came."""
        found: list[DeploymentResult] = []
        for name, one in self._services.items():
            served = [each for each in one.served if 0 <= each.last_token <= one.now]
            left = one.came - one.refused - one.unfunded - len(served)
            found.append(
                DeploymentResult(
                    deployment=name,
                    served=served,
                    refused=one.refused,
                    unfinished=left,
                    unfunded=one.unfunded,
                )
            )
        return found

    def _ready(self, replica: SimReplica, now: int, *, load: int) -> None:
        if replica.gone or replica.draining:
            return
        self._record(replica, now, Use.READY)
        name = self._of[replica.id].sim.deployment.name
        self._observers[name].watch.load = Micros(load)
        self._of[replica.id].open(replica, now)
        self._happen(ReplicaReady(now=Micros(now), replica=replica.id))

    def _option(self, sim: SimDeployment, devices: Iterable[int]) -> ReplicaOption:
        kinds = [self._kind[device] for device in devices]
        for one in sim.options:
            if one.devices == len(kinds) and set(kinds) == {one.kind}:
                return one
        known = ", ".join(f"{one.devices} of {one.kind}" for one in sim.options) or "none"
        raise ValueError(
            f"the plan puts a replica of {sim.deployment.name!r} on devices of kinds {kinds}; "
            f"its options are: {known}"
        )

    def _record(self, replica: SimReplica, at: int, use: Use) -> None:
        if not self._shared:
            tenant = self._of[replica.id].sim.tenant
            self._recorder.put(replica.devices, at, use, who=replica.id, tenant=tenant)

    def _split(self, replica: SimReplica, now: int) -> None:
        if self._shared or not replica.ready:
            return
        service = self._of[replica.id]
        busy = replica.take_busy(now)
        if service.tenants:
            shares = replica.shares(busy, now, service.sim.tenant)
            self._recorder.split(replica.devices, now, busy, shares)
        else:
            self._recorder.split(replica.devices, now, busy)

    def _observe(self, now: int) -> None:
        for key, replica in self._replicas.items():
            self._observers[self._of[key].sim.deployment.name].saw(replica, now)
