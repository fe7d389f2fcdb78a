"""`meted up`: run the house in the foreground."""

import asyncio
import gc
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import click

from meted.live.config import ConfigError, load_config
from meted.live.home import HomeError, find_home

EXAMPLES = """\b
Examples:
  meted up
  meted up --port 9000 --config meted.yaml
  meted up --host 0.0.0.0 --json
"""


@click.command(epilog=EXAMPLES)
@click.option("--host", help="Address to bind; 127.0.0.1 unless the configuration says otherwise.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file; meted.yaml in the current folder is used if it is there.",
)
@click.option(
    "--home",
    envvar="METED_HOME",
    help="Where state lives (default: METED_HOME, or the data folder).",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def up(
    host: str | None, port: int | None, config_path: Path | None, home: str | None, as_json: bool
) -> None:
    """Serve, train, decide and keep the books, until Ctrl-C.

    Prints the address, the page and where the admin key is once every deployment answers.
    """
    # The house's parts load only here, so that other verbs start fast.
    import uvloop

    from meted.cli.serve import ServeError, run_house
    from meted.live.store import StoreError

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    place = find_home(home)

    def say(text: str) -> None:
        click.echo(json.dumps({"event": "progress", "text": text}) if as_json else text)
        sys.stdout.flush()

    def when_up(url: str) -> None:
        gc.collect()
        gc.freeze()
        page = f"{url}/#key={place.read_admin_key()}"
        if as_json:
            told = {"event": "up", "url": url, "page": page, "admin_key": str(place.admin_key)}
            click.echo(json.dumps(told))
        else:
            click.echo(f"address    {url}/v1  (OpenAI protocol)")
            click.echo(f"page       {page}")
            click.echo(f"admin key  {place.admin_key}")
            click.echo("a key      meted keys create --tenant acme")
            click.echo("Ctrl-C ends it in order.")
        sys.stdout.flush()

    try:
        if config_path is None and Path("meted.yaml").exists():
            config_path = Path("meted.yaml")
        config = load_config(config_path)
        server = replace(
            config.server,
            host=host or config.server.host,
            port=config.server.port if port is None else port,
        )
        place.prepare()
        with place.lock():
            status = uvloop.run(
                run_house(
                    config=replace(config, server=server), home=place, say=say, when_up=when_up
                )
            )
    except (ConfigError, HomeError, ServeError, StoreError) as error:
        click.echo(f"meted: {error}", err=True)
        raise SystemExit(1) from error
    except asyncio.CancelledError:
        status = 1
    raise SystemExit(status)
