"""What the gateway costs: CPU-microseconds per request, beside a bare ASGI application.

Both run in a process of their own on the same server settings; the load comes from a third
process. The gateway stands before a house in memory that answers at once, so that what is counted
is reading, checking, submitting and writing. The house is a whole one, with metering and books,
before a replica that runs a fake engine and is counted apart.

    .venv/bin/python benchmarks/gateway.py [--requests 5000] [--repeats 3] [--json]
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from meted.gateway.server import server_config
from meted.testing.fake_doors import TENANT_KEY, FakeDoors
from meted.testing.house import RealHouse

ANSWER = "the quick brown fox jumps over the lazy"
SERVERS = ("bare", "gateway")
MODES = ("whole", "stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server under test. pid: its process, whose children are counted apart."""

    name: str
    url: str
    pid: int
    key: str
    model: str


def bare_app():
    """Reads the body and answers a fixed chat completion: the floor of the server itself."""
    answer = {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "words",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": ANSWER, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 8, "completion_tokens": 8, "total_tokens": 16},
    }
    body = json.dumps(answer).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def serve(name: str) -> None:
    """Run one server in this process; print its port once it listens."""
    import uvicorn

    from meted.gateway.app import create_app

    if name == "bare":
        app = bare_app()
    else:
        doors = FakeDoors()
        doors.forget_tickets()
        app = create_app(doors, max_body_bytes=1 << 20)

    async def run() -> None:
        server = uvicorn.Server(server_config(app, host="127.0.0.1", port=0))
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await task

    import uvloop

    uvloop.run(run())


@contextmanager
def running(name: str) -> Iterator[Target]:
    child = subprocess.Popen(
        [sys.executable, __file__, "--serve", name], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        port = child.stdout.readline().strip()
        if not port:
            raise SystemExit(f"the server '{name}' did not start; its error is above")
        url = f"http://127.0.0.1:{port}"
        yield Target(name=name, url=url, pid=child.pid, key=TENANT_KEY, model="words")
    finally:
        child.terminate()
        child.wait()


async def load(target: Target, *, requests: int, concurrency: int, stream: bool) -> None:
    """Send chat requests, `concurrency` at a time, until all are answered."""
    import aiohttp

    message = {"role": "user", "content": ANSWER}
    fields = {"model": target.model, "messages": [message], "max_tokens": 8, "stream": stream}
    body = json.dumps(fields)
    headers = {"authorization": f"Bearer {target.key}", "content-type": "application/json"}
    left = iter(range(requests))

    async def client(session: aiohttp.ClientSession) -> None:
        for _ in left:
            async with session.post("/v1/chat/completions", data=body) as response:
                answer = await response.read()
                if response.status != 200:
                    raise SystemExit(f"{target.url} answered {response.status}: {answer!r}")

    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(target.url, headers=headers, connector=connector) as session:
        await asyncio.gather(*(client(session) for _ in range(concurrency)))


def cpu_seconds(pid: int) -> tuple[float, float]:
    """CPU time so far of a process, and of its children now alive."""

    def of(process: psutil.Process) -> float:
        times = process.cpu_times()
        return times.user + times.system

    parent = psutil.Process(pid)
    return of(parent), sum(of(child) for child in parent.children(recursive=True))


def measure(target: Target, *, requests: int, concurrency: int, stream: bool) -> dict[str, float]:
    """One run of the load in a process of its own."""
    command = [sys.executable, __file__, "--load", json.dumps([target.url, target.key])]
    command += ["--model", target.model, "--requests", str(requests)]
    command += ["--concurrency", str(concurrency), *(["--stream"] if stream else [])]
    own, children = cpu_seconds(target.pid)
    subprocess.run(command, check=True)
    own_after, children_after = cpu_seconds(target.pid)
    return {
        "cpu_us_per_request": (own_after - own) * 1e6 / requests,
        "children_cpu_us_per_request": (children_after - children) * 1e6 / requests,
    }


def compare(targets: list[Target], arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Medians over interleaved repeats, so that drift of the machine hits all alike."""
    runs: dict[tuple[str, str], list[dict[str, float]]] = {}
    for repeat in range(arguments.repeats + 1):
        for mode in MODES:
            for target in targets:
                if target.name == "bare" and mode == "stream":
                    continue
                warming = repeat == 0
                run = measure(
                    target,
                    requests=200 if warming else arguments.requests,
                    concurrency=arguments.concurrency,
                    stream=mode == "stream",
                )
                if not warming:
                    runs.setdefault((target.name, mode), []).append(run)
    return [
        {
            "server": name,
            "mode": mode,
            **{key: round(statistics.median(run[key] for run in each), 1) for key in each[0]},
            "cpu_us_min": round(min(run["cpu_us_per_request"] for run in each), 1),
            "cpu_us_max": round(max(run["cpu_us_per_request"] for run in each), 1),
        }
        for (name, mode), each in runs.items()
    ]


def report(rows: list[dict[str, object]], arguments: argparse.Namespace) -> None:
    if arguments.json:
        facts = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "requests": arguments.requests,
            "repeats": arguments.repeats,
            "concurrency": arguments.concurrency,
            "rows": rows,
        }
        print(json.dumps(facts, indent=2))
        return
    print(f"{'server':<10}{'mode':<8}{'CPU us/request':>15}{'min..max':>16}{'children us':>13}")
    for row in rows:
        span = f"{row['cpu_us_min']}..{row['cpu_us_max']}"
        print(
            f"{row['server']:<10}{row['mode']:<8}{row['cpu_us_per_request']:>15}"
            f"{span:>16}{row['children_cpu_us_per_request']:>13}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=5000, help="in each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--model", default="words", help=argparse.SUPPRESS)
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--load", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--stream", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    if arguments.load:
        url, key = arguments.load
        target = Target(name="", url=url, pid=0, key=key, model=arguments.model)
        wish = {"requests": arguments.requests, "concurrency": arguments.concurrency}
        asyncio.run(load(target, **wish, stream=arguments.stream))
        return
    config = {
        "deployments": [
            {
                "name": "fake",
                "engine": "meted.testing.fake_engine:FakeEngine",
                "max_batch": 64,
                "max_queue": 1024,
            }
        ]
    }
    with (
        running("bare") as bare,
        running("gateway") as gateway,
        RealHouse(config=config) as house,
    ):
        assert house.process is not None
        real = Target(
            name="house", url=house.url, pid=house.process.pid, key=house.key, model="fake"
        )
        report(compare([bare, gateway, real], arguments), arguments)


if __name__ == "__main__":
    main()
