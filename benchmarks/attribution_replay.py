"""A real replica on pinned cores, fed by a trace; every step that it metered is kept."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attribution_trace import Arrival
from meted.domain.request import EngineRequest, Sampling, TextPrompt
from meted.domain.step import StepShare
from meted.domain.units import RequestId, Tokens
from meted.live.wire import Channel, Failed, FromReplica, Ready, Rejected, Stepped, Stop, to_add

PATIENCE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class MeteredStep:
    """One step as the books see it: CPU nanoseconds, wall microseconds, whose work it was."""

    started_us: int
    duration_us: int
    cpu_ns: int
    shares: tuple[StepShare, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One replay of one piece of the trace. without: the tenant left out, or empty.

    Time in flight is in microseconds.
    """

    round: int
    piece: int
    without: str
    steps: tuple[MeteredStep, ...]
    in_flight_us: dict[str, int]

    @property
    def device_ns(self) -> int:
        """What the replica's clock advanced in all steps."""
        return sum(step.cpu_ns for step in self.steps)


class Replica:
    """`python -m meted.live.replica_worker` with the engine openvino, alone on its cores."""

    def __init__(self, *, folder: Path, cores: Sequence[int], max_batch: int) -> None:
        ours, theirs = socket.socketpair()
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)  # The child inherits it before any of its threads exists.
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "meted.live.replica_worker"),
                        *("--fd", str(theirs.fileno()), "--engine", "openvino"),
                        *("--folder", str(folder), "--threads", str(len(cores))),
                        *("--max-batch", str(max_batch)),
                    ],
                    pass_fds=(theirs.fileno(),),
                )
        finally:
            os.sched_setaffinity(0, before)
        self._cores = len(cores)
        self._channel = Channel(ours, FromReplica)
        self._socket = ours
        ready = self._hear()[0]
        if not isinstance(ready, Ready):
            raise RuntimeError(f"the replica said {ready!r} instead of being ready")

    def replay(
        self, trace: Sequence[Arrival], *, salt: str, round: int, piece: int, without: str = ""
    ) -> Run:
        """Send every arrival of the piece at its time, whether or not earlier ones are answered.

        Time is the replica's own device clock, and a span with nothing to do takes no time: a
        process that takes the core away for a moment delays all and changes nothing of what runs
        beside what. The salt starts every prompt, so that nothing of an earlier replay is found in
        the prefix cache; it must have the same number of tokens each time.
        """
        left = sorted((one for one in trace if one.tenant != without), key=lambda one: one.at_s)
        came: dict[str, int] = {}
        in_flight: dict[str, int] = {}
        steps: list[MeteredStep] = []
        now_ns = index = 0
        while len(in_flight) < len(left):
            if len(in_flight) == index:
                now_ns = max(now_ns, arrival_ns(left[index]))
            while index < len(left) and arrival_ns(left[index]) <= now_ns:
                came[left[index].request] = arrival_ns(left[index])
                self._channel.send([to_add(_request(left[index], salt))])
                index += 1
            for message in self._hear():
                if not isinstance(message, Stepped):
                    continue
                steps.append(_metered(message))
                now_ns += steps[-1].cpu_ns // self._cores
                for output in message.outputs:
                    if output.finish_reason is not None:
                        in_flight[output.request_id] = (now_ns - came[output.request_id]) // 1000
        return Run(
            round=round,
            piece=piece,
            without=without,
            steps=tuple(steps),
            in_flight_us=in_flight,
        )

    def stop(self) -> None:
        """End it in order."""
        self._channel.send([Stop()])
        self._socket.close()
        self._process.wait(timeout=PATIENCE_S)

    def _hear(self) -> list[Any]:
        """The next messages."""
        messages = self._channel.receive(block=True)
        if self._channel.closed:
            raise RuntimeError(f"the replica has gone, exit status {self._process.wait()}")
        for message in messages:
            if isinstance(message, Failed | Rejected):
                raise RuntimeError(f"the replica says: {message.message}")
        return messages


def arrival_ns(arrival: Arrival) -> int:
    """When it comes, in nanoseconds of the replay."""
    return round(arrival.at_s * 1e9)


def _request(arrival: Arrival, salt: str) -> EngineRequest:
    """Greedy and of fixed length, so that every replay does the same work."""
    return EngineRequest(
        request_id=RequestId(arrival.request),
        prompt=TextPrompt(text=f"{salt} {arrival.prompt}"),
        sampling=Sampling(max_tokens=arrival.answer_tokens, temperature=0.0, ignore_eos=True),
    )


def _metered(message: Stepped) -> MeteredStep:
    return MeteredStep(
        started_us=message.started_us,
        duration_us=message.duration_us,
        cpu_ns=message.cpu_end_ns - message.cpu_start_ns,
        shares=tuple(
            StepShare(
                request_id=RequestId(one.request_id),
                prefill_tokens=Tokens(one.prefill_tokens),
                cached_tokens=Tokens(one.cached_tokens),
                decode_tokens=Tokens(one.decode_tokens),
                context_tokens=Tokens(one.context_tokens),
            )
            for one in message.shares
        ),
    )


def save(runs: Sequence[Run], path: Path) -> None:
    """Keep runs, so that methods can be compared again without the engine."""
    path.write_text(
        json.dumps(
            [
                {
                    "round": run.round,
                    "piece": run.piece,
                    "without": run.without,
                    "in_flight_us": run.in_flight_us,
                    "steps": [
                        [
                            *(step.started_us, step.duration_us, step.cpu_ns),
                            [
                                [
                                    *(one.request_id, one.prefill_tokens, one.cached_tokens),
                                    *(one.decode_tokens, one.context_tokens),
                                ]
                                for one in step.shares
                            ],
                        ]
                        for step in run.steps
                    ],
                }
                for run in runs
            ]
        )
    )


def read_runs(path: Path) -> list[Run]:
    """Runs kept by `save`."""
    return [
        Run(
            round=row["round"],
            piece=row["piece"],
            without=row["without"],
            in_flight_us=row["in_flight_us"],
            steps=tuple(
                MeteredStep(
                    started_us=started,
                    duration_us=duration,
                    cpu_ns=cpu,
                    shares=tuple(
                        StepShare(
                            request_id=RequestId(name),
                            prefill_tokens=Tokens(prefill),
                            cached_tokens=Tokens(cached),
                            decode_tokens=Tokens(decode),
                            context_tokens=Tokens(context),
                        )
                        for name, prefill, cached, decode, context in shares
                    ),
                )
                for started, duration, cpu, shares in row["steps"]
            ),
        )
        for row in json.loads(path.read_text())
    ]
