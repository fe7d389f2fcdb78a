"""`meted rollout`: a second version of a deployment, compared by turns, promoted or returned."""

from typing import Any

import click

from meted.cli.client import IMPORT_TIMEOUT_SECONDS, connect
from meted.cli.common import FAILED, Verbs, common_options, examples, print_json
from meted.cli.render import print_table
from meted.cli.rollout_watch import watch_rollout
from meted.cli.savings import interval
from meted.cli.settings_words import settings_from_words
from meted.live.config import ConfigError
from meted.live.engine_settings import settings_from_mapping
from meted.live.home import Home
from meted.live.lever_doors import DEFAULT_BLOCK_S, DEFAULT_BLOCKS, LEAST_BLOCKS, MOST_BLOCKS

SHARE = click.FloatRange(-100, 1)


@click.group(
    cls=Verbs,
    epilog=examples(
        "meted rollout start chat --checkpoint chat-int8 --predicted 0.3 --watch",
        "meted rollout list",
        "meted rollout show chat --watch",
        "meted rollout stop chat",
    ),
)
@common_options
def rollout(home: Home, as_json: bool) -> None:
    """Try a second version of a deployment on its real requests."""


@rollout.command(
    epilog=examples(
        "meted rollout start chat --checkpoint chat-int8 --predicted 0.3",
        "meted rollout start chat --settings chunk_tokens=512 --predicted 0.08 --watch",
        "meted rollout start chat --max-batch 32 --predicted 0.1 --block 300 --blocks 40",
    )
)
@click.argument("name")
@click.option("--checkpoint", help="The checkpoint of the second version; default: the same.")
@click.option(
    "--settings",
    multiple=True,
    metavar="FILE|KEY=VALUE",
    help="How its engine runs; all that is not named is the default. Not given: as the first.",
)
@click.option("--max-batch", type=click.IntRange(1), help="Requests of a replica at once.")
@click.option(
    "--predicted",
    type=SHARE,
    required=True,
    help="The share of cost that it is said to save: 0.1 is a tenth.",
)
@click.option("--predicted-low", type=SHARE, help="The low end of what is predicted.")
@click.option("--predicted-high", type=SHARE, help="The high end of what is predicted.")
@click.option(
    "--block",
    type=click.FloatRange(0, min_open=True),
    default=DEFAULT_BLOCK_S,
    show_default=True,
    help="Seconds of a turn.",
)
@click.option(
    "--washout",
    type=click.FloatRange(0),
    help="Seconds at a turn's beginning that count for nothing (default: a tenth, 15 at most).",
)
@click.option(
    "--canary",
    type=click.FloatRange(0, min_open=True),
    help="Seconds of each turn before the comparison (default: a block).",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the order.")
@click.option(
    "--blocks",
    type=click.IntRange(LEAST_BLOCKS, MOST_BLOCKS),
    default=DEFAULT_BLOCKS,
    show_default=True,
    help="Turns that are compared at most; an even number.",
)
@click.option(
    "--quality-unknown",
    is_flag=True,
    help="Roll it out though its quality was not measured; the receipt says so.",
)
@click.option("--watch", is_flag=True, help="Follow it to its end; Ctrl-C leaves it running.")
@common_options
def start(
    name: str,
    checkpoint: str | None,
    settings: tuple[str, ...],
    max_batch: int | None,
    predicted: float,
    predicted_low: float | None,
    predicted_high: float | None,
    block: float,
    washout: float | None,
    canary: float | None,
    seed: int,
    blocks: int,
    quality_unknown: bool,
    watch: bool,
    home: Home,
    as_json: bool,
) -> None:
    """Give NAME a second version beside the first, and serve it from then on if it saves."""
    wanted = _settings(settings)
    body: dict[str, Any] = {
        "name": name,
        "checkpoint": checkpoint,
        "max_batch": max_batch,
        "predicted": {"expected": predicted, "low": predicted_low, "high": predicted_high},
        "block_s": block,
        "washout_s": washout,
        "canary_s": canary,
        "seed": seed,
        "most_blocks": blocks,
        "quality_unknown": quality_unknown,
        **({"settings": wanted} if wanted else {}),
    }
    found = connect(home).post("rollouts", body=body, timeout=IMPORT_TIMEOUT_SECONDS)
    if watch:
        _follow(home, found["id"], as_json=as_json)
    elif as_json:
        print_json(found)
    else:
        click.echo(
            f"{found['id']} runs beside {found['first']['deployment']}: "
            f"{found['second']['configuration']}; `meted rollout show {name} --watch` follows it"
        )


@rollout.command("list", epilog=examples("meted rollout list", "meted rollout list --json"))
@common_options
def list_rollouts(home: Home, as_json: bool) -> None:
    """All rollouts, oldest first."""
    found = connect(home).get("rollouts")
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no rollouts yet; `meted rollout start --help` says how to begin one")
        return
    print_table(
        ("id", "from", "to", "phase", "status", "serving", "blocks", "saving"),
        [
            (
                one["id"],
                one["first"]["configuration"],
                one["second"]["configuration"],
                one["phase"],
                one["status"],
                one["serving"],
                f"{one['blocks_done']}/{one['blocks_most']}",
                interval(one["measured"] or one["so_far"]),
            )
            for one in found
        ],
        right=("blocks",),
    )


@rollout.command(epilog=examples("meted rollout show chat", "meted rollout show chat~2 --json"))
@click.argument("name")
@click.option("--watch", is_flag=True, help="Follow it to its end; Ctrl-C leaves it running.")
@common_options
def show(name: str, watch: bool, home: Home, as_json: bool) -> None:
    """One rollout by its id, or the last of the deployment NAME."""
    if watch:
        _follow(home, name, as_json=as_json)
        return
    found = connect(home).get("rollouts", name)
    if as_json:
        print_json(found)
    else:
        _print(found)


@rollout.command(epilog=examples("meted rollout stop chat", "meted rollout stop chat --json"))
@click.argument("name")
@common_options
def stop(name: str, home: Home, as_json: bool) -> None:
    """Give the first version of NAME everything back, at once."""
    found = connect(home).delete("rollouts", name)
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['name']} is served by {found['serving']}; {found['id']} drains")


def _settings(words: tuple[str, ...]) -> dict[str, Any]:
    """The settings for the body, checked before the house is asked."""
    try:
        found = settings_from_words(words)
        settings_from_mapping(found, at="--settings")
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    return found


def _follow(home: Home, name: str, *, as_json: bool) -> None:
    """Until it ends; exits with 1 if it was not promoted."""
    found = watch_rollout(home, name, silent=as_json)
    if found is None:
        return
    if as_json:
        print_json(found)
    else:
        _print(found)
    if found["phase"] != "promoted":
        raise SystemExit(FAILED)


def _print(found: dict[str, Any]) -> None:
    quality, waiting = found["quality"], found["waiting"]
    for label, value in (
        ("id", found["id"]),
        ("from", f"{found['first']['deployment']}: {found['first']['configuration']}"),
        ("to", f"{found['second']['deployment']}: {found['second']['configuration']}"),
        (
            "phase",
            f"{found['phase']}, {found['serving']} serves" + (f", {waiting}" if waiting else ""),
        ),
        ("blocks", f"{found['blocks_done']} of {found['blocks_most']} at most"),
        ("void", f"{found['void']} turns came to nothing"),
        ("predicted", interval(found["predicted"])),
        ("measured", interval(found["measured"])),
        ("so far", interval(found["so_far"])),
        ("quality", "-" if quality is None else quality["reason"]),
        ("status", f"{found['status']}: {found['reason']}"),
    ):
        click.echo(f"{label:<11}{value}")
