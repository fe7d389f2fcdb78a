"""Who may come in at the doors that are no hot path: a key, its role, its limits, its body."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from meted.domain.units import TenantName
from meted.gateway.body_reader import BodyReader, check_encoding
from meted.gateway.errors import admin_behind, key_behind
from meted.gateway.limits import KeyLimits
from meted.live.doors import Doors, Key

PREFIX = "/meted/v1"

Handler = Callable[[Request, Key], Awaitable[Any]]


class Guard:
    """Lets requests in to handlers that answer with JSON."""

    def __init__(self, doors: Doors, limits: KeyLimits, reader: BodyReader) -> None:
        self._doors = doors
        self._limits = limits
        self._reader = reader

    def admin(self, method: str, path: str, handler: Handler) -> Route:
        """A door under /meted/v1 for admin keys only, whose limits do not hold there."""

        async def endpoint(request: Request) -> Response:
            key = admin_behind(self._doors, _authorization(request))
            return json_response(await handler(request, key))

        return Route(PREFIX + path, endpoint, methods=[method])

    def tenant(self, method: str, path: str, handler: Handler) -> Route:
        """A door under /meted/v1 that shows a tenant its own, and an admin all."""
        return Route(PREFIX + path, self.any_key(handler), methods=[method])

    def any_key(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """For every key; a limited one pays one request, and no tokens."""

        async def endpoint(request: Request) -> Response:
            key = key_behind(self._doors, _authorization(request))
            limit = self._limits.of(key)
            if limit is None:
                return json_response(await handler(request, key))
            request.scope["meted.limit"] = limit
            admission = limit.admit(0)
            try:
                return json_response(await handler(request, key))
            finally:
                admission.settle(0)

        return endpoint

    async def body(self, request: Request) -> bytes:
        """The whole body. Raises HouseError (400, 408, 413, 415), ClientGoneError."""
        for name, value in request.scope["headers"]:
            if name == b"content-encoding":
                check_encoding(value)
        lengths = [value for name, value in request.scope["headers"] if name == b"content-length"]
        if lengths:
            self._reader.check_length(lengths)
        whole = await self._reader.read(request.receive)
        request.scope["meted.body_read"] = True
        return whole


def seen_by(key: Key) -> TenantName | None:
    """Whose data a key may see; None is everyone's."""
    return None if key.admin else key.tenant


def json_response(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _authorization(request: Request) -> bytes | None:
    header = request.headers.get("authorization")
    return header.encode("latin-1") if header else None
