"""The house as its doors see it: requests, deployments, jobs and reports."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec

from meted import __version__
from meted.control.events import (
    Deployed,
    Undeployed,
)
from meted.domain.arms import public_name
from meted.domain.deployment import (
    DEFAULT_MAX_BATCH,
    DEFAULT_MAX_QUEUE,
    DEFAULT_SLO,
    Deployment,
    ReplicaStatus,
    Task,
)
from meted.domain.engine_settings import EngineSettings
from meted.domain.line import Kind
from meted.domain.request import EmbeddingPrompt
from meted.domain.units import DeploymentName, DeviceNanos, NanoUSD, Tokens
from meted.live.checkpoints import Checkpoint, CheckpointError
from meted.live.doors import (
    BudgetGauge,
    DeploymentGauges,
    Finish,
    HouseError,
    Key,
    ServedModel,
    Submission,
    Ticket,
)
from meted.live.engine_settings import check_served_settings, draft_of
from meted.live.house import House
from meted.live.house_money import HouseMoney
from meted.live.importing import import_checkpoint
from meted.live.job_doors import HouseJobs, invalid
from meted.live.refusals import unknown_model
from meted.live.rollout_doors import HouseLevers
from meted.live.store import StoreDownError


class HouseDoors(HouseJobs, HouseLevers, HouseMoney):
    """`Doors` over the real house."""

    def __init__(self, house: House) -> None:
        super().__init__(
            store=house.store,
            in_writer=house.metering.in_writer,
            books=house.settings.books,
            wall=house.clock.wall,
            on_change=house.reread,
            gauges=house.treasury.desk.gauges,
        )
        self._house = house

    async def refresh(self) -> dict[str, Any]:
        await self._house.reread()
        return {"refreshed": True}

    def budget_gauges(self) -> Sequence[BudgetGauge]:
        return self._house.treasury.desk.gauges()

    # Requests.

    def authenticate(self, bearer: str) -> Key | None:
        try:
            return self._house.find_key(bearer)
        except StoreDownError as error:
            raise HouseError(
                "keys cannot be looked up, because the store does not answer; try again soon",
                status=503,
                type="server_error",
                code="store_down",
                retry_after_s=5,
            ) from error

    def submit(self, submission: Submission) -> Ticket:
        rollouts, public = self._house.rollouts, submission.deployment
        if not rollouts.serves(public):
            raise unknown_model(public, rollouts.public())
        arm = rollouts.route(public)
        deployment = self._house.state.deployments.get(arm)
        if deployment is not None:
            embeds = isinstance(submission.prompt, EmbeddingPrompt)
            if embeds != (deployment.task is Task.EMBED):
                raise invalid(
                    f"the model {submission.deployment!r} is for {deployment.task}; "
                    f"use it through {_door(deployment.task)}",
                    param="model",
                )
        try:
            return self._house.serving.submit(replace(submission, deployment=arm))
        except HouseError as error:
            other = rollouts.elsewhere(arm)
            if other is None or error.code != "queue_full":
                raise
            rollouts.refused(arm)
            return self._house.serving.submit(replace(submission, deployment=other))

    def models(self) -> Sequence[ServedModel]:
        found: list[ServedModel] = []
        rollouts = self._house.rollouts
        for public in rollouts.public():
            served = self._house.serving.deployments[rollouts.base(public)]
            deployment = served.deployment
            checkpoint = self._checkpoint(deployment.checkpoint)
            context = checkpoint.context_tokens if checkpoint else served.context_tokens
            found.append(
                ServedModel(
                    name=public,
                    task=deployment.task,
                    checkpoint=deployment.checkpoint,
                    base=checkpoint.base if checkpoint else None,
                    context_tokens=Tokens(served.context_tokens or context),
                    created=checkpoint.created if checkpoint else 0,
                    ready_replicas=sum(1 for r in served.replicas.values() if r.ready),
                )
            )
        return found

    def _checkpoint(self, name: str) -> Checkpoint | None:
        try:
            return self._house.registry.get(name)
        except CheckpointError:
            return None

    def gauges(self) -> Sequence[DeploymentGauges]:
        return [
            DeploymentGauges(
                name=served.deployment.name,
                running=served.running,
                waiting=len(served.waiting),
                cache_usage=max((r.cache_usage for r in served.replicas.values()), default=0.0),
                prompt_tokens=Tokens(served.prompt_tokens),
                cached_tokens=Tokens(served.cached_tokens),
                completion_tokens=Tokens(served.completion_tokens),
                drift_alarms=served.watch.drifts,
                drift_suspicion=served.watch.suspicion,
            )
            for served in self._house.serving.deployments.values()
        ]

    def take_finishes(self) -> Sequence[Finish]:
        return self._house.serving.take_finishes()

    def usage_totals(self) -> dict[str, tuple[DeviceNanos, NanoUSD]]:
        return {str(kind): total for kind, total in self._house.metering.totals.items()}

    def ready(self) -> bool:
        house = self._house
        return not house.serving.closing and all(
            served.deployment.bounds[0] == 0
            or any(replica.ready for replica in served.replicas.values())
            for name, served in house.serving.deployments.items()
            # A version that is tried, or that drains, keeps nobody waiting.
            if house.rollouts.elsewhere(name) is None
        )

    # Deployments.

    async def checkpoints(self) -> list[dict[str, Any]]:
        deployed: dict[str, list[str]] = {}
        for deployment in self._house.state.deployments.values():
            deployed.setdefault(deployment.checkpoint, []).append(deployment.name)
        return [
            {
                **asdict(one),
                "folder": str(one.folder),
                "deployments": deployed.get(one.name, []),
            }
            for one in self._house.registry.list()
        ]

    async def deploy(
        self,
        *,
        name: str,
        checkpoint: str,
        path: str | None,
        replicas: int,
        settings: EngineSettings,
    ) -> dict[str, Any]:
        house = self._house
        if replicas < 1:
            raise invalid(f"replicas is {replicas}, expected 1 or more", param="replicas")
        if public_name(name) != name:
            raise invalid(f"name is {name!r}, which would be a version of another", param="name")
        if house.rollouts.serves(DeploymentName(name)):
            raise HouseError(
                f"a deployment named {name!r} runs already; undeploy it first",
                status=409,
                type="invalid_request_error",
                param="name",
            )
        if path is not None or not house.registry.has(checkpoint):
            await self._import(checkpoint, path)
        draft = draft_of(settings)
        if draft is not None and not house.registry.has(draft):
            await self._import(draft, None)
        try:
            check_served_settings(
                settings,
                checkpoint=checkpoint,
                registry=house.registry,
                cores=len(house.settings.pool.devices),
            )
        except ValueError as error:
            raise invalid(str(error), param="settings") from error
        found = house.registry.get(checkpoint)
        deployment = Deployment(
            name=DeploymentName(name),
            checkpoint=checkpoint,
            task=found.task,
            replicas=replicas,
            slo=DEFAULT_SLO,
            max_batch=DEFAULT_MAX_BATCH,
            max_queue=DEFAULT_MAX_QUEUE,
            settings=settings,
        )
        self.happen(Deployed(now=house.clock.now(), deployment=deployment))
        return {"name": name, "checkpoint": checkpoint, "replicas": replicas, "status": "starting"}

    async def _import(self, checkpoint: str, path: str | None) -> None:
        await import_checkpoint(
            metering=self._house.metering,
            folder=self._house.settings.checkpoints,
            name=checkpoint,
            path=None if path is None else str(Path(path).absolute()),
            on_progress=lambda text: None,
        )

    async def undeploy(self, name: str) -> dict[str, Any]:
        if public_name(name) != name and name in self._house.state.deployments:
            raise invalid(
                f"{name!r} is a version of {public_name(name)!r}; undeploy that, or stop its "
                "rollout",
                param="name",
            )
        if not self._house.rollouts.undeploy(DeploymentName(name)):
            self.happen(
                Undeployed(now=self._house.clock.now(), name=DeploymentName(name)), missing=404
            )
        return {"name": name, "status": "draining"}

    # Reports.

    def status(self) -> dict[str, Any]:
        house = self._house
        pool, plan = house.settings.pool, house.state.plan
        return {
            "version": __version__,
            "url": house.url,
            "uptime_s": (house.clock.now() - house.started_at) / 1e6,
            "pool": {
                "devices": list(pool.indices),
                "price_usd_per_device_hour": dollars(
                    house.metering.meter.price.nano_usd_per_device_hour
                ),
            },
            "policy": {"name": house.settings.policy_name},
            "deployments": [self._deployment(name) for name in house.state.deployments],
            "jobs": self.jobs(),
            "plan": {
                "replicas": [asdict(one) for one in plan.replicas],
                "jobs": [asdict(one) for one in plan.jobs],
            },
            "decisions": [
                {"at": at, "reason": reason} for at, reason in list(house.decisions)[-20:]
            ],
            "books": {"intervals": house.metering.meter.number, "session": house.metering.session},
        }

    def _deployment(self, name: DeploymentName) -> dict[str, Any]:
        house = self._house
        deployment = house.state.deployments[name]
        served = house.serving.deployments[name]
        return {
            "name": name,
            "public": public_name(name),
            "checkpoint": deployment.checkpoint,
            "settings": msgspec.to_builtins(deployment.settings),
            "task": deployment.task,
            "replicas": [
                {
                    "id": replica.id,
                    "status": replica.status,
                    "pid": house.worker_pid(replica.id),
                    "threads": deployment.settings.threads or replica.threads,
                }
                for replica in house.state.replicas.values()
                if replica.deployment == name and replica.status is not ReplicaStatus.GONE
            ],
            "least": deployment.bounds[0],
            "most": deployment.bounds[1],
            "running": served.running,
            "waiting": len(served.waiting),
            "prediction": house.predicting.state(name, served.watch),
        }

    async def predictions(self) -> list[dict[str, Any]]:
        return await self._house.predicting.view()

    def timeline(self) -> dict[str, Any]:
        house = self._house
        return {
            "interval_s": house.settings.books_interval_s,
            "points": house.timeline_points.points,
            "totals": {
                str(kind): {
                    "device_seconds": house.metering.totals[kind][0] / 1e9,
                    "nano_usd": house.metering.totals[kind][1],
                }
                for kind in Kind
            },
            "jobs": [
                {**self.job_view(name), "losses": house.losses(name)} for name in house.state.jobs
            ],
        }

    def request_shutdown(self) -> None:
        self._house.stopping_asked.set()


def dollars(nano: int) -> str:
    """Nano-USD as an exact decimal number of dollars."""
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    whole, part = divmod(nano, 1_000_000_000)
    return f"{sign}{whole}.{part:09d}".rstrip("0").rstrip(".") if part else f"{sign}{whole}"


def _door(task: Task) -> str:
    return "/v1/embeddings" if task is Task.EMBED else "/v1/chat/completions or /v1/completions"
