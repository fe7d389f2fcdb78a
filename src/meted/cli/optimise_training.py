"""`meted optimise training`: real trials of a fine-tune's levers, and the spec that they choose."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import yaml

from meted.cli.amounts import Dollars
from meted.cli.auto_options import Lasting, Levers, auto_of
from meted.cli.client import connect
from meted.cli.common import FAILED, common_options, examples, print_json
from meted.cli.optimise_jobs import job_name
from meted.cli.render import dollars, number, print_table
from meted.cli.train import checked, spec_of
from meted.cli.watch import watch_job
from meted.domain.job import LoraTargets, Method, RateFinder, TrainingSpec
from meted.domain.units import NanoUSD
from meted.live.home import Home
from meted.live.training.auto_spec import AUTO_LEVERS
from meted.live.training.spec import OPTIMIZER_NAMES
from meted.live.training.trial_log import Trail, dollars_of, read_trail, spec_mapping
from meted.live.training.trial_table import NANOS, Row, losers, rows_of

HEADERS = (
    *("trial", "optimizer", "rate", "rank", "steps", "held-out", "core-s", "cost", "to target"),
    "why stopped",
)


@click.command(
    "training",
    epilog=examples(
        "meted optimise training smollm2-135m --data notes/ --name levers-1 --steps 40",
        "meted optimise training smollm2-135m --data notes/ --name to-2.6 --target-loss 2.6 \\",
        "    --budget-usd 0.005 --levers optimizer,rate,rank --out chosen.yaml",
    ),
)
@click.argument("checkpoint")
@click.option("--data", type=click.Path(), required=True, help="A file or folder of text.")
@click.option("--name", help="Of the job and of the best trial's checkpoint; default: made up.")
@click.option("--target-loss", type=float, help="Seek the least dollars to this held-out loss.")
@click.option("--budget-usd", type=Dollars(), help="Of all trials; default: two such trainings.")
@click.option("--deadline", type=Lasting(), help="When the search ends, e.g. 30m.")
@click.option("--levers", type=Levers(), help=f"Of {', '.join(AUTO_LEVERS)}.")
@click.option("--trials", type=int, help="The most that are begun; default: 27.")
@click.option(
    "--finder",
    type=click.Choice([str(one) for one in RateFinder]),
    help="Middle of the rates: usual ones, a range test, or one of a smaller proxy.",
)
@click.option("--steps", type=int, help="Optimizer steps of a whole training; default: one epoch.")
@click.option("--method", type=click.Choice([str(one) for one in Method]))
@click.option("--optimizer", type=click.Choice(OPTIMIZER_NAMES), help="Of the first trial.")
@click.option("--learning-rate", type=float)
@click.option("--sequence-tokens", type=int)
@click.option("--batch-tokens", type=int)
@click.option("--micro-batch", type=int)
@click.option("--lora-rank", type=int)
@click.option("--lora-targets", type=click.Choice([str(one) for one in LoraTargets]))
@click.option("--seed", type=int)
@click.option("--tenant", help="Who pays.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the YAML here.")
@common_options
def training(
    checkpoint: str,
    name: str | None,
    target_loss: float | None,
    budget_usd: NanoUSD | None,
    deadline: float | None,
    levers: tuple[str, ...] | None,
    trials: int | None,
    finder: str | None,
    out: Path | None,
    home: Home,
    as_json: bool,
    **options: Any,
) -> None:
    """Search the levers of a fine-tune of CHECKPOINT by real trials, the poor ones cut short.

    Runs as a job on what serving leaves over; the best trial's weights become a checkpoint. Prints
    all trials and the chosen spec, which `meted train FILE` takes.
    """
    house = connect(home)
    given = {key: value for key, value in options.items() if value is not None}
    name = job_name(home, name, f"{checkpoint}-levers")
    auto = auto_of(
        house,
        budget=budget_usd,
        deadline_s=deadline,
        levers=levers,
        target_loss=target_loss,
        trials=trials,
        finder=finder,
        finish=False,
    )
    spec = replace(spec_of(None, {**given, "base": checkpoint, "name": name}), auto=auto)
    house.post("jobs", body=asdict(checked(spec)))
    job = watch_job(home, spec.name, silent=as_json)
    if job is None:
        return
    trail = read_trail(home.jobs / spec.name)
    if as_json:
        print_json(report(trail, job))
    else:
        show(trail)
    if (chosen := chosen_spec(trail)) is not None and out is not None:
        out.write_text(spec_yaml(trail, chosen), encoding="utf-8")
    if job["status"] != "done":
        raise SystemExit(FAILED)


def report(trail: Trail, job: Mapping[str, Any]) -> dict[str, Any]:
    """The search, JSON-ready. Amounts are nano-USD."""
    begun, ended, chosen = trail.begun, trail.ended, chosen_spec(trail)
    return {
        "job": job["name"],
        "status": job["status"],
        "error": job["error"],
        "price_nano_usd_per_device_hour": begun.price if begun else None,
        "budget_nano_usd": begun.budget if begun else None,
        "rate": begun.rate if begun else None,
        "held_out_before": begun.before if begun else None,
        "held_out_rows": begun.rows if begun else None,
        "trials": [asdict(one) for one in rows_of(trail)],
        "losers": losers(trail),
        "chosen": None if chosen is None else spec_mapping(chosen),
        "why_ended": ended.why if ended else None,
        "core_seconds": trail.spent / NANOS,
        "nano_usd": dollars_of(trail.spent, begun.price) if begun else 0,
    }


def show(trail: Trail) -> None:
    """Table, losers and the chosen spec for people."""
    begun, ended = trail.begun, trail.ended
    if begun is None:
        return
    click.echo(f"before any training the held-out loss is {begun.before:.4f}; {begun.rate}")
    print_table(HEADERS, [_cells(one) for one in rows_of(trail)], right=HEADERS[2:9])
    for sentence in losers(trail):
        click.echo(sentence)
    cost = dollars_of(trail.spent, begun.price)
    why = f"; {ended.why}" if ended else ""
    click.echo(f"the search took {trail.spent / NANOS:.1f} core-seconds, {dollars(cost)}{why}")
    chosen = chosen_spec(trail)
    if chosen is not None:
        click.echo("\n" + spec_yaml(trail, chosen).rstrip())


def chosen_spec(trail: Trail) -> TrainingSpec | None:
    """The best trial as a job of its own."""
    if trail.begun is None or trail.ended is None:
        return None
    spec = trail.begun.trials[trail.ended.best]
    return replace(spec, name=type(spec.name)(f"{spec.name[:57]}-chosen"))


def spec_yaml(trail: Trail, spec: TrainingSpec) -> str:
    """A file for `meted train`, with what the search found above it."""
    lines = ["# Chosen by `meted optimise training`."]
    rung = trail.last.get(trail.ended.best) if trail.ended else None
    if rung is not None and rung.loss is not None:
        lines.append(f"# Held-out loss {rung.loss:.4f} after {rung.step} of {spec.steps} steps.")
    if rung is not None and rung.reached is not None:
        lines.append(f"# Its target was reached at step {rung.reached_step}.")
    body = yaml.safe_dump(spec_mapping(spec), sort_keys=False, allow_unicode=True)
    return "\n".join(lines) + "\n" + body


def _cells(row: Row) -> tuple[object, ...]:
    adapters = row.method if row.rank is None else f"{row.rank} {row.targets}"
    return (
        row.trial,
        row.optimizer,
        f"{row.rate:.3g}",
        adapters,
        f"{row.steps}/{row.of_steps}",
        number(row.held_out),
        f"{row.core_seconds:.1f}",
        dollars(row.nano_usd),
        None if row.to_target_nano_usd is None else dollars(row.to_target_nano_usd),
        row.stopped,
    )
