"""Published training runs, each predicted by factors learned from the others.

    .venv/bin/python benchmarks/training_runs.py

Prints prediction, 90 % interval and published value of every run: leaving out that run, then
leaving out all runs of its team. Two anchors that need no factor come first.
"""

from collections.abc import Callable
from statistics import median

from meted.domain.algorithm import Parallelism
from meted.domain.catalogue import lookup_architecture, lookup_device_kind
from meted.domain.training_algorithm import Recomputation, TrainingAlgorithm
from meted.predict.counting import parameters
from meted.predict.training.efficiency import (
    Efficiency,
    SeenRun,
    fit_efficiency,
    published_efficiency,
    seen,
)
from meted.predict.training.flops import narayanan_flops, six_nd
from meted.predict.training.published_runs import published_runs
from meted.predict.training.step import ideal_training_step


def anchors() -> None:
    """GPT-3's FLOPs, and Megatron's days at the rate that it reports."""
    gpt_3 = lookup_architecture("gpt3-175b")
    count = parameters(gpt_3).total
    published = 3.14e23
    needed = six_nd(count, 300e9)
    print(
        f"GPT-3: 6 N D = {needed:.4g} FLOP, published {published:.4g}, "
        f"{needed / published - 1:+.2%}"
    )
    tokens, devices, rate = 300e9, 1024, 140e12
    simple = 8 * tokens * 175e9 / (devices * rate) / 86400
    counted = narayanan_flops(
        layers=96, hidden=12288, vocab=51200, sequence_tokens=2048, sequences=1536
    )
    exact = counted * tokens / (1536 * 2048) / (devices * rate) / 86400
    print(f"Megatron, 175B, 300B tokens, 1024 A100 at 140 TFLOP/s, published as 34 days: "
          f"{simple:.1f} by 8 T P / (n X), {exact:.1f} by the exact count")  # fmt: skip


def megatron_days(known: Efficiency) -> None:
    """Megatron's 175B run in our model: its layout of 2021, everything recomputed."""
    gpt_3 = lookup_architecture("gpt3-175b")
    way = TrainingAlgorithm(
        micro_batch=1,
        global_batch=1536,
        recomputation=Recomputation.FULL,
        flash_attention=False,
        parallelism=Parallelism(tensor=8, pipeline=8, data=16),
    )
    kind = lookup_device_kind("a100-80gb")
    ideal = ideal_training_step(gpt_3, way, kind)
    steps = 300e9 / way.batch_tokens
    for name, told in (
        ("steps alone", known.step_seconds(ideal, kind.name)),
        ("whole run", known.whole_seconds(ideal, kind.name)),
    ):
        days = told.through(lambda seconds: steps * seconds / 86400)
        print(f"Megatron's 175B run, {name}: {days.expected:.1f} days "
              f"[{days.low:.1f}, {days.high:.1f}], published 34")  # fmt: skip


def table(
    title: str, runs: tuple[SeenRun, ...], same: Callable[[SeenRun, SeenRun], bool]
) -> list[tuple[SeenRun, float, bool, float]]:
    """Prints one table; rows are run, log error, inside or not, spread."""
    print(f"\n{title}")
    print(f"{'run':34}{'unit':>7}{'predicted':>12}{'low':>12}{'high':>12}{'published':>12}{'error':>8}"
          f"{'spread':>8}  inside")  # fmt: skip
    rows: list[tuple[SeenRun, float, bool, float]] = []
    for one in runs:
        known = fit_efficiency([other for other in runs if not same(one, other)])
        told = known.of_run(one)
        truth = one.run.measured
        inside = told.low <= truth <= told.high
        error = told.expected / truth - 1
        rows.append((one, error, inside, told.spread))
        unit = "hours" if one.whole else "s/step"
        verdict = "yes" if inside else "NO"
        print(f"{one.run.name:34}{unit:>7}{told.expected:12.4g}{told.low:12.4g}{told.high:12.4g}"
              f"{truth:12.4g}{error:8.1%}{told.spread:8.2f}  {verdict}")  # fmt: skip
    for name, part in (
        ("steps", [row for row in rows if not row[0].whole]),
        ("whole runs", [row for row in rows if row[0].whole]),
        ("all", rows),
    ):
        hits = sum(row[2] for row in part)
        print(f"{name}: {hits} of {len(part)} inside ({hits / len(part):.0%}), median error "
              f"{median(abs(row[1]) for row in part):.1%}, median spread "
              f"{median(row[3] for row in part):.2f}")  # fmt: skip
    return rows


def factors(known: Efficiency) -> None:
    print("\nlearned from all runs:", known.factors)
    print(f"noise: steps {known.step_noise}, whole runs {known.whole_noise}")


def main() -> None:
    anchors()
    megatron_days(published_efficiency())
    runs = seen(published_runs())
    table("leaving out the run", runs, lambda one, other: one is other)
    table("leaving out its team", runs, lambda one, other: one.run.family == other.run.family)
    factors(published_efficiency())


if __name__ == "__main__":
    main()
