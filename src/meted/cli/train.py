"""`meted train`: hand in a training job and follow it."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from meted.cli.client import connect
from meted.cli.common import FAILED, common_options, examples, print_json
from meted.cli.watch import watch_job
from meted.domain.job import Method, TrainingSpec
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
@click.option("--eval-every", type=int, help="Steps between held-out losses.")
@click.option("--checkpoint-every", type=int, help="Steps between checkpoints.")
@click.option("--seed", type=int)
@click.option("--precision", type=click.Choice(PRECISIONS))
@click.option("--tenant", help="Who pays.")
@click.option("--detach", is_flag=True, help="Hand it in and return.")
@common_options
def train(file: Path | None, detach: bool, home: Home, as_json: bool, **options: Any) -> None:
    """Train on what serving leaves over; options win over the YAML FILE.

    Follows the job with its loss, its cost so far and to finish; Ctrl-C leaves it running.
    """
    spec = _spec(file, {key: value for key, value in options.items() if value is not None})
    job = connect(home).post("jobs", body=asdict(spec))
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


def _spec(file: Path | None, given: dict[str, Any]) -> TrainingSpec:
    if "data" in given:
        given["data"] = str(Path(given["data"]).expanduser().absolute())
    if "method" in given:
        given["method"] = Method(given["method"])
    try:
        if file is None:
            return spec_from_mapping(given)
        spec = load_spec_yaml(file)
        # One length replaces the other; both at once is for check_spec to refuse.
        if "steps" in given or "epochs" in given:
            spec = replace(spec, steps=None, epochs=None)
        spec = replace(spec, **given)
        if spec.optimizer == "gd":
            spec = replace(spec, batch_tokens=None)
        check_spec(spec)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return spec
