"""Values for tests: sensible defaults, override what the test is about."""

from meted.domain.allocation import DeploymentDemand, JobDemand, PredictedServing, Snapshot
from meted.domain.allocation import Harvest as Harvest
from meted.domain.deployment import SLO, Deployment, Task
from meted.domain.job import TrainingSpec
from meted.domain.pool import Device, Pool, Price
from meted.domain.units import DeploymentName, JobName, Micros, NanoUSD, TenantName


def make_pool(*, devices: int = 2, nano_usd_per_hour: int = 20_000_000) -> Pool:
    """Cores 0.. with one price."""
    return Pool(
        devices=tuple(Device(index=index) for index in range(devices)),
        price=Price(nano_usd_per_device_hour=NanoUSD(nano_usd_per_hour)),
    )


def make_slo(*, ttft_ms: int = 1000, tpot_ms: int = 100) -> SLO:
    """Both limits in milliseconds."""
    return SLO(ttft_p95=Micros(ttft_ms * 1000), tpot_p95=Micros(tpot_ms * 1000))


def make_deployment(name: str = "m", *, replicas: int = 1, max_queue: int = 8) -> Deployment:
    """A deployment that generates, of a checkpoint with the same name."""
    return Deployment(
        name=DeploymentName(name),
        checkpoint=name,
        task=Task.GENERATE,
        replicas=replicas,
        slo=make_slo(),
        max_batch=4,
        max_queue=max_queue,
    )


def make_spec(name: str = "tune") -> TrainingSpec:
    """A small valid training job."""
    return TrainingSpec(
        name=JobName(name), base="m", data="corpus.txt", tenant=TenantName("house"), steps=10
    )


def make_demand(
    name: str = "m",
    *,
    rate: float = 1.0,
    utilisation: float = 0.3,
    queued: int = 0,
    running: int = 1,
    predicted: tuple[PredictedServing, ...] = (),
) -> DeploymentDemand:
    """A deployment's demand."""
    return DeploymentDemand(
        deployment=DeploymentName(name),
        replicas=1,
        arrivals_per_second=rate,
        queued=queued,
        running=running,
        utilisation=utilisation,
        tokens_per_second=50.0,
        slo=make_slo(),
        predicted=predicted,
    )


def make_predicted(harvest: Harvest, *, ttft_ms: int, tpot_ms: int = 20) -> PredictedServing:
    """A prediction in milliseconds."""
    return PredictedServing(
        harvest=harvest,
        ttft_p95=Micros(ttft_ms * 1000),
        tpot_p95=Micros(tpot_ms * 1000),
        samples=100,
    )


def make_job_demand(name: str = "tune", *, order: int = 0) -> JobDemand:
    """A job that would train 100 tokens in a device-second."""
    return JobDemand(
        job=JobName(name), order=order, remaining_steps=100, tokens_per_device_second=100.0
    )


def make_snapshot(
    *demands: DeploymentDemand, jobs: tuple[JobDemand, ...] = (), pool: Pool | None = None
) -> Snapshot:
    """A snapshot at time 0 with no previous plan."""
    return Snapshot(now=Micros(0), pool=pool or make_pool(), deployments=tuple(demands), jobs=jobs)
