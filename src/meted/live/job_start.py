"""How a job's process is started: `python -m meted.live.job_worker`."""

from pathlib import Path

from meted.domain.job import JobKind, JobSpec
from meted.domain.pool import Price
from meted.live.host import Urgency, WorkerSpec
from meted.live.job_codec import spec_json
from meted.live.wire import FromTrainer


def job_worker_spec(
    spec: JobSpec,
    *,
    worker_id: str,
    devices: tuple[int, ...],
    threads: int,
    price: Price,
    checkpoints: Path,
    calibrations: Path,
    jobs: Path,
) -> WorkerSpec:
    """It begins in the idle class; what it may use is told later. price: what a search reckons
    with. A search of serving starts replicas of its own."""
    return WorkerSpec(
        id=worker_id,
        arguments=(
            *("-m", "meted.live.job_worker", "--fd", "{fd}"),
            *("--spec", spec_json(spec)),
            *("--registry", str(checkpoints)),
            *("--calibrations", str(calibrations)),
            *("--workdir", str(jobs / spec.name)),
            *("--threads", str(threads)),
            *("--devices", ",".join(map(str, devices))),
            *("--price", str(price.nano_usd_per_device_hour)),
        ),
        devices=devices,
        urgency=Urgency.IDLE,
        incoming=FromTrainer,
        family=spec.kind is JobKind.SERVING,
    )
