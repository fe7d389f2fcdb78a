"""How well six points predict this machine: SmolLM2-135M on the real engine, alone, beside a
trainer in the idle class, and behind the whole house.

Configurations: threads, precision of the weights, batch, prompt and output lengths. Six of them are
chosen by `choose_probes` before anything is measured, three of int8 on all threads and one of each
other group, whose prior is carried over from the three; all the others are held out. A shape is
repeated after a pause while other processes take the engine's cores, and counted if they did to the
last.

    python benchmarks/this_machine.py [--quick] [--json FILE]
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corun import corpus, spec
from load import Shape as Words
from load import open_loop
from meted.domain.device_kind import DeviceKind
from meted.live.calibrating import StepProbe, busy_share, phases, points_of, shape_works
from meted.live.calibrations import engine_version, served_setup
from meted.live.checkpoints import CheckpointRegistry
from meted.live.device_probe import CoreGroup, device_kind, probe
from meted.live.host import Urgency, WorkerEnd, WorkerSpec
from meted.live.local_host import LocalHost
from meted.live.step_probe import Shape, ShapeTimes
from meted.live.wire import FromTrainer, Stop, Trained
from meted.predict.calibration import Calibration, calibrate
from meted.predict.cores import CORES_PRIOR, carried
from meted.predict.estimate import Estimate
from meted.predict.probing import choose_probes
from meted.predict.setup import Setup
from meted.predict.step_time import StepWork
from meted.testing.house import RealHouse, machine, shared_checkpoints

MODEL = "smollm2-135m"
BATCHES = (1, 2, 4, 8, 16)
MOST_TOKENS = 8192
PATIENCE_S = 300.0
"""For so long shapes are repeated while others take the cores."""
LENGTHS = ((32, 64), (128, 32), (512, 48), (1024, 128))
OTHER_LENGTHS = ((64, 32), (768, 48))
QUICK_LENGTHS = ((32, 32), (256, 32))
FIRST_POINTS = 3
CORUN_SHAPES = (
    *(Shape(batch=2, prompt=256, output=64), Shape(batch=8, prompt=64, output=64)),
    *(Shape(batch=1, prompt=512, output=64), Shape(batch=4, prompt=128, output=64)),
    *(Shape(batch=16, prompt=32, output=48), Shape(batch=4, prompt=512, output=64)),
    *(Shape(batch=1, prompt=64, output=96), Shape(batch=8, prompt=256, output=48)),
)
"""The first two tell the slowdown; the rest are predicted with it."""
CORUN_POINTS = 2

EXPORT = """
import logging, sys
import nncf
from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig
nncf.set_log_level(logging.ERROR)
source, out, precision = sys.argv[1:]
four = OVWeightQuantizationConfig(bits=4, group_size=64, ratio=1.0, sym=False)
OVModelForCausalLM.from_pretrained(
    source, export=True, compile=False, local_files_only=True,
    load_in_8bit=None if precision == "int4" else False,
    quantization_config=four if precision == "int4" else None,
).save_pretrained(out)
"""


def exported(precision: str) -> Path:
    """The model with weights of another precision, converted once beside the shared checkpoints."""
    base = shared_checkpoints()
    out = base.with_name(f"{base.name}-{precision}") / f"{MODEL}-{precision}"
    if not (out / "checkpoint.json").exists():
        draft = out.with_name(f".{out.name}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        source = base / MODEL / "hf"
        done = subprocess.run(
            [sys.executable, "-c", EXPORT, str(source), str(draft), precision],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{precision} cannot be exported: {done.stderr[-1500:]}")
        for file in (base / MODEL).iterdir():
            if file.is_file() and not (draft / file.name).exists():
                shutil.copy(file, draft / file.name)
        description = json.loads((draft / "checkpoint.json").read_text())
        description["weight_bytes"] = (draft / "openvino_model.bin").stat().st_size
        if precision == "bf16":
            # The file has fp32; the engine keeps them in the precision in which it computes.
            description["weight_bytes"] = 2 * description["parameters"]
        (draft / "checkpoint.json").write_text(json.dumps(description))
        draft.rename(out)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Configurations that share an engine. disturbed: those with other processes to the last."""

    precision: str
    threads: int
    setup: Setup
    folder: Path
    shapes: tuple[Shape, ...]

    @property
    def name(self) -> str:
        return f"{self.precision} x{self.threads}"


