"""`meted plan`: what to rent for a model's traffic, what it costs, and whether it holds."""

from pathlib import Path
from typing import Any, cast

import click

from meted.cli.amounts import Dollars
from meted.cli.common import common_options, examples, print_json
from meted.cli.fact_files import FILE, FactVerbs, facts_option, read_facts
from meted.cli.plan_train import train
from meted.cli.quiet import standard_output_kept
from meted.cli.spinner import spinner
from meted.domain.device_kind import Precision
from meted.domain.units import NanoUSD
from meted.live.home import Home

DEFAULT_SLO = "ttft_p99=2s,tpot_p99=100ms"
OUT = click.Path(dir_okay=False, writable=True, path_type=Path)


class Listed(click.ParamType[tuple[str, ...]]):
    """Names with commas between them."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return cast(tuple[str, ...], value)
        names = tuple(part.strip() for part in str(value).split(","))
        if not all(names):
            self.fail(f"{value!r} names nothing between two commas", param, ctx)
        return names


@click.group(
    cls=FactVerbs,
    invoke_without_command=True,
    epilog=examples(
        "meted plan --model llama-3.1-70b --traffic rate=10,input=1000,output=250 "
        "--devices h100,h200,l40s",
        "meted plan --model llama-3.1-8b --traffic trace.csv --rate 20 "
        "--slo ttft_p99=1s,tpot_p99=50ms --prices prices.yaml --spot 0.5 --out plan.yaml",
        "meted plan --model smollm2-135m --traffic 1,200,50 --devices here --out plan.yaml",
        "meted plan train --model gpt3-175b --tokens 300e9 --devices 1024xa100",
    ),
)
@click.option("--model", help="A built-in model, a config.json, a .gguf file, or a checkpoint.")
@click.option("--traffic", help="A trace, `house`, or rate=10,input=1000,output=250[,cv=2].")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Scale it to requests/s.")
@click.option("--day", type=click.Choice(["flat", "office"]), default="flat", help="Over a day.")
@click.option("--slo", default=DEFAULT_SLO, show_default=True, help="Limits that must hold.")
@click.option("--prices", type=FILE, help="A price file (built-in examples).")
@click.option(
    "--devices", type=Listed(), default=(), help="Kinds to choose from; `here`: these cores."
)
@click.option("--weights", type=Listed(), default=(), help="Precisions allowed (bf16).")
@click.option("--tp", type=Listed(), default=(), help="Tensor-parallel widths (1,2,4,8,16).")
@click.option("--prefix-hit", type=click.FloatRange(0, 1, max_open=True), default=0.0,
              help="Share of prompt tokens found in the prefix cache.")  # fmt: skip
@click.option("--spot", type=click.FloatRange(0, 1), help="Largest share of spot devices (none).")
@click.option("--spare", type=click.IntRange(0), default=1, help="Spot replicas that may vanish.")
@click.option("--train", "jobs", type=FILE, help="Training jobs that the month must hold.")
@click.option("--budget", type=Dollars(), help="Dollars a month that it may cost.")
@click.option("--kwh", type=Dollars(), default="0.15", help="Electricity of owned devices (0.15).")
@click.option("--margin", type=click.FloatRange(0, 1), default=0.05, help="Denser replay (0.05).")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of made-up arrivals.")
@click.option("--out", type=OUT, help="Write the plan as YAML for `meted up --config`.")
@click.option("--plot", type=OUT, help="Plot cost against the SLO (.png, .svg or .pdf).")
@facts_option
@common_options
@click.pass_context
def plan(
    ctx: click.Context,
    home: Home,
    as_json: bool,
    model: str | None,
    traffic: str | None,
    out: Path | None,
    plot: Path | None,
    jobs: Path | None,
    facts_file: Path | None,
    budget: NanoUSD | None,
    weights: tuple[str, ...],
    tp: tuple[str, ...],
    **asked: Any,
) -> None:
    """The cheapest fleet for a model's traffic inside its SLO, replayed request by request.

    Device kinds, precisions, layouts, replicas and hours of the day are chosen together, by a
    mixed-integer program; the fleet that is shown has held every limit in its replay. Exit code 1
    if none does: the message names the wish in the way and the nearest one that can be had.
    """
    if ctx.invoked_subcommand is not None:
        return
    if model is None or traffic is None:
        raise click.UsageError("give --model and --traffic, or a subcommand; see --help")
    # numpy, scipy and the planner load only here, so that other verbs start fast.
    from meted.cli.plan_infeasible import tell_infeasible
    from meted.cli.plan_tables import print_plan
    from meted.live.config import ConfigError
    from meted.live.plan_file import plan_document, write_plan
    from meted.live.planning import Asked, WishError, wish_of
    from meted.live.traffic import TrafficError
    from meted.live.training_jobs import read_jobs
    from meted.policy.fleet.plan import InfeasibleError
    from meted.policy.fleet.planner import plan_fleet

    facts = read_facts(facts_file)
    try:
        precisions = tuple(_precision(name) for name in weights)
        widths = tuple(_width(name) for name in tp)
        wishes = () if jobs is None else read_jobs(jobs, home=home, facts=facts)
        wished = wish_of(
            Asked(
                model=model,
                traffic=traffic,
                weights=precisions,
                tensor=widths,
                training=wishes,
                budget=budget,
                **asked,
            ),
            home=home,
            facts=facts,
        )
        with spinner("solving and replaying"), standard_output_kept():
            found = plan_fleet(wished.wish)
        if plot is not None:
            from meted.cli.plan_plot import plot_plan

            with spinner("planning for other limits"), standard_output_kept():
                plot_plan(wished.wish, found, plot)
    except InfeasibleError as error:
        tell_infeasible(error, what="fleet", as_json=as_json)
    except (TrafficError, WishError) as error:
        raise click.UsageError(str(error)) from error
    except (ConfigError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if out is not None:
        write_plan(out, wished, found, checkpoint=model)
    if as_json:
        print_json(plan_document(wished, found))
    else:
        print_plan(wished, found)
        if out is not None:
            click.echo(f"\nwritten: {out}; meted up --config {out}")
        if plot is not None:
            click.echo(f"plotted: {plot}")


def _precision(name: str) -> Precision:
    try:
        return Precision(name)
    except ValueError:
        known = ", ".join(one.value for one in Precision)
        raise click.UsageError(f"--weights names {name!r}, expected some of {known}") from None


def _width(name: str) -> int:
    if not name.isdecimal() or int(name) < 1:
        raise click.UsageError(f"--tp names {name!r}, expected whole numbers such as 1,2,4")
    return int(name)


plan.add_command(train)
