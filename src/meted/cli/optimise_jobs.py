"""A search as a job of the running house: handed in, followed, and its result brought back."""

from typing import Any

import click

from meted.cli.client import connect
from meted.cli.common import FAILED, print_json
from meted.cli.watch import watch_job
from meted.domain.job import JobSpec
from meted.live.home import Home
from meted.live.job_codec import spec_mapping


def search_in_house(
    home: Home, spec: JobSpec, *, detach: bool, as_json: bool
) -> dict[str, Any] | None:
    """The result of the search; None if it was left running, which is said. Exits with 1 if the
    job failed or was cancelled."""
    house = connect(home)
    job = house.post("jobs", body=spec_mapping(spec))
    if detach:
        if as_json:
            print_json(job)
        else:
            click.echo(
                f"job {spec.name} is {job['status']}; `meted jobs watch {spec.name}` follows it, "
                f"`meted jobs {spec.name}` shows what it found"
            )
        return None
    followed = watch_job(home, spec.name, silent=as_json)
    if followed is None:
        return None
    if followed["status"] != "done":
        if as_json:
            print_json(followed)
        raise SystemExit(FAILED)
    return followed["result"]


def is_for_a_house(home: Home, *, detach: bool) -> bool:
    """Whether a house runs that takes the search. Raises UsageError for --detach without one."""
    runs = home.running() is not None
    if detach and not runs:
        raise click.UsageError("--detach hands a job to a house, and none runs; see `meted up`")
    return runs


def job_name(home: Home, given: str | None, stem: str) -> str:
    """The job's name: the user's, or the first of `stem-1`, `stem-2`, ... that no job has. Without
    a house any does. A name has at most 64 characters."""
    if given is not None:
        return given
    known: set[str] = set()
    if home.running() is not None:
        known = {one["name"] for one in connect(home).get("jobs")}
    number = 1
    while f"{stem[:56]}-{number}" in known:
        number += 1
    return f"{stem[:56]}-{number}"
