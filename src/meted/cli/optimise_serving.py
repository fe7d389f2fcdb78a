"""`meted optimise serving`: the cheapest variant and settings for your traffic, SLO and floor."""

import asyncio
from pathlib import Path
from typing import Any

import click

from meted.cli.common import FAILED, common_options, examples, print_json
from meted.cli.optimise_jobs import is_for_a_house, job_name, search_in_house
from meted.cli.optimise_serving_tables import print_found, warn_if_disturbed, yaml_of
from meted.cli.optimise_serving_watch import measuring
from meted.domain.deployment import DEFAULT_SLO, SLO
from meted.domain.search_job import ServingSearch
from meted.domain.units import NANOS_PER_SECOND, JobName, Micros, NanoUSD, TenantName
from meted.live.home import Home
from meted.live.job_checks import DEFAULT_TENANT
from meted.live.job_specs import check_job_spec

MICROS_PER_MS = 1000


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
@click.option("--name", help="Of the job; default: made up.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Who pays for the job.")
@click.option("--detach", is_flag=True, help="Hand the job in and return.")
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
    name: str | None,
    tenant: str,
    detach: bool,
    out: Path | None,
    plot: Path | None,
    home: Home,
    as_json: bool,
) -> None:
    """Search variants, engines and settings for the fewest dollars per million tokens.

    Every candidate answers the same recorded requests on a real replica; the predictor says where
    to look first. A variant that failed its quality gate is not measured. Where a house runs, this
    is a job of its own on what serving leaves over, metered and paid for; else it runs here and
    now. A measurement that other work disturbed is made again. Exits with 1 if nothing keeps the
    SLO.
    """
    in_house = is_for_a_house(home, detach=detach)
    if detach and (out or plot):
        raise click.UsageError(
            "--out and --plot need the answer, which --detach does not wait for; "
            "`meted jobs NAME` shows it later"
        )
    spec = ServingSearch(
        name=JobName(job_name(home, name, f"{checkpoint}-serving")),
        base=checkpoint,
        data=str(data.expanduser().absolute()),
        tenant=TenantName(tenant),
        traffic=_traffic(traffic),
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
        levers=None if levers is None else _names(levers),
        seed=seed,
    )
    try:
        check_job_spec(spec)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if in_house:
        found = search_in_house(home, spec, detach=detach, as_json=as_json)
    else:
        found = _search_here(home, spec)
    if found is None:
        return
    if plot is not None:
        from meted.cli.optimise_plot import plot_front

        plot_front(found, plot)
    if out is not None and found["chosen"] is not None:
        out.write_text(yaml_of(found), encoding="utf-8")
    if as_json:
        print_json(found)
    else:
        print_found(found, out)
    warn_if_disturbed(found)
    if found["chosen"] is None:
        raise SystemExit(FAILED)


def _names(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


def _traffic(given: str) -> str:
    """A trace's path as any process finds it; `house` and numbers as they are."""
    path = Path(given).expanduser()
    return str(path.absolute()) if path.is_file() else given


def _search_here(home: Home, spec: ServingSearch) -> dict[str, Any]:
    from meted.live.books.recorded import recorded_arrivals
    from meted.live.checkpoints import CheckpointError, CheckpointRegistry
    from meted.live.config import load_config
    from meted.live.local_host import LocalHost
    from meted.live.store import StoreError
    from meted.live.traffic import TrafficError
    from meted.live.tuning.documents import document
    from meted.live.tuning.measuring import Measurer
    from meted.live.tuning.searching import search_serving
    from meted.live.tuning.session import Machine, arrivals_of, prepare

    pool = load_config().pool
    machine = Machine(
        registry=CheckpointRegistry(home.checkpoints),
        calibrations=home.calibrations,
        devices=pool.indices,
        price=pool.price.nano_usd_per_device_hour,
    )
    try:
        arrivals = arrivals_of(spec, machine.registry, lambda: recorded_arrivals(home.store()))
        prepared = prepare(spec, arrivals, machine)
    except (CheckpointError, TrafficError, StoreError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    measurer = Measurer(
        host=LocalHost(home.logs),
        checkpoints=home.checkpoints,
        traffic=prepared.traffic,
        devices=machine.devices,
        price=machine.price,
    )
    with measuring(spec.effort) as watch:
        found = asyncio.run(
            search_serving(prepared.search, prepared.configurations, measurer, watch=watch)
        )
    return document(prepared, found, spec.slo)
