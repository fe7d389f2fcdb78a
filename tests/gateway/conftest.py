"""A real server on a free port in front of a house in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
import pytest
import uvicorn
from starlette.types import ASGIApp

from meted.gateway.app import create_app
from meted.gateway.server import server_config
from meted.testing.fake_doors import TENANT_KEY, FakeDoors

MAX_BODY_BYTES = 100_000

Serve = Callable[[ASGIApp], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    # Startup and shutdown by hand: uvicorn's own look up only ten times a second.
    config = server_config(app, host="127.0.0.1", port=0)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        for listener in server.servers:
            listener.close()
        while server.server_state.connections or server.server_state.tasks:
            await asyncio.sleep(0.001)
        for listener in server.servers:
            await listener.wait_closed()


@pytest.fixture
def serve() -> Serve:
    """Serves an application on a free port while its context is open; gives its address."""
    return serving


@pytest.fixture
def doors() -> FakeDoors:
    return FakeDoors()


@pytest.fixture
async def url(doors: FakeDoors) -> AsyncIterator[str]:
    async with serving(create_app(doors, max_body_bytes=MAX_BODY_BYTES)) as address:
        yield address


@pytest.fixture
async def client(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"authorization": f"Bearer {TENANT_KEY}"}
    async with aiohttp.ClientSession(url, headers=headers) as session:
        yield session
