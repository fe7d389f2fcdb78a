"""`meted predict`: what a model on some devices will do, and what the running house was predicted
to do."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from meted.cli.client import connect
from meted.cli.common import common_options, examples, print_json
from meted.cli.render import print_table
from meted.domain.device_kind import Precision
from meted.live.config import HERE
from meted.live.home import Home
from meted.predict.estimate import Estimate

PRECISIONS = click.Choice([one.value for one in Precision])


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be predicted, as it was asked for."""

    model: str
    device: str
    devices: int
    tensor: int | None
    pipeline: int
    prompt: int
    output: int
    batch: int
    rate: float | None
    weights: str | None
    kv: str | None
    price: float | None


@click.command(
    epilog=examples(
        "meted predict --model llama-3.1-70b --device h100 --devices 4 --prompt 1000 --output 200",
        "meted predict --model llama-3.1-8b --device l4 --weights int8 --rate 2 --price 0.80",
        "meted predict --live",
        "meted predict --probe smollm2-135m",
    )
)
@click.option("--model", help="A built-in model, a config.json, a .gguf file, or a checkpoint.")
@click.option("--device", default=HERE, help="A kind of device; `here`: this machine's cores.")
@click.option("--devices", type=click.IntRange(1), default=1, help="How many hold one replica.")
@click.option("--tp", type=click.IntRange(1), help="Devices that share each matrix (all).")
@click.option("--pp", type=click.IntRange(1), default=1, help="Pipeline stages.")
@click.option("--prompt", type=click.IntRange(1), default=512, help="Tokens of each prompt.")
@click.option("--output", type=click.IntRange(2), default=128, help="Tokens of each answer.")
@click.option("--batch", type=click.IntRange(1), default=1, help="Requests at once.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Instead: requests/s.")
@click.option("--weights", type=PRECISIONS, help="As which the weights are kept.")
@click.option("--kv", type=PRECISIONS, help="As which the KV cache is kept.")
@click.option("--price", type=click.FloatRange(0), help="Dollars per device-hour.")
@click.option("--live", is_flag=True, help="Compare the running house with its prediction.")
@click.option("--probe", metavar="MODEL", help="Calibrate this machine for a checkpoint.")
@click.option("--threads", type=click.IntRange(1), help="Cores of `here` and --probe (all).")
@common_options
def predict(
    home: Home,
    as_json: bool,
    model: str | None,
    live: bool,
    probe: str | None,
    threads: int | None,
    **asked: Any,
) -> None:
    """Predict memory, latencies, throughput, dollars and energy, each with its 90 % interval.

    A running house is compared with what was predicted of it (--live). A machine is calibrated by
    six short measurements of the real engine (--probe); later predictions use them.
    """
    if (model is not None) + live + (probe is not None) != 1:
        raise click.UsageError("give one of --model NAME, --live and --probe MODEL")
    if live:
        _live(home, as_json)
    elif probe is not None:
        _probe(home, as_json, probe, threads)
    else:
        assert model is not None
        tensor, pipeline = asked.pop("tp"), asked.pop("pp")
        wish = Wish(model=model, tensor=tensor, pipeline=pipeline, **asked)
        _static(home, as_json, wish, threads)


# --model.


