"""What `meted simulate` prints: the comparison as a table, or as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from meted.cli.render import dollars, duration, print_table
from meted.cli.simulating import Study
from meted.domain.units import MICROS_PER_SECOND
from meted.sim.books import Books
from meted.sim.compare import Comparison, Interval, Row
from meted.sim.measures import Unit
from meted.sim.result import Result

BEST = "*"
LEGEND = "best mean of its row, and what may be as good (difference by seed, 95 %)"


def print_comparison(
    study: Study,
    results: Mapping[str, Sequence[Result]],
    books: Mapping[str, Sequence[Books]],
    comparison: Comparison,
) -> None:
    """A row for each measure, a column for each policy, then the books and the facts."""
    headers = ["measure", *comparison.policies]
    rows = [[row_title(row), *row_cells(row, comparison)] for row in comparison.rows]
    print_table(headers, rows, right=comparison.policies)
    click.echo()
    for line in notes(study, results, books, comparison):
        click.echo(line)


def notes(
    study: Study,
    results: Mapping[str, Sequence[Result]],
    books: Mapping[str, Sequence[Books]],
    comparison: Comparison,
) -> list[str]:
    """What must be said beside the table."""
    said: list[str] = []
    if len(comparison.policies) > 1:
        said.append(f"{BEST} {LEGEND if comparison.seeds > 1 else 'best of its row'}.")
    if comparison.seeds > 1:
        said.append(
            f"Means of {comparison.seeds} seeds ± half of their 95 % interval (Student's t)."
        )
    else:
        said.append("One seed, so no intervals; --seeds 5 gives them.")
    lasted = [runs[0].ended / MICROS_PER_SECOND for runs in results.values()]
    said.append(f"Simulated with the first seed: {', '.join(map(duration, lasted))}.")
    said += [f"Books of {policy}: {verdict(study, results[policy], some)}"
             for policy, some in books.items()]  # fmt: skip
    return [*said, *study.told]


def verdict(study: Study, runs: Sequence[Result], books: Sequence[Books]) -> str:
    """What the check of the books found, which has passed, with its numbers."""
    devices = len(study.pool.pool.devices)
    capacity = sum(devices * run.ended for run in runs)
    booked = sum(one.device_micros for one in books)
    cost = sum(one.cost for one in books)
    return (
        f"balanced; {booked} of {capacity} device-microseconds are each in one line, which cost "
        f"{dollars(cost)}, capacity x price."
    )


def row_cells(row: Row, comparison: Comparison) -> list[str]:
    """The row's numbers, the best ones marked."""
    return [
        f"{shown(row.by_policy[policy], row.measure.unit)}{BEST if policy in row.best else ''}"
        for policy in comparison.policies
    ]


def shown(one: Interval | None, unit: Unit) -> str:
    """A mean with half its interval, `-` where there is none."""
    if one is None:
        return "-"
    factor = 100.0 if unit is Unit.SHARE else 1.0
    text = _number(one.mean * factor)
    return text if one.reach is None else f"{text} ±{_number(one.reach * factor)}"


def _number(value: float) -> str:
    """Four digits, more only before the point."""
    size = abs(value)
    digits = 0 if size >= 1_000 else 1 if size >= 100 else 2
    return f"{value:,.{digits}f}"


def row_title(row: Row) -> str:
    """The measure with its unit."""
    unit = row.measure.unit.value
    return f"{row.measure.title}, {unit}" if unit else row.measure.title


def study_document(
    study: Study,
    results: Mapping[str, Sequence[Result]],
    books: Mapping[str, Sequence[Books]],
    comparison: Comparison,
) -> dict[str, Any]:
    """The comparison, sums of the checked books and the facts, as plain values."""
    devices = len(study.pool.pool.devices)
    return {
        "policies": list(comparison.policies),
        "seeds": comparison.seeds,
        "measures": [
            {
                "name": row.measure.name,
                "title": row.measure.title,
                "unit": _plain_unit(row.measure.unit),
                "best": sorted(row.best),
                "by_policy": {
                    policy: None
                    if one is None
                    else {"mean": one.mean, "low": one.low, "high": one.high, "runs": one.runs}
                    for policy, one in row.by_policy.items()
                },
            }
            for row in comparison.rows
        ],
        "books": [
            {
                "policy": policy,
                "seed": seed,
                "balanced": True,
                "nano_usd": one.cost,
                "device_micros": one.device_micros,
                "capacity_device_micros": devices * results[policy][seed].ended,
            }
            for policy, some in books.items()
            for seed, one in enumerate(some)
        ],
        "facts": list(study.told),
    }


def _plain_unit(unit: Unit) -> str:
    return {Unit.SHARE: "share", Unit.COUNT: "count", Unit.USD: "usd"}.get(unit, unit.value)
