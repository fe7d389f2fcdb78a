"""Held-out loss against dollars for several optimizers on one corpus and one budget of tokens.

    python benchmarks/optimizers.py CORPUS [--home FOLDER] [--tokens N] [--optimizers gd,sgd,...]

The trainer's own loop runs in this process. A dollar is CPU time at the price of a core-hour;
evaluations are left out of it. adamw decays weights by 0.01, its usual value.
Writes docs/img/optimizers.png and docs/img/optimizers.json. CORPUS can be
Debian's reference: /usr/share/debian-reference/debian-reference.en.txt.gz from
the package debian-reference-en.
"""

import argparse
import datetime
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import matplotlib
import platformdirs
import torch

from meted.domain.job import TrainingPhase, TrainingSpec
from meted.live.checkpoints import CheckpointRegistry, load_tokenizer
from meted.live.training.checkpoint import CheckpointFolder
from meted.live.training.data import Dataset
from meted.live.training.encoder import make_encoder
from meted.live.training.house import House
from meted.live.training.loop import Loop
from meted.live.training.model import load_trainee
from meted.live.training.spec import spec_from_mapping
from meted.live.training.worker import prepare_data
from meted.live.wire import Evaluated, Frame, PhaseChanged, Trained

matplotlib.use("Agg")
from matplotlib import pyplot

OUT = Path(__file__).parents[1] / "docs" / "img"


@dataclass
class Curve:
    """A house that only listens: held-out loss by CPU time spent on training."""

    points: list[tuple[float, int, float]] = field(default_factory=list)
    train_nanos: int = 0
    tokens: int = 0
    closed: bool = False
    _since: int = 0
    _phase: str = TrainingPhase.LOADING

    def send(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            match frame:
                case PhaseChanged(phase=phase, cpu_ns=now):
                    self._charge(now)
                    self._phase = phase
                case Trained(tokens=tokens, cpu_ns=now):
                    self._charge(now)
                    self.tokens = tokens
                    print(f"    step {frame.step}: loss {frame.loss:.4f}", flush=True)
                case Evaluated(loss=loss):
                    self.points.append((self.train_nanos / 1e9, self.tokens, loss))
                case _:
                    pass

    def receive(self, *, block: bool) -> list[Any]:
        return []

    def _charge(self, now: int) -> None:
        if self._phase == TrainingPhase.TRAIN:
            self.train_nanos += now - self._since
        self._since = now


def run(spec: TrainingSpec, dataset: Dataset, folder: Path) -> Curve:
    """Train once, with about six evaluations on the way."""
    curve = Curve()
    with tempfile.TemporaryDirectory() as checkpoints:
        Loop(
            spec=spec,
            dataset=dataset,
            trainee=load_trainee(folder, spec),
            checkpoints=CheckpointFolder(Path(checkpoints)),
            house=House(curve),
        ).run()
    return curve


def plot(results: dict[str, Any], price: float) -> None:
    """One line for each optimizer."""
    figure, axes = pyplot.subplots(figsize=(7, 4.2), dpi=150)
    for name, points in results.items():
        dollars = [seconds / 3600 * price * 1e6 for seconds, _, _ in points]
        axes.plot(dollars, [loss for _, _, loss in points], marker="o", markersize=3, label=name)
    axes.set_xlabel(f"training cost (millionths of a dollar, at ${price}/core-hour)")
    axes.set_ylabel("held-out loss (nats per token)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(OUT / "optimizers.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    default_home = os.environ.get("METED_HOME") or platformdirs.user_data_dir("meted")
    parser.add_argument("--home", type=Path, default=Path(default_home))
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--optimizers", default="gd,sgd,adam,adamw")
    parser.add_argument("--tokens", type=int, default=49_152, help="trained on by each optimizer")
    parser.add_argument("--part", type=int, default=8_192, help="size of the training part")
    parser.add_argument("--price", type=float, default=0.02, help="dollars per core-hour")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    registry = CheckpointRegistry(arguments.home / "checkpoints")
    base = registry.get(arguments.base) if registry.has(arguments.base) else None
    base = base or registry.ensure_builtin(arguments.base, print)
    folder = registry.trainable_folder(base.name)
    common = {"name": "b", "base": base.name, "data": str(arguments.corpus), "micro_batch": 4}
    first = spec_from_mapping({**common, "steps": 1})
    with tempfile.TemporaryDirectory() as workdir:
        dataset = prepare_data(first, Path(workdir), lambda: make_encoder(load_tokenizer(base)))
    # The same part for all, small enough that full-batch descent takes several steps.
    rows = arguments.part // first.sequence_tokens
    dataset = replace(dataset, train=dataset.train[:rows], held_out=dataset.held_out[::2])

    results: dict[str, Any] = {}
    for name in arguments.optimizers.split(","):
        batch = dataset.train.size if name == "gd" else first.batch_tokens
        assert batch is not None
        steps = max(1, arguments.tokens // batch)
        spec = spec_from_mapping(
            {
                **common,
                "optimizer": name,
                "steps": steps,
                "weight_decay": 0.01 if name == "adamw" else 0.0,
                "eval_every": max(1, steps // 6),
                "checkpoint_every": 1_000_000,
            }
        )
        print(f"{name}: {steps} steps of {batch} tokens", flush=True)
        results[name] = run(spec, dataset, folder).points
        print(f"  {name}: {results[name][0][2]:.4f} -> {results[name][-1][2]:.4f}", flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    plot(results, arguments.price)
    command = f"python benchmarks/optimizers.py {arguments.corpus} --tokens {arguments.tokens}"
    facts = {
        "machine": f"{platform.processor() or platform.machine()}, {arguments.threads} threads",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": command,
        "usd_per_core_hour": arguments.price,
        "columns": ["cpu_seconds", "tokens", "held_out_loss"],
        "results": results,
    }
    (OUT / "optimizers.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
