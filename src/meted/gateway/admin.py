"""The admin doors under /meted/v1: the house's state, its checkpoints, deployments and jobs."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from meted.domain.job import TrainingSpec
from meted.domain.units import JobName
from meted.gateway.errors import admin_behind, decode, refusal
from meted.gateway.exchange import read_body
from meted.live.doors import Doors, Key
from meted.live.training.spec import spec_from_mapping

JOB_VERBS = ("pause", "resume", "cancel")


class DeploymentBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a POST to /meted/v1/deployments says; the checkpoint's name defaults to its own."""

    name: str
    checkpoint: str | None = None
    path: str | None = None
    replicas: int = 1


_SPEC_FIELDS = {field.name for field in fields(TrainingSpec)}
_WORD = re.compile(r"[a-z_]+")
_deployment = msgspec.json.Decoder(DeploymentBody)
_mapping = msgspec.json.Decoder(dict[str, Any])

Handler = Callable[[Request, Key], Awaitable[Any]]


class Admin:
    """The admin doors; each needs an admin key."""

    def __init__(self, doors: Doors, *, max_body_bytes: int) -> None:
        self._doors = doors
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        rows: list[tuple[str, str, Handler]] = [
            ("GET", "/status", self._status),
            ("GET", "/timeline", self._timeline),
            ("GET", "/checkpoints", self._checkpoints),
            ("GET", "/deployments", self._deployments),
            ("POST", "/deployments", self._deploy),
            ("DELETE", "/deployments/{name}", self._undeploy),
            ("GET", "/jobs", self._jobs),
            ("POST", "/jobs", self._train),
            ("GET", "/jobs/{name}", self._job),
            ("POST", "/shutdown", self._shutdown),
        ]
        rows += [("POST", f"/jobs/{{name}}/{verb}", self._control(verb)) for verb in JOB_VERBS]
        return [
            Route(f"/meted/v1{path}", self._guarded(handler), methods=[method])
            for method, path, handler in rows
        ]

    def _guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            header = request.headers.get("authorization")
            key = admin_behind(self._doors, header.encode("latin-1") if header else None)
            return json_response(await handler(request, key))

        return endpoint

    async def _body(self, request: Request) -> bytes:
        return await read_body(request.receive, self._max_body_bytes)

    async def _status(self, request: Request, key: Key) -> Any:
        return self._doors.status()

    async def _timeline(self, request: Request, key: Key) -> Any:
        return self._doors.timeline()

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
        body = decode(_deployment, await self._body(request))
        if not body.name:
            raise refusal("name is empty, expected the deployment's name", param="name")
        if body.replicas < 1:
            raise refusal(
                f"replicas is {body.replicas}, expected 1 or more; to stop a deployment, delete it",
                param="replicas",
            )
        return await self._doors.deploy(
            name=body.name,
            checkpoint=body.checkpoint or body.name,
            path=body.path,
            replicas=body.replicas,
        )

    async def _undeploy(self, request: Request, key: Key) -> Any:
        return await self._doors.undeploy(request.path_params["name"])

    async def _jobs(self, request: Request, key: Key) -> Any:
        return self._doors.jobs()

    async def _train(self, request: Request, key: Key) -> Any:
        mapping = decode(_mapping, await self._body(request))
        try:
            spec = spec_from_mapping(mapping)
        except ValueError as error:
            raise refusal(str(error), param=_named_field(str(error))) from error
        return await self._doors.train(spec)

    async def _job(self, request: Request, key: Key) -> Any:
        return self._doors.job(JobName(request.path_params["name"]))

    def _control(self, verb: str) -> Handler:
        async def control(request: Request, key: Key) -> Any:
            return await self._doors.control_job(JobName(request.path_params["name"]), verb)

        return control

    async def _shutdown(self, request: Request, key: Key) -> Any:
        self._doors.request_shutdown()
        return {"status": "stopping"}


def json_response(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _named_field(sentence: str) -> str | None:
    """The field of a training spec that a sentence about it names first."""
    return next((word for word in _WORD.findall(sentence) if word in _SPEC_FIELDS), None)
