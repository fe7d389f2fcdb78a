"""Recorded requests on one replica's real process, at their recorded moments, metered."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meted.domain.configuration import Configuration
from meted.domain.deployment import SLO, Deployment, Task
from meted.domain.request import EngineRequest, Sampling, TextPrompt
from meted.domain.units import DeploymentName, DeviceNanos, Micros, ReplicaId, RequestId
from meted.live.host import Host, WorkerEnd
from meted.live.replica_start import replica_spec
from meted.live.tuning.recorded import Recorded
from meted.live.wire import Admitted, Failed, Ready, Rejected, Stepped, Stop, to_add
from meted.predict.step_time import StepWork, work_of

NAME = DeploymentName("measured")
NO_LIMIT = SLO(ttft_p95=Micros(1), tpot_p95=Micros(1))
"""The replica's process does not know its SLO."""
LOAD_S = 180.0
TURN_S = 1.0
STALL_S = 60.0
"""Seconds without a word after which a replica is given up."""


class MeasuringError(RuntimeError):
    """A configuration could not be measured: which, and what its replica said."""


@dataclass(slots=True)
class Answered:
    """What became of one request. Moments in seconds on the replay's clock; -1: not come to that.

    tokens: generated. gaps: not kept; tpot is the mean over the later tokens.
    """

    sent: float
    first: float = -1.0
    last: float = -1.0
    prompt_tokens: int = 0
    tokens: int = 0
    ended: bool = False
    rejected: str = ""

    @property
    def ttft_s(self) -> float:
        return self.first - self.sent

    @property
    def tpot_s(self) -> float | None:
        """Mean time of each token after the first; None for an answer of one token."""
        return (self.last - self.first) / (self.tokens - 1) if self.tokens > 1 else None


@dataclass(slots=True)
class Replayed:
    """A replay: its requests, its steps' work, and device time of loading and of answering."""

    requests: list[Answered]
    load_nanos: DeviceNanos = DeviceNanos(0)
    nanos: DeviceNanos = DeviceNanos(0)
    load_s: float = 0.0
    seconds: float = 0.0
    work: list[StepWork] = field(default_factory=list[StepWork])

    @property
    def tokens(self) -> int:
        """Prompt and generated tokens together."""
        return sum(one.prompt_tokens + one.tokens for one in self.requests)


async def replay(
    host: Host,
    configuration: Configuration,
    requests: Sequence[Recorded],
    *,
    checkpoints: Path,
    devices: tuple[int, ...],
) -> Replayed:
    """Start a replica, send each request when it was recorded, wait for all answers, stop it.

    Answers are as long as recorded whatever the model would say, so that every configuration does
    the same work. Raises MeasuringError if the replica fails.
    """
    return await _Replay(requests, configuration).run(host, checkpoints, devices)


class _Replay:
    def __init__(self, requests: Sequence[Recorded], configuration: Configuration) -> None:
        self._recorded = requests
        self._configuration = configuration
        self._found = Replayed([Answered(sent=-1.0) for _ in requests])
        self._ready = asyncio.Event()
        self._over = asyncio.Event()
        self._ended = asyncio.Event()
        self._failure = ""
        self._open = len(requests)
        self._covered = 0
        self._heard = time.monotonic()

    async def run(self, host: Host, checkpoints: Path, devices: tuple[int, ...]) -> Replayed:
        spec = replica_spec(
            _deployment(self._configuration),
            replica=ReplicaId(f"measured-{time.monotonic_ns()}"),
            threads=len(devices),
            devices=devices,
            checkpoints=checkpoints,
        )
        begun = time.monotonic()
        worker = await host.start(spec, self._receive, self._end)
        try:
            await self._wait(self._ready, LOAD_S)
            self._found.load_s = time.monotonic() - begun
            await self._send_all(worker)
            await self._wait(self._over, STALL_S)
            worker.send(Stop())
            self._found.seconds = time.monotonic() - begun - self._found.load_s
        except BaseException:
            worker.kill()
            raise
        finally:
            await self._ended.wait()
        return self._found

    async def _send_all(self, worker: Any) -> None:
        began = time.monotonic()
        for number, one in enumerate(self._recorded):
            left = began + one.at / 1e6 - time.monotonic()
            if left > 0:
                await asyncio.sleep(left)
            self._check()
            self._found.requests[number].sent = time.monotonic()
            worker.send(
                to_add(
                    EngineRequest(
                        request_id=RequestId(str(number)),
                        prompt=TextPrompt(text=one.prompt),
                        sampling=Sampling(
                            max_tokens=one.output_tokens, temperature=0.0, ignore_eos=True
                        ),
                    )
                )
            )

    async def _wait(self, event: asyncio.Event, stall_s: float) -> None:
        """Until the event, as long as the replica says something now and then.

        Silence is counted in turns, not by the clock: where this process stands still, so does the
        replica.
        """
        silent, heard = 0, self._heard
        while not event.is_set():
            self._check()
            if silent * TURN_S > stall_s:
                raise MeasuringError(f"{self._configuration} has said nothing for {stall_s:.0f} s")
            try:
                await asyncio.wait_for(event.wait(), timeout=TURN_S)
            except TimeoutError:
                silent = silent + 1 if self._heard == heard else 0
                heard = self._heard

    def _check(self) -> None:
        if self._failure:
            raise MeasuringError(f"{self._configuration}: {self._failure}")

    def _receive(self, message: object) -> None:
        self._heard = time.monotonic()
        match message:
            case Ready(cpu_ns=cpu_ns):
                self._covered = cpu_ns
                self._found.load_nanos = DeviceNanos(cpu_ns)
                self._ready.set()
            case Admitted(request_id=key, prompt_tokens=tokens):
                self._found.requests[int(key)].prompt_tokens = tokens
            case Rejected(request_id=key, message=told):
                self._found.requests[int(key)].rejected = told
                self._close(int(key))
            case Stepped():
                self._step(message)
            case Failed(message=told):
                self._failure = told
            case _:
                raise TypeError(f"a replica sent {message!r}")

    def _step(self, step: Stepped) -> None:
        self._found.nanos = DeviceNanos(self._found.nanos + step.cpu_end_ns - self._covered)
        self._covered = step.cpu_end_ns
        if step.shares:
            self._found.work.append(work_of(step.shares))
        for share in step.shares:
            one = self._found.requests[int(share.request_id)]
            if share.decode_tokens:
                one.first = self._heard if one.first < 0 else one.first
                one.last = self._heard
                one.tokens += share.decode_tokens
        for output in step.outputs:
            if output.finish_reason is not None:
                self._close(int(output.request_id))

    def _close(self, number: int) -> None:
        if not self._found.requests[number].ended:
            self._found.requests[number].ended = True
            self._open -= 1
            if self._open == 0:
                self._over.set()

    def _end(self, end: WorkerEnd) -> None:
        if self._open and not self._failure:
            self._failure = f"its replica ended: {end.reason}"
        self._ready.set()
        self._over.set()
        self._ended.set()


def _deployment(configuration: Configuration) -> Deployment:
    return Deployment(
        name=NAME,
        checkpoint=configuration.checkpoint,
        task=Task.GENERATE,
        replicas=1,
        slo=NO_LIMIT,
        max_batch=configuration.max_batch,
        max_queue=1,
        settings=configuration.settings,
    )
