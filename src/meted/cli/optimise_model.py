"""`meted optimise model`: variants of a checkpoint, made, measured on your text, and gated."""

import os
from pathlib import Path
from typing import Any

import click

from meted.cli.common import FAILED, common_options, examples, print_json
from meted.cli.optimise_jobs import is_for_a_house, job_name, search_in_house
from meted.cli.optimise_tables import print_trials
from meted.cli.optimise_watch import watching
from meted.domain.levers import ALL, FORMS, parse_lever
from meted.domain.search_job import DEFAULT_LEVERS, VariantSearch
from meted.domain.units import JobName, TenantName
from meted.live.home import Home
from meted.live.job_checks import DEFAULT_TENANT
from meted.live.job_specs import check_job_spec
from meted.live.leash import cap_threads


class Levers(click.ParamType[tuple[str, ...]]):
    """Names of levers with commas between, or `all`."""

    name = "levers"

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = ALL if value == "all" else tuple(one.strip() for one in value.split(","))
        for name in names:
            try:
                parse_lever(name)
            except ValueError as error:
                self.fail(str(error), param, ctx)
        return names


@click.command(
    epilog=examples(
        "meted optimise model smollm2-135m --data notes/",
        "meted optimise model smollm2-135m --data notes/ --levers all --most-loss-increase 0.05",
        "meted optimise model night-shift --data notes/ --levers int4-g64,layers-10%+int4-g64",
        "meted optimise model smollm2-135m --data notes/ --tenant lab --detach",
    )
)
@click.argument("checkpoint")
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="Your own text, a file or a folder: half of the documents calibrate and repair, the "
    "others judge.",
)
@click.option(
    "--levers",
    type=Levers(),
    default=",".join(DEFAULT_LEVERS),
    show_default=True,
    help=f"What to try, or all. There are: {FORMS}.",
)
@click.option(
    "--most-loss-increase",
    type=click.FloatRange(min=0),
    default=0.02,
    show_default=True,
    help="Nats per token that a variant may lose, with all of its one-sided 95 % interval.",
)
@click.option(
    "--most-accuracy-drop",
    type=click.FloatRange(min=0, max=1),
    help="Share of right continuations that it may lose; default: not asked.",
)
@click.option(
    "--most-kl",
    type=click.FloatRange(min=0),
    help="Nats per token that it may diverge from the parent; default: not asked.",
)
@click.option("--blocks", type=click.IntRange(min=20), default=64, show_default=True,
              help="Blocks of 256 tokens to judge on, two of each document at most.")  # fmt: skip
@click.option("--questions", type=click.IntRange(min=1), default=100, show_default=True,
              help="Questions for the accuracy: which of four passages comes next?")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="Which documents judge, and which questions are asked.")  # fmt: skip
@click.option(
    "--training-steps",
    type=click.IntRange(min=1),
    help="Steps of each repair and distillation; default: 40 and 60.",
)
@click.option("--threads", type=click.IntRange(min=1),
              help="Without a house; default: all cores.")  # fmt: skip
@click.option("--keep", is_flag=True, help="Register rejected variants, too.")
@click.option("--name", help="Of the job; default: made up.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Who pays for the job.")
@click.option("--detach", is_flag=True, help="Hand the job in and return.")
@common_options
def model(
    checkpoint: str,
    data: Path,
    levers: tuple[str, ...],
    threads: int | None,
    keep: bool,
    name: str | None,
    tenant: str,
    detach: bool,
    home: Home,
    as_json: bool,
    **options: Any,
) -> None:
    """Make variants of CHECKPOINT, measure each against it on your text, keep those that pass.

    A variant that loses too much stays on record as rejected and cannot be deployed. Where a house
    runs, this is a job of its own on what serving leaves over, metered and paid for; else it runs
    here and now. Exits with 1 if none could be made.
    """
    in_house = is_for_a_house(home, detach=detach)
    if in_house and threads is not None:
        raise click.UsageError("--threads is for a search without a house; its policy allots cores")
    spec = VariantSearch(
        name=JobName(job_name(home, name, f"{checkpoint}-variants")),
        base=checkpoint,
        data=str(data.expanduser().absolute()),
        tenant=TenantName(tenant),
        levers=levers,
        keep=keep,
        **options,
    )
    try:
        check_job_spec(spec)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if in_house:
        found = search_in_house(home, spec, detach=detach, as_json=as_json)
        if found is None:
            return
        trials = found["trials"]
    else:
        trials = _search_here(home, spec, threads or os.cpu_count() or 1)
    if as_json:
        print_json(trials)
    else:
        print_trials(trials, keep=keep)
    if all(one["quality"] is None for one in trials):
        raise SystemExit(FAILED)


def _search_here(home: Home, spec: VariantSearch, threads: int) -> list[dict[str, Any]]:
    cap_threads(threads)
    import torch

    from meted.live.checkpoints import CheckpointError, CheckpointRegistry
    from meted.live.variants.searching import search_variants

    torch.set_num_threads(threads)
    with watching(len(spec.levers)) as watch:
        try:
            return search_variants(
                spec,
                registry=CheckpointRegistry(home.checkpoints),
                threads=threads,
                watch=watch,
                known={},
                keep=lambda name, trials: None,
            )
        except (CheckpointError, ValueError) as error:
            raise click.ClickException(str(error)) from error
