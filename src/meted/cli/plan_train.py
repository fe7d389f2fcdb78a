"""`meted plan train`: time, dollars and layout of a training run, before a device is rented."""

import re
from pathlib import Path
from typing import Any

import click

from meted.cli.amounts import Dollars
from meted.cli.common import common_options, examples, print_json
from meted.cli.fact_files import FILE, facts_option, read_facts
from meted.cli.spinner import spinner
from meted.live.home import Home

_DEVICES = re.compile(r"([0-9]+)x(.+)")
_HOURS = {"h": 1.0, "d": 24.0, "w": 168.0}
_DEADLINE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([hdw])")


class Tokens(click.ParamType[int]):
    """A number of tokens: 300e9, 15T, 2.5B or 1000000."""

    name = "tokens"
    _SCALE = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}  # noqa: RUF012

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).upper()
        scale = self._SCALE.get(text[-1:], 1)
        try:
            tokens = round(float(text[:-1] if scale > 1 else text) * scale)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no number of tokens; expected e.g. 300e9 or 15T", param, ctx)
        if tokens < 1:
            self.fail(f"{value!r} is less than one token", param, ctx)
        return tokens


class Hours(click.ParamType[float]):
    """A length of time as hours: 30d, 12h or 2w."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        found = _DEADLINE.fullmatch(str(value))
        if found is None or float(found[1]) <= 0:
            self.fail(f"{value!r} is no time; expected e.g. 30d, 12h or 2w", param, ctx)
        return float(found[1]) * _HOURS[found[2]]


class Devices(click.ParamType[tuple[tuple[int, str], ...]]):
    """Choices such as 1024xa100,512xh100."""

    name = "devices"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[int, str], ...]:
        if not isinstance(value, str):
            return value
        choices: list[tuple[int, str]] = []
        for part in str(value).split(","):
            found = _DEVICES.fullmatch(part.strip())
            if found is None or int(found[1]) < 1:
                self.fail(f"{part!r} is no choice; expected e.g. 1024xa100", param, ctx)
            choices.append((int(found[1]), found[2]))
        return tuple(choices)


@click.command(
    epilog=examples(
        "meted plan train --model gpt3-175b --tokens 300e9 --devices 1024xa100",
        "meted plan train --model llama-3.1-8b --tokens 20M --devices 1xl4,1xa10g --lora 16",
        "meted plan train --model llama-2-70b --tokens 2T --devices 2048xa100,1024xh100 "
        "--deadline 60d --budget 5000000",
    ),
)
@click.option("--model", required=True, help="A built-in model, a config.json or a .gguf file.")
@click.option("--tokens", type=Tokens(), required=True, help="To train on, e.g. 300e9 or 15T.")
@click.option("--devices", type=Devices(), required=True, help="Choices: 1024xa100,512xh100.")
@click.option("--deadline", type=Hours(), help="By when it must be done: 30d, 12h.")
@click.option("--budget", type=Dollars(), help="Dollars that it may cost.")
@click.option("--prices", type=FILE, help="A price file (built-in examples).")
@click.option("--seq", type=click.IntRange(1), help="Tokens of a sequence.")
@click.option("--global-batch", type=click.IntRange(1), help="Sequences of an optimizer step.")
@click.option("--optimizer", default="adamw", show_default=True, help="Whose state it keeps.")
@click.option("--lora", type=click.IntRange(1), help="Train adapters of this rank only.")
@facts_option
@common_options
def train(
    home: Home,
    as_json: bool,
    model: str,
    tokens: int,
    devices: tuple[tuple[int, str], ...],
    prices: Path | None,
    facts_file: Path | None,
    **asked: Any,
) -> None:
    """Time, dollars, memory, layout and checkpoints of a training run, with intervals.

    Of several choices of devices the cheapest is taken that keeps the deadline and the budget, or
    the fastest where no price is known. Exit code 1 if none does, with the nearest that would.
    """
    # numpy and scipy load only here, so that other verbs start fast.
    from meted.cli.plan_infeasible import tell_infeasible
    from meted.cli.plan_tables import print_training_plan
    from meted.live.plan_file import training_document
    from meted.live.planning import WishError, training_wish_of
    from meted.policy.fleet.plan import InfeasibleError
    from meted.policy.training_planner import plan_training

    facts = read_facts(facts_file)
    try:
        wish, told = training_wish_of(
            home=home,
            facts=facts,
            model=model,
            tokens=tokens,
            devices=devices,
            prices=prices,
            **asked,
        )
        with spinner("weighing layouts"):
            found = plan_training(wish)
    except InfeasibleError as error:
        tell_infeasible(error, what="run", as_json=as_json)
    except WishError as error:
        raise click.UsageError(str(error)) from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json(training_document(found, told))
    else:
        print_training_plan(found, told)
