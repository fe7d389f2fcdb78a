"""`meted train`: hand in a training job and follow it."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from meted.cli.amounts import Dollars
from meted.cli.auto_options import Lasting, Levers, auto_of
from meted.cli.client import connect
from meted.cli.common import FAILED, common_options, examples, print_json
from meted.cli.watch import watch_job
from meted.domain.job import LoraTargets, Method, TrainingSpec
from meted.domain.units import NanoUSD
from meted.live.home import Home
from meted.live.training.spec import (
    OPTIMIZER_NAMES,
    PRECISIONS,
    check_spec,
    load_spec_yaml,
    spec_from_mapping,
)


@click.command(
    epilog=examples(
        "meted train --model smollm2-135m --data notes/ --name night-shift",
        "meted train --model smollm2-135m --data corpus.txt --name sgd-1 \\",
        "    --method full --optimizer sgd --steps 200",
        "meted train examples/finetune.yaml --detach --json",
        "meted train --model smollm2-135m --data notes/ --name best-1 --auto \\",
        "    --search-budget-usd 0.002 --deadline 30m",
    )
)
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--model", "base", help="The checkpoint to begin with.")
@click.option("--data", type=click.Path(), help="A file or folder of text.")
@click.option("--name", help="Name of the job and of the checkpoint that it makes.")
@click.option("--method", type=click.Choice([str(one) for one in Method]))
@click.option("--optimizer", type=click.Choice(OPTIMIZER_NAMES))
@click.option("--steps", type=int, help="Optimizer steps; or give --epochs.")
@click.option("--epochs", type=float, help="Passes over the training part (default: 1).")
@click.option("--learning-rate", type=float, help="Default: by optimizer and method.")
@click.option("--sequence-tokens", type=int, help="Tokens of a packed sequence.")
@click.option("--batch-tokens", type=int, help="Tokens of an optimizer step.")
@click.option("--micro-batch", type=int, help="Sequences of a forward pass.")
@click.option("--lora-rank", type=int)
@click.option("--lora-alpha", type=float, help="Adapters count alpha / rank; default: 2.")
@click.option(
    "--lora-targets", type=click.Choice([str(one) for one in LoraTargets]), help="Adapted layers."
)
@click.option(
    "--activation-checkpointing/--no-activation-checkpointing",
    default=None,
    help="Less memory for more time.",
)
@click.option(
    "--patience", type=int, help="Stop after so many held-out losses without a new least."
)
@click.option("--eval-every", type=int, help="Steps between held-out losses.")
@click.option("--checkpoint-every", type=int, help="Steps between checkpoints.")
@click.option("--seed", type=int)
@click.option("--precision", type=click.Choice(PRECISIONS))
@click.option("--tenant", help="Who pays.")
@click.option("--auto", "search", is_flag=True, help="Search the levers first; see the docs.")
@click.option("--search-budget-usd", type=Dollars(), help="--auto: what the search may cost.")
@click.option("--deadline", type=Lasting(), help="--auto: when the search ends, e.g. 30m.")
@click.option("--levers", type=Levers(), help="--auto: e.g. optimizer,rate,rank,targets.")
@click.option("--detach", is_flag=True, help="Hand it in and return.")
@common_options
def train(
    file: Path | None,
    detach: bool,
    search: bool,
    search_budget_usd: NanoUSD | None,
    deadline: float | None,
    levers: tuple[str, ...] | None,
    home: Home,
    as_json: bool,
    **options: Any,
) -> None:
    """Train on what serving leaves over; options win over the YAML FILE.

    Follows the job with its loss, its cost so far and to finish; Ctrl-C leaves it running.
    """
    if not search and (search_budget_usd or deadline or levers):
        raise click.UsageError("--search-budget-usd, --deadline and --levers go with --auto")
    spec = spec_of(file, {key: value for key, value in options.items() if value is not None})
    house = connect(home)
    if search:
        auto = auto_of(house, budget=search_budget_usd, deadline_s=deadline, levers=levers)
        spec = checked(replace(spec, auto=auto))
    job = house.post("jobs", body=asdict(spec))
    if not detach:
        followed = watch_job(home, spec.name, silent=as_json)
        if followed is None:
            return
        job = followed
    if as_json:
        print_json(job)
    elif detach:
        click.echo(f"job {spec.name} is {job['status']}; `meted jobs watch {spec.name}` follows it")
    if job["status"] in ("failed", "cancelled"):
        raise SystemExit(FAILED)


def spec_of(file: Path | None, given: dict[str, Any]) -> TrainingSpec:
    """The checked spec of a file, of options, or of both. Raises UsageError."""
    if "data" in given:
        given["data"] = str(Path(given["data"]).expanduser().absolute())
    try:
        if file is None:
            return spec_from_mapping(given)
        spec = load_spec_yaml(file)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    for field, kind in (("method", Method), ("lora_targets", LoraTargets)):
        if field in given:
            given[field] = kind(given[field])
    # One length replaces the other; both at once is for check_spec to refuse.
    if "steps" in given or "epochs" in given:
        spec = replace(spec, steps=None, epochs=None)
    spec = replace(spec, **given)
    if spec.optimizer == "gd":
        spec = replace(spec, batch_tokens=None)
    return checked(spec)


def checked(spec: TrainingSpec) -> TrainingSpec:
    """The spec, if it can be run. Raises UsageError."""
    try:
        check_spec(spec)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return spec
