"""Whether the arms of a rollout can serve."""

from collections.abc import Sequence

from meted.control.state import ControlState
from meted.domain.deployment import Deployment, ReplicaStatus
from meted.domain.units import ReplicaId
from meted.live.rollout_record import RolloutRecord
from meted.live.served import ServedDeployment
from meted.optimise.rollout import ArmFailed
from meted.optimise.switchback import Arm


def failed_arm(
    record: RolloutRecord, state: ControlState, *, turn_began: bool, told: Sequence[str]
) -> ArmFailed | None:
    """One death of a second arm's replica is enough; the first arm's make its turn void.

    told: sentences of the last decisions, in which control says why a replica died.
    """
    if record.second.name not in state.deployments:
        return ArmFailed(arm=Arm.SECOND, reason=f"{record.second.name} could not be deployed")
    for replica in state.replicas.values():
        if replica.status is not ReplicaStatus.BACKOFF:
            continue
        reason = _why(replica.id, told)
        if replica.deployment == record.second.name:
            return ArmFailed(arm=Arm.SECOND, reason=reason)
        if replica.deployment == record.first.name and turn_began:
            return ArmFailed(arm=Arm.FIRST, reason=reason)
    return None


def _why(replica: ReplicaId, told: Sequence[str]) -> str:
    words = f"{replica} died ("
    said = next((one for one in reversed(told) if one.startswith(words)), None)
    if said is None:
        return f"{replica} died or did not start; the house's log says why"
    return said.rpartition("; a new replica")[0] or said


def is_ready(arm: Deployment, served: ServedDeployment | None) -> bool:
    """Whether an arm can serve; one that may be unloaded loads when it is asked."""
    return served is not None and ready_replicas(served) >= arm.bounds[0]


def ready_replicas(served: ServedDeployment) -> int:
    """Replicas that take requests now."""
    return sum(replica.ready and not replica.draining for replica in served.replicas.values())
