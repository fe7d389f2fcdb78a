"""The house's jobs as its doors see them: trainings and searches, each with what it found."""

import asyncio
from typing import Any

from meted.control.events import CancelAsked, Event, JobSubmitted, PauseAsked, ResumeAsked
from meted.control.state import ControlError
from meted.domain.deployment import Task
from meted.domain.job import JobKind, JobSpec, TrainingSpec
from meted.domain.search_job import ServingSearch, VariantSearch
from meted.domain.units import JobName
from meted.live.books.recorded import recorded_arrivals
from meted.live.checkpoints import CheckpointError
from meted.live.doors import HouseError
from meted.live.house import House
from meted.live.job_folder import read_result
from meted.live.job_specs import check_job_spec
from meted.live.jobs import job_status_word
from meted.live.live_job import JobTotals
from meted.live.store import StoreError
from meted.live.tuning.session import arrivals_of
from meted.live.tuning.worker import keep_traffic

INVALID = "invalid_request_error"


class HouseJobs:
    """A part of `HouseDoors`."""

    _house: House

    async def submit_job(self, spec: JobSpec) -> dict[str, Any]:
        house = self._house
        try:
            check_job_spec(spec)
            base = house.registry.get(spec.base)
        except (ValueError, CheckpointError) as error:
            raise invalid(str(error), param=None) from error
        if base.task is not Task.GENERATE:
            raise invalid(
                f"{spec.base!r} is for {base.task}; a checkpoint that generates is expected",
                param="base",
            )
        makes = spec.kind is JobKind.TRAINING
        if makes and spec.name not in house.state.jobs and house.registry.has(spec.name):
            raise HouseError(
                f"a checkpoint named {spec.name!r} exists already; choose another name",
                status=409,
                type=INVALID,
                param="name",
            )
        if isinstance(spec, ServingSearch) and spec.name not in house.state.jobs:
            await asyncio.to_thread(self._keep_traffic, spec)
        self.happen(JobSubmitted(now=house.clock.now(), spec=spec), conflict=409)
        job = house.state.jobs[spec.name]
        house.jobs_live.add(spec, job.progress, JobTotals())
        return self.job(spec.name)

    def _keep_traffic(self, spec: ServingSearch) -> None:
        """Every measurement of a search answers the same requests, whatever comes meanwhile."""
        settings = self._house.settings
        try:
            arrivals = arrivals_of(
                spec, self._house.registry, lambda: recorded_arrivals(settings.books)
            )
        except (CheckpointError, StoreError, ValueError, OSError) as error:
            raise invalid(str(error), param="traffic") from error
        keep_traffic(settings.jobs / spec.name, arrivals)

    def jobs(self) -> list[dict[str, Any]]:
        return [self.job_view(name) for name in self._house.state.jobs]

    def job(self, name: JobName) -> dict[str, Any]:
        if name not in self._house.state.jobs:
            known = ", ".join(self._house.state.jobs) or "none"
            raise HouseError(
                f"no job is named {name!r}; there are: {known}",
                status=404,
                type=INVALID,
                param="name",
            )
        return {
            **self.job_view(name),
            "losses": self._house.losses(name),
            "result": read_result(self._house.settings.jobs / name),
        }

    def job_view(self, name: JobName) -> dict[str, Any]:
        house = self._house
        job, live = house.state.jobs[name], house.jobs_live.live[name]
        progress, totals = live.progress, house.jobs_live.so_far(name)
        left = max(0, progress.total_steps - progress.step) * live.nanos_per_step
        price = house.metering.meter.price.nano_usd_per_device_hour
        running = live.worker is not None
        return {
            "name": name,
            "kind": job.spec.kind,
            "status": job_status_word(job),
            "base": job.spec.base,
            "what": what_of(job.spec),
            **_training(job.spec),
            "tenant": job.spec.tenant,
            "step": progress.step,
            "total_steps": progress.total_steps,
            "phase": progress.phase,
            "loss": progress.loss,
            "held_out_before": progress.held_out_before,
            "held_out": progress.held_out,
            "held_out_converted": progress.held_out_converted,
            "tokens": progress.tokens,
            "tokens_per_second": live.tokens_per_second if running else 0.0,
            "device_seconds": totals.device_nanos / 1e9,
            "cost_nano_usd": totals.cost,
            "price_nano_usd": totals.price,
            "project": job.spec.project,
            "held": job.held or None,
            "cost_to_finish_nano_usd": round(left * price / 3_600_000_000_000),
            "checkpoint_step": progress.checkpoint_step,
            "pid": live.worker.pid if live.worker is not None else None,
            "error": job.error,
        }

    async def control_job(self, name: JobName, verb: str) -> dict[str, Any]:
        events = {"pause": PauseAsked, "resume": ResumeAsked, "cancel": CancelAsked}
        if verb not in events:
            raise invalid(f"cannot {verb!r} a job; expected pause, resume or cancel", param="verb")
        self.job(name)
        self.happen(events[verb](now=self._house.clock.now(), name=name), conflict=409)
        return self.job(name)

    def happen(self, event: Event, *, missing: int = 400, conflict: int | None = None) -> None:
        """Tell the house. Raises HouseError with `conflict`, else `missing`, for what cannot be."""
        try:
            self._house.happen(event)
        except ControlError as error:
            raise HouseError(
                str(error), status=conflict or missing, type=INVALID, param="name"
            ) from error


def what_of(spec: JobSpec) -> str:
    """What a job does, in words."""
    match spec:
        case TrainingSpec():
            searched = "levers searched, then " if spec.auto is not None else ""
            return f"{searched}{spec.base} by {spec.method} with {spec.optimizer}"
        case VariantSearch():
            return f"variants of {spec.base}: {', '.join(spec.levers)}"
        case ServingSearch():
            return f"how to serve {spec.base} under the traffic {spec.traffic}"
        case _:
            raise TypeError(f"{spec!r} is no spec of a job")


def _training(spec: JobSpec) -> dict[str, Any]:
    """What only a training has."""
    if not isinstance(spec, TrainingSpec):
        return {"method": None, "optimizer": None}
    return {"method": spec.method, "optimizer": spec.optimizer}


def invalid(message: str, *, param: str | None) -> HouseError:
    """A refusal of what was asked, naming the field."""
    return HouseError(message, status=400, type=INVALID, param=param)
