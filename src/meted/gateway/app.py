"""The gateway as one ASGI application over the house's doors."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meted import __version__
from meted.gateway.admin import Admin, json_response
from meted.gateway.bodies import read_chat, read_completion
from meted.gateway.errors import error_body, key_behind
from meted.gateway.exchange import (
    ClientGoneError,
    error_headers,
    identity_headers,
    new_request_id,
    unexpected,
)
from meted.gateway.metrics import Metrics
from meted.gateway.openai import Answer, Door, Embed, Generate
from meted.gateway.replies import CHAT, TEXT, model_object, unknown_model
from meted.live.doors import Doors, HouseError


def create_app(
    doors: Doors, *, max_body_bytes: int, extra_routes: Sequence[BaseRoute] = ()
) -> ASGIApp:
    """The doors over HTTP. extra_routes: what lies above the gateway, e.g. the page."""
    metrics = Metrics(doors)
    answers: dict[str, Answer] = {
        "/v1/chat/completions": Generate(doors, CHAT, read_chat),
        "/v1/completions": Generate(doors, TEXT, read_completion),
        "/v1/embeddings": Embed(doors),
    }
    hot = {
        path: Door(
            doors,
            answer,
            max_body_bytes=max_body_bytes,
            request_ended=metrics.request_ended,
        )
        for path, answer in answers.items()
    }
    plain = Plain(doors, metrics)
    rest = Starlette(
        routes=[
            # POSTs to these paths never come here; the routes make other methods a 405.
            *(Route(path, door, methods=["POST"]) for path, door in hot.items()),
            Route("/v1/models", plain.models),
            Route("/v1/models/{name:path}", plain.model),
            Route("/health", plain.health),
            Route("/version", plain.version),
            Route("/metrics", plain.metrics),
            *Admin(doors, max_body_bytes=max_body_bytes).routes(),
            *extra_routes,
        ],
        exception_handlers={
            HouseError: _on_house_error,
            HTTPException: _on_http_exception,
            ClientGoneError: _on_client_gone,
            Exception: _on_failure,
        },
    )
    rest.router.redirect_slashes = False
    return Gateway(hot, rest)


class Gateway:
    """Sends each hot path straight to its door; everything else through Starlette."""

    def __init__(self, hot: dict[str, Door], rest: ASGIApp) -> None:
        self._hot = hot
        self._rest = rest

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

    def _authenticate(self, request: Request) -> None:
        header = request.headers.get("authorization")
        key_behind(self._doors, header.encode("latin-1") if header else None)

    async def models(self, request: Request) -> Response:
        self._authenticate(request)
        models = [model_object(model) for model in self._doors.models()]
        return json_response({"object": "list", "data": models})

    async def model(self, request: Request) -> Response:
        self._authenticate(request)
        name = request.path_params["name"]
        models = {model.name: model for model in self._doors.models()}
        if name not in models:
            raise unknown_model(name, list(models))
        return json_response(model_object(models[name]))

    async def health(self, request: Request) -> Response:
        ready = self._doors.ready()
        status = "ready" if ready else "starting or stopping"
        return json_response({"status": status}, 200 if ready else 503)

    async def version(self, request: Request) -> Response:
        return json_response({"version": __version__})

    async def metrics(self, request: Request) -> Response:
        body, content_type = self._metrics.exposition(request.headers.get("accept", ""))
        return Response(body, media_type=None, headers={"content-type": content_type})


def _error_response(error: HouseError) -> Response:
    response = Response(error_body(error), error.status, media_type="application/json")
    response.raw_headers.extend(error_headers(error))
    return response


async def _on_house_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HouseError)
    return _error_response(error)


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody is there to read it


async def _on_failure(request: Request, error: Exception) -> Response:
    return _error_response(unexpected(request.scope["meted.request_id"]))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = {
        404: f"there is nothing at {request.url.path}; docs/api.md lists the doors",
        405: f"{request.method} is not a method of {request.url.path}; see the Allow header",
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
