"""The search for training levers against a grid of real trials, on one model and one text.

    python benchmarks/training_levers.py CORPUS --keep FOLDER [--home FOLDER] [--part grid]
        [--part auto] [--part target] [--only "adamw-*"] [--target LOSS --budget CORE_S]

Every grid point is a whole training in this process; its result is kept as JSON under FOLDER and
not repeated. Then `--auto`'s own search runs with a quarter of the grid's device time, its finish
included, and its held-out loss is compared with the grid's best. The third part seeks a target
loss, where the best of the grid has made GAIN of its way, or the one that is given. With --budget a
search needs no whole grid, and `--only adamw-0.001` is the plain spec to compare with. A dollar is
CPU time of training steps at the price of a core-hour; of the search, all of its CPU time counts.
CORPUS can be Debian's reference: /usr/share/debian-reference/debian-reference.en.txt.gz.
"""

import argparse
import fnmatch
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import platformdirs
import torch

from meted.domain.job import AutoTraining, Method, TrainingSpec
from meted.domain.units import NanoUSD
from meted.live.checkpoints import CheckpointRegistry, load_tokenizer
from meted.live.training.checkpoint import CheckpointFolder
from meted.live.training.data import Dataset
from meted.live.training.encoder import make_encoder
from meted.live.training.errors import TrainingError
from meted.live.training.house import House, cpu_nanos
from meted.live.training.loop import Loop
from meted.live.training.model import load_trainee
from meted.live.training.optimizers import OPTIMIZERS
from meted.live.training.search_frame import usual_rates
from meted.live.training.spec import has_low_bit, spec_from_mapping
from meted.live.training.trial_log import Trail, dollars_of, read_trail
from meted.live.training.trial_table import losers, rows_of
from meted.live.training.tuning import Search
from meted.live.training.worker import prepare_data
from meted.live.wire import Frame

LOOKS = 8
SHARE = 0.25
GAIN = 0.6
"""The target is where so much of the best trial's gain is made."""


class Alone:
    """A house that neither asks nor listens."""

    closed = False

    def send(self, frames: Sequence[Frame]) -> None:
        pass

    def receive(self, *, block: bool) -> list[Any]:
        return []


