"""What the whole house costs in front of an engine, beside peers in front of a fake upstream.

CPU-microseconds per request of each server's own processes, concurrency 16, whole answers, in
turns. The house has keys, a hard budget, fair queueing and books that are durable before each
answer; its fake engine is a process of its own, counted apart, as the upstream of the others is.

    .venv/bin/python benchmarks/peers.py [--requests 2000] [--repeats 3] [--json]

nginx is used if it is on the PATH; LiteLLM if METED_LITELLM names its `litellm` command (it needs
an environment of its own: python3 -m venv E && E/bin/pip install 'litellm[proxy]').
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

import gateway
from gateway import ANSWER, Target
from meted.testing.house import RealHouse, machine

BARE_PROXY = "asgi+aiohttp"
FAKE = {
    "name": "fake",
    "engine": "meted.testing.fake_engine:FakeEngine",
    "max_batch": 64,
    "max_queue": 1024,
}
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    upstream up {{ server 127.0.0.1:{upstream}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
        }}
    }}
}}
"""
LITELLM = """
model_list:
  - model_name: fake
    litellm_params:
      {{model: openai/fake, api_base: "http://127.0.0.1:{upstream}/v1", api_key: none}}
general_settings: {{master_key: sk-bench}}
litellm_settings: {{drop_params: true, num_retries: 0, telemetry: false}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def proxy_app(upstream: str):
    """A bare ASGI application that hands each body to the upstream with aiohttp."""
    import aiohttp

    session: aiohttp.ClientSession | None = None

    async def app(scope, receive, send):
        nonlocal session
        if session is None:
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64))
        parts = []
        while True:
            message = await receive()
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        url = upstream + scope["path"]
        async with session.post(url, data=b"".join(parts)) as reply:
            body = await reply.read()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def serve_proxy(upstream: str) -> None:
    """Run the bare proxy; print its port."""
    import uvicorn
    import uvloop

    from meted.gateway.server import server_config

    async def run() -> None:
        config = server_config(proxy_app(upstream), host="127.0.0.1", port=0)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await task

    uvloop.run(run())


@contextmanager
def bare_proxy(upstream: Target) -> Iterator[Target]:
    child = subprocess.Popen(
        [sys.executable, __file__, "--proxy", upstream.url], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        url = f"http://127.0.0.1:{port}"
        yield Target(name=BARE_PROXY, url=url, pid=child.pid, key="none", model="fake")
    finally:
        child.terminate()
        child.wait()


@contextmanager
def nginx(upstream: Target) -> Iterator[Target]:
    folder, port = tempfile.mkdtemp(prefix="nginx-"), free_port()
    config = Path(folder) / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=upstream.url.rsplit(":")[-1], port=port))
    child = subprocess.Popen(["nginx", "-c", str(config), "-p", folder], stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, "/v1/chat/completions")
        yield Target(name="nginx", url=url, pid=child.pid, key="none", model="fake")
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def litellm(command: str, upstream: Target) -> Iterator[Target]:
    folder, port = tempfile.mkdtemp(prefix="litellm-"), free_port()
    config = Path(folder) / "config.yaml"
    config.write_text(LITELLM.format(upstream=upstream.url.rsplit(":")[-1]))
    log = (Path(folder) / "log").open("wb")
    child = subprocess.Popen(
        [command, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)],
        stdout=log,
        stderr=log,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, "/health/liveliness", patience_s=180)
        yield Target(name="litellm", url=url, pid=child.pid, key="sk-bench", model="fake")
    finally:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def house() -> Iterator[Target]:
    with RealHouse(config={"deployments": [FAKE]}) as real:
        budget = ("--tenant", "acme", "--period", "month", "--limit", "1000")
        real.meted("budgets", "set", "acme-monthly", *budget)
        rates = ("--tenant", "acme", "--input", "1", "--cached", "0.5", "--output", "3")
        real.meted("rates", "set", *rates, "--training", "0.0001")
        assert real.process is not None
        yield Target(name="meted", url=real.url, pid=real.process.pid, key=real.key, model="fake")
        time.sleep(2.5)
        real.meted("bill", "--check")


def wait_for(url: str, path: str, *, patience_s: float = 20) -> None:
    """Until something answers there, whatever it says."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url + path, timeout=2)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{url}{path} did not answer within {patience_s} s")


def cpu_us(target: Target, before: dict[int, float]) -> tuple[float, float]:
    """CPU time since `before` of a server's own processes, and of Meted's engine apart."""
    after = snapshot(target)
    own = sum(used - before.get(pid, 0.0) for pid, used in after.items())
    if target.name != "meted":
        return own * 1e6, 0.0
    house_only = after[target.pid] - before[target.pid]
    return house_only * 1e6, (own - house_only) * 1e6


def snapshot(target: Target) -> dict[int, float]:
    parent = psutil.Process(target.pid)
    found: dict[int, float] = {}
    for process in (parent, *parent.children(recursive=True)):
        times = process.cpu_times()
        found[process.pid] = times.user + times.system
    return found


def measure(target: Target, requests: int) -> tuple[float, float]:
    before = snapshot(target)
    command = [sys.executable, gateway.__file__, "--load", json.dumps([target.url, target.key])]
    command += ["--model", target.model, "--requests", str(requests), "--concurrency", "16"]
    subprocess.run(command, check=True)
    own, engine = cpu_us(target, before)
    return own / requests, engine / requests


def compare(targets: list[Target], *, requests: int, repeats: int) -> list[dict[str, object]]:
    """Medians over interleaved repeats; a slow server gets fewer requests, as many seconds."""
    runs: dict[str, list[tuple[float, float]]] = {}
    for repeat in range(repeats + 1):
        for target in targets:
            wanted = requests if target.name != "litellm" else max(100, requests // 20)
            found = measure(target, 100 if repeat == 0 else wanted)
            if repeat:
                runs.setdefault(target.name, []).append(found)
    rows: list[dict[str, object]] = []
    for name, each in runs.items():
        own = [run[0] for run in each]
        rows.append(
            {
                "server": name,
                "cpu_us": round(statistics.median(own), 1),
                "min": round(min(own), 1),
                "max": round(max(own), 1),
                "engine_cpu_us": round(statistics.median(run[1] for run in each), 1),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000, help="in each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--proxy", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.proxy:
        serve_proxy(arguments.proxy)
        return
    with ExitStack() as stack:
        upstream = stack.enter_context(gateway.running("bare"))
        targets = [stack.enter_context(house()), stack.enter_context(bare_proxy(upstream))]
        if shutil.which("nginx"):
            targets.append(stack.enter_context(nginx(upstream)))
        if command := os.environ.get("METED_LITELLM"):
            targets.append(stack.enter_context(litellm(command, upstream)))
        rows = compare([upstream, *targets], requests=arguments.requests, repeats=arguments.repeats)
    ours = next(row["cpu_us"] for row in rows if row["server"] == "meted")
    assert isinstance(ours, float)
    for row in rows:
        row["times_meted"] = round(float(str(row["cpu_us"])) / ours, 2)
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=2))
        return
    print(f"{'server':<14}{'CPU us/request':>15}{'min..max':>18}{'x Meted':>9}{'engine us':>11}")
    for row in rows:
        span = f"{row['min']}..{row['max']}"
        print(
            f"{row['server']:<14}{row['cpu_us']:>15}{span:>18}{row['times_meted']:>9}"
            f"{row['engine_cpu_us']:>11}"
        )
    print(f"answers of {len(ANSWER.split())} words; machine: {machine()}")


if __name__ == "__main__":
    main()
