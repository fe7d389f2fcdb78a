"""A replica's process: `python -m meted.live.replica_worker --fd N --engine ... --folder F ...`.

It loads one engine, does what the house says, and meters every step on its own CPU clock.
"""

import argparse
import importlib
import inspect
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec

from meted.domain.engine_settings import EngineSettings
from meted.domain.request import RequestRejectedError
from meted.domain.units import RequestId
from meted.live.cpu_clock import own_cpu_nanos
from meted.live.engine import Engine
from meted.live.engines.kept_answers import KeptAnswers
from meted.live.leash import cap_threads, die_with_parent
from meted.live.wire import (
    Add,
    Admitted,
    Cancel,
    Channel,
    Failed,
    Frame,
    Ready,
    Rejected,
    Stepped,
    Stop,
    ToReplica,
    from_add,
    to_output,
    to_share,
)

BUILT_IN_ENGINES = {
    "openvino": "meted.live.engines.openvino:OpenVinoEngine",
    "llamacpp": "meted.live.engines.llamacpp:LlamaCppEngine",
    "embedding": "meted.live.engines.embedding:EmbeddingEngine",
}


def main() -> int:
    """Read the arguments, tie this process to the house and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m meted.live.replica_worker")
    parser.add_argument("--fd", type=int, required=True, help="the house's socket")
    parser.add_argument(
        "--engine", required=True, help=f"{', '.join(BUILT_IN_ENGINES)}, or a factory"
    )
    parser.add_argument("--folder", type=Path, required=True, help="the checkpoint's folder")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--max-batch", type=int, required=True)
    parser.add_argument("--settings", default="{}", help="EngineSettings as JSON")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    cap_threads(arguments.threads)
    channel = Channel(socket.socket(fileno=arguments.fd), ToReplica)
    try:
        engine = load_engine(
            arguments.engine,
            settings=msgspec.json.decode(arguments.settings, type=EngineSettings),
            folder=arguments.folder,
            threads=arguments.threads,
            max_batch=arguments.max_batch,
        )
    except Exception as error:  # Whatever a library raises, the house must hear why.
        channel.send(
            [Failed(f"the engine {arguments.engine!r} cannot load {arguments.folder}: {error}")]
        )
        return 1
    status = serve(engine, channel)
    # Engines with threads of their own end them before the interpreter goes.
    close: Callable[[], None] | None = getattr(engine, "close", None)
    if close is not None:
        close()
    return status


def load_engine(
    name: str, *, settings: EngineSettings, folder: Path, threads: int, max_batch: int
) -> Engine:
    """The engine with its weights loaded.

    A factory that takes no `settings` runs with none. Raises ValueError, naming the key, if some
    are set all the same, and whatever the engine raises.
    """
    most, settings = settings.kept_answers, replace(settings, kept_answers=0)
    factory = _factory(name)
    arguments: dict[str, Any] = {"folder": folder, "threads": threads, "max_batch": max_batch}
    if "settings" in inspect.signature(factory).parameters:
        arguments["settings"] = settings
    else:
        default = EngineSettings(engine=settings.engine, threads=settings.threads)
        for field in fields(EngineSettings):
            value = getattr(settings, field.name)
            if value != getattr(default, field.name):
                raise ValueError(
                    f"{field.name} is {value!r}, but {name} takes no settings; leave it out, or "
                    "give the factory a parameter `settings`"
                )
    engine = factory(**arguments)
    return KeptAnswers(engine, most) if most else engine


def serve(engine: Engine, channel: Channel) -> int:
    """Until Stop or the house's end: take orders, step, report.

    Consecutive `Stepped` cover the CPU clock without a gap, so that tokenising and sending are
    paid by the requests that caused them. Returns the exit status.
    """
    covered = own_cpu_nanos()
    facts = engine.facts
    channel.send([Ready(facts.task.value, facts.context_tokens, facts.max_batch, covered)])
    while not channel.closed:
        replies: list[Frame] = []
        for order in channel.receive(block=not engine.busy):
            if isinstance(order, Stop):
                return 0
            _heed(engine, order, replies)
        if channel.closed:
            break
        if engine.busy:
            started = time.monotonic_ns()
            try:
                step = engine.step()
            except Exception as error:  # The replica is broken; a fresh one takes over.
                channel.send([*replies, Failed(f"the engine failed in a step: {error}")])
                return 1
            duration = time.monotonic_ns() - started
            until = own_cpu_nanos()
            replies.append(
                Stepped(
                    started // 1000,
                    duration // 1000,
                    covered,
                    until,
                    tuple(to_share(share) for share in step.shares),
                    tuple(to_output(output) for output in step.outputs),
                    step.cache_usage,
                    step.recalled,
                )
            )
            covered = until
        if replies:
            channel.send(replies)
    return 0


def _heed(engine: Engine, order: object, replies: list[Frame]) -> None:
    match order:
        case Add():
            try:
                tokens = engine.add(from_add(order))
            except RequestRejectedError as error:
                replies.append(Rejected(order.request_id, error.message, error.param, error.code))
            else:
                replies.append(Admitted(order.request_id, tokens))
        case Cancel(request_id=request_id):
            engine.cancel(RequestId(request_id))
        case _:
            raise TypeError(f"the house sent {order!r}, expected ToReplica")


def _factory(name: str) -> Callable[..., Engine]:
    module, _, attribute = BUILT_IN_ENGINES.get(name, name).partition(":")
    if not attribute:
        raise ValueError(
            f"{name!r} is no engine; use {', '.join(BUILT_IN_ENGINES)} or a factory as module:Name"
        )
    return getattr(importlib.import_module(module), attribute)


if __name__ == "__main__":
    sys.exit(main())
