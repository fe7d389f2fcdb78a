"""`meted version`: what is installed."""

import platform
import sqlite3

import click

from meted import __version__
from meted.cli.common import common_options, examples, print_json
from meted.live.home import Home


@click.command(epilog=examples("meted version", "meted version --json"))
@common_options
def version(home: Home, as_json: bool) -> None:
    """Print the version of Meted."""
    if as_json:
        print_json(
            {
                "version": __version__,
                "python": platform.python_version(),
                "sqlite": sqlite3.sqlite_version,
                "platform": platform.platform(),
                "home": str(home.folder),
            }
        )
    else:
        click.echo(f"meted {__version__}")
