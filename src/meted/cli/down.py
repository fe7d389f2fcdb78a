"""`meted down`: end the house in order."""

import os
import signal
import time

import click

from meted.cli.client import connect
from meted.cli.common import NoHouseError, common_options, examples, print_json
from meted.cli.spinner import spinner
from meted.live.home import Home

POLL_SECONDS = 0.1


@click.command(epilog=examples("meted down", "meted down --wait 300 --json"))
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=90.0,
    show_default=True,
    help="Seconds to wait for the end before a SIGTERM, and again after it.",
)
@common_options
def down(wait: float, home: Home, as_json: bool) -> None:
    """End the running house: answer what runs, make training durable, close the books."""
    running = home.running()
    if running is None:
        connect(home)  # Says which it is: none, or one that is still starting.
        raise NoHouseError(f"the house in {home.folder} has just ended")
    with spinner("the house answers what runs and closes the books"):
        try:
            connect(home).post("shutdown")
            gone = _wait_until_gone(home, wait)
        except NoHouseError:
            gone = not home.locked()
        if not gone:
            # The lock is held, so the process that wrote house.json lives and is the one to end.
            os.kill(running.pid, signal.SIGTERM)
            gone = _wait_until_gone(home, wait)
    if not gone:
        raise click.ClickException(
            f"the house (pid {running.pid}) still runs {wait:.0f} s after a SIGTERM; "
            f"`kill -9 {running.pid}` ends it, and its books are recovered at the next start"
        )
    if as_json:
        print_json({"stopped": True, "pid": running.pid})
    else:
        click.echo(f"the house has ended (pid {running.pid})")


def _wait_until_gone(home: Home, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while home.locked():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
