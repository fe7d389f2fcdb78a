"""The answer of a search of serving for people: a table, the reasons, and the chosen YAML."""

from pathlib import Path
from typing import Any

import click
import yaml

from meted.cli.render import print_table
from meted.domain.units import NANOS_PER_SECOND

Found = dict[str, Any]
"""What `documents.document` makes, here or in a job."""


def print_found(found: Found, out: Path | None) -> None:
    """The front, what was rejected and why, and the chosen configuration."""
    print_table(
        ("configuration", "$ per million", "90 % interval", "TTFT p95 ms", "loss +", "front"),
        [
            (
                *(one["key"], f"{one['usd_per_million']:.5f}"),
                f"{one['usd_per_million_low']:.5f} to {one['usd_per_million_high']:.5f}",
                *(f"{one['ttft_p95_ms']:.0f}", f"{one['loss']:+.4f}"),
                "yes" if one["front"] else "",
            )
            for one in found["points"]
        ],
        right=("$ per million", "TTFT p95 ms", "loss +"),
    )
    click.echo("\nrejected:")
    for one in found["rejected"]:
        click.echo(f"  {one['key']}: {one['reason']}")
    dollars = found["nano_usd"] / NANOS_PER_SECOND
    click.echo(
        f"\nspent {found['effort']:.2f} full measurements, ${dollars:.6f}; "
        f"stopped: {found['stopped']}"
    )
    if found["chosen"] is None:
        click.echo("nothing keeps the SLO; loosen it, lower the rate, or add cores")
        return
    click.echo(f"chosen: {found['chosen_key']}{_against_default(found)}\n")
    click.echo(f"written to {out}" if out else yaml_of(found))


def warn_if_disturbed(found: Found) -> None:
    """On standard error, where numbers had to be believed that other work may have spoiled."""
    if found["disturbed"]:
        click.echo(
            f"{found['disturbed']} of {len(found['evidence'])} measurements were disturbed by "
            "other work, also when they were made again, which makes device time dearer by "
            "chance; search again when the cores are quiet",
            err=True,
        )


def _against_default(found: Found) -> str:
    cost = {one["key"]: one["cost"]["expected"] for one in found["feasible"]}
    default = cost.get(found["default"])
    if default is None or found["chosen_key"] == found["default"]:
        return ""
    return f", {1 - cost[found['chosen_key']] / default:.1%} below the default (${default:.5f})"


def yaml_of(found: Found) -> str:
    """A configuration file that serves what was chosen under its checkpoint's name."""
    chosen = found["chosen"]
    entry = {"name": chosen["checkpoint"], **chosen, "slo": found["slo"]}
    return yaml.safe_dump({"deployments": [entry]}, sort_keys=False)
