"""The gateway as one ASGI application over the house's doors."""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meted import __version__
from meted.gateway.admin import Admin
from meted.gateway.bodies import read_chat, read_completion
from meted.gateway.body_reader import BodyReader, ClientGoneError, let_go
from meted.gateway.errors import error_body
from meted.gateway.exchange import (
    CLOSE,
    error_headers,
    identity_headers,
    new_request_id,
    unexpected,
)
from meted.gateway.guard import Guard, json_response
from meted.gateway.levers import Levers
from meted.gateway.limits import KeyLimits
from meted.gateway.metrics import Metrics
from meted.gateway.money import Money
from meted.gateway.openai import Answer, Door, Embed, Generate
from meted.gateway.openapi import description
from meted.gateway.replies import CHAT, TEXT, model_object, unknown_model
from meted.live.dollars import shortened
from meted.live.doors import Doors, HouseError, Key

BODY_TIMEOUT_S = 30.0


def create_app(
    doors: Doors,
    *,
    max_body_bytes: int,
    body_timeout_s: float = BODY_TIMEOUT_S,
    extra_routes: Sequence[BaseRoute] = (),
) -> "Gateway":
    """The doors over HTTP. extra_routes: what lies above the gateway, e.g. the page."""
    metrics = Metrics(doors)
    limits = KeyLimits()
    reader = BodyReader(limit_bytes=max_body_bytes, timeout_s=body_timeout_s)
    guard = Guard(doors, limits, reader)
    answers: dict[str, Answer] = {
        "/v1/chat/completions": Generate(doors, CHAT, read_chat),
        "/v1/completions": Generate(doors, TEXT, read_completion),
        "/v1/embeddings": Embed(doors),
    }
    hot = {
        path: Door(
            doors,
            answer,
            limits=limits,
            reader=reader,
            request_ended=metrics.request_ended,
        )
        for path, answer in answers.items()
    }
    routes = [
        # POSTs to these paths never come here; the routes make other methods a 405.
        *(Route(path, door, methods=["POST"]) for path, door in hot.items()),
        *Plain(doors, metrics).routes(guard),
        *Admin(doors, guard).routes(),
        *Levers(doors, guard).routes(),
        *Money(doors, guard, limits).routes(),
    ]
    rest = Starlette(
        routes=[*routes, *extra_routes],
        exception_handlers={
            HouseError: _on_house_error,
            HTTPException: _on_http_exception,
            ClientGoneError: _on_client_gone,
            Exception: _on_failure,
        },
    )
    rest.router.redirect_slashes = False
    return Gateway(hot, rest, routes)


class Gateway:
    """Sends each hot path straight to its door; everything else through Starlette.

    routes: the gateway's own doors, as /openapi.json describes them.
    """

    def __init__(self, hot: dict[str, Door], rest: ASGIApp, routes: Sequence[Route]) -> None:
        self._hot = hot
        self._rest = rest
        self.routes = tuple(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
        elif scope["method"] == "POST" and (door := self._hot.get(scope["path"])) is not None:
            await door(scope, receive, send)
        else:
            await self._identified(scope, receive, send)

    async def _identified(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Through Starlette, with the headers that every response carries, and an answer always."""
        request_id = new_request_id()
        echo = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
        started = False

        async def stamped(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *identity_headers(request_id, echo)]
                if (limit := scope.get("meted.limit")) is not None:
                    message["headers"] += limit.headers()
            await send(message)

        scope["meted.request_id"] = request_id
        try:
            await self._rest(scope, receive, stamped)
        except Exception:
            # Starlette raises again what `_on_failure` has already logged and answered.
            if not started:
                raise


class Plain:
    """The GET doors."""

    def __init__(self, doors: Doors, metrics: Metrics) -> None:
        self._doors = doors
        self._metrics = metrics
        self._openapi = msgspec.json.encode(description())

    def routes(self, guard: Guard) -> list[Route]:
        return [
            Route("/v1/models", guard.any_key(self._models)),
            Route("/v1/models/{name:path}", guard.any_key(self._model)),
            Route("/health", self.health),
            Route("/version", self.version),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
        ]

    async def _models(self, request: Request, key: Key) -> Any:
        models = [model_object(model) for model in self._doors.models()]
        return {"object": "list", "data": models}

    async def _model(self, request: Request, key: Key) -> Any:
        name = request.path_params["name"]
        models = {model.name: model for model in self._doors.models()}
        if name not in models:
            raise unknown_model(name, list(models))
        return model_object(models[name])

    async def openapi(self, request: Request) -> Response:
        return Response(self._openapi, media_type="application/json")

    async def health(self, request: Request) -> Response:
        ready = self._doors.ready()
        status = "ready" if ready else "starting or stopping"
        return json_response({"status": status}, 200 if ready else 503)

    async def version(self, request: Request) -> Response:
        return json_response({"version": __version__})

    async def metrics(self, request: Request) -> Response:
        body, content_type = self._metrics.exposition(request.headers.get("accept", ""))
        return Response(body, media_type=None, headers={"content-type": content_type})


class LastResponse(Response):
    """An answer after which the connection closes, because the body was not read to its end."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*self.raw_headers, CLOSE]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await let_go(receive)
        await send({"type": "http.response.body", "body": b""})


def _error_response(error: HouseError, kind: type[Response] = Response) -> Response:
    response = kind(error_body(error), error.status, media_type="application/json")
    response.raw_headers.extend(error_headers(error))
    return response


async def _on_house_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HouseError)
    unread = request.method not in ("GET", "HEAD") and "meted.body_read" not in request.scope
    return _error_response(error, LastResponse if unread else Response)


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody is there to read it


async def _on_failure(request: Request, error: Exception) -> Response:
    return _error_response(unexpected(request.scope["meted.request_id"]))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = shortened(request.url.path)
    known = {
        404: f"there is nothing at {path}; docs/api.md lists the doors",
        405: f"{shortened(request.method)} is not a method of {path}; see the Allow header",
    }
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
    refused = HouseError(
        known.get(error.status_code, error.detail),
        status=error.status_code,
        type="invalid_request_error",
        code=code,
    )
    response = _error_response(refused)
    response.headers.update(error.headers or {})
    return response