def shapes_of(lengths: Sequence[tuple[int, int]], batches: Sequence[int]) -> tuple[Shape, ...]:
    return tuple(
        Shape(batch=batch, prompt=prompt, output=output)
        for batch in batches
        for prompt, output in lengths
        if batch * prompt <= MOST_TOKENS
    )


def groups(*, quick: bool, kinds: dict[int, DeviceKind]) -> list[Group]:
    """What is measured; the first group is the one that calibrates the others."""
    most = max(kinds)
    wanted: list[tuple[str, int, Sequence[tuple[int, int]]]] = [
        ("int8", threads, QUICK_LENGTHS if quick else LENGTHS)
        for threads in sorted(kinds, reverse=True)
    ]
    if not quick:
        wanted += [("bf16", most, OTHER_LENGTHS), ("int4", most, OTHER_LENGTHS)]
    made: list[Group] = []
    for precision, threads, lengths in wanted:
        folder = shared_checkpoints() / MODEL if precision == "int8" else exported(precision)
        checkpoint = CheckpointRegistry(folder.parent).get(folder.name)
        setup = served_setup(checkpoint, kinds[threads], max_batch=16)
        made.append(
            Group(
                precision=precision,
                threads=threads,
                setup=setup,
                folder=folder,
                shapes=shapes_of(lengths, (1, 4, 16) if quick else BATCHES),
            )
        )
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One configuration's times."""

    group: Group
    times: ShapeTimes
    disturbed: bool


def measure(group: Group, *, until: float) -> list[Measured]:
    """All shapes of a group, in one process of the engine; none is repeated after `until`."""
    with StepProbe(group.folder, threads=group.threads) as engine:
        engine.time(Shape(batch=2, prompt=64, output=16))
        found: list[Measured] = []
        for shape in group.shapes:
            times, disturbed = engine.time_quietly(shape, until=until)
            found.append(Measured(group=group, times=times, disturbed=disturbed))
    return found