def grid(common: dict[str, Any], dataset: Dataset, only: str) -> Iterator[tuple[str, TrainingSpec]]:
    """Optimizers at two or three rates for LoRA, ranks and targets, some full fine-tuning."""
    usual = usual_rates()
    points: list[dict[str, Any]] = []
    for name, factors in (
        ("gd", (1.0, 4.0)),
        ("sgd", (0.3, 1.0)),
        ("momentum", (0.3, 1.0, 3.0)),
        ("adam", (1.0, 3.0)),
        ("adamw", (0.3, 1.0, 3.0)),
        ("adafactor", (0.03, 0.1, 0.3, 1.0, 3.0)),
        ("muon", (1.0, 3.0, 10.0)),
        ("lion", (0.3, 1.0, 3.0)),
        *((("adamw8bit", (3.0,)),) if has_low_bit() else ()),
    ):
        points += [
            {"optimizer": name, "learning_rate": OPTIMIZERS[name].lora * one} for one in factors
        ]
    for rank in (4, 64):
        points += [
            {"optimizer": "adamw", "learning_rate": rate, "lora_rank": rank}
            for rate in (1e-3, 3e-3)
        ]
    points += [
        {"optimizer": "adamw", "learning_rate": 3e-3, "lora_targets": one}
        for one in ("attention", "mlp")
    ]
    points += [
        {"optimizer": name, "learning_rate": usual[("full", name)] * one, "method": "full"}  # type: ignore[index]
        for name, one in (("adamw", 1.0), ("adamw", 3.0), ("sgd", 1.0), ("lion", 1.0))
    ]
    tokens = common["steps"] * common["batch_tokens"]
    for changes in points:
        changes["learning_rate"] = float(f"{changes['learning_rate']:.3g}")
        if changes["optimizer"] == "gd":
            changes["steps"] = max(1, tokens // dataset.train.size)
        name = "-".join(str(one) for one in changes.values())
        if fnmatch.fnmatch(name, only):
            yield name, spec_from_mapping({**common, **changes})


def train(spec: TrainingSpec, dataset: Dataset, folder: Path) -> dict[str, Any]:
    """One whole training: device time and held-out loss at several moments, and at the end."""
    spec = replace(spec, eval_every=max(1, (spec.steps or 1) // LOOKS), checkpoint_every=1_000_000)
    begun = cpu_nanos()
    with tempfile.TemporaryDirectory() as checkpoints:
        loop = Loop(
            spec=spec,
            dataset=dataset,
            trainee=load_trainee(folder, spec),
            checkpoints=CheckpointFolder(Path(checkpoints)),
            house=House(Alone()),
        )
        try:
            state = loop.run()
        except TrainingError as error:
            return {"failed": str(error), "nanos": loop.state.nanos, "all": cpu_nanos() - begun}
    curve = [[0, state.held_out["before"]], *([one.nanos, one.loss] for one in state.marks)]
    return {
        "optimizer": spec.optimizer,
        "nanos": state.nanos,
        "all": cpu_nanos() - begun,
        "loss": state.held_out["after"],
        "curve": [*curve, [state.nanos, state.held_out["after"]]],
    }


def nanos_to(curve: list[list[float]], target: float) -> float | None:
    """Device time until the loss first fell to the target, on straight lines between moments."""
    for (before, high), (after, low) in pairwise(curve):
        if low <= target:
            return before + (after - before) * (high - target) / max(1e-12, high - low)
    return None


def run_grid(
    trials: Sequence[tuple[str, TrainingSpec]], dataset: Dataset, folder: Path, keep: Path
) -> dict[str, dict[str, Any]]:
    results: dict[str, dict[str, Any]] = {}
    for name, spec in trials:
        path = keep / f"{name}.json"
        if not path.exists():
            found = train(spec, dataset, folder)
            path.write_text(json.dumps(found) + "\n")
        results[name] = json.loads(path.read_text())
        said = results[name].get("loss", results[name].get("failed"))
        print(f"{name}: {said} after {results[name]['nanos'] / 1e9:.1f} core-s", flush=True)
    return results


def run_auto(
    spec: TrainingSpec, auto: AutoTraining, dataset: Dataset, folder: Path, workdir: Path
) -> tuple[float, int]:
    """Search and, if asked, train to the end. The held-out loss, and all device time in nanos."""
    workdir.mkdir(parents=True, exist_ok=True)
    spec, done = replace(spec, auto=auto), workdir / "done.json"
    if not done.exists():
        chosen = Search(
            spec=spec,
            auto=auto,
            dataset=dataset,
            workdir=workdir,
            house=House(Alone()),
            load=partial(load_trainee, folder),
        ).run()
        begun = cpu_nanos()
        loop = Loop(
            spec=chosen.spec,
            dataset=dataset,
            trainee=load_trainee(folder, chosen.spec),
            checkpoints=CheckpointFolder(workdir / "checkpoints"),
            house=House(Alone()),
        )
        state = loop.run(to_end=auto.finish)
        spent = read_trail(workdir).spent + cpu_nanos() - begun
        done.write_text(json.dumps([state.held_out["after"], spent]) + "\n")
    trail = read_trail(workdir)
    for row in rows_of(trail):
        print(f"    {row.trial}: {row.steps}/{row.of_steps} {row.held_out} {row.stopped}")
    for sentence in losers(trail):
        print(f"    {sentence}")
    if trail.begun is not None and trail.ended is not None:
        print(f"    {trail.begun.rate}; {trail.ended.why}")
    loss, spent = json.loads(done.read_text())
    return loss, spent


def way_of(spec: TrainingSpec) -> str:
    """A spec without its learning rate."""
    if spec.method is Method.FULL:
        return f"{spec.optimizer}, full"
    return f"{spec.optimizer}, rank {spec.lora_rank}, {spec.lora_targets}"


def report_grid(
    results: dict[str, dict[str, Any]], specs: dict[str, TrainingSpec], price: int
) -> tuple[str, float]:
    """Dollars to the target by optimizer and what it trains. The best trial, and the target."""
    good = {name: one for name, one in results.items() if "loss" in one}
    best = min(good, key=lambda name: good[name]["loss"])
    before = good[best]["curve"][0][1]
    target = before - GAIN * (before - good[best]["loss"])
    print(f"\nbefore {before:.4f}; best of {len(results)}: {best} with {good[best]['loss']:.4f}")
    print(f"dollars to a held-out loss of {target:.4f} (best trial of each):")
    print("| optimizer, LoRA rank and layers | $ to the target | core-s | rate | least loss |")
    print("|---|---|---|---|---|")
    for way in dict.fromkeys(way_of(specs[name]) for name in good):
        mine = {name: one for name, one in good.items() if way_of(specs[name]) == way}
        reached = {name: t for name, one in mine.items() if (t := nanos_to(one["curve"], target))}
        least = min(mine, key=lambda name: mine[name]["loss"])
        told = "not reached | |"
        if reached:
            first = min(reached, key=lambda name: reached[name])
            dollars = dollars_of(round(reached[first]), price) / 1e9
            rate = specs[first].learning_rate
            told = f"{dollars:.7f} | {reached[first] / 1e9:.1f} | {rate:g}"
        print(f"| {way} | {told} | {mine[least]['loss']:.4f} |")
    return best, target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--keep", type=Path, required=True, help="folder of the results")
    default_home = os.environ.get("METED_HOME") or platformdirs.user_data_dir("meted")
    parser.add_argument("--home", type=Path, default=Path(default_home))
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--part", choices=("grid", "auto", "target"), action="append")
    parser.add_argument("--only", default="*", help="grid points of such names")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=512, help="tokens of a step")
    parser.add_argument("--rows", type=int, default=20, help="training sequences of 256 tokens")
    parser.add_argument("--held-out", type=int, default=12, help="held-out sequences")
    parser.add_argument("--target", type=float, help="held-out loss that is sought")
    parser.add_argument("--budget", type=float, help="core-seconds of a search")
    parser.add_argument("--price", type=float, default=0.02, help="dollars per core-hour")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    parts = arguments.part or ["grid", "auto", "target"]
    price = round(arguments.price * 1e9)
    arguments.keep.mkdir(parents=True, exist_ok=True)

    registry = CheckpointRegistry(arguments.home / "checkpoints")
    base = registry.get(arguments.base) if registry.has(arguments.base) else None
    base = base or registry.ensure_builtin(arguments.base, print)
    folder = registry.trainable_folder(base.name)
    common = {
        "name": "levers",
        "base": base.name,
        "data": str(arguments.corpus.absolute()),
        "steps": arguments.steps,
        "batch_tokens": arguments.batch,
        "micro_batch": 2,
    }
    first = spec_from_mapping(common)
    dataset = prepare_data(first, arguments.keep, lambda: make_encoder(load_tokenizer(base)))
    every = max(1, len(dataset.held_out) // arguments.held_out)
    dataset = Dataset(
        train=dataset.train[: arguments.rows],
        held_out=dataset.held_out[::every][: arguments.held_out],
    )
    trials = list(grid(common, dataset, arguments.only))
    if "grid" in parts:
        results = run_grid(trials, dataset, folder, arguments.keep)
    else:
        names = [arguments.keep / f"{name}.json" for name, _ in trials]
        results = {one.stem: json.loads(one.read_text()) for one in names if one.exists()}
    if not results:
        parser.error("no grid is kept yet; run with --part grid first")
    best, target = report_grid(results, dict(trials), price)
    whole = sum(one["nanos"] for one in results.values())
    one_job = whole // len(results)
    budget = NanoUSD(dollars_of(round(SHARE * whole) - one_job, price))
    if arguments.budget is not None:
        budget = NanoUSD(dollars_of(round(arguments.budget * 1e9), price))
    print(f"the grid took {whole / 1e9:.0f} core-seconds of steps")
    if "auto" in parts:
        auto = AutoTraining(price=NanoUSD(price), budget=budget)
        loss, spent = run_auto(first, auto, dataset, folder, arguments.keep / "auto")
        least = results[best]["loss"]
        print(
            f"auto: {loss:.4f}, {loss / least - 1:+.2%} of the grid's best, for {spent / 1e9:.0f} "
            f"core-seconds, {spent / whole:.0%} of the grid's"
        )
    if "target" in parts:
        target = arguments.target or target
        auto = AutoTraining(price=NanoUSD(price), budget=budget, target_loss=target, finish=False)
        loss, spent = run_auto(first, auto, dataset, folder, arguments.keep / "target")
        report_target(
            read_trail(arguments.keep / "target"), results, target, loss=loss, spent=spent
        )
        print(f"that is {spent / whole:.0%} of the grid's {whole / 1e9:.0f} core-seconds")


def report_target(
    trail: Trail, results: dict[str, dict[str, Any]], target: float, *, loss: float, spent: int
) -> None:
    """What the target cost a trial, against what it cost in the grid."""
    begun = trail.begun
    assert begun is not None and trail.ended is not None
    won, plain = trail.last[trail.ended.best], trail.last[next(iter(begun.trials))]
    nanos = sum(one.nanos for one in trail.last.values())
    print(f"target {target:.4f}: held-out loss of the chosen {loss:.4f}")
    for who, one in (("chosen", won), ("plain", plain)):
        cost = "not met" if one.reached is None else f"${one.reached / 1e9:.9f}"
        print(f"    {who} {one.trial}: {cost}, trained for {one.nanos / 1e9:.1f} core-s")
    known = {
        name: found
        for name, one in results.items()
        if (found := nanos_to(one.get("curve", []), target)) is not None
    }
    for name in sorted(known, key=lambda one: known[one])[:3]:
        print(f"    grid's {name}: ${dollars_of(round(known[name]), begun.price) / 1e9:.9f}")
    print(
        f"    the search took {spent / 1e9:.0f} core-seconds, {nanos / 1e9:.0f} of them steps, "
        f"{begun.loading / 1e9:.1f} a loading, {begun.look / 1e9:.1f} reckoned for a look at "
        f"{begun.rows} rows"
    )


if __name__ == "__main__":
    main()
