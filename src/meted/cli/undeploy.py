"""`meted undeploy`: stop serving a deployment."""

import click

from meted.cli.client import connect
from meted.cli.common import common_options, examples, print_json
from meted.live.home import Home


@click.command(epilog=examples("meted undeploy night-shift", "meted undeploy chat --json"))
@click.argument("name")
@common_options
def undeploy(name: str, home: Home, as_json: bool) -> None:
    """Take no more requests for NAME and end its replicas once they have answered."""
    answer = connect(home).delete("deployments", name)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{name} drains and ends; its checkpoint stays")
