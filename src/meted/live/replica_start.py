"""How the house starts a replica: its worker's command line, and which engine the books name."""

from pathlib import Path

import msgspec

from meted.domain.deployment import Deployment
from meted.domain.engine_choice import OPENVINO, engine_for
from meted.domain.engine_settings import CachePrecision
from meted.domain.units import ReplicaId
from meted.live.host import Urgency, WorkerSpec
from meted.live.wire import FromReplica


def replica_spec(
    deployment: Deployment,
    *,
    replica: ReplicaId,
    threads: int,
    devices: tuple[int, ...],
    checkpoints: Path,
) -> WorkerSpec:
    """The worker of a replica. threads: those that the plan gives it; its settings win."""
    settings = deployment.settings
    return WorkerSpec(
        id=replica,
        arguments=(
            *("-m", "meted.live.replica_worker", "--fd", "{fd}"),
            *("--engine", engine_for(settings, deployment.task)),
            *("--folder", str(checkpoints / deployment.checkpoint)),
            *("--threads", str(settings.threads or threads)),
            *("--max-batch", str(deployment.max_batch)),
            *("--settings", msgspec.json.encode(settings).decode()),
        ),
        devices=devices,
        urgency=Urgency.NORMAL,
        incoming=FromReplica,
    )


def predicted_as(deployment: Deployment) -> str:
    """The engine as predictions know it: what changes the cost of a step is another engine."""
    settings = deployment.settings
    engine = engine_for(settings, deployment.task)
    plain = settings.cache is CachePrecision.AUTO and settings.speculation is None
    return engine if plain or engine != OPENVINO else f"{engine}, set otherwise"
