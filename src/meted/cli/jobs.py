"""`meted jobs`: list, show, watch, pause, resume and cancel trainings and searches."""

from typing import Any

import click

from meted.cli.client import HouseClient, connect
from meted.cli.common import FAILED, Verbs, common_options, examples, print_json
from meted.cli.optimise_serving_tables import print_found, warn_if_disturbed
from meted.cli.optimise_tables import print_trials
from meted.cli.render import dollars, number, print_table
from meted.cli.watch import watch_job
from meted.domain.job import FINAL_JOB_STATUSES, JobKind
from meted.live.home import Home

SHOWN_LOSSES = 12


class _Jobs(Verbs):
    """`meted jobs NAME` is short for `meted jobs show NAME`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands:
            args = ["show", *args]
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Jobs,
    invoke_without_command=True,
    subcommand_metavar="[NAME | COMMAND [ARGS]...]",
    epilog=examples(
        "meted jobs", "meted jobs night-shift", "meted jobs pause night-shift", "meted jobs --json"
    ),
)
@common_options
@click.pass_context
def jobs(ctx: click.Context, home: Home, as_json: bool) -> None:
    """List the jobs, trainings and searches, or look after one."""
    if ctx.invoked_subcommand is not None:
        return
    found = connect(home).get("jobs")
    if as_json:
        print_json(found)
    elif found:
        print_jobs(found)
    else:
        click.echo(
            "no jobs yet; `meted train --help` and `meted optimise --help` say how to begin one"
        )


@jobs.command(epilog=examples("meted jobs show night-shift", "meted jobs night-shift --json"))
@click.argument("name")
@common_options
def show(name: str, home: Home, as_json: bool) -> None:
    """Show one job with its cost, and its loss curve or what it found."""
    job = connect(home).get("jobs", name)
    if as_json:
        print_json(job)
        return
    for label, value in _facts(job):
        click.echo(f"{label:<19}{value}")
    if job.get("losses"):
        click.echo("\nlosses")
        _print_losses(job["losses"])
    if job["result"] is not None:
        click.echo()
        _print_result(job["result"])


@jobs.command(epilog=examples("meted jobs watch night-shift"))
@click.argument("name")
@common_options
def watch(name: str, home: Home, as_json: bool) -> None:
    """Follow one job until it ends; Ctrl-C leaves it running."""
    job = watch_job(home, name, silent=as_json)
    if job is not None and as_json:
        print_json(job)
    if job is not None and job["status"] != "done":
        raise SystemExit(FAILED)


@jobs.command(epilog=examples("meted jobs pause night-shift"))
@click.argument("name")
@common_options
def pause(name: str, home: Home, as_json: bool) -> None:
    """Let a job checkpoint and wait."""
    _control(connect(home), name, "pause", as_json=as_json)


@jobs.command(epilog=examples("meted jobs resume night-shift"))
@click.argument("name")
@common_options
def resume(name: str, home: Home, as_json: bool) -> None:
    """Let a paused job go on."""
    _control(connect(home), name, "resume", as_json=as_json)


@jobs.command(epilog=examples("meted jobs cancel night-shift"))
@click.argument("name")
@common_options
def cancel(name: str, home: Home, as_json: bool) -> None:
    """End a job for good."""
    _control(connect(home), name, "cancel", as_json=as_json)


def _control(client: HouseClient, name: str, verb: str, *, as_json: bool) -> None:
    job = client.post("jobs", name, verb)
    if as_json:
        print_json(job)
    else:
        click.echo(f"job {job['name']}: {verb} asked for; it is {job['status']}")


def print_jobs(found: list[dict[str, Any]]) -> None:
    """One line for each job."""
    print_table(
        (
            "name",
            "kind",
            "status",
            "phase",
            "step",
            "loss",
            "held-out",
            "tokens/s",
            "cost",
            "to finish",
        ),
        [
            (
                job["name"],
                job["kind"],
                job["status"],
                None if job["status"] in FINAL_JOB_STATUSES else job["phase"],
                f"{job['step']}/{job['total_steps']}",
                number(job["loss"]),
                number(job["held_out"]),
                number(job["tokens_per_second"], 0) if _trains(job) else None,
                dollars(job["cost_nano_usd"]),
                dollars(job["cost_to_finish_nano_usd"]) if _trains(job) else None,
            )
            for job in found
        ],
        right=("step", "loss", "held-out", "tokens/s", "cost", "to finish"),
    )


def _facts(job: dict[str, Any]) -> list[tuple[str, str]]:
    lives = job["status"] not in FINAL_JOB_STATUSES
    held_out = " -> ".join(
        f"{number(job[key])} ({moment})"
        for key, moment in (
            ("held_out_before", "before"),
            ("held_out", "now"),
            ("held_out_converted", "as served"),
        )
        if job[key] is not None
    )
    facts = [
        ("name", job["name"]),
        ("status", job["status"] + (f", phase {job['phase']}" if lives else "")),
        (job["kind"], job["what"]),
        ("tenant", job["tenant"]),
        ("step", f"{job['step']} of {job['total_steps']}, durable {job['checkpoint_step']}"),
    ]
    if _trains(job):
        facts += [
            ("tokens", f"{job['tokens']}, {number(job['tokens_per_second'], 0)} a second"),
            ("loss (nats/token)", number(job["loss"])),
            ("held-out loss", held_out or "-"),
        ]
    facts += [
        ("device-seconds", number(job["device_seconds"], 3)),
        ("cost", dollars(job["cost_nano_usd"])),
    ]
    if _trains(job):
        facts.append(("to finish", dollars(job["cost_to_finish_nano_usd"])))
    return [*facts, ("error", job["error"])] if job["error"] else facts


def _trains(job: dict[str, Any]) -> bool:
    return job["kind"] == JobKind.TRAINING


def _print_result(result: dict[str, Any]) -> None:
    """What a search has found, as `meted optimise` prints it."""
    if result["kind"] == JobKind.VARIANTS:
        print_trials(result["trials"], keep=False)
    else:
        print_found(result, None)
        warn_if_disturbed(result)


def _print_losses(losses: list[dict[str, Any]]) -> None:
    measured = [one for one in losses if one["held_out"] is not None]
    trained = [one for one in losses if one["held_out"] is None]
    shown = sorted(
        [*measured, *trained[-SHOWN_LOSSES:]], key=lambda one: (one["step"], one["cost"])
    )
    print_table(
        ("step", "when", "tokens", "loss", "held-out", "cost"),
        [
            (
                one["step"],
                one["when"],
                one["tokens"],
                number(one["loss"]),
                number(one["held_out"]),
                dollars(one["cost"]),
            )
            for one in shown
        ],
        right=("step", "tokens", "loss", "held-out", "cost"),
    )
