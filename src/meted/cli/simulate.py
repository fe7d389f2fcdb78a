"""`meted simulate`: recorded or generated work under each policy, on a pool that does not exist."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meted.cli.common import common_options, examples, print_json
from meted.cli.fact_files import facts_option, read_facts
from meted.cli.moments import Span
from meted.cli.plan import Listed
from meted.cli.quiet import standard_output_kept
from meted.domain.units import MICROS_PER_SECOND, Micros
from meted.live.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = click.Path(file_okay=False, writable=True, path_type=Path)


@click.command(
    epilog=examples(
        "meted simulate --trace gavel:max_min_fairness.trace --policy fifo,max_min "
        "--pool 8xV100@0.74,16xP100@0.43,24xK80@0.135 --interval 6m",
        "meted simulate --trace philly:philly.csv,week=6,share=0.1 --pool 16x4xT4 --policy fifo "
        "--for 7d --out results",
        "meted simulate --trace azure:code.csv --model llama-3.1-8b --slo ttft=2s,tpot=200ms "
        "--pool 2x8xH100 --policy demand_scaling --for 1h",
        "meted simulate --trace diurnal:rate=4,input=1000,output=200 --for 24h --seeds 5 "
        "--model llama-3.1-8b --pool pool.yaml --policy demand_scaling,static_split",
    ),
)
@click.option(
    "--trace",
    "traces",
    multiple=True,
    help="KIND:PATH of jobs (gavel, philly) or requests (azure, mooncake, requests); or diurnal:, "
    "bursty:, modulated: before one or before rate=2,input=900,output=200. May be repeated.",
)
@click.option("--pool", help="Devices such as 8xV100@0.74,2x8xH100, or a YAML file.")
@click.option("--policy", "policies", type=Listed(), default=(), help="Names, with commas.")
@click.option("--set", "settings", multiple=True, help="policy.parameter=value; may be repeated.")
@click.option("--seeds", type=click.IntRange(1, 1_000), default=1, show_default=True,
              help="Runs of each policy; the first has a recorded trace as it is.")  # fmt: skip
@click.option("--interval", type=Span(), default="60s", show_default=True,
              help="Between two decisions.")  # fmt: skip
@click.option("--at-once", is_flag=True, help="Decide also when a job comes or ends.")
@click.option("--for", "span", type=Span(), help="End of the simulation (when all work is done).")
@click.option("--restart", type=Span(), default="0s", show_default=True,
              help="Time without a step whenever a job starts or moves.")  # fmt: skip
@click.option("--save", type=Span(), help="Between two checkpoints (none is lost).")
@click.option("--mtbf", type=Span(), help="Mean time until a node fails (none does).")
@click.option("--mttr", type=Span(), default="1h", show_default=True, help="Until it is back.")
@click.option("--model", help="What answers the requests, as `meted plan` knows models.")
@click.option("--slo", help="95th percentiles of requests (ttft=2s,tpot=200ms).")
@click.option("--least", type=click.IntRange(0), default=1, show_default=True, help="Replicas.")
@click.option("--most", type=click.IntRange(1), help="Replicas (as many as the pool holds).")
@click.option("--out", type=FOLDER, help="Write the report, its numbers, decisions and books.")
@facts_option
@common_options
def simulate(
    home: Home,
    as_json: bool,
    traces: tuple[str, ...],
    pool: str | None,
    policies: tuple[str, ...],
    interval: timedelta,
    span: timedelta | None,
    restart: timedelta,
    save: timedelta | None,
    mtbf: timedelta | None,
    mttr: timedelta,
    out: Path | None,
    facts_file: Path | None,
    **asked: Any,
) -> None:
    """What each policy makes of the same work: times, latencies, dollars, with intervals.

    The policies, and the loop that puts their plans in force, are those of a real house; devices,
    jobs and requests are simulated from what is known of their speed. Every device's time is in
    the books, to the nano-dollar. With several seeds a trace's jobs come in another order, and its
    requests begin at another moment; generated work is drawn anew.
    """
    missing = [
        name
        for name, given in (("--trace", traces), ("--pool", pool), ("--policy", policies))
        if not given
    ]
    if missing or pool is None:
        raise click.UsageError(f"give {' and '.join(missing)}; see --help")
    # numpy, scipy and the predictor load only here, so that other verbs start fast.
    from meted.cli.simulate_bounds import BrokenPlanError
    from meted.cli.simulate_report import write_report
    from meted.cli.simulate_tables import print_comparison, study_document
    from meted.cli.simulate_traces import SpecError
    from meted.cli.simulating import Asked, books_of, run_study, study_of
    from meted.live.config import ConfigError
    from meted.live.facts import FactError
    from meted.live.job_traces import JobTraceError
    from meted.live.scenario_file import PoolError
    from meted.live.traffic import TrafficError
    from meted.sim.compare import compare

    if interval <= timedelta(0):
        raise click.UsageError("--interval is 0, expected more, such as 60s")
    try:
        study = study_of(
            Asked(
                traces=traces,
                pool=pool,
                policies=tuple(dict.fromkeys(policies)),
                interval=_micros(interval),
                span=None if span is None else _micros(span),
                restart=_micros(restart),
                save=None if save is None else _micros(save),
                mtbf=None if mtbf is None else _micros(mtbf),
                mttr=_micros(mttr),
                **asked,
            ),
            home=home,
            facts=read_facts(facts_file),
        )
        with (
            progress(len(study.policies) * study.asked.seeds) as done,
            standard_output_kept(),
        ):
            results = run_study(study, done)
        books = books_of(study, results)
    except (SpecError, PoolError, JobTraceError, TrafficError) as error:
        raise click.UsageError(str(error)) from error
    except (BrokenPlanError, ConfigError, FactError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    comparison = compare(results, study.limits)
    if out is not None:
        with progress(1, "writing the report") as done:
            write_report(out, study, results, books, comparison)
    if as_json:
        print_json(study_document(study, results, books, comparison))
    else:
        print_comparison(study, results, books, comparison)
        if out is not None:
            click.echo(f"\nwritten: {out / 'report.html'}")


def _micros(span: timedelta) -> Micros:
    return Micros(round(span.total_seconds() * MICROS_PER_SECOND))


@contextmanager
def progress(runs: int, what: str = "simulating") -> "Generator[Callable[[str, int], None]]":
    """A bar on standard error, if that is a terminal; is told of each run that has ended."""
    if not sys.stderr.isatty():
        yield lambda policy, seed: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=runs)

        def done(policy: str, seed: int) -> None:
            bar.update(task, advance=1, description=f"{what}: {policy}, seed {seed}")

        yield done