def _static(home: Home, as_json: bool, wish: Wish, threads: int | None) -> None:
    # numpy and scipy load only here, so that other verbs start fast.
    from meted.domain.catalogue import UnknownFactError
    from meted.live.facts import FactError
    from meted.live.predicted import predicted
    from meted.predict.performance import SaturatedError
    from meted.predict.setup import DoesNotFitError

    try:
        setup, origin, found, felt = predicted(home, threads=threads, **asdict(wish))
    except (FactError, UnknownFactError, DoesNotFitError, SaturatedError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json(
            {
                "model": setup.architecture.name,
                "device": setup.kind.name,
                "devices": setup.algorithm.parallelism.devices,
                "weights": setup.algorithm.weights,
                "kv": setup.algorithm.kv,
                "compute": setup.algorithm.compute,
                "origin": origin,
                **asdict(found),
                "latencies": [asdict(one) for one in felt],
            }
        )
        return
    layout, memory = setup.algorithm.parallelism, found.memory
    click.echo(f"model     {setup.architecture.name} ({setup.architecture.source})")
    click.echo(f"on        {layout.devices} x {setup.kind.title}, {layout}")
    click.echo(
        f"as        {setup.algorithm.weights} weights, {setup.algorithm.kv} KV cache, "
        f"arithmetic in {setup.algorithm.compute}"
    )
    click.echo(f"from      {origin}")
    click.echo(
        f"memory    {memory.weights_everywhere / 1e9:.2f} GB of weights; the KV cache holds "
        f"{memory.kv_tokens} tokens, {found.largest_batch} such requests"
    )
    click.echo(
        f"load      {found.batch.requests} at once, {found.batch.prompt} tokens in, "
        f"{found.batch.output} out\n"
    )
    rows: list[tuple[str, Estimate | None, str]] = [
        ("prefill of one prompt", found.prefill, "ms"),
        ("TTFT beside the others", found.ttft, "ms"),
        ("decode step", found.decode_step, "ms"),
        ("TPOT", found.tpot, "ms"),
        ("requests", found.requests_per_second, "per s"),
        ("tokens generated", found.tokens_per_second, "per s"),
        ("energy", found.joules_per_token, "J per generated token"),
        ("cost, generated tokens", found.usd_per_million, "$ per million"),
        ("cost, all tokens", found.usd_per_million_all, "$ per million"),
    ]
    for one in felt:
        for name in ("ttft", "tpot", "e2e"):
            of_all: Estimate = getattr(one, name)
            millis = of_all.through(lambda micros: micros / 1000)
            rows.append((f"{name.upper()} under load, p{100 * one.share:.0f}", millis, "ms"))
    print_table(
        ("what", "low", "expected", "high", "unit"),
        [
            (what, *(figure(getattr(one, name)) for name in ("low", "expected", "high")), unit)
            for what, one, unit in rows
            if one is not None
        ],
        right=("low", "expected", "high"),
    )
    click.echo("\nlow and high: the 90 % interval")


def figure(value: float | None) -> str:
    """Three significant digits, plainly."""
    if value is None:
        return "-"
    if value == float("inf"):
        return "no end"
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    digits = 2 if abs(value) >= 1 else 4
    return f"{value:.{digits}f}"


# --live.


def _live(home: Home, as_json: bool) -> None:
    rows = connect(home).get("predictions")
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("nothing is deployed; `meted deploy NAME` serves a checkpoint")
    for number, row in enumerate(rows):
        if number:
            click.echo()
        _print_live(row)


def _print_live(row: dict[str, Any]) -> None:
    click.echo(f"{row['deployment']}  ({row['checkpoint']})")
    if "phases" not in row:
        click.echo("  no prediction: its architecture or these cores are not known yet")
    else:
        click.echo(f"  on    {row['device']} ({row['device_kind']}), {row['engine']}")
        click.echo(f"  from  {row['origin']}")
        cells: list[tuple[Any, ...]] = []
        for phase in row["phases"]:
            cells.append(_cells(f"{phase['phase']}, before", phase, phase["steps"]))
            if (live := phase["live"])["steps"]:
                cells.append(_cells(f"{phase['phase']}, now", live, live["steps"]))
        headers = ("step", "steps", "predicted ms", "90 % interval", "measured ms", "error")
        print_table(
            (*headers, "inside"),
            cells,
            right=("steps", "predicted ms", "measured ms", "error", "inside"),
        )
    for one in row["slowdowns"]:
        if one["harvest"] != "none":
            click.echo(
                f"  beside training ({one['harvest']}): steps take {one['measured']:.2f} times as "
                f"long, predicted {one['predicted']:.2f} ({one['steps']} steps)"
            )
    if row["disturbed_steps"]:
        click.echo(f"  {row['disturbed_steps']} steps shared their cores with other processes")
    click.echo(f"  fit   {row['fit']} after {row['fit_steps']} steps, {row['drift_alarms']} alarms")
    if row["last_drift"]:
        click.echo(f"  drift {row['last_drift']}")


def _cells(what: str, told: dict[str, Any], steps: int) -> tuple[Any, ...]:
    predicted = told["predicted_ms"]
    return (
        what,
        steps,
        figure(predicted["expected"]),
        f"{figure(predicted['low'])} to {figure(predicted['high'])}",
        figure(told["measured_ms"]),
        _percent(told["error"]),
        _percent(told["coverage"]),
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


# --probe.


def _probe(home: Home, as_json: bool, name: str, threads: int | None) -> None:
    from meted.live.calibrating import ProbeError
    from meted.live.checkpoints import CheckpointError, CheckpointRegistry
    from meted.live.facts import FactError
    from meted.live.predicted import probe_here

    home.prepare()
    if home.locked():
        raise click.ClickException(
            f"a house runs in {home.folder} and would disturb the measurement; end it with "
            "`meted down`, or let it calibrate itself while it serves"
        )
    registry = CheckpointRegistry(Path(home.checkpoints))

    def say(text: str) -> None:
        click.echo(text, err=True)

    try:
        checkpoint = registry.ensure_builtin(name, say) if not registry.has(name) else None
        checkpoint = checkpoint or registry.get(name)
        told = probe_here(home, checkpoint, threads=threads, say=say)
    except (CheckpointError, FactError, ProbeError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json(told)
        return
    click.echo(f"{told['points']} points in {told['seconds']:.0f} s on {told['device']}")
    if told["disturbed"]:
        click.echo(
            f"other processes took the cores during {told['disturbed']} of them: "
            "repeat this on a quiet machine"
        )
    print_table(
        ("step", "before ms", "now ms", "90 % interval"),
        [
            (one["what"], figure(one["before"]), figure(one["expected"]), _interval(one))
            for one in told["steps"]
        ],
        right=("before ms", "now ms"),
    )


def _interval(one: dict[str, float]) -> str:
    return f"{figure(one['low'])} to {figure(one['high'])}"