def predicted(calibration: Calibration, setup: Setup, works: Sequence[StepWork]) -> Estimate:
    """The sum of steps, their errors taken as one."""
    each = [calibration.predict(setup, one) for one in works]
    low, expected, high = (
        sum(getattr(one, name) for one in each) for name in ("low", "expected", "high")
    )
    return Estimate(low=low, expected=expected, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """A held-out configuration: predicted and measured microseconds of its phases."""

    shape: Shape
    prefill: Estimate
    prefill_measured: float
    decode: Estimate
    decode_measured: float
    disturbed: bool


def errors(calibration: Calibration, held: Sequence[Measured]) -> list[Error]:
    found: list[Error] = []
    for one in held:
        told = phases(one.times)
        setup = one.group.setup
        found.append(
            Error(
                shape=one.times.shape,
                prefill=predicted(calibration, setup, [work for work, _ in told.prefill]),
                prefill_measured=told.prefill_micros,
                decode=calibration.predict(setup, told.decode[0]),
                decode_measured=told.decode[1],
                disturbed=one.disturbed,
            )
        )
    return found


def score(told: Sequence[Error]) -> dict[str, Any]:
    """Mean absolute percentage errors, coverage of the 90 % intervals, and their width."""
    pairs = {
        "prefill": [(one.prefill, one.prefill_measured) for one in told],
        "decode": [(one.decode, one.decode_measured) for one in told],
    }
    row: dict[str, Any] = {
        "configurations": len(told),
        "disturbed": sum(one.disturbed for one in told),
    }
    for phase, values in pairs.items():
        off = [abs(estimate.expected / micros - 1) for estimate, micros in values]
        row[phase] = {
            "mape": 100 * statistics.fmean(off),
            "worst": 100 * max(off),
            "coverage": 100 * statistics.fmean(e.low <= m <= e.high for e, m in values),
            "width": 100 * statistics.fmean((e.high - e.low) / e.expected for e, _ in values),
        }
    return row


def chosen(group: Group, count: int, calibration: Calibration) -> list[int]:
    """Which shapes are measured for calibration: told by the prior alone."""
    works = [[(group.setup, one) for one in shape_works(shape)] for shape in group.shapes]
    return list(choose_probes(works, count, calibration.as_prior()))


def alone(found: Sequence[Sequence[Measured]]) -> tuple[list[dict[str, Any]], Calibration]:
    """A row for each group: calibrated on its part of the six points, the rest held out."""
    rows: list[dict[str, Any]] = []
    nothing = calibrate([], CORES_PRIOR)
    first: Calibration | None = None
    every: list[Error] = []
    for measured in found:
        group = measured[0].group
        if first is None:
            prior, count = CORES_PRIOR, FIRST_POINTS
        else:
            prior = carried(first, found[0][0].group.setup.kind, group.setup.kind)
            count = 1
        picks = chosen(group, count, calibrate([], prior))
        points = [p for i in picks for p in points_of(group.setup, measured[i].times)]
        calibration = calibrate(points, prior)
        first = first or calibration
        held = [one for i, one in enumerate(measured) if i not in picks]
        told = errors(calibration, held)
        every += told
        rows.append(
            {
                "group": group.name,
                "points": count,
                "shapes": [asdict(group.shapes[i]) for i in picks],
                **score(told),
                "uncalibrated": score(errors(nothing, held)),
                "errors": [asdict(one) for one in told],
            }
        )
    assert first is not None
    rows.append({"group": "all held out", "points": sum(r["points"] for r in rows), **score(every)})
    rows.append(six_of_one(found[0]))
    return rows, first


def six_of_one(measured: Sequence[Measured]) -> dict[str, Any]:
    """The first group with all six points for itself, as `meted predict --probe` spends them."""
    group = measured[0].group
    count = min(6, len(measured) // 2)
    picks = chosen(group, count, calibrate([], CORES_PRIOR))
    points = [p for i in picks for p in points_of(group.setup, measured[i].times)]
    held = [one for i, one in enumerate(measured) if i not in picks]
    told = errors(calibrate(points, CORES_PRIOR), held)
    return {
        "group": f"{group.name}, all points its own",
        "points": count,
        "shapes": [asdict(group.shapes[i]) for i in picks],
        **score(told),
    }


def quiet_probe(threads: int) -> CoreGroup:
    """The cores measured, again after a pause while others use them; the last of five otherwise."""
    group = probe(threads)
    for _ in range(4):
        if not group.contended:
            break
        time.sleep(5)
        group = probe(threads)
    return group


# Beside a trainer.


class IdleTrainer:
    """The house's trainer in the operating system's idle class."""

    def __init__(self, checkpoints: Path, devices: tuple[int, ...]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="meted-idle-")
        self._checkpoints, self._devices = checkpoints, devices
        self._steps: list[float] = []
        self._ended = asyncio.Event()

    async def start(self) -> None:
        """Start it, and wait for its first steps."""
        folder = Path(self._folder.name)
        job = json.dumps(asdict(spec("idle", corpus(folder))))
        self._worker = await LocalHost(folder).start(
            WorkerSpec(
                id="idle",
                arguments=(
                    *("-m", "meted.live.job_worker", "--fd", "{fd}", "--spec", job),
                    *("--registry", str(self._checkpoints), "--workdir", str(folder / "job")),
                    *("--threads", str(len(self._devices))),
                ),
                devices=self._devices,
                urgency=Urgency.IDLE,
                incoming=FromTrainer,
            ),
            self._message,
            self._end,
        )
        while len(self._steps) < 3:
            if self._ended.is_set():
                raise RuntimeError((folder / "idle.log").read_text()[-2000:])
            await asyncio.sleep(0.05)
        # Threads that the trainer's libraries made since then take its rank, too.
        self._worker.place(self._devices, Urgency.IDLE)

    def _message(self, message: Any) -> None:
        if isinstance(message, Trained):
            self._steps.append(time.perf_counter())

    def _end(self, end: WorkerEnd) -> None:
        self._ended.set()

    def steps_since(self, began: float) -> int:
        return sum(1 for at in self._steps if at >= began)

    async def stop(self) -> None:
        """End it."""
        self._worker.send(Stop())
        try:
            await asyncio.wait_for(self._ended.wait(), 20)
        except TimeoutError:
            self._worker.kill()
            await self._ended.wait()
        self._folder.cleanup()


async def beside(group: Group, calibration: Calibration, *, quick: bool) -> dict[str, Any]:
    """The same engine beside a trainer: two shapes tell the slowdown of each phase over the
    calibrated prediction, the others are predicted with it."""
    devices = tuple(sorted(os.sched_getaffinity(0)))[: group.threads]
    shapes = CORUN_SHAPES[:4] if quick else CORUN_SHAPES
    trainer = IdleTrainer(shared_checkpoints(), devices)
    with StepProbe(group.folder, threads=group.threads) as engine:
        await asyncio.to_thread(engine.time, Shape(batch=2, prompt=64, output=16))
        await trainer.start()
        began = time.perf_counter()
        times = [await asyncio.to_thread(engine.time, shape) for shape in shapes]
        trained = trainer.steps_since(began) / (time.perf_counter() - began)
        await trainer.stop()
    found = [Measured(group=group, times=one, disturbed=False) for one in times]
    told = errors(calibration, found)
    few, rest = told[:CORUN_POINTS], told[CORUN_POINTS:]
    slow = {
        "prefill": statistics.fmean(one.prefill_measured / one.prefill.expected for one in few),
        "decode": statistics.fmean(one.decode_measured / one.decode.expected for one in few),
    }
    row: dict[str, Any] = {
        "trainer_steps_per_second": trained,
        "busy_share": statistics.fmean(busy_share(one, group.threads) for one in times),
        "slowdown": slow,
        "configurations": len(rest),
    }
    for phase in ("prefill", "decode"):
        off: list[float] = []
        inside: list[bool] = []
        for one in rest:
            estimate: Estimate = getattr(one, phase)
            micros = getattr(one, f"{phase}_measured") / slow[phase]
            off.append(abs(estimate.expected / micros - 1))
            inside.append(estimate.low <= micros <= estimate.high)
        row[phase] = {
            "mape": 100 * statistics.fmean(off),
            "coverage": 100 * statistics.fmean(inside),
        }
    return row


# Behind the house.


def behind_the_house(*, quick: bool) -> dict[str, Any]:
    """`meted predict --probe`, then a light load, then `meted predict --live`."""
    house = RealHouse(config={"deployments": [{"name": MODEL}]}, cache=shared_checkpoints())
    try:
        probed = json.loads(house.meted("predict", "--probe", MODEL, "--json"))
        began = time.perf_counter()
        house.start()
        ready = time.perf_counter() - began
        asyncio.run(
            open_loop(
                url=house.url,
                key=house.key,
                model=MODEL,
                rate=0.4,
                seconds=12 if quick else 60,
                seed=5,
                words_seed=0,
                shape=Words(),
            )
        )
        time.sleep(2)
        (live,) = json.loads(house.meted("predict", "--live", "--json"))
        house.stop()
        check = house.meted("bill", "--check").strip().splitlines()[0]
    finally:
        house.remove()
    return {"probe": probed, "seconds_to_ready": ready, "live": live, "books": check}


def show(result: dict[str, Any]) -> None:
    """Plain tables."""
    print(f"machine: {result['machine']}")
    print(f"engine: {result['engine']}; load average before {result['load_average_before']:.2f}")
    for group in result["cores"]:
        flops = ", ".join(f"{name} {value / 1e9:.0f}" for name, value in group["flops"].items())
        print(
            f"{group['threads']} cores: {flops} GFLOP/s, {group['bandwidth'] / 1e9:.1f} GB/s, "
            f"{'others use the cores' if group['contended'] else 'undisturbed'}"
        )
    if any(one["contended"] for one in result["cores"]) or result["alone"][-2]["disturbed"]:
        print("others used the cores: these numbers are not the machine's; repeat when it is quiet")
    print(
        f"\n{result['configurations']} configurations; MAPE of held-out ones in %, share inside "
        "the 90 % interval, and its width in %"
    )
    print(
        f"{'group':30}{'points':>7}{'held':>6}{'prefill':>9}{'inside':>8}{'width':>7}"
        f"{'decode':>8}{'inside':>8}{'width':>7}{'no points':>16}{'disturbed':>11}"
    )
    for row in result["alone"]:
        before = row.get("uncalibrated")
        none = (
            f"{before['prefill']['mape']:.0f} / {before['decode']['mape']:.0f}" if before else "-"
        )
        print(
            f"{row['group']:30}{row['points']:7}{row['configurations']:6}"
            f"{row['prefill']['mape']:9.1f}{row['prefill']['coverage']:8.0f}"
            f"{row['prefill']['width']:7.0f}{row['decode']['mape']:8.1f}"
            f"{row['decode']['coverage']:8.0f}{row['decode']['width']:7.0f}{none:>16}"
            f"{row['disturbed']:11}"
        )
    if (corun := result.get("corun")) is not None:
        print(
            "\nbeside a trainer in the idle class "
            f"({corun['trainer_steps_per_second']:.2f} steps/s, engine on its cores "
            f"{corun['busy_share']:.0%} of the time): slowdown by "
            f"{CORUN_POINTS} points prefill {corun['slowdown']['prefill']:.2f}, decode "
            f"{corun['slowdown']['decode']:.2f}; {corun['configurations']} held out: prefill MAPE "
            f"{corun['prefill']['mape']:.1f} % ({corun['prefill']['coverage']:.0f} % inside), "
            f"decode {corun['decode']['mape']:.1f} % ({corun['decode']['coverage']:.0f} % inside)"
        )
    if (house := result.get("house")) is not None:
        probed, live = house["probe"], house["live"]
        print(
            f"\nmeted predict --probe: {probed['points']} points in {probed['seconds']:.0f} s, "
            f"{probed['disturbed']} disturbed; meted up: ready after "
            f"{house['seconds_to_ready']:.1f} s; books: {house['books']}"
        )
        for phase in live["phases"]:
            for word, told in (("before", phase), ("now", phase["live"])):
                if told["steps"]:
                    print(
                        f"meted predict --live: {phase['phase']:8}{word:7}{told['steps']:5} steps, "
                        f"predicted {told['predicted_ms']['expected']:.1f} ms, measured "
                        f"{told['measured_ms']:.1f} ms, error {told['error']:.1%}, "
                        f"inside {told['coverage']:.0%}"
                    )
        print(
            f"fit {live['fit']}, {live['drift_alarms']} alarms, {live['disturbed_steps']} steps "
            "shared their cores"
        )


def run(*, quick: bool) -> dict[str, Any]:
    """Everything."""
    before = os.getloadavg()[0]
    result: dict[str, Any] = {"machine": machine(), "load_average_before": before}
    most = len(os.sched_getaffinity(0))
    cores = {threads: quiet_probe(threads) for threads in sorted({1, most})}
    result["cores"] = [
        {
            "threads": one.threads,
            "flops": dict(one.flops),
            "bandwidth": one.bandwidth,
            "contended": one.contended,
        }
        for one in cores.values()
    ]
    RealHouse(cache=shared_checkpoints()).remove()
    kinds = {threads: device_kind(group) for threads, group in cores.items()}
    wanted = groups(quick=quick, kinds=kinds)
    result["engine"] = engine_version(wanted[0].setup.algorithm.weights)
    until = time.monotonic() + (60 if quick else PATIENCE_S)
    found = [measure(group, until=until) for group in wanted]
    result["configurations"] = sum(map(len, found))
    result["alone"], calibration = alone(found)
    result["corun"] = asyncio.run(beside(wanted[0], calibration, quick=quick))
    result["house"] = behind_the_house(quick=quick)
    return result


def main() -> None:
    """Parse, measure, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few configurations, two minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there, too")
    arguments = parser.parse_args()
    began = time.perf_counter()
    result = run(quick=arguments.quick)
    result["seconds"] = time.perf_counter() - began
    show(result)
    print(f"\n{result['seconds']:.0f} s in all")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1, default=str))


if __name__ == "__main__":
    main()
