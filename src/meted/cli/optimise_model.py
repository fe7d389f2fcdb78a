"""`meted optimise model`: variants of a checkpoint, made, measured on your text, and gated."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meted.cli.common import FAILED, common_options, examples, print_json
from meted.cli.optimise_tables import plain, print_trials
from meted.cli.optimise_watch import watching
from meted.domain.levers import ALL, FORMS, Lever, parse_lever
from meted.live.home import Home
from meted.live.leash import cap_threads

if TYPE_CHECKING:
    from meted.live.variants.trials import Trial
    from meted.optimise.gate import Floor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """The user's text and how much of it is used."""

    path: Path
    blocks: int
    questions: int
    seed: int


DEFAULT_LEVERS = "int8,int4-g64,gguf-q8_0,gguf-q4_0"


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
    default=DEFAULT_LEVERS,
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
@click.option("--threads", type=click.IntRange(min=1), help="Default: all cores.")
@click.option("--keep", is_flag=True, help="Register rejected variants, too.")
@common_options
def model(
    checkpoint: str,
    data: Path,
    levers: tuple[str, ...],
    most_loss_increase: float,
    most_accuracy_drop: float | None,
    most_kl: float | None,
    blocks: int,
    questions: int,
    seed: int,
    training_steps: int | None,
    threads: int | None,
    keep: bool,
    home: Home,
    as_json: bool,
) -> None:
    """Make variants of CHECKPOINT, measure each against it on your text, keep those that pass.

    A variant that loses too much stays on record as rejected and cannot be deployed. Works without
    a running house, too. Exits with 1 if none could be made.
    """
    cap_threads(threads or os.cpu_count() or 1)
    from meted.live.checkpoints import CheckpointError
    from meted.optimise.gate import Floor

    floor = Floor(
        most_loss_increase=most_loss_increase,
        most_accuracy_drop=most_accuracy_drop,
        most_kl=most_kl,
    )
    try:
        trials = _try(
            home,
            checkpoint,
            tuple(parse_lever(one, training_steps=training_steps) for one in levers),
            floor,
            _Text(path=data, blocks=blocks, questions=questions, seed=seed),
            threads=threads or os.cpu_count() or 1,
            keep=keep,
        )
    except (CheckpointError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json([plain(one) for one in trials])
    else:
        print_trials(trials, keep=keep)
    if all(one.quality is None for one in trials):
        raise SystemExit(FAILED)


def _try(
    home: Home,
    name: str,
    levers: tuple[Lever, ...],
    floor: "Floor",
    given: _Text,
    *,
    threads: int,
    keep: bool,
) -> "list[Trial]":
    import torch

    from meted.live.checkpoints import CheckpointRegistry, load_tokenizer
    from meted.live.checkpoints.builtin import BUILTINS
    from meted.live.training.worker import make_encoder
    from meted.live.variants.text import Amounts, read_judging_text
    from meted.live.variants.trials import Trials

    torch.set_num_threads(threads)
    registry = CheckpointRegistry(home.checkpoints)
    with watching(len(levers)) as watch, registry.workplace() as scratch:
        begin = watch.begin
        begin("reading the checkpoint and the text", 1)
        checkpoint = registry.ensure_builtin(name) if name in BUILTINS else registry.get(name)
        text = read_judging_text(
            given.path,
            make_encoder(load_tokenizer(checkpoint)),
            Amounts(blocks=given.blocks, questions=given.questions, seed=given.seed),
        )
        trials = Trials(
            registry=registry,
            checkpoint=checkpoint,
            text=text,
            floor=floor,
            keep=keep,
            threads=threads,
            scratch=scratch,
            begin=begin,
        )
        done: list[Trial] = []
        for lever in levers:
            watch.lever(lever.name)
            done += trials.run(lever)
        return done
