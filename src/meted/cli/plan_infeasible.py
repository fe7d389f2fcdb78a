"""What both kinds of plans say where nothing does what was wished."""

from typing import NoReturn

import click

from meted.cli.common import FAILED, print_json
from meted.policy.fleet.plan import InfeasibleError


def tell_infeasible(error: InfeasibleError, *, what: str, as_json: bool) -> NoReturn:
    """End the verb with the wish in the way and the nearest that can be had. what: fleet or run."""
    if not as_json:
        raise click.ClickException(f"no {what} does this: {error}") from error
    print_json(
        {
            "feasible": False,
            "constraint": error.constraint,
            "asked": error.asked,
            "nearest": error.nearest,
            "unit": error.unit,
            "told": str(error),
        }
    )
    raise SystemExit(FAILED) from error
