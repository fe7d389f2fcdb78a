"""A real house for tests and benchmarks: `meted up` in a home of its own, on a free port."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from meted.live import checkpoints

METED = [sys.executable, "-m", "meted"]


class RealHouse:
    """Start, ask, stop. cache: a folder, so that built-in models are converted only once."""

    def __init__(self, *, config: dict[str, Any] | None = None, cache: Path | None = None):
        self.home = Path(tempfile.mkdtemp(prefix="meted-house-"))
        if cache is not None:
            _prepare(cache)
            shutil.copytree(cache, self.home / "checkpoints", copy_function=_link_or_copy)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = self.home / "meted.yaml"
        self.config.write_text(yaml.safe_dump(config or {}))
        self.process: subprocess.Popen[bytes] | None = None
        self.key = ""
        self._clients = ExitStack()

    def start(self, *, patience_s: float = 300) -> "RealHouse":
        """Start the house and wait until every deployment answers."""
        with (self.home / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*METED, "up", "--port", str(self.port), "--config", str(self.config)],
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError((self.home / "up.log").read_text()[-3000:])
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=2) as reply:
                    if reply.status == 200:
                        break
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        else:
            raise TimeoutError(f"{self.url}/health was not 200 within {patience_s} s")
        if not self.key:
            made = self.meted("keys", "create", "--tenant", "acme", "--json")
            self.key = json.loads(made)["secret"]
        return self

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "METED_HOME": str(self.home)}

    def openai(self) -> Any:
        """A client by OpenAI's own library, closed when the house is removed: one that is left to
        the garbage collector may end with a warning about its socket in whichever test runs then.
        """
        import openai

        made = openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0)
        return self._clients.enter_context(made)

    def meted(self, *arguments: str, check: bool = True) -> str:
        """Run a verb of the CLI against this house; what it printed."""
        done = subprocess.run(
            [*METED, *arguments], env=self.environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"meted {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def admin(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """Call the admin API."""
        request = urllib.request.Request(
            f"{self.url}/meted/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {(self.home / 'admin.key').read_text().strip()}"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.loads(reply.read())

    def wait_for_bill_row(self, by: str, key: str, *, patience_s: float = 20) -> dict[str, Any]:
        """The bill's row for a key, once an interval with it has closed.

        What a request is charged stands there before: its row is written as it ends.
        """
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            bill = json.loads(self.meted("bill", "--by", by, "--json"))
            for row in bill["rows"]:
                if row[by] == key and row["device_nanos"]:
                    return row
            time.sleep(0.1)
        log = (self.home / "up.log").read_text()[-3000:]
        raise TimeoutError(f"no row with {by} {key!r} in the bill within {patience_s} s; {log}")

    def wait_until(self, what: str, true: Callable[[], bool], *, patience_s: float = 60) -> None:
        """Wait for a condition; TimeoutError names it."""
        end = time.monotonic() + patience_s
        while not true():
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {patience_s} s")
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9 the house."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=120)

    def remove(self) -> None:
        """Stop and delete the home."""
        self._clients.close()
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> "RealHouse":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()


def _prepare(cache: Path) -> None:
    """Convert the built-in checkpoints in the cache, for serving and for training, if needed."""
    if (cache / "smollm2-135m" / "hf").exists() and (cache / "all-minilm-l6-v2").exists():
        return
    cache.mkdir(parents=True, exist_ok=True)
    code = (
        "import sys; from pathlib import Path;"
        "from meted.live.checkpoints import CheckpointRegistry;"
        "registry = CheckpointRegistry(Path(sys.argv[1]));"
        "registry.ensure_builtin('all-minilm-l6-v2');"
        "registry.ensure_builtin('smollm2-135m');"
        "registry.trainable_folder('smollm2-135m')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(cache)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the built-in models cannot be prepared: {done.stderr[-2000:]}")


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def shared_checkpoints() -> Path:
    """Where benchmarks and end-to-end tests keep converted models between runs.

    Named by the code that converts, so that a change of it is never tested on old conversions.
    """
    base = os.environ.get("METED_TEST_CACHE") or str(Path.home() / ".cache" / "meted-test")
    digest = hashlib.sha256()
    for file in sorted(Path(checkpoints.__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return Path(base) / f"checkpoints-{digest.hexdigest()[:12]}"


def machine() -> dict[str, Any]:
    """What this machine is, for the record beside every number."""
    model = "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "kernel": os.uname().release,
        "load_average": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }
