"""`meted status`: the house at a glance, and why it decided what it did."""

from datetime import datetime
from typing import Any

import click

from meted.cli.client import connect
from meted.cli.common import common_options, examples, print_json
from meted.cli.jobs import print_jobs
from meted.cli.render import duration, print_table
from meted.live.home import Home

SHOWN_DECISIONS = 8


@click.command(epilog=examples("meted status", "meted status --json"))
@common_options
def status(home: Home, as_json: bool) -> None:
    """Show the pool, deployments, jobs, the plan and the last decisions with their reasons."""
    body = connect(home).get("status")
    if as_json:
        print_json(body)
        return
    _print_head(body)
    _print_deployments(body["deployments"])
    if body["jobs"]:
        click.echo("\njobs")
        print_jobs(body["jobs"])
    _print_plan(body["plan"])
    if body["decisions"]:
        click.echo("\nlast decisions")
        for decision in body["decisions"][-SHOWN_DECISIONS:]:
            at = datetime.fromtimestamp(decision["at"]).strftime("%H:%M:%S")
            click.echo(f"  {at}  {decision['reason']}")


def _print_head(body: dict[str, Any]) -> None:
    pool, books = body["pool"], body["books"]
    devices = pool["devices"]
    click.echo(
        f"house    {body['url']}, version {body['version']}, up {duration(body['uptime_s'])}"
    )
    click.echo(
        f"pool     {len(devices)} devices {devices}, "
        f"${pool['price_usd_per_device_hour']} per device-hour"
    )
    click.echo(f"policy   {body['policy']['name']}")
    click.echo(f"books    {books['intervals']} intervals closed in session {books['session']}")


def _print_deployments(deployments: list[dict[str, Any]]) -> None:
    rows = [
        (
            one["name"],
            one["checkpoint"],
            one["task"],
            _replicas(one),
            one["running"],
            one["waiting"],
            one["prediction"]["fit"] if "prediction" in one else None,
        )
        for one in deployments
    ]
    click.echo("\ndeployments")
    print_table(
        ("name", "checkpoint", "task", "replicas", "running", "waiting", "prediction"),
        rows,
        right=("running", "waiting"),
    )
    for one in deployments:
        if "prediction" in one and one["prediction"]["fit"] == "drifted":
            click.echo(f"{one['name']}: {one['prediction']['last_drift']}")


def _replicas(deployment: dict[str, Any]) -> str:
    """Its replicas with their status, and its bounds where they leave a choice."""
    told = ", ".join(f"{one['id']} {one['status']}" for one in deployment["replicas"])
    least, most = deployment["least"], deployment["most"]
    bounds = "" if least == most else f" ({least} to {most})"
    return f"{told or 'unloaded'}{bounds}"


def _devices(places: list[list[int]]) -> str:
    """The devices of each replica; equal ones once, with how many share them."""
    told = {tuple(place): places.count(place) for place in places}
    return ", ".join(f"{count} x {list(place)}" for place, count in told.items()) or "none"


def _print_plan(plan: dict[str, Any]) -> None:
    rows = [
        (one["deployment"], "serves", _devices(one["places"]), "", one["reason"])
        for one in plan["replicas"]
    ]
    rows += [
        (one["job"], f"trains: {one['harvest']}", one["devices"], one["threads"], one["reason"])
        for one in plan["jobs"]
    ]
    if rows:
        click.echo("\nplan")
        print_table(("who", "how", "devices", "threads", "reason"), rows, right=("threads",))
