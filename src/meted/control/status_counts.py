"""How many replicas each deployment has in each state, as a policy is told."""

from collections import Counter

from meted.control.state import ControlState
from meted.domain.deployment import ReplicaStatus
from meted.domain.units import DeploymentName

StatusCounts = Counter[tuple[DeploymentName, ReplicaStatus]]


def status_counts(state: ControlState) -> StatusCounts:
    """Replicas by deployment and status; one that is to be retried counts as starting."""
    return Counter(
        (
            one.deployment,
            ReplicaStatus.STARTING if one.status is ReplicaStatus.BACKOFF else one.status,
        )
        for one in state.replicas.values()
    )
