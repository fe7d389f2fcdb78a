"""P in the running house: what was predicted of each deployment before its steps came, what they
were, and whether they still are as they were."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from meted.control.demand_watch import KEPT_STEPS, DemandWatch, DriftSeen
from meted.domain.line import Account, Kind
from meted.domain.units import MICROS_PER_SECOND, DeploymentName, Micros
from meted.live.calibrations import (
    CHUNK_TOKENS,
    NEW_VERSION,
    Belief,
    Calibrations,
    believe,
    served_setup,
)
from meted.live.checkpoints import Checkpoint, CheckpointError, CheckpointRegistry
from meted.live.clock import Clock
from meted.live.device_probe import CoreGroup, ProbedDevices, device_kind
from meted.live.facts import FactError
from meted.live.host import Host, Urgency, WorkerEnd, WorkerSpec
from meted.live.metering import Metering
from meted.live.prediction_view import prediction_row
from meted.live.served import ServedDeployment
from meted.live.wire import FromReplica
from meted.predict.batch import Batch
from meted.predict.calibration import Calibration, FactorPrior, MeasuredStep, calibrate
from meted.predict.linear import linearised
from meted.predict.setup import Setup
from meted.predict.step_time import StepWork

log = logging.getLogger(__name__)

QUIET_S = 2.0
"""The cores are measured only after so long without a request or a training job."""
PROBE_TRIES = 5
PROBE_PAUSE_S = 60.0
RECALIBRATE_S = 30.0
FEWEST_STEPS = 32
CALIBRATED_STEPS = 128
DRIFT_SHOWN_S = 600.0
LINE_MISFIT = 0.1
"""Deviation of log by which a straight line misses a roofline over a replica's steps."""
BUILT_IN_ENGINE = "openvino"


