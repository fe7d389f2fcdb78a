"""Whether the arms of a rollout can serve."""

from meted.control.state import ControlState
from meted.domain.deployment import Deployment, ReplicaStatus
from meted.live.rollout_record import RolloutRecord
from meted.live.served import ServedDeployment
from meted.optimise.rollout import ArmFailed
from meted.optimise.switchback import Arm


def failed_arm(record: RolloutRecord, state: ControlState, *, turn_began: bool) -> ArmFailed | None:
    """One death of a second arm's replica is enough; the first arm's make its turn void."""
    if record.second.name not in state.deployments:
        return ArmFailed(arm=Arm.SECOND, reason=f"{record.second.name} could not be deployed")
    for replica in state.replicas.values():
        if replica.status is not ReplicaStatus.BACKOFF:
            continue
        reason = f"replica {replica.id} died or did not start; the house's log says why"
        if replica.deployment == record.second.name:
            return ArmFailed(arm=Arm.SECOND, reason=reason)
        if replica.deployment == record.first.name and turn_began:
            return ArmFailed(arm=Arm.FIRST, reason=reason)
    return None


def is_ready(arm: Deployment, served: ServedDeployment | None) -> bool:
    """Whether an arm can serve; one that may be unloaded loads when it is asked."""
    return served is not None and ready_replicas(served) >= arm.bounds[0]


def ready_replicas(served: ServedDeployment) -> int:
    """Replicas that take requests now."""
    return sum(replica.ready and not replica.draining for replica in served.replicas.values())
