"""The admin doors under /meted/v1: the house's state, its checkpoints, deployments and jobs."""

import re
from dataclasses import asdict, fields
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.routing import Route

from meted.domain.job import JobKind
from meted.domain.units import JobName
from meted.gateway.errors import decode, refusal
from meted.gateway.guard import Guard, Handler
from meted.gateway.settings_body import SettingsBody
from meted.live.doors import Doors, Key
from meted.live.job_codec import SPECS
from meted.live.job_specs import job_spec_from_mapping
from meted.live.names import check_name

MOST_REPLICAS = 64
JOB_VERBS = ("pause", "resume", "cancel")


class DeploymentBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a POST to /meted/v1/deployments says; the checkpoint's name defaults to its own."""

    name: str
    checkpoint: str | None = None
    path: str | None = None
    replicas: Annotated[int, Meta(ge=1, le=MOST_REPLICAS)] = 1
    settings: SettingsBody | None = None


_SPEC_FIELDS = {field.name for kind in SPECS.values() for field in fields(kind)} | {"kind"}
_WORD = re.compile(r"[a-z_]+")
_deployment = msgspec.json.Decoder(DeploymentBody)
_mapping = msgspec.json.Decoder(dict[str, Any])


class Admin:
    """The admin doors; each needs an admin key, and each change is entered in the audit log."""

    def __init__(self, doors: Doors, guard: Guard) -> None:
        self._doors = doors
        self._guard = guard

    def routes(self) -> list[Route]:
        rows: list[tuple[str, str, Handler]] = [
            ("GET", "/status", self._status),
            ("GET", "/timeline", self._timeline),
            ("GET", "/predictions", self._predictions),
            ("GET", "/checkpoints", self._checkpoints),
            ("GET", "/deployments", self._deployments),
            ("POST", "/deployments", self._deploy),
            ("DELETE", "/deployments/{name}", self._undeploy),
            ("GET", "/jobs", self._jobs),
            ("POST", "/jobs", self._submit_job),
            ("GET", "/jobs/{name}", self._job),
            ("POST", "/shutdown", self._shutdown),
        ]
        rows += [("POST", f"/jobs/{{name}}/{verb}", self._control(verb)) for verb in JOB_VERBS]
        return [self._guard.admin(method, path, handler) for method, path, handler in rows]

    async def _status(self, request: Request, key: Key) -> Any:
        return self._doors.status()

    async def _timeline(self, request: Request, key: Key) -> Any:
        return self._doors.timeline()

    async def _predictions(self, request: Request, key: Key) -> Any:
        return await self._doors.predictions()

    async def _checkpoints(self, request: Request, key: Key) -> Any:
        return await self._doors.checkpoints()

    async def _deployments(self, request: Request, key: Key) -> Any:
        gauges = {one.name: one for one in self._doors.gauges()}
        rows: list[dict[str, Any]] = []
        for model in self._doors.models():
            gauge = gauges.get(model.name)
            rows.append(
                {
                    "name": model.name,
                    "task": model.task,
                    "checkpoint": model.checkpoint,
                    "base": model.base,
                    "context_tokens": model.context_tokens,
                    "created": model.created,
                    "ready_replicas": model.ready_replicas,
                    "running": gauge.running if gauge else 0,
                    "waiting": gauge.waiting if gauge else 0,
                }
            )
        return rows

    async def _deploy(self, request: Request, key: Key) -> Any:
        body = decode(_deployment, await self._guard.body(request))
        try:
            check_name(body.name, "name", slash=False)
        except ValueError as error:
            raise refusal(str(error), param="name") from error
        try:
            settings = (body.settings or SettingsBody()).settings()
        except ValueError as error:
            raise refusal(str(error), param="settings") from error
        checkpoint = body.checkpoint or body.name
        deployed = await self._doors.deploy(
            name=body.name,
            checkpoint=checkpoint,
            path=body.path,
            replicas=body.replicas,
            settings=settings,
        )
        detail = {
            "checkpoint": checkpoint,
            "path": body.path,
            "replicas": body.replicas,
            "settings": asdict(settings),
        }
        self._doors.note(actor=key, action="deploy", subject=body.name, detail=detail)
        return deployed

    async def _undeploy(self, request: Request, key: Key) -> Any:
        name = request.path_params["name"]
        undeployed = await self._doors.undeploy(name)
        self._doors.note(actor=key, action="undeploy", subject=name, detail={})
        return undeployed

    async def _jobs(self, request: Request, key: Key) -> Any:
        return self._doors.jobs()

    async def _submit_job(self, request: Request, key: Key) -> Any:
        mapping = decode(_mapping, await self._guard.body(request))
        try:
            spec = job_spec_from_mapping(mapping)
        except (ValueError, OverflowError) as error:
            raise refusal(str(error), param=_named_field(str(error))) from error
        job = await self._doors.submit_job(spec)
        action = "train" if spec.kind is JobKind.TRAINING else f"search.{spec.kind}"
        self._doors.note(actor=key, action=action, subject=spec.name, detail=asdict(spec))
        return job

    async def _job(self, request: Request, key: Key) -> Any:
        return self._doors.job(JobName(request.path_params["name"]))

    def _control(self, verb: str) -> Handler:
        async def control(request: Request, key: Key) -> Any:
            name = JobName(request.path_params["name"])
            job = await self._doors.control_job(name, verb)
            self._doors.note(actor=key, action=f"job.{verb}", subject=name, detail={})
            return job

        return control

    async def _shutdown(self, request: Request, key: Key) -> Any:
        self._doors.note(actor=key, action="shutdown", subject="house", detail={})
        self._doors.request_shutdown()
        return {"status": "stopping"}


def _named_field(sentence: str) -> str | None:
    """The field of a job's spec that a sentence about it names first."""
    return next((word for word in _WORD.findall(sentence) if word in _SPEC_FIELDS), None)
