"""Published training runs, each predicted by factors learned from the others.

    .venv/bin/python benchmarks/training_runs.py

Prints prediction, 90 % interval and published value of every run: leaving out that run, then
leaving out all runs of its team. Two anchors that need no factor come first.
"""

from collections.abc import Callable
from statistics import median

from meted.domain.catalogue import lookup_architecture
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
    step = narayanan_flops(
        layers=96, hidden=12288, vocab=51200, sequence_tokens=2048, sequences=1536
    )
    days = step * 300e9 / (1536 * 2048) / (1024 * 140e12) / 86400
    print(f"Megatron 175B, 300B tokens, 1024 A100 at 140 TFLOP/s: {days:.2f} days, published 34")


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
    print(f"noise: steps {known.step_noise:.3f}, whole runs {known.whole_noise:.3f}")


def main() -> None:
    anchors()
    runs = seen(published_runs())
    table("leaving out the run", runs, lambda one, other: one is other)
    table("leaving out its team", runs, lambda one, other: one.run.family == other.run.family)
    factors(published_efficiency())


if __name__ == "__main__":
    main()
