"""The main job: one house process with its gateway and its page."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import uvicorn

from meted.dashboard.page import routes
from meted.domain.deployment import Deployment
from meted.domain.units import DeploymentName
from meted.gateway.app import create_app
from meted.gateway.server import server_config
from meted.live.checkpoints import CheckpointError
from meted.live.config import Config
from meted.live.doors import HouseError
from meted.live.home import Home
from meted.live.house import House, HouseSettings
from meted.live.house_doors import HouseDoors
from meted.live.importing import import_checkpoint
from meted.live.local_host import LocalHost
from meted.live.sqlite_store import SqliteStore
from meted.policy.allocation import make_policy

Say = Callable[[str], None]
HOUSE_TENANT = "house"


class ServeError(Exception):
    """The house cannot start: what stands in the way and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the doors stand."""

    host: str
    port: int

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{host}:{self.port}"


class _Server(uvicorn.Server):
    """A server that leaves signals to the house, which has more to end than connections."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run_house(*, config: Config, home: Home, say: Say, when_up: Callable[[str], None]) -> int:
    """Run the house until it is told to stop; returns the exit status of the process.

    when_up: called with the address once every deployment answers.
    Raises ServeError before anything starts if it cannot.
    """
    address = Address(host=config.host, port=config.port)
    listener = _listen(address)
    address = replace(address, port=listener.getsockname()[1])
    store, key_store = SqliteStore(home.books), SqliteStore(home.books)
    ensure_admin_key(home, store)
    settings = HouseSettings(
        pool=config.pool,
        policy_name=config.policy_name,
        policy=make_policy(config.policy_name, dict(config.policy_parameters)),
        policy_interval_s=config.policy_interval_s,
        books_interval_s=config.books_interval_s,
        books_flush_s=config.books_flush_s,
        checkpoints=home.checkpoints,
        jobs=home.jobs,
        engines={DeploymentName(name): engine for name, engine in config.engines.items()},
    )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, settings.pool.indices)
    house = House(
        settings=settings, store=store, key_store=key_store, host=LocalHost(home.logs)
    )
    house.url = address.url
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, house.stopping_asked.set)
    deployments = await _prepare(house, config, say)
    app = create_app(
        HouseDoors(house), max_body_bytes=config.max_body_bytes, extra_routes=routes()
    )
    server = _Server(server_config(app, host=address.host, port=address.port))
    await house.start(deployments)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    home.write_house(pid=os.getpid(), url=address.url)
    announcing = asyncio.create_task(_announce(house, address.url, when_up))
    await house.stopping_asked.wait()
    say("stopping: answering what runs, making training durable, closing the books")
    announcing.cancel()
    await house.stop()
    server.should_exit = True
    await serving
    home.remove_house()
    store.close()
    key_store.close()
    return 1 if house.failed else 0


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
    except OSError as error:
        listener.close()
        raise ServeError(
            f"cannot listen on {address.host}:{address.port}: {error.strerror}; "
            "choose another --port, or stop what listens there"
        ) from error
    listener.listen(1024)
    return listener


def ensure_admin_key(home: Home, store: SqliteStore) -> str:
    """The admin key of this home: read from its file, or made and written there once."""
    if home.admin_key.exists():
        secret = home.admin_key.read_text().strip()
        if store.find_key(secret) is not None:
            return secret
    _, secret = store.create_key(tenant=HOUSE_TENANT, name="admin", admin=True)
    home.write_admin_key(secret)
    return secret


async def _prepare(house: House, config: Config, say: Say) -> list[Deployment]:
    """Import the configured checkpoints that are not there yet; learn what each is for."""
    ready: list[Deployment] = []
    for deployment in config.deployments:
        if deployment.name in config.engines:
            ready.append(deployment)
            continue
        if not house.registry.has(deployment.checkpoint):
            say(f"{deployment.checkpoint}: preparing the model, once")
            try:
                await import_checkpoint(
                    metering=house.metering,
                    folder=house.settings.checkpoints,
                    name=deployment.checkpoint,
                    path=config.paths.get(deployment.name),
                    on_progress=lambda text, name=deployment.checkpoint: say(f"{name}: {text}"),
                )
            except HouseError as error:
                raise ServeError(error.message) from error
        try:
            found = house.registry.get(deployment.checkpoint)
        except CheckpointError as error:
            raise ServeError(str(error)) from error
        ready.append(replace(deployment, task=found.task))
    return ready


async def _announce(house: House, url: str, when_up: Callable[[str], None]) -> None:
    doors = HouseDoors(house)
    while not doors.ready():
        await asyncio.sleep(0.05)
    when_up(url)
