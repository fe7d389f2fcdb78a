"""What the house would see of a simulated deployment: its own demand watch, told what replicas did.

Nothing that is observed changes by it: steps that a replica has run ahead of the moment wait until
their time, and those that are under way are counted without being run.
"""

from meted.control.demand_watch import DemandWatch
from meted.control.status_counts import StatusCounts
from meted.domain.allocation import DeploymentDemand
from meted.domain.deployment import ReplicaStatus
from meted.domain.units import Micros
from meted.predict.linear import linearised
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepCost
from meted.sim.replica import Ended, SimReplica
from meted.sim.service import Service

DEVIATION = 0.1
"""Of the log of a step time, by which the line that is believed may miss the model."""
LEAST_S = 1e-3
"""Shortest interval between two decisions that has a rate."""


class Observer:
    """One deployment's watch. measured: its way to run is told as the watch measures it."""

    def __init__(self, service: Service, *, shared: bool) -> None:
        sim = service.sim
        self._service = service
        self._measured = shared and len(sim.options) == 1
        self._came = 0
        self._ended: list[Ended] = []
        self.watch = DemandWatch(sim.deployment)
        if sim.options:
            option = sim.options[0]
            self.watch.kind = option.kind
            model = sim.replicas[option.kind, option.devices]
            self.watch.believe(_line(model), deviation=DEVIATION, threads=option.devices)

    def saw(self, replica: SimReplica, at: int) -> None:
        """What a replica did up to a moment, beside the harvesting that was told last."""
        for work, micros, steps, tokens in replica.take_steps(at):
            self.watch.computed(work, micros, steps=steps)
            self.watch.generated(tokens)
        self._ended += replica.take_ended()

    def demand(
        self,
        now: int,
        *,
        elapsed_s: float,
        ahead_s: float,
        counts: StatusCounts,
    ) -> DeploymentDemand:
        """The demand at the end of an interval, after `saw` of each replica."""
        self._tell_requests()
        self.watch.take_drifts()
        sim, service = self._service.sim, self._service
        name = sim.deployment.name
        return self.watch.demand(
            Micros(now),
            queued=service.queued,
            running=service.running,
            replicas=counts[name, ReplicaStatus.READY],
            starting=counts[name, ReplicaStatus.STARTING],
            draining=counts[name, ReplicaStatus.DRAINING],
            elapsed_s=max(LEAST_S, elapsed_s),
            ahead_s=ahead_s,
            tenant=sim.tenant,
            options=None if self._measured else sim.options,
        )

    def _tell_requests(self) -> None:
        admitted = self._service.served
        if (more := len(admitted) - self._came) > 0:
            self._came = len(admitted)
            self.watch.arrived(admitted[-1].arrival.at, more)
        for one in sorted(self._ended, key=_moment):
            self.watch.done(
                (),
                Micros(one.at),
                prefill_tokens=one.prefill,
                output_tokens=one.output,
                generated=True,
            )
        self._ended.clear()


def _moment(ended: Ended) -> int:
    return ended.at


def _line(model: ReplicaModel) -> StepCost:
    """The model's step time as the watch knows step times."""
    if isinstance(model.step, StepCost):
        return model.step
    return linearised(model.step, chunk_tokens=model.chunk_tokens, max_batch=model.max_batch)
