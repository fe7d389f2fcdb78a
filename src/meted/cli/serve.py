"""The main job: one house process with its gateway and its page."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Generator
from pathlib import Path

import uvicorn

from meted.dashboard.page import routes
from meted.domain.deployment import Deployment, Task
from meted.gateway.app import create_app
from meted.gateway.server import server_config
from meted.live.checkpoints import CheckpointError
from meted.live.config import Config
from meted.live.config_file import MIB
from meted.live.doors import HouseError
from meted.live.engine_settings import check_served_settings, draft_of
from meted.live.home import Home, RunningHouse
from meted.live.house import House, HouseSettings
from meted.live.house_doors import HouseDoors
from meted.live.importing import import_checkpoint
from meted.live.local_host import LocalHost
from meted.live.stores import open_store
from meted.live.stores.spool import SpoolingStore, books_name

Say = Callable[[str], None]


class ServeError(Exception):
    """The house cannot start: what stands in the way and what to do."""


class _Server(uvicorn.Server):
    """A server that leaves signals to the house, which has more to end than connections."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def run_house(*, config: Config, home: Home, say: Say, when_up: Callable[[str], None]) -> int:
    """Run the house until it is told to stop; returns the exit status of the process.

    when_up: called with the address once every deployment answers.
    Raises ServeError before anything starts if it cannot.
    """
    listener = _listen(config.server.host, config.server.port)
    url = _url(config.server.host, listener.getsockname()[1])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, config.pool.indices)
    books, house_id = home.use_store(config.books.store), home.house_id()
    with (
        contextlib.closing(
            SpoolingStore(
                open_store(books, house=house_id),
                home.folder / "spool",
                most_bytes=config.books.spool_mib * MIB,
                books=books_name(books),
            )
        ) as store,
        contextlib.closing(open_store(books, house=house_id)) as key_store,
    ):
        home.ensure_admin_key(store)
        house = House(
            settings=_settings(config, home, books),
            store=store,
            key_store=key_store,
            host=LocalHost(home.logs),
        )
        house.url = url
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, house.stopping_asked.set)
        deployments = await _prepare(house, config, say)
        app = create_app(
            HouseDoors(house),
            max_body_bytes=config.server.max_body_bytes,
            body_timeout_s=config.server.body_timeout_s,
            extra_routes=routes(),
        )
        server = _Server(server_config(app, host=config.server.host, port=config.server.port))
        await house.start(deployments)
        answering = asyncio.create_task(server.serve(sockets=[listener]))
        home.write_house(RunningHouse(pid=os.getpid(), url=url))
        announcing = asyncio.create_task(_announce(house, when_up))
        await house.stopping_asked.wait()
        say("stopping: answering what runs, making training durable, closing the books")
        announcing.cancel()
        await house.stop()
        server.should_exit = True
        await answering
        home.forget_house()
    return 1 if house.failed else 0


def _settings(config: Config, home: Home, books: str | Path) -> HouseSettings:
    return HouseSettings(
        books=books,
        acknowledge_durably=config.books.acknowledge_durably,
        alert_webhook=config.alert_webhook,
        tenant_weights=config.tenant_weights,
        fold_after_days=config.books.fold_after_days,
        pool=config.pool,
        policy_name=config.policy.name,
        policy=config.policy.policy,
        policy_interval_s=config.policy.interval_s,
        books_interval_s=config.books.interval_s,
        books_flush_s=config.books.flush_ms / 1000,
        checkpoints=home.checkpoints,
        jobs=home.jobs,
        calibrations=home.calibrations,
        training_threads=config.training_threads,
    )


def _url(host: str, port: int) -> str:
    name = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ServeError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port, "
            "or stop what listens there"
        ) from error
    return listener


async def _prepare(house: House, config: Config, say: Say) -> list[Deployment]:
    """Import the configured checkpoints that are not there yet; learn what each is for.

    Raises ServeError for settings with which a checkpoint cannot be run.
    """
    ready: list[Deployment] = []
    for wanted in config.deployments:
        if wanted.settings.brings_its_weights:
            ready.append(wanted.deployment(Task.GENERATE))
            continue
        try:
            await _have(house, wanted.checkpoint, wanted.path, say)
            draft = draft_of(wanted.settings)
            if draft is not None:
                await _have(house, draft, None, say)
            check_served_settings(
                wanted.settings,
                checkpoint=wanted.checkpoint,
                registry=house.registry,
                cores=len(config.pool.devices),
            )
            ready.append(wanted.deployment(house.registry.get(wanted.checkpoint).task))
        except HouseError as error:
            raise ServeError(error.message) from error
        except CheckpointError as error:
            raise ServeError(str(error)) from error
        except ValueError as error:
            raise ServeError(f"deployment {wanted.name!r}: {error}") from error
    return ready


async def _have(house: House, checkpoint: str, path: Path | None, say: Say) -> None:
    """Import a checkpoint unless it is there."""
    if house.registry.has(checkpoint):
        return
    say(f"{checkpoint}: preparing the model, once")
    await import_checkpoint(
        metering=house.metering,
        folder=house.settings.checkpoints,
        name=checkpoint,
        path=None if path is None else str(path),
        on_progress=lambda text: say(f"{checkpoint}: {text}"),
    )


async def _announce(house: House, when_up: Callable[[str], None]) -> None:
    doors = HouseDoors(house)
    while not doors.ready():
        await asyncio.sleep(0.05)
    when_up(house.url)
