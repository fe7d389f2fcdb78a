"""`meted optimise serving`: the cheapest variant and settings for your traffic, SLO and floor."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meted.cli.client import connect
from meted.cli.common import FAILED, common_options, examples, print_json
from meted.cli.optimise_serving_tables import document, print_found, shown, yaml_of
from meted.cli.optimise_serving_watch import measuring
from meted.domain.deployment import DEFAULT_SLO, SLO
from meted.domain.units import NANOS_PER_SECOND, Micros, NanoUSD
from meted.live.home import Home

if TYPE_CHECKING:
    from meted.live.tuning.searching import Found
    from meted.live.tuning.session import Asked, Prepared

MICROS_PER_MS = 1000
MOST_OTHERS = 0.15
"""Share of the cores that others may use before the numbers are doubted."""


@click.command(
    epilog=examples(
        "meted optimise serving smollm2-135m --data notes/ --traffic house",
        "meted optimise serving smollm2-135m --data notes/ --traffic rate=1,input=200,output=60",
        "meted optimise serving smollm2-135m --data notes/ --traffic trace.csv --rate 0.5 "
        "--levers engine,batch,chunk --out chosen.yaml --plot front.png",
    )
)
@click.argument("checkpoint")
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True,
              help="Text to cut prompts from: the books keep lengths, never words.")  # fmt: skip
@click.option("--traffic", required=True,
              help="`house` (the books), a trace, or rate=1,input=200,output=60.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(min=0, min_open=True),
              help="Requests per second to scale the traffic to.")  # fmt: skip
@click.option("--requests", type=click.IntRange(min=8), default=48, show_default=True,
              help="Requests of a full measurement.")  # fmt: skip
@click.option("--ttft-p95-ms", type=click.FloatRange(min=1), default=DEFAULT_SLO.ttft_p95 / 1000,
              show_default=True, help="Longest wait for the first token.")  # fmt: skip
@click.option("--tpot-p95-ms", type=click.FloatRange(min=1), default=DEFAULT_SLO.tpot_p95 / 1000,
              show_default=True, help="Longest mean time of a later token.")  # fmt: skip
@click.option("--variants", help="Checkpoints to try, too; default: all that were made of it.")
@click.option("--drafts", default="", help="Checkpoints that may draft for it.")
@click.option("--levers", help="Of engine,threads,batch,chunk,prefix,cache,speculation (all).")
@click.option("--effort", type=click.FloatRange(min=0.1), default=6.0, show_default=True,
              help="Full measurements that the search may spend.")  # fmt: skip
@click.option("--budget-usd", type=click.FloatRange(min=0, min_open=True),
              help="Dollars of device time that it may spend.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the chosen deployment as YAML for `meted up --config`.")  # fmt: skip
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path),
              help="Draw the Pareto front into a PNG or SVG.")  # fmt: skip
@common_options
def serving(
    checkpoint: str,
    data: Path,
    traffic: str,
    rate: float | None,
    requests: int,
    ttft_p95_ms: float,
    tpot_p95_ms: float,
    variants: str | None,
    drafts: str,
    levers: str | None,
    effort: float,
    budget_usd: float | None,
    seed: int,
    out: Path | None,
    plot: Path | None,
    home: Home,
    as_json: bool,
) -> None:
    """Search variants, engines and settings for the fewest dollars per million tokens.

    Every candidate answers the same recorded requests on a real replica; the predictor says where
    to look first. A variant that failed its quality gate is not measured. Exits with 1 if nothing
    keeps the SLO. Run it while the cores are otherwise idle, or pause what trains.
    """
    from meted.live.tuning.grid import LEVERS
    from meted.live.tuning.session import Asked

    asked = Asked(
        checkpoint=checkpoint,
        traffic=traffic,
        text=data,
        slo=SLO(
            ttft_p95=Micros(round(ttft_p95_ms * MICROS_PER_MS)),
            tpot_p95=Micros(round(tpot_p95_ms * MICROS_PER_MS)),
        ),
        rate=rate,
        requests=requests,
        effort=effort,
        budget=None if budget_usd is None else NanoUSD(round(budget_usd * NANOS_PER_SECOND)),
        variants=None if variants is None else _names(variants),
        drafts=_names(drafts),
        levers=LEVERS if levers is None else _names(levers),
        seed=seed,
    )
    prepared, found = _search(asked, home)
    if plot is not None:
        from meted.cli.optimise_plot import plot_front

        plot_front(prepared, found, plot)
    if out is not None and found.chosen is not None:
        out.write_text(yaml_of(found.chosen, asked.slo), encoding="utf-8")
    _tell_house(home, prepared, found)
    if as_json:
        print_json(document(prepared, found))
    else:
        print_found(prepared, found, asked.slo, out)
    if found.chosen is None:
        raise SystemExit(FAILED)


def _tell_house(home: Home, prepared: "Prepared", found: "Found") -> None:
    """The page of a running house shows the front of its deployment's last search."""
    if home.running() is not None:
        front = {"deployment": prepared.default.checkpoint, "points": shown(prepared, found)}
        connect(home).post("fronts", body=front)


def _names(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


def _search(asked: "Asked", home: Home) -> "tuple[Prepared, Found]":
    from meted.live.checkpoints import CheckpointError
    from meted.live.config import load_config
    from meted.live.local_host import LocalHost
    from meted.live.store import StoreError
    from meted.live.traffic import TrafficError
    from meted.live.tuning.measuring import Measurer
    from meted.live.tuning.searching import search_serving
    from meted.live.tuning.session import prepare

    pool = load_config().pool
    try:
        prepared = prepare(asked, home=home, pool=pool)
    except (CheckpointError, TrafficError, StoreError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    measurer = Measurer(
        host=LocalHost(home.logs),
        pool=pool,
        checkpoints=home.checkpoints,
        traffic=prepared.traffic,
    )
    with measuring(asked.effort) as watch:
        found = asyncio.run(
            search_serving(prepared.search, prepared.configurations, measurer, watch=watch)
        )
    if measurer.others > MOST_OTHERS:
        click.echo(
            f"other processes used up to {measurer.others:.0%} of the cores meanwhile, which makes "
            "device time dearer by chance; search again when they are quiet",
            err=True,
        )
    return prepared, found
