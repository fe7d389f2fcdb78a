"""`meted models`: the checkpoints on disk and where they are deployed."""

from dataclasses import asdict
from typing import Any

import click

from meted.cli.client import connect
from meted.cli.common import common_options, examples, print_json
from meted.cli.render import number, print_table
from meted.live.home import Home

MIB = 1024 * 1024


@click.command(epilog=examples("meted models", "meted models --json"))
@common_options
def models(home: Home, as_json: bool) -> None:
    """List checkpoints; works without a running house, too."""
    found = _from_house(home) if home.running() else _from_disk(home)
    if as_json:
        print_json(found)
    elif found:
        _print(found)
    else:
        click.echo("no checkpoints yet; `meted up` prepares the default ones")


def _from_house(home: Home) -> list[dict[str, Any]]:
    return connect(home).get("checkpoints")


def _from_disk(home: Home) -> list[dict[str, Any]]:
    from meted.live.checkpoints import CheckpointError, CheckpointRegistry

    try:
        checkpoints = CheckpointRegistry(home.checkpoints).list()
    except CheckpointError as error:
        raise click.ClickException(str(error)) from error
    rows = [asdict(one) for one in checkpoints]
    return [{**row, "folder": str(row["folder"]), "deployments": []} for row in rows]


def _print(found: list[dict[str, Any]]) -> None:
    print_table(
        (
            *("name", "task", "architecture", "parameters", "weights MiB", "context", "base"),
            *("held-out", "deployed as"),
        ),
        [
            (
                *(one["name"], one["task"], one["architecture"]),
                f"{one['parameters'] / 1e6:.0f}M",
                f"{one['weight_bytes'] / MIB:.0f}",
                *(one["context_tokens"], one["base"]),
                number(_as_served(one["held_out"])),
                ", ".join(one["deployments"]) or None,
            )
            for one in found
        ],
        right=("parameters", "weights MiB", "context", "held-out"),
    )


def _as_served(held_out: dict[str, float]) -> float | None:
    return held_out.get("converted", held_out.get("after"))
