"""What `meted simulate --out` writes: a page with everything in it, and its numbers as files."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from meted.cli.render import dollars, duration
from meted.cli.report_plots import svg
from meted.cli.simulate_plots import HOUR, study_plots
from meted.cli.simulate_tables import notes, row_cells, row_title, study_document, verdict
from meted.cli.simulating import Study
from meted.domain.units import MICROS_PER_SECOND
from meted.sim.books import Books
from meted.sim.compare import Comparison
from meted.sim.result import Result

PAGE = "report.html"
SHOWN_DECISIONS = 60
BOOKS = ("policy", "seed", "tenant", "who", "kind", "use", "device_micros", "nano_usd")
SEGMENTS = (
    *("policy", "seed", "device", "kind", "begins_micros", "ends_micros", "use", "who"),
    *("tenant", "nano_usd"),
)
JOBS = (
    *("policy", "seed", "job", "tenant", "arrived_micros", "started_micros", "finished_micros"),
    *("deadline_micros", "device_micros", "restarts", "nano_usd"),
)
REQUESTS = (
    *("policy", "seed", "deployment", "arrived_micros", "prompt_tokens", "output_tokens"),
    *("replica", "started_micros", "first_token_micros", "last_token_micros"),
)
DECISIONS = ("policy", "seed", "at_micros", "reason")


def write_report(
    folder: Path,
    study: Study,
    results: Mapping[str, Sequence[Result]],
    books: Mapping[str, Sequence[Books]],
    comparison: Comparison,
) -> None:
    """The page, results.json and CSV files of books, segments, jobs, requests and decisions.

    Equal studies write equal bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = msgspec.json.encode(study_document(study, results, books, comparison))
    (folder / "results.json").write_bytes(msgspec.json.format(document, indent=2) + b"\n")
    runs = [
        (policy, seed, run) for policy, some in results.items() for seed, run in enumerate(some)
    ]
    kinds = {device.index: device.kind for device in study.pool.pool.devices}
    _write(
        folder / "books.csv",
        BOOKS,
        (
            (policy, seed, line.tenant, line.who, line.kind, line.use.value, line.device_micros,
             line.cost)
            for policy, some in books.items()
            for seed, one in enumerate(some)
            for line in one.lines
        ),
    )  # fmt: skip
    _write(
        folder / "segments.csv",
        SEGMENTS,
        (
            (policy, seed, one.device, kinds[one.device], one.begins, one.ends, one.use.value,
             one.who, one.tenant, one.cost)
            for policy, seed, run in runs
            for one in run.segments
        ),
    )  # fmt: skip
    _write(
        folder / "jobs.csv",
        JOBS,
        (
            (policy, seed, one.name, one.tenant, one.arrived, one.started, one.finished,
             one.deadline, one.attained, one.restarts, one.cost)
            for policy, seed, run in runs
            for one in run.jobs
        ),
    )  # fmt: skip
    _write(
        folder / "requests.csv",
        REQUESTS,
        (
            (policy, seed, deployment.deployment, one.arrival.at, one.arrival.prompt_tokens,
             one.arrival.output_tokens, one.replica, one.started, one.first_token, one.last_token)
            for policy, seed, run in runs
            for deployment in run.deployments
            for one in deployment.served
        ),
    )  # fmt: skip
    _write(
        folder / "decisions.csv",
        DECISIONS,
        ((policy, seed, one.at, one.reason) for policy, seed, run in runs for one in run.decisions),
    )
    (folder / PAGE).write_text(_page(study, results, books, comparison), encoding="utf-8")


def _write(path: Path, names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)


def _page(
    study: Study,
    results: Mapping[str, Sequence[Result]],
    books: Mapping[str, Sequence[Books]],
    comparison: Comparison,
) -> str:
    environment = Environment(
        loader=PackageLoader("meted.cli"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"exact": dollars, "hours": _hours}
    known: Any = environment
    known.filters.update(filters)
    firsts = {policy: runs[0] for policy, runs in results.items()}
    return environment.get_template("simulation.html").render(
        asked=study.asked,
        policies=comparison.policies,
        rows=[(row_title(row), row_cells(row, comparison)) for row in comparison.rows],
        notes=notes(study, results, books, comparison),
        # Matplotlib escapes the texts in its elements.
        plots=[(plot.title, Markup(svg(plot))) for plot in study_plots(results, study.pool.pool)],
        books=[
            (policy, _by_use(some[0]), some[0], verdict(study, results[policy][:1], some[:1]))
            for policy, some in books.items()
        ],
        runs=sum(map(len, books.values())),
        decisions=[
            (policy, len(run.decisions), [
                (duration(one.at / MICROS_PER_SECOND), one.reason)
                for one in run.decisions[:SHOWN_DECISIONS]
            ])
            for policy, run in firsts.items()
        ],
        pool=study.pool.pool,
        counts=_counts(study),
    )  # fmt: skip


def _by_use(books: Books) -> list[tuple[str, str, str, int, int]]:
    """Kind, use and tenant with device-micros and nano-USD, whoever of the tenant it was."""
    sums: dict[tuple[str, str, str], tuple[int, int]] = {}
    for line in books.lines:
        key = (line.kind, line.use.value, str(line.tenant))
        micros, cost = sums.get(key, (0, 0))
        sums[key] = (micros + line.device_micros, cost + line.cost)
    return [(*key, *sums[key]) for key in sorted(sums)]


def _counts(study: Study) -> dict[str, int]:
    """Devices by kind."""
    found: dict[str, int] = {}
    for device in study.pool.pool.devices:
        found[device.kind] = found.get(device.kind, 0) + 1
    return found


def _hours(micros: int) -> str:
    return f"{micros / HOUR:,.2f}"