class Predicting:
    """Beliefs by deployment; measures the cores, recalibrates, keeps, and sounds the alarm."""

    def __init__(
        self,
        *,
        folder: Path,
        clock: Clock,
        metering: Metering,
        host: Host,
        devices: tuple[int, ...],
        registry: CheckpointRegistry,
        served: Callable[[], Sequence[ServedDeployment]],
        quiet: Callable[[], bool],
        explain: Callable[[str], None],
    ) -> None:
        """quiet: nothing is served, loaded or trained now. explain: tell it with the decisions."""
        self._folder = folder
        self._clock = clock
        self._metering = metering
        self._host = host
        self._devices = devices
        self._registry = registry
        self._served = served
        self._quiet = quiet
        self._explain = explain
        self._probed = ProbedDevices(folder / "devices")
        self._kept = Calibrations(folder)
        self._threads: dict[DeploymentName, int] = {}
        self._watches: dict[DeploymentName, DemandWatch] = {}
        self._beliefs: dict[DeploymentName, Belief] = {}
        self._drifts: dict[DeploymentName, tuple[Micros, DriftSeen]] = {}
        self._calibrated: dict[DeploymentName, int] = {}
        self._tries = 0
        self._next_probe = clock.now()
        self._busy = clock.now()

    def replica_starts(self, served: ServedDeployment, *, threads: int, engine: str) -> None:
        """Believe something of its steps before the first one."""
        if served.watch not in self._watches.values():
            # A deployment of this name may have been another one.
            self._forget(served.deployment.name)
            self._watches[served.deployment.name] = served.watch
        if engine == BUILT_IN_ENGINE:
            self._threads[served.deployment.name] = threads
            self._believe(served)

    def _forget(self, name: DeploymentName) -> None:
        for known in (self._threads, self._beliefs, self._drifts, self._calibrated):
            known.pop(name, None)

    def _believe(self, served: ServedDeployment) -> None:
        deployment = served.deployment
        group = self._probed.known(self._threads[deployment.name])
        if group is None or deployment.name in self._beliefs:
            return
        try:
            checkpoint = self._registry.get(deployment.checkpoint)
            belief = self._belief(checkpoint, group, max_batch=deployment.max_batch)
        except (CheckpointError, FactError) as error:
            log.warning("no prediction for %s: %s", deployment.name, error)
            return
        self._beliefs[deployment.name] = belief
        start_watch(served.watch, belief, threads=group.threads)

    def _belief(self, checkpoint: Checkpoint, group: CoreGroup, *, max_batch: int) -> Belief:
        setup = served_setup(checkpoint, device_kind(group), max_batch=max_batch)
        return believe(setup, self._kept)

    async def run(self) -> None:
        """Until cancelled: watch for drift each second, measure the cores once, recalibrate."""
        since = 0.0
        while True:
            await asyncio.sleep(1.0)
            since += 1.0
            for served in self._served():
                for drift in served.watch.take_drifts():
                    self._drifted(served, drift)
            if not self._quiet():
                self._busy = self._clock.now()
            elif self._clock.now() - self._busy > QUIET_S * MICROS_PER_SECOND:
                await self._measure_unknown()
            if since >= RECALIBRATE_S:
                since = 0.0
                await self.recalibrate()

    def _drifted(self, served: ServedDeployment, seen: DriftSeen) -> None:
        name = served.deployment.name
        self._drifts[name] = (self._clock.now(), seen)
        self._explain(f"{name}: {seen.sentence}")
        log.warning("%s: %s", name, seen.sentence)
        belief = self._beliefs.get(name)
        if belief is not None:
            wider = belief.now.as_prior(device=NEW_VERSION, host=NEW_VERSION)
            self._beliefs[name] = replace(belief, prior=wider)

    async def _measure_unknown(self) -> None:
        doubtful = {one for one in self._threads.values() if self._doubtful(one)}
        if not doubtful or self._tries >= PROBE_TRIES or self._clock.now() < self._next_probe:
            return
        self._tries += 1
        if await self._measure(min(doubtful)) is not None:
            for served in self._served():
                if served.deployment.name in self._threads:
                    self._believe(served)
        self._next_probe = Micros(self._clock.now() + round(PROBE_PAUSE_S * MICROS_PER_SECOND))

    def _doubtful(self, threads: int) -> bool:
        """Never measured, or while others used the cores."""
        known = self._probed.known(threads)
        return known is None or known.contended

    async def _measure(self, threads: int) -> CoreGroup | None:
        """Measure a group of cores in a child that gives way at once when a request comes."""
        out = self._folder / "devices" / f"probe-{threads}.out"
        out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        ended = asyncio.Event()
        account = Account(kind=Kind.OVERHEAD, note="measuring cores")
        worker_id = f"probe-{threads}-{self._tries}"
        metered = False

        def on_end(end: WorkerEnd) -> None:
            if metered:
                self._metering.worker_ended(worker_id, end.cpu_nanos, account)
            ended.set()

        worker = await self._host.start(
            WorkerSpec(
                id=worker_id,
                arguments=(
                    *("-m", "meted.live.device_probe", "--threads", str(threads)),
                    *("--out", str(out)),
                ),
                devices=self._devices,
                urgency=Urgency.NORMAL,
                incoming=FromReplica,
            ),
            lambda message: None,
            on_end,
        )
        if not ended.is_set():
            metered = True
            self._metering.worker_started(worker_id, account, worker.cpu_nanos)
        try:
            while not ended.is_set():
                if not self._quiet():
                    worker.kill()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), 0.02)
        except asyncio.CancelledError:
            worker.kill()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 2.0)
            raise
        return self._probed.take(out)

    async def recalibrate(self) -> None:
        """Fit each deployment's factors to its last steps, and keep them in the home."""
        for served in self._served():
            name, watch = served.deployment.name, served.watch
            belief = self._beliefs.get(name)
            steps = watch.undisturbed[-CALIBRATED_STEPS:]
            if belief is None or len(steps) < FEWEST_STEPS:
                continue
            if self._calibrated.get(name) == watch.samples:
                continue
            self._calibrated[name] = watch.samples
            now = await asyncio.to_thread(_calibrated, belief.setup, steps, belief.prior)
            now = replace(now, points=max(now.points, belief.before.points))
            self._beliefs[name] = replace(self._beliefs[name], now=now)
            await asyncio.to_thread(self._kept.save, belief.setup, now)

    async def view(self) -> list[dict[str, Any]]:
        """A JSON-ready row for each deployment of the house's own engine: predicted, measured."""
        rows: list[dict[str, Any]] = []
        for served in self._served():
            name, watch = served.deployment.name, served.watch
            row: dict[str, Any] = {
                "deployment": name,
                "checkpoint": served.deployment.checkpoint,
                **self.state(name, watch),
                "slowdowns": [
                    {"harvest": level, "predicted": predicted, "measured": mean, "steps": steps}
                    for level, (predicted, mean, steps) in watch.slowdowns().items()
                ],
            }
            belief = self._beliefs.get(name)
            if belief is not None:
                alone, recent = watch.undisturbed, watch.recent_steps(KEPT_STEPS)
                fitted = watch.fitted
                row |= await asyncio.to_thread(prediction_row, belief, alone, recent, fitted)
            rows.append(row)
        return rows

    def state(self, name: DeploymentName, watch: DemandWatch) -> dict[str, Any]:
        """Whether the fit of a deployment holds."""
        last = self._drifts.get(name)
        drifted = (
            last is not None and self._clock.now() - last[0] < DRIFT_SHOWN_S * MICROS_PER_SECOND
        )
        if drifted:
            word = "drifted"
        elif watch.suspicion > 0.5:
            word = "suspicious"
        else:
            word = "steady" if watch.samples >= FEWEST_STEPS else "learning"
        return {
            "fit": word,
            "fit_steps": watch.samples,
            "disturbed_steps": watch.disturbed,
            "drift_alarms": watch.drifts,
            "drift_suspicion": watch.suspicion,
            "last_drift": None if last is None else last[1].sentence,
        }


def start_watch(watch: DemandWatch, belief: Belief, *, threads: int) -> None:
    """Let the live fit begin with what is believed."""
    setup, before = belief.setup, belief.before
    max_batch = setup.algorithm.max_batch
    cost = linearised(before.replica(setup).step, chunk_tokens=CHUNK_TOKENS, max_batch=max_batch)
    typical = Batch(requests=min(4, max_batch), prompt=256, output=64).steady_step()
    doubt = before.predict(setup, typical, level=0.68)
    deviation = max(0.05, (doubt.spread**0.5 - 1))
    watch.believe(cost, deviation=deviation + LINE_MISFIT, threads=threads)


def _calibrated(
    setup: Setup, steps: Sequence[tuple[StepWork, float]], prior: FactorPrior
) -> Calibration:
    return calibrate(
        [MeasuredStep(setup=setup, work=work, micros=micros) for work, micros in steps], prior
    )
