"""The HTTP server in front of the gateway, with the settings that keep it lean."""

import sys

import uvicorn
from starlette.types import ASGIApp

KEEP_ALIVE_S = 75
GRACE_S = 5


def server_config(app: ASGIApp, *, host: str, port: int) -> uvicorn.Config:
    """Settings for `uvicorn.Server`: one process, no access log; the house owns the event loop."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="asyncio" if sys.platform == "win32" else "uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
